"""This room holds players written by hand: oracles, bots for board games, particles."""
