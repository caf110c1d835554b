"""This file draws positions as text, for people who play in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

MOST_SHOWN = 40
"""Numbers of an observation that are still shown as they are, where a game has no drawing."""


class Seen(NamedTuple):
    """What one player sees.

    Attributes:
        observation: without its mask.
        first: whether it is the first player, whose stones are crosses.
        labels: what each action is called.
    """

    observation: Any
    first: bool
    labels: tuple[str, ...]


class Drawing(NamedTuple):
    """How a game is shown.

    Attributes:
        draw: from what a player sees to lines of text.
        labels: what its actions are called; empty: their numbers.
    """

    draw: Callable[[Seen], str]
    labels: tuple[str, ...] = ()


def drawing_of(env_id: str) -> Drawing:
    """Return how a game is shown: its own drawing, or what can be said of any."""
    return DRAWINGS.get(env_id, Drawing(_numbers))


def _stones(seen: Seen) -> np.ndarray:
    """Return the signs on a board whose observation holds one's own stones, then the other's."""
    own, other = np.moveaxis(np.asarray(seen.observation), -1, 0)
    mine, theirs = ("X", "O") if seen.first else ("O", "X")
    return np.where(own != 0, mine, np.where(other != 0, theirs, "."))


def _connect_four(seen: Seen) -> str:
    rows = [" ".join(row) for row in _stones(seen)]
    return "\n".join([*rows, " ".join(map(str, range(7)))])


def _tictactoe(seen: Seen) -> str:
    """Empty squares show their number."""
    signs = _stones(seen)
    numbers = np.arange(9).reshape(3, 3)
    rows = [
        " ".join(str(n) if sign == "." else sign for n, sign in zip(*row, strict=True))
        for row in zip(numbers, signs, strict=True)
    ]
    return "\n".join(rows)


def _one_of(names: str, values: np.ndarray, nothing: str = "none") -> str:
    """Name what an indicator row points at."""
    return names[int(np.argmax(values))] if np.any(values) else nothing


def _leduc(seen: Seen) -> str:
    own, table, mine, theirs = np.split(np.asarray(seen.observation)[:36], [3, 6, 21])
    return (
        f"your card {_one_of('JQK', own)}, on the table {_one_of('JQK', table)}\n"
        f"chips in the pot: yours {int(np.argmax(mine))}, the other's {int(np.argmax(theirs))}"
    )


def _kuhn(seen: Seen) -> str:
    own, mine, theirs = np.split(np.asarray(seen.observation)[:7], [3, 5])
    chips = f"chips in the pot: yours {1 + int(np.argmax(mine))}"
    return f"your card {_one_of('JQK', own)}\n{chips}, the other's {1 + int(np.argmax(theirs))}"


def _throws(seen: Seen) -> str:
    last = int(seen.observation)
    if last >= len(seen.labels):
        return "the first round"
    return f"the other's last was {seen.labels[last]}"


def _numbers(seen: Seen) -> str:
    """Show a short observation as it is, and of a long one its size."""
    if isinstance(seen.observation, Mapping | tuple):
        with np.printoptions(threshold=MOST_SHOWN, precision=2, suppress=True):
            return f"you see {seen.observation}"
    values = np.asarray(seen.observation)
    if values.size > MOST_SHOWN:
        return f"you see {' x '.join(map(str, values.shape))} numbers"
    return f"you see {np.array2string(values, precision=2, suppress_small=True)}"


DRAWINGS = {
    "classic/connect_four-v3": Drawing(_connect_four),
    "classic/tictactoe-v3": Drawing(_tictactoe),
    "classic/leduc_holdem-v4": Drawing(_leduc, ("call", "raise", "fold", "check")),
    "kitae/kuhn_poker-v0": Drawing(_kuhn, ("pass", "bet")),
    "classic/rps-v2": Drawing(_throws, ("rock", "paper", "scissors")),
}
"""Games that are drawn, by id; all others are told in numbers."""
