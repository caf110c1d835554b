"""This file measures on what the time between two rows of metrics is spent."""

from __future__ import annotations

import time

from kitae_marl.types import Writer

POLICY, GAMES, STORE, UPDATE, PROGRAM, COMPILE, REST = (
    "policy", "games", "store", "update", "program", "compile", "rest",
)  # fmt: skip
"""What a loop does: actions chosen; games stepped, and waited for; experience brought into arrays;
an update; rollouts and updates as one program; a program compiled; logs, evaluations, callbacks and
checkpoints."""
PHASES: dict[str, str] = {
    POLICY: "choosing actions",
    GAMES: "stepping the games and waiting for them",
    STORE: "bringing experience into arrays and counting episodes",
    UPDATE: "learning from the rollout",
    PROGRAM: "rollout and update, which are one program on compiled games",
    COMPILE: "compiling",
    REST: "logs, evaluations, win rates, callbacks and checkpoints",
}
"""What is said of each phase, in words."""


class Clock:
    """Adds up seconds by what they were spent on; all the time between two laps is of one phase.

    A lap costs less than a microsecond.
    """

    def __init__(self) -> None:
        self._last, self._seconds = time.perf_counter(), dict[str, float]()

    def lap(self, phase: str) -> None:
        """Say on what the time since the last lap was spent."""
        now = time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def take(self) -> dict[str, float]:
        """Return the seconds of all phases since the last call, by tag, and begin anew."""
        seconds = {f"time/{phase}_s": x for phase, x in self._seconds.items()}
        self._seconds = {}
        return seconds

    def log(self, global_step: int, writer: Writer) -> None:
        """Write the seconds of all phases since the last time."""
        for tag, seconds in self.take().items():
            writer.add_scalar(tag, seconds, global_step)
