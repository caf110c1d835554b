"""This file solves games whose tree is small: nobody gains against what it finds.

Where players take turns and see everything, the best moves follow from the end of the game to its
start. Elsewhere counterfactual regrets are minimised (CFR+; Tammelin 2014, "Solving large imperfect
information games using CFR+"): in turn each agent's regrets, never below zero, are brought up to
date, and the strategy is the average of all that were played, the later ones counted for more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from kitae_envs.trees import GameTree

from kitae_marl.selfplay.exact.responses import action_values, gains, reaches
from kitae_marl.selfplay.exact.strategies import Strategy, allowed, normalised

TARGET = 1e-4
"""Exploitability at which a solution is good enough, in units of the game's rewards."""
MAX_ITERATIONS = 20_000
"""Iterations of CFR+ after which it ends in any case."""
LOOK_EVERY = 50
"""Iterations between two looks at the exploitability."""
SAME = 1e-9
"""Values that differ by less are equal."""


class Equilibrium(NamedTuple):
    """A strategy of both agents against which nobody gains much.

    Attributes:
        strategy: by level of the tree.
        exploitability: of the strategy.
        iterations: of CFR+; 0: it was found without.
    """

    strategy: Strategy
    exploitability: float
    iterations: int


def equilibrium(
    tree: GameTree,
    target: float = TARGET,
    max_iterations: int = MAX_ITERATIONS,
    tell: Callable[[int, float], None] = lambda iteration, found: None,
) -> Equilibrium:
    """Find a strategy against which nobody gains more than ``target``.

    Args:
        tree: of a zero-sum game.
        target: exploitability to reach.
        max_iterations: of CFR+, after which it ends in any case.
        tell: called now and then with the iteration and the exploitability.

    Raises:
        ValueError: for a game that is not zero-sum, and one that has no equilibrium this way.

    Example:
        >>> from kitae_envs import make
        >>> from kitae_envs.trees import game_tree
        >>> equilibrium(game_tree(make("kitae/kuhn_poker-v0")), target=1e-3).exploitability < 1e-3
        True
    """
    if any(np.abs(level.reward.sum(axis=1)).max(initial=0) > SAME for level in tree.levels):
        raise ValueError(
            f"expected a zero-sum game, got {tree.game.id}, in which both can win or lose at once."
        )
    if _takes_turns(tree) and tree.game.perfect_information:
        strategy = backwards(tree)
        return Equilibrium(strategy, gains(tree, strategy).exploitability, 0)
    regrets = CFRPlus(tree)
    found = np.inf
    while regrets.iterations < max_iterations and found > target:
        for _ in range(min(LOOK_EVERY, max_iterations - regrets.iterations)):
            regrets.iterate()
        found = gains(tree, regrets.average()).exploitability
        tell(regrets.iterations, found)
    return Equilibrium(regrets.average(), found, regrets.iterations)


def _takes_turns(tree: GameTree) -> bool:
    """Whether at most one agent is to act in every position."""
    return all((level.active.sum(axis=1) <= 1).all() for level in tree.levels)


def backwards(tree: GameTree) -> Strategy:
    """Return the best moves, equal ones alike, of a game whose players take turns and see all."""
    strategy: Strategy = []
    later = np.zeros(0)  # what positions bring the first agent
    for level in reversed(tree.levels):
        may, best = allowed(level), np.zeros(len(level.known))
        chosen = np.zeros(may.shape)
        for seat, sign in enumerate((1.0, -1.0)):
            values = action_values(level, chosen, seat, sign * later)
            own = np.where(may[:, seat], values, -np.inf)
            highest = own.max(axis=1)
            acts = level.active[:, seat]
            equal = may[:, seat] & (own >= highest[:, None] - SAME)
            chosen[:, seat] = normalised(equal.astype(float))
            best[acts] = sign * highest[acts]
        strategy.append(chosen)
        later = best
    return strategy[::-1]


class CFRPlus:
    """Counterfactual regret minimisation over a tree.

    Args:
        tree: of a zero-sum game.

    Attributes:
        iterations: how many were done.
    """

    def __init__(self, tree: GameTree) -> None:
        self._tree, self.iterations = tree, 0
        self._may = [allowed(level) for level in tree.levels]
        n_actions = self._may[0].shape[2]
        sizes = [level.n_known for level in tree.levels]
        self._regret = [[np.zeros((n, n_actions)) for n in of_both] for of_both in sizes]
        self._sum = [[np.zeros((n, n_actions)) for n in of_both] for of_both in sizes]

    def iterate(self) -> None:
        """Bring the regrets of one agent after the other up to date."""
        self.iterations += 1
        for seat in range(2):
            strategy = self._played(self._regret)
            self._average_in(strategy, seat)
            self._learn(strategy, seat)

    def average(self) -> Strategy:
        """Return the average strategy."""
        return self._played(self._sum)

    def _played(self, weights: list[list[np.ndarray]]) -> Strategy:
        """Return the strategy in proportion to weights, all actions alike where there are none."""
        strategy = []
        for level, may, of_both in zip(self._tree.levels, self._may, weights, strict=True):
            own = np.stack([of_both[seat][level.known[:, seat]] for seat in range(2)], axis=1)
            own = np.where(may, own, 0.0)
            nothing = own.sum(axis=2, keepdims=True) <= 0
            strategy.append(normalised(np.where(nothing, may.astype(float), own)))
        return strategy

    def _average_in(self, strategy: Strategy, seat: int) -> None:
        """Add what an agent plays now to its average, later iterations counted for more."""
        reach = reaches(self._tree, strategy, seat, chance=False)
        for level, own, weight, sums in zip(
            self._tree.levels, strategy, reach, self._sum, strict=True
        ):
            known = level.known[:, seat]
            # All positions that it cannot tell apart it makes equally probable.
            once = np.zeros((level.n_known[seat], own.shape[2]))
            once[known] = weight[:, None] * own[:, seat]
            sums[seat] += self.iterations * once

    def _learn(self, strategy: Strategy, seat: int) -> None:
        """Bring an agent's regrets up to date, from the end of the game to its start."""
        reach = reaches(self._tree, strategy, 1 - seat)
        later = np.zeros(0)
        for number in reversed(range(len(self._tree.levels))):
            level, own = self._tree.levels[number], strategy[number][:, seat]
            values = action_values(level, strategy[number], seat, later)
            acts = level.active[:, seat]
            later = np.where(acts, (own * values).sum(axis=1), values[:, 0])
            gained = np.where(self._may[number][:, seat], values - later[:, None], 0.0)
            regret = self._regret[number][seat]
            np.add.at(regret, level.known[:, seat], reach[number][:, None] * gained)
            np.maximum(regret, 0.0, out=regret)
