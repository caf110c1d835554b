"""Checks of values a person wrote; a failure names the key, what was expected and what came."""

from __future__ import annotations

import json
from typing import Any

from kitae_marl.errors import ConfigError

MOST = 10**18
"""The largest count: more than any run can take, and less than files of 64 bits can hold."""


def require(condition: bool, key: str, expected: str, got: Any) -> None:
    """Raise a ConfigError that names the key, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key}: expected {expected}, got {_shown(got)}.", key)


def _shown(value: Any) -> str:
    """Write a value; of numbers that are too long to be written, Python raises."""
    try:
        return repr(value)
    except ValueError:
        return f"a value of type {type(value).__name__} too long to be written"


def require_number(key: str, value: Any, low: float, high: float, *, above: bool = False) -> None:
    """Require a finite number in [low, high], or (low, high] with ``above``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = number and low <= value <= high and not (above and value == low)  # NaN is not
    require(inside, key, f"a number in {'(' if above else '['}{low}, {high}]", value)


def require_count(key: str, value: Any, minimum: int = 1) -> None:
    """Require an integer of at least ``minimum``, and at most ``MOST``."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    require(good, key, f"an integer of at least {minimum}", value)
    require(value <= MOST, key, f"an integer of at most {MOST}", value)


def is_json(value: Any) -> bool:
    """Whether a value is the same after a way through JSON."""
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError, RecursionError):
        return False


def is_grouping(value: Any) -> bool:
    """Whether a value says by name which agents belong together: patterns, or one alone."""
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and name
        and isinstance(patterns, str | list)
        and patterns
        and all(isinstance(pattern, str) for pattern in patterns)
        for name, patterns in value.items()
    )
