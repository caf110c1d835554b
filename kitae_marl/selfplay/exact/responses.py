"""This file finds the best response to a strategy in a game tree, and what it gains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from kitae_envs.trees import GameTree, Level

from kitae_marl.selfplay.exact.strategies import Strategy, allowed


class Exploitability(NamedTuple):
    """How far a strategy is from one that nobody can gain against.

    Attributes:
        values: what each agent gets where both play by the strategy.
        responses: what each agent gets at best where the other one plays by it.
        exploitability: the mean of what the agents gain by that, 0 at an equilibrium: half of the
            NashConv of Lanctot et al. (2017, "A unified game-theoretic approach to multiagent
            reinforcement learning").
    """

    values: tuple[float, float]
    responses: tuple[float, float]
    exploitability: float


def gains(tree: GameTree, strategy: Strategy) -> Exploitability:
    """Return what best responses gain against a strategy.

    Example:
        >>> from kitae_envs import make
        >>> from kitae_envs.trees import game_tree
        >>> from kitae_marl.selfplay.exact.strategies import uniform
        >>> tree = game_tree(make("kitae/kuhn_poker-v0"))
        >>> found = gains(tree, uniform(tree))
        >>> [round(x, 3) for x in (*found.values, *found.responses, found.exploitability)]
        [0.125, -0.125, 0.5, 0.417, 0.458]
    """
    values = values_of(tree, strategy)
    first, second = (best_response(tree, strategy, seat).value for seat in range(2))
    gained = first - values[0] + second - values[1]
    return Exploitability(values, (first, second), gained / 2)


def values_of(tree: GameTree, strategy: Strategy) -> tuple[float, float]:
    """Return what both agents get where they play by a strategy."""
    later = np.zeros((0, 2))
    for level, probabilities in zip(reversed(tree.levels), reversed(strategy), strict=True):
        both = chosen(level, probabilities, 0) * chosen(level, probabilities, 1)
        gained = both[:, None] * (level.reward + _after(level, later))
        later = np.zeros((len(level.known), 2))
        np.add.at(later, level.parent, gained)
    first, second = (tree.chance @ later).tolist()
    return first, second


class Response(NamedTuple):
    """The best that an agent can do against a strategy.

    Attributes:
        value: what it gets.
        strategy: what it does, zero for the other agent.
    """

    value: float
    strategy: Strategy


def best_response(tree: GameTree, strategy: Strategy, seat: int) -> Response:
    """Return a best response of the agent with number ``seat`` to what the other one does.

    It takes what is best by all that it knows: by the value of each action, weighted with how
    probable chance and the other one make each position.
    """
    reach = reaches(tree, strategy, 1 - seat)
    best: Strategy = []
    later = np.zeros(0)
    for number in reversed(range(len(tree.levels))):
        level = tree.levels[number]
        values = action_values(level, strategy[number], seat, later)
        summed = np.zeros((level.n_known[seat], values.shape[1]))
        np.add.at(summed, level.known[:, seat], reach[number][:, None] * values)
        acts, known = level.active[:, seat], level.known[:, seat]
        may = allowed(level)[:, seat]
        action = np.argmax(np.where(may, summed[known], -np.inf), axis=1)
        rows = np.arange(len(known))
        own = np.zeros(level.mask.shape)
        own[rows[acts], seat, action[acts]] = 1.0
        best.append(own)
        # Who is not to act has all that follows in the first column.
        later = values[rows, np.where(acts, action, 0)]
    return Response(float(tree.chance @ later), best[::-1])


def reaches(tree: GameTree, strategy: Strategy, seat: int, *, chance: bool = True) -> Strategy:
    """Return by level how probable an agent, and chance, make each position, ``[N]``."""
    reach = [tree.chance if chance else np.ones(len(tree.chance))]
    for level, probabilities in zip(tree.levels[:-1], strategy[:-1], strict=True):
        goes_on = level.child >= 0
        moved = reach[-1][level.parent] * chosen(level, probabilities, seat)
        following = np.zeros(level.child.max(initial=-1) + 1)
        np.add.at(following, level.child[goes_on], moved[goes_on])
        reach.append(following)
    return reach


def action_values(
    level: Level, probabilities: np.ndarray, seat: int, later: np.ndarray
) -> np.ndarray:
    """Return what each action of an agent brings in each position, ``[N, K]``.

    Args:
        level: the positions.
        probabilities: what the other one does in them.
        seat: number of the agent; where it is not to act, column 0 holds what the position brings.
        later: what each position of the next level brings it.
    """
    other = chosen(level, probabilities, 1 - seat)
    gained = other * (level.reward[:, seat] + _after(level, later))
    values = np.zeros(level.mask[:, seat].shape)
    np.add.at(values, (level.parent, np.maximum(level.action[:, seat], 0)), gained)
    return values


def chosen(level: Level, probabilities: np.ndarray, seat: int) -> np.ndarray:
    """Return how probable an agent makes each move, ``[M]``; 1 where it is not to act."""
    action = level.action[:, seat]
    taken = probabilities[level.parent, seat, np.maximum(action, 0)]
    return np.where(action < 0, 1.0, taken)


def _after(level: Level, later: np.ndarray) -> np.ndarray:
    """Return what comes after each move; nothing where the game is over."""
    over = level.child < 0
    if over.all():
        return np.zeros((len(over), *later.shape[1:]))
    after = later[np.maximum(level.child, 0)]
    return np.where(over.reshape(-1, *(1,) * (after.ndim - 1)), 0.0, after)
