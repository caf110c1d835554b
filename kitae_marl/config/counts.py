"""This file reads numbers as people write them (500k, 1e6), and which checkpoints to keep."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, NamedTuple

from kitae_marl.config.checks import MOST, require
from kitae_marl.errors import ConfigError

NEWEST = 3
"""Checkpoints kept where nothing else is said, the newest ones."""
EVERY = "every:"
"""What begins a setting that says at which distance checkpoints are kept for good."""
LONGEST = 100
"""Characters of the longest number that is read: Python writes none of thousands of digits."""
_COUNT = re.compile(r"([+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)([kKmMgGbB]?)")
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh]?)")
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def read_count(text: str) -> int:
    """Read a whole number, which may be written with an exponent or with k, M or G behind it.

    Raises:
        ValueError: for anything else, also for what is no whole number.

    Example:
        >>> read_count("500k"), read_count("1e6"), read_count("2.5M"), read_count("20_480")
        (500000, 1000000, 2500000, 20480)
    """
    match = _COUNT.fullmatch(text.strip()) if len(text) <= LONGEST else None
    number = Decimal(match[1].replace("_", "")) * _TIMES[match[2].lower()] if match else None
    if number is None or number != number.to_integral_value():
        got = repr(text) if len(text) <= LONGEST else f"{len(text)} characters"
        raise ValueError(f"expected a whole number such as 20480, 500k, 5M or 1e6, got {got}")
    return int(number)


def read_seconds(text: str) -> float:
    """Read a time: a number of seconds, or one with s, m or h behind it.

    Raises:
        ValueError: for anything else, and for what is not above 0.

    Example:
        >>> read_seconds("90"), read_seconds("10m"), read_seconds("1.5h")
        (90.0, 600.0, 5400.0)
    """
    match = _TIME.fullmatch(text.strip()) if len(text) <= LONGEST else None
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise ValueError(f"expected a time such as 90s, 10m or 1h, got {text[:LONGEST]!r}")
    return seconds


def whole(value: Any) -> Any:
    """Return a number that is whole as an integer (1e6 is a float in Python), others as they are.

    Example:
        >>> whole(1e6), whole(0.5)
        (1000000, 0.5)
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Kept(NamedTuple):
    """Which checkpoints of a run stay.

    Attributes:
        newest: how many of the newest; None: all.
        every: environment steps; beside the newest stays the first checkpoint at or after each
            multiple of these. None: no others.
    """

    newest: int | None = NEWEST
    every: int | None = None

    def of(self, steps: list[int]) -> set[int]:
        """Return which of some steps, in ascending order, stay.

        Example:
            >>> sorted(Kept(2, 10).of([3, 8, 12, 17, 24, 25, 26]))
            [12, 24, 25, 26]
        """
        kept = set(steps if self.newest is None else steps[-self.newest :])
        seen = {0}
        for step in steps if self.every else ():
            part = step // (self.every or 1)
            if part not in seen:
                kept.add(step)
                seen.add(part)
        return kept


def read_keep(keep: Any) -> Kept:
    """Read the setting that says which checkpoints to keep: ``all``, a number, or ``every:500k``.

    Raises:
        ConfigError: for anything else.

    Example:
        >>> read_keep("all"), read_keep(5), read_keep("every:500k")
        (Kept(newest=None, every=None), Kept(newest=5, every=None), Kept(newest=3, every=500000))
    """
    huge = isinstance(keep, int) and keep > MOST  # which Python may not even write
    text = "" if huge else str(keep)
    try:
        number = read_count(text.removeprefix(EVERY)) if text != "all" else 1
    except ValueError:
        number = 0
    expected = "'all', a number of checkpoints from 1 on, or 'every:500k' (environment steps)"
    require(0 < number <= MOST and not isinstance(keep, bool), "keep", expected, keep)
    if text == "all":
        return Kept(None)
    return Kept(every=number) if text.startswith(EVERY) else Kept(number)


def require_reached(keep: Kept, save_every: int) -> None:
    """Raise a ConfigError where checkpoints are to be kept more often than they are saved."""
    if keep.every is not None and keep.every < save_every:
        raise ConfigError(
            f"keep: expected every:N with N of at least save_every, {save_every}, got "
            f"{keep.every}; save more often (--save-every {keep.every}), or keep fewer.",
            "keep",
        )
