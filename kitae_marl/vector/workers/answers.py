"""What answers of workers tell the parent, and the seeds of its resets."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from kitae_marl.runs.terminal import printable
from kitae_marl.vector import episode_seed
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame
from kitae_marl.vector.workers.process import Worker

logger = logging.getLogger("kitae_marl.vector")

Reports = list[tuple[dict[str, Any], Worker]]


class Inbox:
    """Reads answers: passes on faults, logs what is to be logged, counts and keeps the rest.

    Attributes:
        cuts: episodes cut because of NaN or infinity.
        infos: the games' own infos, by environment.
        final_infos: the same on the last step of an episode, else None.
    """

    def __init__(self, n_envs: int) -> None:
        self.cuts = 0
        self.infos: list[Any] = [{}] * n_envs
        self.final_infos: list[Any] = [None] * n_envs

    def read(self, answers: list[tuple[Worker, Frame]]) -> Reports:
        """Read answers to ``reset`` and ``step``; return the faults they report."""
        reports: Reports = []
        for worker, frame in answers:
            if not frame.flags & channel.PAYLOAD:
                continue
            data = json.loads(frame.payload)
            reports += [(report, worker) for report in data.get("reports", ())]
            for text in data.get("logs", ()):
                logger.warning("%s", printable(text))
            self.cuts += data.get("cuts", 0)
            if "infos" in data:
                rows = slice(worker.rows.start, worker.rows.stop)
                self.infos[rows], self.final_infos[rows] = data["infos"], data["final_infos"]
        return reports

    def add_to(self, infos: dict[str, Any], ended: bool) -> None:
        """Add the games' own infos to those of a step."""
        infos["env_infos"] = list(self.infos)
        if ended:
            infos["final_infos"] = list(self.final_infos)


class Seeds:
    """Chooses the seed of every reset of a vector environment."""

    def __init__(self, n_envs: int) -> None:
        self._n_envs = n_envs
        self._given: int | None = None
        self._n_resets = 0

    def next(self, seed: int | None) -> int:
        """Return the given seed, or one that follows from it, or at first one from entropy.

        Raises:
            ValueError: if it is negative.
        """
        if seed is not None and seed < 0:
            raise ValueError(f"expected a seed of at least 0, got {seed}.")
        if seed is None and self._given is not None:
            self._n_resets += 1
            return episode_seed(self._given, self._n_envs, self._n_resets)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0]) >> 1
        self._given, self._n_resets = int(seed), 0
        return self._given
