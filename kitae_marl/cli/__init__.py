"""This room is the command line: what each command takes, and what it does."""
