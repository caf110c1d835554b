"""What the commands do; each takes its parsed options and returns its JSON."""
