"""What each command of the command line takes: frozen dataclasses, one sentence a field."""
