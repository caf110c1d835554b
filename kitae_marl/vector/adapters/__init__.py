"""Environments of other kinds as parallel environments and vectors of them."""
