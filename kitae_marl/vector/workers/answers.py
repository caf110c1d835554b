"""This file reads what workers answer: faults, logs and infos, global states and frames."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from kitae_marl.errors import printable
from kitae_marl.vector.stepping.faults import error_from
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame
from kitae_marl.vector.workers.pool import Pool
from kitae_marl.vector.workers.transport import Worker

logger = logging.getLogger("kitae_marl.vector")

OUTSIDE = (
    "%s Training goes on; faults/out_of_bounds counts how often this is seen, and strict_bounds "
    "raises (said once)."
)
"""What is said of the first observation outside its Box."""

Reports = list[tuple[dict[str, Any], Worker]]


class Inbox:
    """Reads answers: passes on faults, logs what is to be logged, counts and keeps the rest.

    Attributes:
        cuts: episodes cut because of NaN or infinity.
        outside: environment steps on which an observation was seen outside its Box.
        infos: the games' own infos, by environment.
        final_infos: the same on the last step of an episode, else None.
    """

    def __init__(self, n_envs: int) -> None:
        self.cuts = self.outside = 0
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
            if "outside" in data:
                self._count_outside(data["outside"], data["example"])
            if "infos" in data:
                rows = slice(worker.rows.start, worker.rows.stop)
                self.infos[rows], self.final_infos[rows] = data["infos"], data["final_infos"]
        return reports

    def _count_outside(self, number: int, example: str) -> None:
        """Count what workers saw outside the spaces; say it once for all of them."""
        if not self.outside:
            logger.warning(OUTSIDE, printable(example))
        self.outside += number

    def add_to(self, infos: dict[str, Any], ended: bool) -> None:
        """Add the games' own infos to those of a step."""
        infos["env_infos"] = list(self.infos)
        if ended:
            infos["final_infos"] = list(self.final_infos)


def fetch_states(pool: Pool, timeout: float) -> None:
    """Let the workers write the global states of their environments into the shared block."""
    _ask(pool, pool.workers, channel.STATE, b"", timeout)


def render_one(pool: Pool, env_index: int, timeout: float) -> np.ndarray | str:
    """Return a frame ``[H, W, 3]`` of one environment, or the text that it renders.

    Raises:
        ValueError: if the environment renders neither.
        VectorEnvError: if it raises, or its worker dies or hangs.
    """
    worker = next(w for w in pool.workers if env_index in w.rows)
    order = json.dumps({"env_index": env_index}).encode()
    ((data, pixels),) = _ask(pool, [worker], channel.RENDER, order, timeout)
    if "text" in data:
        return data["text"]
    if "shape" not in data:
        raise ValueError(
            f"expected a frame [H, W, 3] of uint8, got {data['got']}; make the environment "
            'with render_mode="rgb_array".'
        )
    return np.frombuffer(pixels, np.uint8).reshape(data["shape"]).copy()


def _ask(
    pool: Pool, workers: list[Worker], kind: int, payload: bytes, timeout: float
) -> list[tuple[dict[str, Any], bytes | bytearray]]:
    """Send a command and wait for the answers; failures are errors here."""
    pool.begin()
    for worker in workers:
        pool.send(worker, kind, payload)
    answers, failures = pool.wait(workers, timeout, "step")
    if failures:
        raise failures[0].error(0)
    return [_split(worker, frame) for worker, frame in answers]


def _split(worker: Worker, frame: Frame) -> tuple[dict[str, Any], bytes | bytearray]:
    """Split an answer into its line of JSON and the bytes after it."""
    head, _, rest = frame.payload.partition(b"\n")
    data = json.loads(head) if head else {}
    if data.get("reports"):
        raise error_from([(report, worker.pid, 0) for report in data["reports"]])
    return data, rest
