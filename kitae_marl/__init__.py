"""Train agents on any PettingZoo game, in JAX."""

__version__ = "0.1.0"
