"""Runs on disk: their folders and files, sets of them, checkpoints, locks, and finding them."""
