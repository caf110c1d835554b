"""This room steps the games of one worker, checks what they return and writes it down."""
