"""This room keeps runs on disk, whole or not at all, and finds them again."""
