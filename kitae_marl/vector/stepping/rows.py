"""This file holds one worker's numbers and infos on their way into shared memory.

:class:`Rows` are rewards, flags and statistics; :class:`InfoReader` takes from the infos who is to
act and what each may do, and keeps the infos themselves where they are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kitae_marl.data.masks import described, leave_action, mask_text
from kitae_marl.data.spaces import mask_width
from kitae_marl.data.stacking import mask_in
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.faults import DataFault, data_fault, plain
from kitae_marl.vector.stepping.records import Record, StepOutcome
from kitae_marl.vector.stepping.results import require_info


class Rows:
    """Numbers per agent ``[rows, N]`` and per environment ``[rows]`` of one worker.

    What a step returns is gathered in private arrays and copied by :meth:`commit`, so that a
    worker that dies before leaves the step before untouched. What only tells about the running
    episode is written at once.

    Attributes:
        reward: rewards of this step.
        in_game: who is in the game now.
        quiet: no flag has been raised in this step.
    """

    def __init__(self, blocks: Blocks, rows: slice) -> None:
        shape = blocks.reward[rows].shape
        self.reward = np.zeros(shape)
        self.in_game = np.zeros(shape, np.bool_)
        self.quiet = True
        self.terminated, self.truncated = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        self._ended, self._finished = np.zeros(shape[0], np.bool_), np.zeros(shape[0], np.bool_)
        self._length = np.zeros(shape, np.int64)
        self._episode = np.zeros(shape[0], np.int64)
        self._return = blocks.running_return[rows]
        self.seconds, self.steps = blocks.seconds[rows], blocks.steps[rows]
        self._flag_commits = 0  # so many commits are still to copy flags
        self._shared_return = blocks.episode_return[rows]
        self._shared_length = blocks.episode_length[rows]
        self._last_in_game = blocks.in_game[rows]
        self._always = [
            (blocks.reward[rows], self.reward),
            (blocks.in_game[rows], self.in_game),
        ]
        self._flags = [
            (blocks.episode[rows], self._episode),
            (blocks.terminated[rows], self.terminated),
            (blocks.truncated[rows], self.truncated),
            (blocks.ended[rows], self._ended),
            (blocks.finished[rows], self._finished),
        ]

    def begin_reset(self, rows: list[int]) -> None:
        """Lower the flags of rows that begin anew; those of the others still tell of a step."""
        for flags in (self.terminated, self.truncated, self._ended, self._finished):
            flags[rows] = False
        self.quiet = False

    def begin_step(self) -> None:
        """Forget the flags of the step before; count this one for everybody in the game."""
        if not self.quiet:
            for flags in (self.terminated, self.truncated, self._ended, self._finished):
                flags[...] = False
        self.quiet = True
        self._length += self.in_game
        self.steps += 1

    def add_rewards(self) -> None:
        """Add the rewards of this step to the running returns."""
        self._return += self.reward

    def apply(self, row: int, record: Record, outcome: StepOutcome) -> None:
        """Raise the flags of a step and note who is in the game after it."""
        for agent, flag in outcome.terminated.items():
            self.terminated[row, record.column[agent]] = flag
            self.quiet = False
        for agent, flag in outcome.truncated.items():
            self.truncated[row, record.column[agent]] = flag
            self.quiet = False
        self.enter(row, record)

    def leave(self, row: int, terminated: bool, truncated: bool) -> None:
        """Raise flags for everybody in the game, who all leave it."""
        self.terminated[row], self.truncated[row] = terminated, truncated
        self.in_game[row] = False
        self.quiet = False

    def enter(self, row: int, record: Record) -> None:
        """Note who is in the game."""
        self.in_game[row] = record.full
        if record.members and not record.full:
            self.in_game[row, [column for _, column in record.members]] = True

    def truncate(self, row: int) -> None:
        """Truncate everybody who is in the game."""
        self.truncated[row] = self.in_game[row]
        self.quiet = False

    def cut(self, row: int) -> None:
        """Truncate everybody who was in the game before this step, which does not count."""
        self.terminated[row] = False
        self.truncated[row] = self._last_in_game[row]
        self.quiet = False

    def end(self, row: int, finished: bool) -> None:
        """Store the statistics of an episode that ended; ``finished`` if by itself."""
        self.quiet = False
        self._ended[row], self._finished[row] = True, finished
        self._shared_return[row] = self._return[row]
        self._shared_length[row] = self._length[row]

    def clear(self, row: int, episode: int) -> None:
        """Forget the running episode of a row; the next one has this number."""
        self._episode[row] = episode
        self.in_game[row] = False
        self._length[row] = self._return[row] = self.steps[row] = 0

    def commit(self) -> None:
        """Copy everything into shared memory."""
        for shared, own in self._always:
            shared[...] = own
        # On most steps no flag is up. They are copied by the step that raises one and by the next,
        # which lowers it, and not else.
        if not self.quiet:
            self._flag_commits = 2
        if self._flag_commits:
            self._flag_commits -= 1
            for shared, own in self._flags:
                shared[...] = own


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
        self._spaces = {
            agent: group.action_space for group in blocks.groups for agent in group.agents
        }
        self._unmaskable = {agent for agent, space in self._spaces.items() if not mask_width(space)}
        self._used: list[str] = []

    def clear(self, row: int) -> None:
        """Forget a row at the start of its next episode."""
        self._idle[row] = False
        for name in self._used:
            self._stage[name][row] = 1

    def idle_of(self, row: int) -> np.ndarray:
        """The array ``[N]`` of who of a row is idle, for an environment that writes it itself."""
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
            if info is None:
                continue
            if type(info) is not dict:
                require_info(agent, info)
            if not info:
                continue
            try:
                idle = not info.get("active", True)
            except ValueError:  # of an array of several
                got = f"{info['active']!r}"[:100]
                raise data_fault(agent, "info['active']", "True or False", got) from None
            if idle:
                self._idle[row, column] = True
                self.watching = True
            mask = info.get("action_mask")
            if mask is not None and agent in self._place:
                self._read_mask(row, agent, mask)
            elif mask is not None and agent in self._unmaskable:
                raise self._wrong_mask(agent, mask)
        if self.keep:
            self.kept[row] = self._plain(infos)

    def _read_mask(self, row: int, agent: str, mask: Any) -> None:
        """Take one agent's mask."""
        name, j = self._place[agent]
        stage = self._stage[name]
        try:
            array = np.asarray(mask)
        except Exception:  # of what has no array; it is named below
            array = np.asarray(None)
        if array.shape != stage.shape[2:] or array.dtype.kind not in "biuf":
            raise self._wrong_mask(agent, mask)
        if name not in self._used:
            self._used.append(name)
            self.watching = self.newly_used = True
            self._masked[self._rows, self._numbers[name]] = True
        stage[row, j] = array != 0

    def _wrong_mask(self, agent: str, mask: Any) -> DataFault:
        """Say which mask an agent may have, and what came."""
        space = self._spaces[agent]
        advice = "return one number for each choice" if mask_width(space) else "leave it out"
        return data_fault(agent, "action_mask", mask_text(space), described(mask), advice)

    def _plain(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Convert infos entry by entry; what is not JSON-like is dropped and named once."""
        kept: dict[str, Any] = {}
        for agent, info in infos.items():
            kept[agent] = {}
            for key, value in info.items() if isinstance(info, Mapping) else ():
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


def agent_without_action(blocks: Blocks, rows: slice) -> tuple[int, str] | None:
    """Find a row and an agent that is to act there and whose mask forbids every action."""
    active = blocks.per_group(blocks.active[rows])
    for i, group in enumerate(blocks.groups):
        mask = mask_in(blocks.observation[group.name])
        if mask is None and blocks.masked[rows, i].all():
            mask = blocks.mask.get(group.name)
        if mask is None or not mask_width(group.action_space):
            continue
        legal = leave_action(group.action_space, mask[rows])
        for row, column in np.argwhere(active[group.name] & ~legal):
            return int(row), group.agents[column]
    return None
