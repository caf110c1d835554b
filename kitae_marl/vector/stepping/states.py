"""This file takes global states from the environments into shared memory and checks them.

They go the way of observations, as those of one agent without a name: form, integers and NaN are
looked at before anything is delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from kitae_marl.data.spaces import leaves
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.faults import DataFault, data_fault
from kitae_marl.vector.stepping.leaf_stage import LeafStage
from kitae_marl.vector.stepping.records import Record

NAME = "global state"
"""What messages call it."""


class StateStage:
    """The global states of one worker's rows, gathered in private arrays until :meth:`commit`.

    Args:
        space: of one state.
        block: the shared array of states.
        final: that of last states.
        rows: which rows of them belong to the worker.
    """

    def __init__(
        self, space: spaces.Space[Any], block: np.ndarray, final: np.ndarray, rows: slice
    ) -> None:
        (leaf,) = leaves(space)
        self._block = block[rows]
        self._leaf = LeafStage(leaf, ("",), block[rows][:, None], final[rows][:, None], NAME)
        self._waiting: list[Any] = [None] * len(self._block)
        for row in range(len(self._block)):
            self.repeat(row)

    def read(self, row: int, record: Record) -> None:
        """Let a game's state wait to be gathered.

        Raises:
            DataFault: if it has none once nobody is left, though the last step led to one.
            Exception: what else the game raises.
        """
        try:
            self._waiting[row] = record.env.state()
        except Exception as error:
            if record.alive:
                raise
            raise data_fault(
                "",
                NAME,
                "the one that the last step led to, also after the last agent has left",
                f"{type(error).__name__}: {error}",
                "let state() build on possible_agents, not on agents",
            ) from error

    def repeat(self, row: int) -> None:
        """Go back to the last state delivered for a row."""
        self._waiting[row] = self._block[row].copy()

    def fill(self, rows: Sequence[int] | None = None) -> dict[int, DataFault]:
        """Gather what waits, of some rows or all (None); return what has the wrong form, by row."""
        faults: dict[int, DataFault] = {}
        if rows is None:
            faults.update(self._leaf.fill(self._waiting))
        for row in rows or ():
            faults.update(self._leaf.fill([self._waiting[row]], row))
        for row, fault in self._leaf.misread().items():
            faults.setdefault(row, fault)
        return faults

    def nonfinite(self) -> dict[int, DataFault]:
        """Find rows with NaN or infinity."""
        return self._leaf.nonfinite()

    def keep_final(self, row: int) -> None:
        """Copy the state of a row into the last states."""
        self._leaf.keep_final(row)

    def commit(self) -> None:
        """Copy the gathered states into shared memory."""
        self._leaf.commit()


def state_stage(blocks: Blocks, rows: slice) -> StateStage | None:
    """Return the states of a worker's rows; None where the game has none."""
    if blocks.state_space is None or blocks.state is None or blocks.final_state is None:
        return None
    return StateStage(blocks.state_space, blocks.state, blocks.final_state, rows)
