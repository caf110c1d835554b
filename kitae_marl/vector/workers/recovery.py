"""This file starts environments again when they were lost, as long as their budget lasts.

What the user sees of a restart is the end of an episode, truncated, whose return does not count. So
the order is: the observations delivered last are kept as final ones, then the environments are
started again at their next episodes, and only then flags are raised over what that wrote.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from kitae_marl.errors import KitaeError, printable
from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.dicts import Views
from kitae_marl.vector.stepping.faults import error_from
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.answers import Reports
from kitae_marl.vector.workers.channel import Frame
from kitae_marl.vector.workers.packing import dumps
from kitae_marl.vector.workers.pool import Failure, Pool
from kitae_marl.vector.workers.start import compare
from kitae_marl.vector.workers.transport import Worker

logger = logging.getLogger("kitae_marl.vector")

HEALTHY_STEPS = 10_000
"""So many steps give an environment one of its restarts back."""


class Recovery:
    """Restarts lost environments as long as their budget lasts.

    Args:
        pool: the workers.
        blocks: the shared arrays.
        views: shows restarts as ends of episodes.
        options: timeouts, ``max_restarts``, ``on_crash`` and ``on_exception``.
        read: reads the reports of answers.

    Attributes:
        restarts: by environment, how often it was restarted and not yet forgiven.
        total: restarts of environments so far.
        later_options: options of episodes for whose ``reset`` none are given.
    """

    def __init__(
        self,
        pool: Pool,
        blocks: Blocks,
        views: Views,
        options: VectorOptions,
        read: Callable[[list[tuple[Worker, Frame]]], Reports],
    ) -> None:
        self.pool, self.blocks, self.options = pool, blocks, options
        self._read, self._views = read, views
        self.restarts = np.zeros(blocks.n_envs, np.int64)
        self.total = 0
        self.seed = 0
        self.later_options: dict[str, Any] | None = None
        self._episode = np.zeros(blocks.n_envs, np.int64)
        self._forgiven_at = np.zeros(blocks.n_envs, np.int64)

    def reset(
        self, seed: int, options: dict[str, Any] | None
    ) -> tuple[list[Failure], list[tuple[Worker, Frame]]]:
        """Begin episode 0 everywhere; workers that were lost are replaced first."""
        self.seed = seed
        self._episode[:] = 0
        fresh = [self.pool.respawn(worker) for worker in list(self.pool.workers) if worker.lost]
        failures, _ = self._bring_up(fresh)
        well = [worker for worker in self.pool.workers if not worker.lost]
        self.pool.begin()
        options = self.later_options if options is None else options
        for worker in well:
            order = self._order(dict.fromkeys(worker.rows, 0), whole=True, options=options)
            self.pool.send(worker, channel.RESET, order)
        answers, more = self.pool.wait(well, self.options.step_timeout, "reset")
        return failures + more, answers

    def _order(
        self, episodes: dict[int, int], *, whole: bool, options: dict[str, Any] | None
    ) -> bytes:
        """Return the order to begin episodes, given by environment."""
        return dumps(
            {
                "seed": self.seed,
                "whole": whole,
                "options": options,
                "later_options": self.later_options,
                "episodes": episodes,
            }
        )

    def set_options(self, options: dict[str, Any] | None) -> None:
        """Tell the workers the options of episodes that begin from now on.

        Nobody waits for their answers, which the next command finds and passes over: a worker that
        is gone by now is so found in a step, where its loss can be shown as the end of episodes.
        """
        try:
            payload = dumps(options)
        except Exception as error:
            raise TypeError(
                "expected options that can be pickled, as they are sent to workers, got "
                f"{type(error).__name__}: {error}."
            ) from error
        self.later_options = options
        self.pool.begin()
        for worker in self.pool.workers:
            if not worker.lost:
                self.pool.send(worker, channel.OPTIONS, payload)

    def recover(self, failures: list[Failure], reports: Reports, n_steps: int) -> list[int]:
        """Raise what failed, or start it again and show that as the end of its episodes.

        Args:
            failures: workers that are gone.
            reports: exceptions of single environments, whose workers are well.
            n_steps: steps so far, for the budget.

        Returns:
            The environments that were started again.

        Raises:
            VectorEnvError: if restarts are not wanted, or an environment's budget is spent.
        """
        if not failures and not reports:
            return []
        self._raise_unless_wanted(failures, reports)
        rows = {row for failure in failures for row in failure.worker.rows}
        rows |= {report["env_index"] for report, _ in reports}
        in_game = self.blocks.in_game.copy()
        self._views.keep_final(sorted(rows))
        restarted = self._restart(failures, reports, n_steps)
        self._views.interrupt(restarted, in_game)
        return restarted

    def _raise_unless_wanted(self, failures: list[Failure], reports: Reports) -> None:
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

    def _error(self, reports: Reports) -> KitaeError:
        """Build one error from all reports."""
        return error_from(
            [
                (report, worker.pid, int(self.restarts[report["env_index"]]))
                for report, worker in reports
            ]
        )

    def _restart(self, failures: list[Failure], reports: Reports, n_steps: int) -> list[int]:
        """Start lost environments again, each at the next episode of its own."""
        rows: set[int] = set()
        while failures or reports:
            self._charge(failures, reports, n_steps)
            orders = {failure.worker.number: list(failure.worker.rows) for failure in failures}
            for report, worker in reports:
                orders.setdefault(worker.number, []).append(report["env_index"])
            rows.update(row for chosen in orders.values() for row in chosen)
            fresh = [self.pool.respawn(failure.worker) for failure in failures]
            failures, answers = self._bring_up(fresh)
            lost = {failure.worker for failure in failures}
            workers = [
                worker
                for worker in self.pool.workers
                if worker.number in orders and worker not in lost
            ]
            answers, more = self._begin_episodes(workers, orders)
            failures, reports = failures + more, self._read(answers)
            self._raise_unless_wanted(failures, reports)
        self.total += len(rows)
        return sorted(rows)

    def _begin_episodes(
        self, workers: list[Worker], orders: dict[int, list[int]]
    ) -> tuple[list[tuple[Worker, Frame]], list[Failure]]:
        """Reset the given environments, by worker, at their next episodes."""
        self.pool.begin()
        for worker in workers:
            rows = orders[worker.number]
            self._episode[rows] = np.maximum(self._episode[rows], self.blocks.episode[rows]) + 1
            episodes = {row: int(self._episode[row]) for row in rows}
            order = self._order(episodes, whole=False, options=self.later_options)
            self.pool.send(worker, channel.RESET, order)
        return self.pool.wait(workers, self.options.step_timeout, "reset")

    def _bring_up(self, fresh: list[Worker]) -> tuple[list[Failure], list[tuple[Worker, Frame]]]:
        """Let new workers make their environments and map the memory."""
        if not fresh:
            return [], []
        self.pool.begin()
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
        self.pool.begin()
        for worker, _ in answers:
            self.pool.send(worker, channel.MAP, self.pool.map_order)
        mapped, more = self.pool.wait([w for w, _ in answers], self.options.start_timeout, "start")
        return failures + more, mapped

    def _charge(self, failures: list[Failure], reports: Reports, n_steps: int) -> None:
        """Count restarts, say so, and raise when an environment has had too many."""
        error: KitaeError | None = None
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
