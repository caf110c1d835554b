"""Settings: frozen dataclasses, checked when they are made, stored as JSON."""
