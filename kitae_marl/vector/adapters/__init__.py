"""This room makes parallel environments, and vectors of them, of environments of other kinds."""
