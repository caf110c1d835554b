"""Who sits on the seats of a game that do not learn."""
