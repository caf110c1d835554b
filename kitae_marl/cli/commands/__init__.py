"""This room has the commands: each function takes parsed options and returns its JSON."""
