"""Questions to workers outside of the steps: global states and frames."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from kitae_marl.vector.stepping.faults import error_from
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame
from kitae_marl.vector.workers.pool import Pool
from kitae_marl.vector.workers.process import Worker


def fetch_states(pool: Pool, timeout: float) -> None:
    """Let the workers write the global states of their environments into the shared block."""
    _ask(pool, pool.workers, channel.STATE, b"", timeout)


def render(pool: Pool, env_index: int, timeout: float) -> np.ndarray:
    """Return a frame ``[H, W, 3]`` of one environment.

    Raises:
        ValueError: if the environment does not draw such frames.
        VectorEnvError: if it raises, or its worker dies or hangs.
    """
    worker = next(w for w in pool.workers if env_index in w.rows)
    order = json.dumps({"env_index": env_index}).encode()
    ((data, pixels),) = _ask(pool, [worker], channel.RENDER, order, timeout)
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
