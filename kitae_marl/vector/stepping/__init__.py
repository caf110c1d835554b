"""What happens inside one worker: games are stepped, their values checked and written."""
