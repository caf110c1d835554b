"""This room says what games there are, and whether one behaves as it should."""
