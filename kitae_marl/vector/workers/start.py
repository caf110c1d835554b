"""This file lets workers make their environments, compares these, and maps the shared memory."""

from __future__ import annotations

import json
from typing import Any

from kitae_marl.errors import SpaceMismatchError, printable
from kitae_marl.vector.logs import logger
from kitae_marl.vector.stepping.blocks import Blocks, decode, make_blocks
from kitae_marl.vector.stepping.faults import error_from
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame
from kitae_marl.vector.workers.pool import Pool
from kitae_marl.vector.workers.transport import Worker


def start(pool: Pool, timeout: float) -> tuple[Blocks, dict[str, Any], str]:
    """Let all workers make their environments, compare them, and map the memory.

    Returns:
        The blocks, the game's metadata and the description all environments share.

    Raises:
        VectorEnvError: if an environment cannot be made or differs from the first one.
    """
    pool.begin()
    for worker in pool.workers:
        pool.order_start(worker, timeout)
    answers = _all_or_error(pool, timeout, "start")
    data = [(worker, json.loads(frame.payload)) for worker, frame in answers]
    data.sort(key=lambda item: item[0].number)
    for text in dict.fromkeys(text for _, d in data for text in d["logs"]):
        logger.warning("%s", printable(text))
    reports = [(report, worker.pid, 0) for worker, d in data for report in d["reports"]]
    if reports:
        raise error_from(reports)
    description = data[0][1]["descriptions"][data[0][1]["of"][0]]
    for worker, answer in data:
        compare(description, worker, answer)
    blocks = make_blocks(decode(description), pool.n_envs, pool.memory.allocate)
    pool.blocks = blocks
    pool.map_order = json.dumps(
        {
            "name": pool.memory.name,
            "size": blocks.size,
            "n_envs": blocks.n_envs,
            "description": description,
        }
    ).encode()
    pool.begin()
    for worker in pool.workers:
        pool.send(worker, channel.MAP, pool.map_order)
    _all_or_error(pool, timeout, "start")
    return blocks, data[0][1]["metadata"], description


def _all_or_error(pool: Pool, timeout: float, phase: str) -> list[tuple[Worker, Frame]]:
    """Wait for everybody; the first failure is raised."""
    answers, failures = pool.wait(pool.workers, timeout, phase)
    if failures:
        raise min(failures, key=lambda failure: failure.env_index).error(0)
    return answers


def compare(description: str, worker: Worker, answer: dict[str, Any]) -> None:
    """Compare a worker's environments with the first one.

    Raises:
        SpaceMismatchError: naming environment, agent and both spaces.
    """
    for i, number in enumerate(answer["of"]):
        other = answer["descriptions"][number]
        if other == description:
            continue
        index = worker.rows.start + i
        message = f"env {index} (pid {worker.pid}): {_difference(description, other)}"
        raise SpaceMismatchError(printable(message), env_index=index, pid=worker.pid, phase="start")


def _difference(ours: str, theirs: str) -> str:
    """Say in what two descriptions differ."""
    first, other = decode(ours), decode(theirs)
    if first.agents != other.agents:
        return (
            f"expected possible_agents {list(first.agents)} as in env 0, got "
            f"{list(other.agents)}; all environments must hold the same agents in one order."
        )
    for kind, ours_by_agent, theirs_by_agent in (
        ("observation", first.observation_spaces, other.observation_spaces),
        ("action", first.action_spaces, other.action_spaces),
    ):
        for agent in first.agents:
            a, b = ours_by_agent[agent], theirs_by_agent[agent]
            if a != b:
                return f"expected {kind} space {a} of agent {agent!r} as in env 0, got {b}."
    return f"expected state space {first.state_space} as in env 0, got {other.state_space}."
