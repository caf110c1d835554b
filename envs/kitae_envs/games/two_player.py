"""What the turn-based games for two have in common: seats, masks, illegal moves, spaces."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.core import ByGroup, Game, Outcome, State, View

GROUP = "player"
"""Both seats are one group: their spaces are equal."""
BETS_UNSEEN = (
    "the observation does not hold what a player knows, for who bet when is not in it; "
    '--env-kwargs \'{"history": true}\' adds that (in Python env_kwargs={"history": True})'
)
"""Said of poker without its history."""


class TwoPlayerGame(Game):
    """A turn-based game of two seats with masked discrete actions.

    Both seats are present at every step. ``active`` marks the mover; the idle seat sees the game
    from its own side with a mask of zeros. States have the fields ``turn`` (int32, the seat to
    move) and ``over`` (bool). An illegal move ends the game as in PettingZoo: -1 for the seat that
    made it, 0 for the other, both flags up for both, and the turn falls to seat 0.
    """

    turn_based: ClassVar[bool] = True
    zero_sum: bool = True

    def __init__(
        self, possible_agents: tuple[str, str], observation: gym.spaces.Box, n_actions: int
    ) -> None:
        self.possible_agents = possible_agents
        self.n_actions = n_actions
        mask = gym.spaces.Box(0, 1, (n_actions,), np.int8)
        self._observation_space = gym.spaces.Dict({"observation": observation, "action_mask": mask})
        self._action_space = gym.spaces.Discrete(n_actions)

    def observation_space(self, agent: str) -> gym.Space:
        """Return the Dict of the seat's observation and its action mask."""
        return self._observation_space

    def action_space(self, agent: str) -> gym.Space:
        """Return the Discrete space of moves."""
        return self._action_space

    @abc.abstractmethod
    def seen(self, state: State) -> jax.Array:
        """Return what seat 0 and seat 1 see, ``[2, ...]``."""

    @abc.abstractmethod
    def legal(self, state: State) -> jax.Array:
        """Return bool ``[n_actions]``, the moves open to the seat ``state.turn``."""

    @abc.abstractmethod
    def play(self, state: State, move: jax.Array) -> tuple[State, jax.Array]:
        """Play a legal move.

        Args:
            state: a state that is not over.
            move: int32, the mover's move.

        Returns:
            The next state, ``turn`` and ``over`` set, and the payoffs ``[2]`` of both seats.
        """

    def transition(self, key: jax.Array, state: State, action: ByGroup) -> tuple[State, Outcome]:
        """Play the mover's move; the other seat's action is not read."""
        moves = action[GROUP].astype(jnp.int32)
        move = jnp.where(state.turn == 0, moves[0], moves[1])
        mine = jnp.arange(self.n_actions, dtype=jnp.int32) == move
        illegal = ~jnp.any(self.legal(state) & mine)
        played, payoff = self.play(state, move)
        stuck = state._replace(turn=jnp.zeros_like(state.turn), over=jnp.asarray(True))
        state_after = jax.tree.map(lambda bad, good: jnp.where(illegal, bad, good), stuck, played)
        fault = jnp.where(jnp.arange(2) == state.turn, -1.0, 0.0).astype(jnp.float32)
        both = jnp.ones(2, bool)
        return state_after, Outcome(
            {GROUP: jnp.where(illegal, fault, payoff)},
            {GROUP: both & state_after.over},
            {GROUP: both & illegal},
        )

    def observe(self, state: State) -> View:
        """Show both seats the game; only the mover has a mask."""
        mover = jnp.arange(2, dtype=jnp.int32) == state.turn
        mask = (mover[:, None] & self.legal(state)[None]).astype(jnp.int8)
        seen: dict[str, Any] = {"observation": self.seen(state), "action_mask": mask}
        return View({GROUP: seen}, {GROUP: mask}, {GROUP: mover & ~state.over})


def by_seat(planes: jax.Array, seat: jax.Array | int) -> jax.Array:
    """Return planes ``[..., 2]``, of which a seat sees its own first, as seat 0 sees them."""
    return jnp.where(jnp.asarray(seat) == 0, planes, planes[..., ::-1])


def one_hot_row(*parts: tuple[jax.Array, int]) -> jax.Array:
    """Return arrays of choices as one float32 row of one-hot vectors, side by side.

    Args:
        parts: an array of integers, and how many choices there are; others than these are zeros.

    Example:
        >>> one_hot_row((jnp.array([1, -1]), 2), (jnp.array(0), 3)).tolist()
        [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    return jnp.concatenate([jax.nn.one_hot(x.reshape(-1), n).reshape(-1) for x, n in parts])


def win_or_lose(turn: jax.Array, won: jax.Array) -> jax.Array:
    """Return the payoffs ``[2]`` if seat ``turn`` has ``won`` (1 and -1) or not (0)."""
    side = jnp.where(jnp.arange(2) == turn, 1.0, -1.0).astype(jnp.float32)
    return jnp.where(won, side, 0.0)
