"""This file says what a policy gets at worst, over all that its opponent could do.

That is asked of the compiled rules alone, and holds for games in which two players take turns, see
everything and leave nothing to chance. All lines of play are followed at once, position by position
in time: where the policy is to move there is one line on, where the opponent is, one for each legal
move. Equal positions with equal returns so far are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from kitae_envs.core import Game

from kitae_marl.data.stacking import map_leaves
from kitae_marl.errors import ConfigError
from kitae_marl.types import Policy
from kitae_marl.vector.adapters.compiled_games import make_game

MAX_POSITIONS = 200_000
"""Positions followed at a time; more are those of a game that is too large to be asked so."""
BATCH = 256
"""Positions that are asked of the policy, and stepped, in one call."""


class WorstCase(NamedTuple):
    """What a policy gets against the opponent that is worst for it.

    Attributes:
        value: its return.
        positions: how many different positions its play allows.
        actions: the opponent's actions on one way to it, in order.
    """

    value: float
    positions: int
    actions: list[int]


def worst_case(policy: Policy, game: str | Game, seat: str) -> WorstCase:
    """Return what a policy without chance and memory gets at worst in a seat.

    Args:
        policy: ``(observations, infos) -> actions`` over positions side by side, such as
            ``Agent.load(run).select_action``; it must play the same wherever it is asked the same.
        game: id of a game that has a compiled twin, or its rules (``kitae_envs.make(id)``).
        seat: name of the agent that it plays.

    Raises:
        ConfigError: for a game that does not take turns between two, an agent that is not in it,
            and more than ``MAX_POSITIONS`` positions at a time.
        TypeError: for a policy that is no function, or a game that is neither an id nor a Game.
        ValueError: if the policy chooses an action that is not allowed.

    Example:
        >>> def first(observations, infos):
        ...     return {a: mask.argmax(1) for a, mask in infos["action_mask"].items()}
        >>> found = worst_case(first, "classic/tictactoe-v3", "player_1")
        >>> found.value, len(found.actions)
        (-1.0, 3)
    """
    if not callable(policy):
        raise TypeError(
            "expected a policy (observations, infos) -> actions, such as "
            f"Agent.load(run).select_action, got {type(policy).__name__}."
        )
    game = make_game(game) if isinstance(game, str) else game
    if not isinstance(game, Game):
        raise TypeError(f"expected the id of a game or a Game, got {type(game).__name__}.")
    agents = list(game.possible_agents)
    if not game.turn_based or len(agents) != 2 or len(game.groups) != 1:
        raise ConfigError(
            f"game: expected one in which two alike players take turns, got {game.id} with "
            f"{agents}.",
            "game",
        )
    if seat not in agents:
        raise ConfigError(f"seat: expected one of {agents}, got {seat!r}.", "seat")
    tree = _Tree(policy, game, agents.index(seat))
    return tree.search()


class _Tree:
    """The lines of play that a policy allows."""

    def __init__(self, policy: Policy, game: Game, seat: int) -> None:
        self._policy, self._game, self._seat = policy, game, seat
        (self._group,) = game.groups
        self._key = jax.random.key(0)
        self._observe = jax.jit(jax.vmap(game.observe))
        self._step = jax.jit(jax.vmap(game.step, in_axes=(None, 0, 0)))

    def search(self) -> WorstCase:
        """Follow all lines to their ends."""
        start = self._game.start(self._key)
        state = jax.tree.map(lambda x: np.asarray(x)[None], start)
        returns, ways = np.zeros(1), [()]
        worst: tuple[float, tuple[int, ...]] = (np.inf, ())
        n_positions = 0
        while len(returns):
            n_positions += len(returns)
            parents, actions, is_own = self._moves(state)
            if len(parents) > MAX_POSITIONS:
                raise ConfigError(
                    f"game: expected at most {MAX_POSITIONS} positions at a time, got "
                    f"{len(parents)} in {self._game.id}; it is too large to follow every line.",
                    "game",
                )
            state, reward, over = self._play(state, parents, actions)
            returns = returns[parents] + reward
            moved = zip(parents, actions, is_own, strict=True)
            ways = [ways[p] if own else (*ways[p], int(a)) for p, a, own in moved]
            for i in np.flatnonzero(over):
                worst = min(worst, (float(returns[i]), ways[i]), key=lambda one: one[0])
            kept = self._distinct(state, returns, np.flatnonzero(~over))
            state = jax.tree.map(lambda x, kept=kept: x[kept], state)
            returns, ways = returns[kept], [ways[i] for i in kept]
        return WorstCase(worst[0], n_positions, list(worst[1]))

    def _moves(self, state: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all moves from these positions: from where, the action, whether the policy's."""
        parents, actions, is_own = [], [], []
        for rows, part in _batches(state):
            view = jax.device_get(self._observe(part))
            mask, active = view.action_mask[self._group], view.active[self._group]
            chosen = self._chosen(view)
            for i, row in enumerate(rows):
                (mover,) = np.flatnonzero(active[i])
                own = mover == self._seat
                if own and not (0 <= chosen[i] < mask.shape[2] and mask[i, mover, chosen[i]]):
                    allowed = np.flatnonzero(mask[i, mover]).tolist()
                    raise ValueError(
                        f"expected an action of {allowed} from the policy, got {chosen[i]}; it "
                        "gets what is allowed as infos['action_mask'][agent]."
                    )
                legal = [chosen[i]] if own else np.flatnonzero(mask[i, mover])
                for action in legal:
                    parents.append(row)
                    actions.append(action)
                    is_own.append(own)
        return np.array(parents), np.array(actions), np.array(is_own)

    def _chosen(self, view: Any) -> np.ndarray:
        """Ask the policy; return whole numbers, ``[E]``."""
        agents = self._game.groups[self._group]
        seat = agents[self._seat]

        def by_agent(stacked: Any) -> dict[str, Any]:
            return {a: map_leaves(lambda x, i=i: x[:, i], stacked) for i, a in enumerate(agents)}

        observation = by_agent(view.observation[self._group])
        infos: Mapping[str, Any] = {
            "active": by_agent(view.active[self._group]),
            "action_mask": by_agent(view.action_mask[self._group]),
        }
        actions = self._policy(observation, infos)
        if not isinstance(actions, Mapping) or seat not in actions:
            raise ValueError(
                f"expected actions {{agent: [E]}} with {seat} among them from the policy, got "
                f"{list(actions) if isinstance(actions, Mapping) else type(actions).__name__}."
            )
        chosen = np.asarray(actions[seat])
        if chosen.size != BATCH or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(
                f"expected {BATCH} whole numbers for {seat} from the policy, got "
                f"{chosen.dtype}{list(chosen.shape)}."
            )
        return chosen.reshape(BATCH)

    def _play(
        self, state: Any, parents: np.ndarray, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        """Make moves; return the positions after them, rewards of the policy, and what is over."""
        state = jax.tree.map(lambda x: x[parents], state)
        after, rewards, over = [], [], []
        for rows, part in _batches(state):
            moves = np.zeros(BATCH, actions.dtype)
            moves[: len(rows)] = actions[rows]
            joint = {self._group: jnp.asarray(np.stack([moves, moves], axis=1))}
            new, told = jax.device_get(self._step(self._key, part, joint))
            n = len(rows)
            after.append(jax.tree.map(lambda x, n=n: x[:n], new))
            rewards.append(told.reward[self._group][:n, self._seat])
            over.append(told.over[:n])
        return (
            jax.tree.map(lambda *x: np.concatenate(x), *after),
            np.concatenate(rewards),
            np.concatenate(over),
        )

    @staticmethod
    def _distinct(state: Any, returns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return one of each kind of rows that are alike."""
        columns = [np.asarray(x).reshape(len(returns), -1) for x in jax.tree.leaves(state)]
        alike: dict[bytes, int] = {}
        for i in rows:
            key = b"".join(column[i].tobytes() for column in [*columns, returns[:, None]])
            alike.setdefault(key, int(i))
        return np.array(list(alike.values()), int)


def _batches(state: Any) -> Any:
    """Cut positions into batches of one size, the last one filled up with copies of its first."""
    n = len(jax.tree.leaves(state)[0])
    for start in range(0, n, BATCH):
        rows = np.arange(start, min(start + BATCH, n))
        filled = np.concatenate([rows, np.repeat(rows[:1], BATCH - len(rows))])
        yield rows, jax.tree.map(lambda x, filled=filled: x[filled], state)
