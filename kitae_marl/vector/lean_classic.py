"""Board and card games with their dearest small computations replaced by equal, cheaper ones.

They are used with the versions of the games that are fingerprinted; with any other the game
computes by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kitae_marl.vector.fingerprints import is_known_source
from kitae_marl.vector.lean import Peeled
from kitae_marl.vector.turn_based import TurnBasedParallelEnv

_ROWS, _COLUMNS = 6, 7
_BITS = tuple(1 << (row * (_COLUMNS + 1) + column) for row in range(6) for column in range(7))
"""A bit for each square, row by row with a gap between rows, so that no line wraps around."""

_STEPS = (1, _COLUMNS + 1, _COLUMNS + 2, _COLUMNS)
"""From bit to bit along a row, a column and the two diagonals."""


_LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
"""The lines of tic-tac-toe, in the game's order."""


def board_planes(board: np.ndarray, own: int) -> np.ndarray:
    """Planes ``[..., 2]`` of a board of two players: one's own pieces, the other's."""
    planes = np.empty((*board.shape, 2), np.int8)
    planes[..., 0] = board == own
    planes[..., 1] = board == 3 - own
    return planes


class ConnectFourEnv(TurnBasedParallelEnv):
    """Connect four that looks for four in a row with bits and reads the board once a step."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        self._known = is_known_source(type(self.core).__module__)
        if self._known:
            self.core.check_for_winner = self._four_in_a_row

    def _four_in_a_row(self) -> bool:
        """Whether the player who has just moved has four in a row."""
        core = self.core
        piece = core.agents.index(core.agent_selection) + 1
        bits = sum(bit for bit, square in zip(_BITS, core.board, strict=True) if square == piece)
        for step in _STEPS:
            pairs = bits & (bits >> step)
            if pairs & (pairs >> 2 * step):
                return True
        return False

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        """Both see the board, their own pieces first; who is to move sees the open columns."""
        if not self._known:
            return super()._observe(agents)
        core = self.core
        board = np.array(core.board, np.int8).reshape(_ROWS, _COLUMNS)
        observations = {}
        for agent in agents:
            own = core.possible_agents.index(agent) + 1
            mask = (board[0] == 0) if agent == core.agent_selection else np.zeros(_COLUMNS)
            observations[agent] = {
                "observation": board_planes(board, own),
                "action_mask": mask.astype(np.int8),
            }
        return observations


class TicTacToeEnv(TurnBasedParallelEnv):
    """Tic-tac-toe that reads the board once a step."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        board = type(self.core).__module__.replace("tictactoe.tictactoe", "tictactoe.board")
        self._known = is_known_source(type(self.core).__module__) and is_known_source(board)
        if self._known:
            self.core.board.game_status = self._status

    def _status(self) -> int:
        """The player who has a line (0 or 1), -1 for a full board, -2 while the game goes on."""
        squares = self.core.board.squares
        for a, b, c in _LINES:
            if squares[a] and squares[a] == squares[b] == squares[c]:
                return squares[a] - 1
        return -2 if 0 in squares else -1

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        """Both see the board, their own marks first; who is to move sees the free squares."""
        if not self._known:
            return super()._observe(agents)
        core = self.core
        squares = np.array(core.board.squares, np.int8)
        board, observations = squares.reshape(3, 3), {}
        for agent in agents:
            own = core.possible_agents.index(agent) + 1
            mask = (squares == 0) if agent == core.agent_selection else np.zeros(9)
            observations[agent] = {
                "observation": board_planes(board, own),
                "action_mask": mask.astype(np.int8),
            }
        return observations
