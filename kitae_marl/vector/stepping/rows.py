"""The numbers of one worker's rows: rewards, flags, statistics."""

from __future__ import annotations

import numpy as np

from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.records import Outcome, Record


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
        self._loud = 0  # so many commits are still to write flags: those raised, and their end
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

    def apply(self, row: int, record: Record, outcome: Outcome) -> None:
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
        if not self.quiet:
            self._loud = 2
        if self._loud:
            self._loud -= 1
            for shared, own in self._flags:
                shared[...] = own
