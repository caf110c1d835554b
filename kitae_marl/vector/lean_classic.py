"""Connect four without its search through NumPy scalars, equal to PettingZoo's own."""

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
            planes = np.empty((_ROWS, _COLUMNS, 2), np.int8)
            planes[..., 0] = board == own
            planes[..., 1] = board == 3 - own
            mask = (board[0] == 0) if agent == core.agent_selection else np.zeros(_COLUMNS)
            observations[agent] = {"observation": planes, "action_mask": mask.astype(np.int8)}
        return observations
