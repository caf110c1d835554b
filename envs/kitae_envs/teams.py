"""Who plays together in a game, and who has won: the same for games in XLA and on the host.

A learner plays one team of a game, its opponent all others. Everything here is arithmetic that
NumPy and JAX arrays know alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

NOBODY = -1
"""Team of environments in which the learner plays all agents."""
EQUAL = 1e-6
"""Returns that differ by less are a draw."""
UNBALANCED = 1e-3
"""Returns of all that sum to more are not those of a zero-sum game."""


class Tally(NamedTuple):
    """What came of games, by the learner's team.

    Attributes:
        games: how many.
        wins: those in which the learner's team got more than the others on average.
        draws: those in which it got the same.
        own: sum of the returns of the learner's team, each the mean over its agents.
        others: likewise, of the mean over the other teams.
        unbalanced: games whose returns do not sum to zero.
    """

    games: Any
    wins: Any
    draws: Any
    own: Any
    others: Any
    unbalanced: Any


class Teams:
    """The teams of a game.

    Args:
        teams: agents that one player plays; each agent is in one team, of two or more.

    Example:
        >>> teams = Teams([["a"], ["b"]])
        >>> teams.learns(["a", "b"])[[0, 1, NOBODY]].tolist()
        [[True, False], [False, True], [True, True]]
        >>> returns = np.array([[1.0, -1.0], [0.5, 0.5]])
        >>> tally = teams.tally(["a", "b"], returns, np.array([1, 0]))
        >>> tally.own.tolist(), tally.wins.tolist(), tally.draws.tolist()
        ([-1.0, 0.5], [False, False], [False, True])
    """

    def __init__(self, teams: Sequence[Sequence[str]]) -> None:
        self.teams = tuple(map(tuple, teams))
        self._of = {agent: i for i, team in enumerate(self.teams) for agent in team}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.teams)

    def learns(self, agents: Sequence[str]) -> np.ndarray:
        """Return who of these plays for a learner, bool ``[T + 1, A]``.

        A row for each team that it may have, and at the end, at ``NOBODY``, one where it plays all.
        """
        rows = [[self._of[agent] == team for agent in agents] for team in range(len(self))]
        return np.array([*rows, [True] * len(agents)])

    def tally(self, agents: Sequence[str], returns: Any, team: Any) -> Tally:
        """Say what came of games, each field ``[E]``; ``games`` is false at ``NOBODY``.

        Args:
            agents: all agents, in any order.
            returns: what they got, ``[E, A]`` in this order.
            team: number of the learner's team in each game, ``[E]``.
        """
        share = np.zeros((len(agents), len(self)), np.float32)
        for i, agent in enumerate(agents):
            share[i, self._of[agent]] = 1 / len(self.teams[self._of[agent]])
        # Not a product of matrices, which some devices round.
        by_team = (returns[:, :, None] * share[None]).sum(1)
        is_own = team[:, None] == np.arange(len(self))[None]
        own = (by_team * is_own).sum(1)
        others = (by_team * ~is_own).sum(1) / (len(self) - 1)
        unbalanced = (abs(returns.sum(1)) > UNBALANCED) & (abs(by_team.sum(1)) > UNBALANCED)
        draws = abs(own - others) <= EQUAL
        return Tally(team >= 0, own > others + EQUAL, draws, own, others, unbalanced)
