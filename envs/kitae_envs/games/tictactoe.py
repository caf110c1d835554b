"""Tic-tac-toe, ``classic/tictactoe-v3``.

==============  ================================================================================
agents          ``player_1`` (moves first), ``player_2``; turn-based
observation     Dict: ``observation`` int8 ``[3, 3, 2]``, plane 0 the seat's own marks and plane
                1 the other's; ``action_mask`` int8 ``[9]``
action          Discrete(9): square ``3 * row + column`` of the observation
reward          1 for three in a row, -1 for the other seat; a draw 0
length          5 to 9 moves; an illegal move ends it (-1 for its seat)
version         v3 of PettingZoo
equality shown  exactly: every legal move and an illegal one in every reachable position
==============  ================================================================================
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs import render
from kitae_envs.core import Symmetry
from kitae_envs.games.two_player import TwoPlayerGame, by_seat, win_or_lose

_SQUARES = (np.arange(512)[:, None] >> np.arange(9) & 1).astype(np.int8)
"""The squares of each of the 512 patterns of marks."""
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def _turned(quarters: int, flipped: bool) -> Symmetry:
    """Turn the board by quarters, after it was flipped or not."""

    def turn(planes: Any) -> Any:
        planes = planes[..., ::-1, :] if flipped else planes
        return jnp.rot90(planes, quarters, axes=(-3, -2))

    squares = np.arange(9).reshape(3, 3)
    there = np.rot90(squares[:, ::-1] if flipped else squares, quarters)  # which square comes there
    return Symmetry(turn, tuple(np.argsort(there, axis=None).tolist()))


class TicTacToeState(NamedTuple):
    """A position.

    Attributes:
        marks: int32 ``[2]``, bit s set where the seat holds square s.
        turn: int32, the seat to move.
        over: bool.
    """

    marks: jax.Array
    turn: jax.Array
    over: jax.Array


class TicTacToe(TwoPlayerGame):
    """Tic-tac-toe with PettingZoo's observations and masks."""

    id: ClassVar[str] = "classic/tictactoe-v3"
    fixed_start: ClassVar[bool] = True
    perfect_information: bool = True
    symmetries: tuple[Symmetry, ...] = tuple(
        _turned(quarters, flipped)
        for quarters in range(4)
        for flipped in (False, True)
        if quarters or flipped
    )

    def __init__(self) -> None:
        super().__init__(
            ("player_1", "player_2"), gym.spaces.Box(0, 1, (3, 3, 2), np.int8), n_actions=9
        )
        self.lines = np.array([sum(1 << square for square in line) for line in LINES], np.int32)

    def start(self, key: jax.Array) -> TicTacToeState:
        """Return the empty board."""
        zero = jnp.zeros((), jnp.int32)
        return TicTacToeState(jnp.zeros(2, jnp.int32), zero, jnp.asarray(False))

    def legal(self, state: TicTacToeState) -> jax.Array:
        """Return the empty squares."""
        taken = state.marks[0] | state.marks[1]
        return (taken >> np.arange(9, dtype=np.int32)) & 1 == 0

    def play(self, state: TicTacToeState, move: jax.Array) -> tuple[TicTacToeState, jax.Array]:
        """Mark a square."""
        mover = jnp.arange(2, dtype=jnp.int32) == state.turn
        marks = state.marks | jnp.where(mover, 1 << move, 0)
        mine = jnp.where(state.turn == 0, marks[0], marks[1])
        won = self._line_in(mine)
        over = won | ((marks[0] | marks[1]) == 0b111111111)
        return TicTacToeState(marks, 1 - state.turn, over), win_or_lose(state.turn, won)

    def _line_in(self, marks: jax.Array) -> jax.Array:
        """Return whether the marks of one seat hold a line."""
        return jnp.any((marks & self.lines) == self.lines)

    def seen(self, state: TicTacToeState) -> jax.Array:
        """Return the planes ``[2, 3, 3, 2]``."""
        planes = jnp.asarray(_SQUARES)[state.marks].reshape(2, 3, 3)
        return jnp.stack([planes, planes[::-1]], axis=-1)

    def state_of(self, observation: Any, seat: jax.Array | int) -> TicTacToeState:
        """Count the marks, and look for a line of the seat that moved last."""
        planes = by_seat(observation["observation"], seat).astype(jnp.int32).reshape(9, 2)
        marks = jnp.sum(planes << jnp.arange(9, dtype=jnp.int32)[:, None], axis=0)
        turn = jnp.sum(planes) % 2
        won = self._line_in(jnp.where(turn == 0, marks[1], marks[0]))
        return TicTacToeState(marks, turn, won | ((marks[0] | marks[1]) == 0b111111111))

    def frame(self, state: TicTacToeState) -> np.ndarray:
        """Draw the board."""
        bits = (np.asarray(state.marks)[:, None] >> np.arange(9)) & 1
        return render.tictactoe(bits[0].reshape(3, 3) + 2 * bits[1].reshape(3, 3))
