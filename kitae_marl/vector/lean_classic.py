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


_PIECES = np.array([1, 2], np.int8)


def observe_board(
    board: np.ndarray, free: np.ndarray, players: list[str], agents: list[str]
) -> dict[str, Any]:
    """What the players of a board game see: their own pieces first, then the other's.

    Args:
        board: 0 for an empty square, 1 and 2 for the pieces of the players.
        free: whether each action is open; the mask of who is to move, blanked for others later.
        players: both players.
        agents: for whom to observe.
    """
    planes, mask = (board[..., None] == _PIECES).view(np.int8), free.view(np.int8)
    return {
        agent: {
            "observation": planes if agent == players[0] else planes[..., ::-1].copy(),
            "action_mask": mask,
        }
        for agent in agents
    }


class ConnectFourEnv(TurnBasedParallelEnv):
    """Connect four that looks for four in a row with bits and reads the board once a step."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        shown = self.core.render_mode == "human"  # then the game draws in its own step
        self._known = is_known_source(type(self.core).__module__) and not shown
        if self._known:
            self.core.step = self._play

    def _play(self, action: Any) -> None:
        """Drop a piece of the player to move into an open column."""
        core = self.core
        board, mover = core.board, core.agent_selection
        piece = core.agents.index(mover) + 1
        board[max(i for i in range(int(action), len(board), _COLUMNS) if not board[i])] = piece
        core.agent_selection = core._agent_selector.next()
        if self._four_in_a_row(piece):
            core.rewards[mover] += 1
            core.rewards[core.agent_selection] -= 1
            core.terminations = dict.fromkeys(core.agents, True)
        elif 0 not in board:
            core.terminations = dict.fromkeys(core.agents, True)

    def _four_in_a_row(self, piece: int) -> bool:
        """Whether these pieces have four in a row."""
        bits = 0
        for bit, square in zip(_BITS, self.core.board, strict=True):
            if square == piece:
                bits |= bit
        for step in _STEPS:
            pairs = bits & (bits >> step)
            if pairs & (pairs >> 2 * step):
                return True
        return False

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        """Both see the board, their own pieces first; who is to move sees the open columns."""
        if not self._known:
            return super()._observe(agents)
        board = np.array(self.core.board, np.int8).reshape(_ROWS, _COLUMNS)
        return observe_board(board, board[0] == 0, self.possible_agents, agents)


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
        squares = np.array(self.core.board.squares, np.int8)
        return observe_board(squares.reshape(3, 3), squares == 0, self.possible_agents, agents)
