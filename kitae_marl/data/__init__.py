"""How values of agents become stacked arrays, and how these are kept."""
