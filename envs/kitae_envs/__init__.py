"""Compiled multi-agent games: PettingZoo's games as pure JAX functions."""
