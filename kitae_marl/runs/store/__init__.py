"""A run on disk: its folder, checkpoints, locks, and the list of runs."""
