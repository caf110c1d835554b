"""This file replaces the costliest small computations of board games by equal, cheaper ones.

They are used with the versions of the games that are fingerprinted; with any other the game
computes by itself. The position stays in the game's own objects, so a change that anybody makes to
these is seen.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from kitae_marl.vector.lean.aec import Peeled
from kitae_marl.vector.lean.fingerprints import is_as_written, is_known_source
from kitae_marl.vector.lean.turn_based import InPlaceTurnsEnv

_ROWS, _COLUMNS = 6, 7
_BITS = tuple(1 << (row * (_COLUMNS + 1) + column) for row in range(6) for column in range(7))
"""A bit for each square, row by row with a gap between rows, so that no line wraps around."""

_STEPS = (1, _COLUMNS + 1, _COLUMNS + 2, _COLUMNS)
"""From bit to bit along a row, a column and the two diagonals."""

_LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
_OTHERS = tuple(
    tuple(tuple(i for i in line if i != square) for line in _LINES if square in line)
    for square in range(9)
)
"""For each square of tic-tac-toe the other two of every line through it."""

_PAIRS = np.array([[[0, 0], [0, 0]], [[1, 0], [0, 1]], [[0, 1], [1, 0]]], np.int8)
"""By what stands in a square: what the first and the second player see there, theirs first."""

_SEEN = [tuple(pair) for pair in _PAIRS.view(np.int16)[..., 0].tolist()]
"""The same with both numbers of a player as one."""


class _BoardGameEnv(InPlaceTurnsEnv):
    """A game of two who put pieces on a board until one has a line or the board is full.

    Args:
        peeled: the game without its checking wrappers.
    """

    shape: tuple[int, int]
    """Rows and columns."""

    sources: tuple[str, ...] = ()
    """Modules, beside the game's own, that must be the ones this was compared with."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        shown = self.core.render_mode == "human"  # then the game draws in its own step
        sources = (type(self.core).__module__, *self.sources)
        self._known = not shown and is_as_written(self.core) and all(map(is_known_source, sources))
        if self._known:
            self.core.step = self._play
        self._shown = 0  # the squares as they were last written down, a byte each
        self._empty = np.ones(self.shape[0] * self.shape[1], np.int8)

    @abstractmethod
    def _squares(self) -> list[int]:
        """The game's own list of squares, row by row: 0 for an empty one, 1 and 2 for pieces."""

    @abstractmethod
    def _put(self, squares: list[int], action: int, piece: int) -> bool:
        """Put a piece; return whether it makes a line."""

    def _play(self, action: Any) -> None:
        """Make the move of the player whose turn it is."""
        core = self.core
        squares, mover = self._squares(), core.agent_selection
        won = self._put(squares, int(action), 1 + self.possible_agents.index(mover))
        core.agent_selection = other = core._agent_selector.next()
        if won:
            core.rewards[mover] += 1
            core.rewards[other] -= 1
        if won or 0 not in squares:
            core.terminations = dict.fromkeys(core.agents, True)

    def _write_to(self, views: dict[str, np.ndarray]) -> None:
        # The two numbers of a square, which change together, are seen as one of 16 bits.
        flat = [views[a].reshape(self._empty.size, 2).view(np.int16) for a in self.possible_agents]
        self._flat = [pairs[:, 0] for pairs in flat]

    def _show_all(self) -> None:
        """Both see the board, their own pieces first."""
        for board in self._flat:
            board[...] = 0
        self._empty[...] = 1
        self._shown = 0
        self._show()

    def _show(self) -> None:
        """Write down the squares that have changed."""
        squares = bytes(self._squares())
        now = int.from_bytes(squares, "little")
        # A byte of ``changed`` is not zero where a square is not what was shown last; the loop
        # jumps from one such byte to the next lower one.
        changed, self._shown = now ^ self._shown, now
        first, second = self._flat
        while changed:
            square = (changed.bit_length() - 1) >> 3
            changed &= (1 << 8 * square) - 1
            piece = squares[square]
            first[square], second[square] = _SEEN[piece]
            self._empty[square] = not piece

    def _show_legal(self, mask: np.ndarray) -> None:
        """The squares of the first row, or of all, that are empty."""
        mask[...] = self._empty[: mask.size]


class ConnectFourEnv(_BoardGameEnv):
    """Connect four that looks for four in a row with bits and reads the board once a step."""

    shape = (_ROWS, _COLUMNS)

    def _squares(self) -> list[int]:
        return self.core.board

    def _put(self, squares: list[int], action: int, piece: int) -> bool:
        """Drop a piece into an open column; return whether it makes four in a row."""
        square = action
        while square + _COLUMNS < len(squares) and not squares[square + _COLUMNS]:
            square += _COLUMNS
        squares[square] = piece
        bits = 0
        for bit, owner in zip(_BITS, squares, strict=True):
            if owner == piece:
                bits |= bit
        for step in _STEPS:
            pairs = bits & (bits >> step)
            if pairs & (pairs >> 2 * step):
                return True
        return False


class TicTacToeEnv(_BoardGameEnv):
    """Tic-tac-toe that looks only at the lines through the last move."""

    shape = (3, 3)
    sources = ("pettingzoo.classic.tictactoe.board",)

    def _squares(self) -> list[int]:
        return self.core.board.squares

    def _put(self, squares: list[int], action: int, piece: int) -> bool:
        """Mark a free square; return whether it makes three in a row."""
        squares[action] = piece
        for a, b in _OTHERS[action]:  # noqa: SIM110 (a generator costs more than the lines)
            if squares[a] == squares[b] == piece:
                return True
        return False
