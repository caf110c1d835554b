"""PettingZoo's games, built without the wrappers that only check."""
