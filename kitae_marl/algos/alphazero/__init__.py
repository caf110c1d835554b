"""AlphaZero by Gumbel search."""
