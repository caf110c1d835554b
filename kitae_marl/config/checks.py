"""Checks of values a person wrote; a failure names the key, what was expected and what came."""

from __future__ import annotations

import json
from typing import Any

from kitae_marl.errors import ConfigError


def require(condition: bool, key: str, expected: str, got: Any) -> None:
    """Raise a ConfigError that names the key, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key}: expected {expected}, got {got!r}.", key)


def require_number(key: str, value: Any, low: float, high: float, *, above: bool = False) -> None:
    """Require a finite number in [low, high], or (low, high] with ``above``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = number and low <= value <= high and not (above and value == low)  # NaN is not
    require(inside, key, f"a number in {'(' if above else '['}{low}, {high}]", value)


def require_count(key: str, value: Any, minimum: int = 1) -> None:
    """Require an integer of at least ``minimum``."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    require(good, key, f"an integer of at least {minimum}", value)


def is_json(value: Any) -> bool:
    """Whether a value is the same after a way through JSON."""
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError, RecursionError):
        return False
