"""What the collector reads from infos: who is to act, which actions are legal, and what to keep."""

from __future__ import annotations

from typing import Any

import numpy as np

from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.faults import plain
from kitae_marl.vector.stepping.leaf import data_fault
from kitae_marl.vector.stepping.records import Record


class InfoReader:
    """Reads ``infos[agent]["active"]`` and ``infos[agent]["action_mask"]`` of one worker's rows.

    Attributes:
        watching: some info has said something, so that every later one must be read.
        kept: infos as JSON data, by row, if they are to be kept.
        kept_final: the same of the last step, where an episode ended.
    """

    def __init__(self, blocks: Blocks, rows: slice, keep: bool) -> None:
        n = rows.stop - rows.start
        self.watching = keep
        self.keep = keep
        self.kept: list[Any] = [{}] * n
        self.kept_final: list[Any] = [None] * n
        self.dropped_now: set[str] = set()
        self.newly_used = False
        self._dropped: set[str] = set()
        self._idle = np.zeros((n, len(blocks.names)), np.bool_)
        self._rows = rows
        self._masked = blocks.masked
        self._numbers = {group.name: i for i, group in enumerate(blocks.groups)}
        self._columns = blocks.columns
        self._blocks = blocks.mask
        self._stage = {
            name: np.ones(mask[rows].shape, np.int8) for name, mask in blocks.mask.items()
        }
        self._place = {
            agent: (group.name, j)
            for group in blocks.groups
            if group.name in blocks.mask
            for j, agent in enumerate(group.agents)
        }
        self._used: list[str] = []

    def clear(self, row: int) -> None:
        """Forget a row at the start of its next episode."""
        self._idle[row] = False
        for name in self._used:
            self._stage[name][row] = 1

    def place(self, row: int) -> np.ndarray:
        """Where it stands who of a row is idle; for environments that write it there."""
        self.watching = True
        return self._idle[row]

    def read(self, row: int, record: Record, infos: dict[str, Any]) -> None:
        """Read the infos of one environment.

        Raises:
            DataFault: if a mask has the wrong form.
        """
        self.clear(row)
        for agent, column in record.members:
            info = infos.get(agent)
            if not info:
                continue
            if not info.get("active", True):
                self._idle[row, column] = True
                self.watching = True
            mask = info.get("action_mask")
            if mask is not None and agent in self._place:
                self._read_mask(row, agent, mask)
        if self.keep:
            self.kept[row] = self._plain(infos)

    def _read_mask(self, row: int, agent: str, mask: Any) -> None:
        """Take one agent's mask."""
        name, j = self._place[agent]
        stage = self._stage[name]
        array = np.asarray(mask)
        if array.shape != stage.shape[2:] or array.dtype.kind not in "biuf":
            raise data_fault(
                agent,
                "action_mask",
                f"{stage[0, 0].size} numbers 0 or 1",
                f"{type(mask).__name__} of shape {array.shape}, dtype {array.dtype}",
            )
        if name not in self._used:
            self._used.append(name)
            self.watching = self.newly_used = True
            self._masked[self._rows, self._numbers[name]] = True
        stage[row, j] = array != 0

    def _plain(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Convert infos entry by entry; what is not JSON-like is dropped and named once."""
        kept: dict[str, Any] = {}
        for agent, info in infos.items():
            kept[agent] = {}
            for key, value in (info or {}).items():
                try:
                    kept[agent][str(key)] = plain(value)
                except TypeError:
                    self.dropped_now |= {str(key)} - self._dropped
                    self._dropped.add(str(key))
        return kept

    def commit(self, in_game: np.ndarray, active: np.ndarray) -> None:
        """Write who is to act and the masks into shared memory."""
        if not self.watching:
            active[...] = in_game
            return
        np.greater(in_game, self._idle, out=active)
        for name in self._used:
            present = in_game[:, self._columns[name], None]
            np.multiply(self._stage[name], present, out=self._blocks[name][self._rows])
