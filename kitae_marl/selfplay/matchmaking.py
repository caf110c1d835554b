"""This file says which members of a pool play, and which leave it, by what a learner scores.

Prioritised fictitious self-play (PFSP), which prefers opponents by the learner's win rate against
them, is that of Vinyals et al. (2019, "Grandmaster level in StarCraft II using multi-agent
reinforcement learning", Nature 575).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.league import Games, snapshot_name

HALVING = 8
"""Draws after which games count half, where matchmaking asks for scores."""
PRIOR = 2.0
"""Games that count as played before, half of them won."""


class MemberRecord(NamedTuple):
    """A member of the pool as matchmaking sees it.

    Attributes:
        name: ``step_20480``.
        env_step: environment step of the snapshot.
        score: what the learner scores against it of late: a win is 1, a draw 1/2; in games that are
            not zero-sum its return, put between 0 (its lowest against any member) and 1. A member
            that was hardly played is near 1/2.
        games: how many games that is, the older ones counted for less.
    """

    name: str
    env_step: int
    score: float
    games: float


Matchmaking = Callable[[Sequence[MemberRecord]], Sequence[float]]
"""From the members, the oldest first, to weights of at least 0 with a positive sum."""


class Scores:
    """What the learner scores against each opponent, games halving with time."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
        self._unbalanced = False

    def add(self, games: Sequence[Games]) -> None:
        """Count the games of one draw."""
        for sums in self._sums.values():
            sums *= 0.5 ** (1 / HALVING)
        for one in games:
            self._sums[one.opponent] += one.games, one.wins + one.draws / 2, one.own
            self._unbalanced |= one.unbalanced > 0

    def records(self, members: Sequence[int]) -> list[MemberRecord]:
        """Return the members of the pool with what the learner scores against them."""
        names = [snapshot_name(step) for step in members]
        sums = [self._sums[name] if name in self._sums else np.zeros(3) for name in names]
        returns = [own / n for n, _, own in sums if n > 0]
        low, high = (min(returns), max(returns)) if returns else (0.0, 0.0)

        def score(n: float, won: float, own: float) -> float:
            if self._unbalanced:  # nobody wins: returns between the lowest and the highest
                won = n * (own / n - low) / (high - low) if n > 0 and high > low else n / 2
            return float((won + PRIOR / 2) / (n + PRIOR))

        return [
            MemberRecord(name, step, score(*numbers), float(numbers[0]))
            for name, step, numbers in zip(names, members, sums, strict=True)
        ]


def _uniform(members: Sequence[MemberRecord]) -> list[float]:
    return [1.0] * len(members)


def _latest(members: Sequence[MemberRecord]) -> list[float]:
    return [0.0] * (len(members) - 1) + [1.0]


def _even(members: Sequence[MemberRecord]) -> list[float]:
    return [one.score * (1 - one.score) for one in members]


def _hard(members: Sequence[MemberRecord]) -> list[float]:
    return [(1 - one.score) ** 2 for one in members]


WAYS: dict[str, Matchmaking] = {
    "uniform": _uniform,
    "latest": _latest,
    "pfsp": _even,
    "pfsp_hard": _hard,
}
"""Ways to choose by name."""
FLOOR = 1e-3
"""Part of the weights that is spread over all members, so that none is never met again."""


def chances(matchmaking: Matchmaking, members: Sequence[MemberRecord]) -> np.ndarray:
    """Return the chance of each member to play, ``[members]``, with a sum of 1.

    Raises:
        ConfigError: if the matchmaking raises or returns no weights.

    Example:
        >>> easy, even = MemberRecord("a", 0, 0.99, 50), MemberRecord("b", 9, 0.5, 50)
        >>> chances(WAYS["pfsp"], [easy, even]).round(2).tolist()
        [0.04, 0.96]
    """
    try:
        given: Any = matchmaking(list(members))
    except Exception as error:  # which may say nothing of where it comes from
        raise ConfigError(
            f"matchmaking: expected weights of {len(members)} members, got "
            f"{type(error).__name__}: {error}",
            "opponents",
        ) from error
    try:
        weights = np.asarray(given, float)
    except (TypeError, ValueError):
        weights = np.array(np.nan)
    good = weights.shape == (len(members),) and np.all(np.isfinite(weights) & (weights >= 0))
    if not good:
        raise ConfigError(
            f"matchmaking: expected a weight of at least 0 for each of {len(members)} members, got "
            f"{given!r}.",
            "opponents",
        )
    total = weights.sum()
    if not total:
        return np.full(len(members), 1 / len(members))
    return weights / total * (1 - FLOOR) + FLOOR / len(members)


def draw(chance: np.ndarray, n_slots: int, generator: np.random.Generator) -> np.ndarray:
    """Draw who plays in which slot: members by their chances, with as little luck as possible.

    Each member gets its chance times the slots, rounded up or down (systematic sampling), in slots
    that are drawn.

    Returns:
        Indices of members ``[n_slots]``.
    """
    points = (np.arange(n_slots) + generator.random()) / n_slots
    chosen = np.minimum(np.searchsorted(np.cumsum(chance), points, side="right"), len(chance) - 1)
    return generator.permutation(chosen)


def leaving(
    eviction: str, members: Sequence[MemberRecord], pinned: Collection[int]
) -> MemberRecord | None:
    """Return who leaves a full pool; None where all are pinned. The newest never leaves.

    Args:
        eviction: ``oldest``; ``weakest``, against whom the learner scores most; or ``stride``,
            whose neighbours are nearest to each other in time.
        members: the oldest first.
        pinned: environment steps of those that stay.

    Example:
        >>> pool = [MemberRecord(f"step_{s}", s, 0.5, 0.0) for s in (0, 10, 11, 20)]
        >>> leaving("stride", pool, ()).name, leaving("oldest", pool, (0,)).name
        ('step_11', 'step_10')
    """
    free = [one for one in members[:-1] if one.env_step not in pinned]
    if not free:
        return None
    if eviction == "oldest":
        return free[0]
    if eviction == "weakest":
        return max(free, key=lambda one: one.score)
    steps = [one.env_step for one in members]
    gap = {b: c - a for (a, b), (_, c) in pairwise(pairwise(steps))}
    inner = [one for one in free if one.env_step in gap]  # the first one has no neighbour before
    return min(inner or free, key=lambda one: (gap.get(one.env_step, 0), -one.env_step))
