"""This room says what each command takes: frozen dataclasses, a sentence under each field."""
