"""Starting environments, and starting them again when they were lost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np

from kitae_marl.errors import SpaceMismatchError, VectorEnvError
from kitae_marl.vector import channel
from kitae_marl.vector.channel import Frame
from kitae_marl.vector.failure import Failure
from kitae_marl.vector.inbox import Reports
from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.pool import Pool
from kitae_marl.vector.process import Worker
from kitae_marl.vector.reports import error_from, printable
from kitae_marl.vector.shared_memory import Blocks, make_blocks
from kitae_marl.vector.spaces import decode

logger = logging.getLogger("kitae_marl.vector")

HEALTHY_STEPS = 10_000
"""So many steps give an environment one of its restarts back."""


def start(pool: Pool, timeout: float) -> tuple[Blocks, dict[str, Any], str]:
    """Let all workers make their environments, compare them, and map the memory.

    Returns:
        The blocks, the game's metadata and the description all environments share.

    Raises:
        VectorEnvError: if an environment cannot be made or differs from the first one.
    """
    pool.sequence += 1
    for worker in pool.workers:
        pool.order_start(worker, timeout)
    answers = _all_or_error(pool, timeout, "start")
    data = [(worker, json.loads(frame.payload)) for worker, frame in answers]
    data.sort(key=lambda item: item[0].number)
    reports = [(report, worker.pid, 0) for worker, d in data for report in d["reports"]]
    if reports:
        raise error_from(reports)
    description = data[0][1]["descriptions"][data[0][1]["of"][0]]
    for worker, answer in data:
        compare(description, worker, answer)
    pool.buffer = None

    def allocate(size: int) -> np.ndarray:
        pool.buffer = pool.memory.allocate(size)
        return pool.buffer

    blocks = make_blocks(decode(description), len(pool.env_fns), allocate)
    pool.blocks = blocks
    pool.map_order = json.dumps(
        {
            "name": pool.memory.name,
            "size": blocks.size,
            "n_envs": blocks.n_envs,
            "description": description,
        }
    ).encode()
    pool.sequence += 1
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
    for kind in ("observation_spaces", "action_spaces"):
        for agent in first.agents:
            a, b = getattr(first, kind)[agent], getattr(other, kind)[agent]
            if a != b:
                return f"expected {kind[:-7]} space {a} of agent {agent!r} as in env 0, got {b}."
    return f"expected state space {first.state_space} as in env 0, got {other.state_space}."


class Recovery:
    """Restarts lost environments as long as their budget lasts.

    Args:
        pool: the workers.
        blocks: the shared arrays.
        options: timeouts, ``max_restarts``, ``on_crash`` and ``on_exception``.
        read: reads the reports of answers.

    Attributes:
        restarts: by environment, how often it was restarted and not yet forgiven.
        total: restarts of environments so far.
    """

    def __init__(
        self,
        pool: Pool,
        blocks: Blocks,
        options: VectorOptions,
        read: Callable[[list[tuple[Worker, Frame]]], Reports],
    ) -> None:
        self.pool, self.blocks, self.options = pool, blocks, options
        self._read = read
        self.restarts = np.zeros(blocks.n_envs, np.int64)
        self.total = 0
        self.seed = 0
        self._episode = np.zeros(blocks.n_envs, np.int64)
        self._forgiven_at = np.zeros(blocks.n_envs, np.int64)

    def reset(
        self, seed: int, options: dict[str, Any] | None
    ) -> tuple[list[Failure], list[tuple[Worker, Frame]]]:
        """Begin episode 0 everywhere; workers that were lost are replaced first."""
        self.seed = seed
        self._episode[:] = 0
        fresh = [self.pool.respawn(worker) for worker in list(self.pool.workers) if worker.lost]
        failures, _ = self.bring_up(fresh)
        well = [worker for worker in self.pool.workers if not worker.lost]
        self.pool.sequence += 1
        for worker in well:
            episodes = dict.fromkeys(worker.rows, 0)
            order = {"seed": seed, "whole": True, "options": options, "episodes": episodes}
            self.pool.send(worker, channel.RESET, cloudpickle.dumps(order))
        answers, more = self.pool.wait(well, self.options.step_timeout, "reset")
        return failures + more, answers

    def raise_unless_wanted(self, failures: list[Failure], reports: Reports) -> None:
        """Raise what the user did not ask to be restarted."""
        final = [
            item
            for item in reports
            if self.options.on_exception == "raise" or item[0]["error"] != "EnvError"
        ]
        if final:
            raise self._error(reports)
        for failure in sorted(failures, key=lambda failure: failure.env_index):
            # Who hangs while it begins an episode will hang again; a crash may have been chance.
            hangs = failure.timeout is not None and failure.phase != "step"
            if hangs or self.options.on_crash == "raise":
                raise failure.error(int(self.restarts[failure.env_index]))

    def _error(self, reports: Reports) -> VectorEnvError:
        """Build one error from all reports."""
        return error_from(
            [
                (report, worker.pid, int(self.restarts[report["env_index"]]))
                for report, worker in reports
            ]
        )

    def restart(self, failures: list[Failure], reports: Reports, n_steps: int) -> list[int]:
        """Start lost environments again, each at the next episode of its own.

        Args:
            failures: workers that are gone.
            reports: exceptions of single environments, whose workers are well.
            n_steps: steps so far, for the budget.

        Returns:
            The environments that were started again.

        Raises:
            VectorEnvError: once an environment's budget is spent.
        """
        rows: set[int] = set()
        while failures or reports:
            self._charge(failures, reports, n_steps)
            orders = {failure.worker.number: list(failure.worker.rows) for failure in failures}
            for report, worker in reports:
                orders.setdefault(worker.number, []).append(report["env_index"])
            rows.update(row for chosen in orders.values() for row in chosen)
            fresh = [self.pool.respawn(failure.worker) for failure in failures]
            failures, answers = self.bring_up(fresh)
            lost = {failure.worker for failure in failures}
            workers = [
                worker
                for worker in self.pool.workers
                if worker.number in orders and worker not in lost
            ]
            answers, more = self.begin_episodes(workers, orders)
            failures, reports = failures + more, self._read(answers)
            self.raise_unless_wanted(failures, reports)
        self.total += len(rows)
        return sorted(rows)

    def begin_episodes(
        self, workers: list[Worker], orders: dict[int, list[int]]
    ) -> tuple[list[tuple[Worker, Frame]], list[Failure]]:
        """Reset the given environments, by worker, at their next episodes."""
        self.pool.sequence += 1
        for worker in workers:
            rows = orders[worker.number]
            self._episode[rows] = np.maximum(self._episode[rows], self.blocks.episode[rows]) + 1
            self.pool.send(
                worker,
                channel.RESET,
                cloudpickle.dumps(
                    {
                        "seed": self.seed,
                        "whole": False,
                        "options": None,
                        "episodes": {row: int(self._episode[row]) for row in rows},
                    }
                ),
            )
        return self.pool.wait(workers, self.options.step_timeout, "reset")

    def bring_up(self, fresh: list[Worker]) -> tuple[list[Failure], list[tuple[Worker, Frame]]]:
        """Let new workers make their environments and map the memory."""
        if not fresh:
            return [], []
        self.pool.sequence += 1
        for worker in fresh:
            self.pool.order_start(worker, self.options.start_timeout)
        answers, failures = self.pool.wait(fresh, self.options.start_timeout, "start")
        description = json.loads(self.pool.map_order)["description"]
        for worker, frame in answers:
            answer = json.loads(frame.payload)
            if answer["reports"]:
                raise error_from(
                    [
                        (report, worker.pid, int(self.restarts[report["env_index"]]))
                        for report in answer["reports"]
                    ]
                )
            compare(description, worker, answer)
        self.pool.sequence += 1
        for worker, _ in answers:
            self.pool.send(worker, channel.MAP, self.pool.map_order)
        mapped, more = self.pool.wait([w for w, _ in answers], self.options.start_timeout, "start")
        return failures + more, mapped

    def _charge(self, failures: list[Failure], reports: Reports, n_steps: int) -> None:
        """Count restarts, say so, and raise when an environment has had too many."""
        error: VectorEnvError | None = None
        causes = [(f.env_index, f.cause(), f.stack) for f in failures] + [
            (report["env_index"], f"{report['type']}: {report['message']}", report["traceback"])
            for report, _ in reports
        ]
        for index, cause, stack in causes:
            forgiven = (n_steps - self._forgiven_at[index]) // HEALTHY_STEPS
            self.restarts[index] = max(0, self.restarts[index] - forgiven)
            self._forgiven_at[index] += forgiven * HEALTHY_STEPS
            if self.restarts[index] >= self.options.max_restarts and error is None:
                failure = next((f for f in failures if f.env_index == index), None)
                error = failure.error(int(self.restarts[index])) if failure else None
                error = error or self._error([r for r in reports if r[0]["env_index"] == index])
                continue
            self.restarts[index] += 1
            logger.warning(
                "env %d: %s; restart %d of at most %d.%s",
                index,
                printable(cause),
                self.restarts[index],
                self.options.max_restarts,
                printable(f"\n{stack}" if stack else ""),
            )
        if error is not None:
            raise error
