"""All that can happen in a small game for two, from its rules alone: a tree, step by step.

Positions are followed at once, those of one joint step together. Chance acts at the start alone:
each first state has its probability. In games of perfect information equal positions after equally
many steps are one, and what a player knows is the position; in others positions are apart as the
ways to them, and what a player knows is all that it has seen and done.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.core import Game, State

MAX_POSITIONS = 200_000
"""Positions of one joint step that are followed; a game with more is too large."""
BATCH = 512
"""Positions that are stepped in one call."""


class TooLargeError(ValueError):
    """A game has more positions than can be followed."""


class Level(NamedTuple):
    """The ``N`` positions after some joint steps, and the ``M`` moves from them.

    Attributes:
        observation: what both agents see, stacked ``[N, 2, ...]``.
        mask: which actions they are shown as allowed, bool ``[N, 2, K]``.
        active: who is to act, bool ``[N, 2]``.
        known: number of what each agent knows, int64 ``[N, 2]``, counted from 0 for each agent.
        parent: position that a move is made in, ``[M]``, in order.
        action: of each agent ``[M, 2]``; -1 where it is not to act.
        child: position of the next level that it leads to, ``[M]``; -1 where the game is over.
        reward: of both agents for it, ``[M, 2]``.
    """

    observation: Any
    mask: np.ndarray
    active: np.ndarray
    known: np.ndarray
    parent: np.ndarray
    action: np.ndarray
    child: np.ndarray
    reward: np.ndarray

    @property
    def came_from(self) -> np.ndarray:
        """Position before each one of the next level; the first, where there are several."""
        goes_on = self.child >= 0
        _, first = np.unique(self.child[goes_on], return_index=True)
        return self.parent[goes_on][first]

    @property
    def n_known(self) -> tuple[int, int]:
        """How many different things each agent may know."""
        first, second = (self.known.max(axis=0, initial=-1) + 1).tolist()
        return first, second


class GameTree(NamedTuple):
    """All that can happen in a game.

    Attributes:
        game: its rules.
        chance: probability of each position of the first level.
        levels: by joint step.
    """

    game: Game
    chance: np.ndarray
    levels: list[Level]

    @property
    def n_positions(self) -> int:
        """How many positions there are in which somebody is to act."""
        return sum(len(level.known) for level in self.levels)


def game_tree(game: Game, max_positions: int = MAX_POSITIONS) -> GameTree:
    """Follow everything that can happen in a game.

    Args:
        game: of two agents of one group with Discrete actions, that says how it may start
            (``Game.starts``) and draws nothing by chance afterwards.
        max_positions: positions of one joint step, at most.

    Raises:
        ValueError: for other games; the message says why.
        TooLargeError: if there are more positions.

    Example:
        >>> from kitae_envs import make
        >>> tree = game_tree(make("kitae/kuhn_poker-v0"))
        >>> len(tree.chance), tree.n_positions
        (6, 24)
    """
    group, n_actions = _require(game)
    starts = game.starts()
    if starts is None:
        raise ValueError(
            f"expected a game that says how it may start, got {game.id}; implement starts() in "
            f"{type(game).__name__}."
        )
    state, chance = _merged(*jax.tree.map(np.asarray, starts))
    rules, levels, before = _Rules(game, group, n_actions), [], np.zeros((len(chance), 2), int)
    while len(before):
        observation, mask, active = rules.view(state)
        known = np.repeat(np.arange(len(before))[:, None], 2, axis=1)
        if not game.perfect_information:
            known = _knowledge((observation, mask), before)
        parent, action = rules.moves(mask, active)
        if len(parent) > max_positions:
            raise TooLargeError(
                f"expected at most {max_positions} positions at a time, got {len(parent)} in "
                f"{game.id}; it is too large to follow everything that can happen."
            )
        after, reward, over = rules.step(state, parent, action)
        kept = np.flatnonzero(~over)
        numbers = np.arange(len(kept))
        if game.perfect_information:
            kept, numbers = _distinct(after, kept)
        child = np.full(len(parent), -1)
        child[~over] = numbers
        levels.append(Level(observation, mask, active, known, parent, action, child, reward))
        before = known[parent[kept]] * (n_actions + 1) + action[kept] + 1
        state = _rows(after, kept)
    return GameTree(game, chance, levels)


def _require(game: Game) -> tuple[str, int]:
    """Return the group and the number of actions; refuse what is no game for two."""
    groups = list(game.groups.values())
    spaces = [game.action_space(agent) for agent in game.possible_agents]
    if len(game.possible_agents) != 2 or len(groups) != 1:
        raise ValueError(
            f"expected a game of two alike players, got {game.id} with "
            f"{list(game.possible_agents)}."
        )
    space = spaces[0]
    if not isinstance(space, gym.spaces.Discrete) or space.start:
        raise ValueError(f"expected Discrete actions that count from 0, got {space} in {game.id}.")
    return next(iter(game.groups)), int(space.n)


class _Rules:
    """The rules of a game over many positions at once."""

    def __init__(self, game: Game, group: str, n_actions: int) -> None:
        self._group, self._n_actions, self._key = group, n_actions, jax.random.key(0)
        self._game = game
        self._observe = jax.jit(jax.vmap(game.observe))
        self._step = jax.jit(jax.vmap(game.step, in_axes=(None, 0, 0)))

    def view(self, state: State) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return observation, mask and active; where there is no mask all is allowed."""
        parts = []
        for rows, part in _batches(state):
            seen = jax.device_get(self._observe(part))
            parts.append(_rows(tuple(x[self._group] for x in seen), slice(len(rows))))
        whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        observation, mask, active = whole
        if isinstance(mask, tuple):
            mask = np.ones((*active.shape, self._n_actions))
        return observation, mask.astype(bool), active

    def moves(self, mask: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all joint moves: in which position, and the action of each agent."""
        parent, action = [], []
        for row in range(len(active)):
            open_to = [
                np.flatnonzero(allowed).tolist() if acts else [-1]
                for allowed, acts in zip(mask[row], active[row], strict=True)
            ]
            joint = list(itertools.product(*open_to))
            parent += [row] * len(joint)
            action += joint
        return np.array(parent, int), np.array(action, int).reshape(-1, 2)

    def step(
        self, state: State, parent: np.ndarray, action: np.ndarray
    ) -> tuple[State, np.ndarray, np.ndarray]:
        """Make moves; return the positions after them, rewards ``[M, 2]`` and what is over."""
        parts = []
        other = jax.random.key(1)
        for rows, part in _batches(_rows(state, parent)):
            moves = np.zeros((BATCH, 2), np.int32)
            moves[: len(rows)] = np.maximum(action[rows], 0)
            joint = {self._group: jnp.asarray(moves)}
            after, told = jax.device_get(self._step(self._key, part, joint))
            if not parts:  # one batch of each step says whether chance plays
                again = jax.device_get(self._step(other, part, joint)[0])
                self._require_no_chance(after, again)
            one = after, told.reward[self._group], told.over
            parts.append(_rows(one, slice(len(rows))))
        state, reward, over = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        return state, np.asarray(reward, np.float64), over

    def _require_no_chance(self, after: State, again: State) -> None:
        """Refuse games in which another key leads elsewhere."""
        pairs = zip(jax.tree.leaves(after), jax.tree.leaves(again), strict=True)
        if not all(np.array_equal(a, b) for a, b in pairs):
            raise ValueError(
                f"expected a game that draws nothing by chance after its start, got "
                f"{self._game.id}."
            )


def _knowledge(seen: Any, before: np.ndarray) -> np.ndarray:
    """Number what each agent knows: what it knew and did before, and what it sees now."""
    leaves = [np.asarray(x) for x in jax.tree.leaves(seen)]
    known = np.zeros(before.shape, int)
    for agent in range(2):
        rows = [x[:, agent].reshape(len(before), -1) for x in leaves]
        rows.append(before[:, agent, None])
        known[:, agent] = _numbered(rows)
    return known


def _numbered(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Number different rows from 0 on, in order of appearance, ``[N]``."""
    whole = [np.ascontiguousarray(column) for column in columns]
    numbers: dict[bytes, int] = {}
    rows = (b"".join(column[i].tobytes() for column in whole) for i in range(len(whole[0])))
    return np.array([numbers.setdefault(row, len(numbers)) for row in rows], int)


def _distinct(state: State, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one of each kind of rows that are alike, and for each row the number of its kind."""
    if not rows.size:
        return rows, rows
    leaves = [np.asarray(x)[rows].reshape(len(rows), -1) for x in jax.tree.leaves(state)]
    numbers = _numbered(leaves)
    _, first = np.unique(numbers, return_index=True)
    return rows[first], numbers


def _merged(state: State, chance: np.ndarray) -> tuple[State, np.ndarray]:
    """Put equal first states together."""
    kept, numbers = _distinct(state, np.arange(len(chance)))
    together = np.bincount(numbers, weights=chance)
    return _rows(state, kept), together / together.sum()


def _rows(tree: Any, rows: Any) -> Any:
    """Return some rows of every array."""
    return jax.tree.map(lambda x: x[rows], tree)


def _batches(state: State) -> Iterator[tuple[np.ndarray, State]]:
    """Cut positions into batches of one size, the last one filled up with copies of its first."""
    n = len(jax.tree.leaves(state)[0])
    for start in range(0, n, BATCH):
        rows = np.arange(start, min(start + BATCH, n))
        filled = np.concatenate([rows, np.repeat(rows[:1], BATCH - len(rows))])
        yield rows, _rows(state, filled)
