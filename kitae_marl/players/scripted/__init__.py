"""Players written by hand: oracles, bots for board games, controllers of particles."""
