"""What games there are, and whether one behaves as it should."""
