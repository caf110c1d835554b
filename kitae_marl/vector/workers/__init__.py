"""This room starts worker processes, speaks to them, watches them and replaces them."""
