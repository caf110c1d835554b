"""Proofs that a compiled game equals its original."""
