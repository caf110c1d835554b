"""A run from its start to its end: the agent, its session, its logs, many runs in one program."""
