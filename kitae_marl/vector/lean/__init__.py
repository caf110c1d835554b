"""This room builds PettingZoo's games without the wrappers that only check."""
