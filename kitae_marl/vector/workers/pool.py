"""This file commands all workers together, and waits for their answers within a deadline.

It keeps the protocol and leaves the carrying to a transport. Every command has a sequence number,
so that an answer to an older one is never taken for the newest. A worker that did not answer in
time is killed and never spoken to again: a late answer must not meet the arrays of a later step.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pettingzoo import ParallelEnv

from kitae_marl.errors import VectorEnvError, WorkerDiedError, WorkerTimeoutError, printable
from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame, StartOrder
from kitae_marl.vector.workers.memory import Memory
from kitae_marl.vector.workers.packing import pack
from kitae_marl.vector.workers.process import SLICE, WorkerProcess, describe_exit, signal_name
from kitae_marl.vector.workers.transport import InlineWorker, Worker

logger = logging.getLogger("kitae_marl.vector")

RECEIVE_TIMEOUT = 2.0
"""Seconds for the rest of an answer that has begun to arrive."""


class Pool:
    """All workers of a vector environment.

    Args:
        env_fns: makers of the environments.
        options: number of workers, and what these need to know.
        transport: class of the workers, where there are any; None: processes.

    Attributes:
        workers: one per process, or one that carries everything out at once.
        blocks: the shared arrays, once they are mapped.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any] | ParallelEnv[str, Any, Any]],
        options: VectorOptions,
        transport: type[Worker] | None = None,
    ) -> None:
        n_workers = options.count_workers(len(env_fns))
        self._transport = (transport or WorkerProcess) if n_workers else InlineWorker
        bounds = np.linspace(0, len(env_fns), max(1, n_workers) + 1).astype(int).tolist()
        pairs = list(itertools.pairwise(bounds))
        self._makers = [self._packed(env_fns[first:stop], first) for first, stop in pairs]
        self.n_envs, self.options = len(env_fns), options
        self.memory = Memory(self._transport.memory_kind)
        self.blocks: Blocks | None = None
        self.sequence = 0
        self.map_order = b""
        self.workers: list[Worker] = []
        self._poller: Any = None if self._transport.immediate else select.poll()
        self._creator = os.getpid()
        self._by_fd: dict[int, Worker] = {}
        self._slow: set[tuple[int, str]] = set()
        self._last_number = 0  # the worker whose answer came last
        try:
            for number, (first, stop) in enumerate(pairs):
                self.workers.append(self._spawn(number, range(first, stop)))
        except BaseException:
            self.release()
            raise

    def _packed(
        self, env_fns: Sequence[Callable[[], Any] | ParallelEnv[str, Any, Any]], first: int
    ) -> bytes | Sequence[Any]:
        """Pickle the makers of one worker's environments; environments themselves are kept."""
        given = [env for env in env_fns if isinstance(env, ParallelEnv) or not callable(env)]
        if not given:
            return pack(env_fns, first)
        if len(given) < len(env_fns) or not self._transport.immediate:
            raise TypeError(
                f"expected functions that make environments, got a {type(given[0]).__name__}; "
                "only with n_workers=0 environments themselves may be given, and then all."
            )
        return given

    def _spawn(self, number: int, rows: range) -> Worker:
        """Start one worker; it does not make its environments yet."""
        worker = self._transport(number, rows, self.memory, self.options)
        if not worker.immediate:
            self._poller.register(worker.fileno(), select.POLLIN)
            self._by_fd[worker.fileno()] = worker
        return worker

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that have one of their own."""
        return [worker.pid for worker in self.workers if worker.pid != self._creator]

    def respawn(self, worker: Worker) -> Worker:
        """Replace a worker by a new process."""
        self._drop(worker)
        if self.blocks is not None:
            self.blocks.current[worker.number] = 0
            self.blocks.cancelled[worker.number] = False
        fresh = self.workers[worker.number] = self._spawn(worker.number, worker.rows)
        return fresh

    def _drop(self, worker: Worker) -> None:
        """Kill a worker and forget its socket."""
        self._forget(worker)
        worker.release()

    def _forget(self, worker: Worker) -> None:
        """Listen to a worker no longer."""
        fd = worker.fileno()
        if fd in self._by_fd:
            del self._by_fd[fd]
            self._poller.unregister(fd)

    def order_start(self, worker: Worker, timeout: float) -> None:
        """Tell a worker to make its environments."""
        number = worker.number
        order = StartOrder(self._makers[number], worker.rows.start, number, self.options)
        worker.order_start(order, self.sequence, timeout)

    def send(self, worker: Worker, kind: int, payload: bytes = b"", timeout: float = 10.0) -> None:
        """Send one command with the present sequence number."""
        worker.send(kind, self.sequence, payload, timeout)

    def begin(self) -> None:
        """Begin a new command: answers to older ones no longer count."""
        self.sequence += 1
        if self.blocks is not None:
            self.blocks.committed[:] = 0

    def step(self) -> None:
        """Tell everybody to step."""
        self.begin()
        for worker in self.workers:
            worker.order_step(self.sequence)

    def wait(
        self, workers: Iterable[Worker], timeout: float, phase: str
    ) -> tuple[list[tuple[Worker, Frame]], list[Failure]]:
        """Wait for the answers to the last command.

        Returns:
            The answers, and the workers that failed: dead or killed by now.
        """
        answers: list[tuple[Worker, Frame]] = []
        failures: list[Failure] = []
        if self._transport.immediate:
            return [(worker, worker.receive(timeout)) for worker in workers], failures
        deadline = time.monotonic() + timeout
        pending: dict[Worker, None] = {}
        for worker in workers:
            if worker.lost:
                failures.append(self._end(worker, None, phase))
            else:
                pending[worker] = None
        self._take_in_order(pending, answers, failures, phase)
        while pending:
            left = deadline - time.monotonic()
            if left <= 0:
                failures += self._give_up(pending, timeout, phase)
                break
            events = self._poller.poll(max(1.0, min(left, SLICE) * 1000))
            for fd, _ in events:
                worker = self._by_fd[fd]
                if self._take(worker, pending, answers, failures, phase):
                    self._last_number = worker.number
            if not events:
                self._look_at(pending, failures, phase)
                if time.monotonic() > deadline - timeout / 2 and phase != "close":
                    self._warn_slow(pending, timeout, phase)
        return answers, failures

    def _take_in_order(
        self,
        pending: dict[Worker, None],
        answers: list[tuple[Worker, Frame]],
        failures: list[Failure],
        phase: str,
    ) -> None:
        """Take all answers if they come soon, waking up as few times as possible.

        Who answered last the time before is waited for first: by then the others have answered,
        and nobody was disturbed, on a core that they may need, to read one answer of several.
        """
        last = self._last_number
        for worker in sorted(pending, key=lambda worker: worker.number != last):
            patient = worker.number == last
            if self._take(worker, pending, answers, failures, phase, patient):
                continue
            if patient or not self._take(worker, pending, answers, failures, phase):
                return
            self._last_number = worker.number

    def _take(
        self,
        worker: Worker,
        pending: dict[Worker, None],
        answers: list[tuple[Worker, Frame]],
        failures: list[Failure],
        phase: str,
        patient: bool = True,
    ) -> bool:
        """Read what one worker has to say, if only that it is gone; False if nothing comes."""
        if worker not in pending:  # it died after its answer; the next command will tell
            worker.lost = True
            self._forget(worker)
            return True
        try:
            frame = worker.receive(RECEIVE_TIMEOUT, patient)
            if frame.sequence < self.sequence:
                return True  # the answer to a command that Ctrl-C interrupted
            if frame.sequence > self.sequence:
                raise ValueError(f"expected answer {self.sequence}, got {frame.sequence}.")
            answers.append((worker, frame))
        except BlockingIOError:
            return False
        except (EOFError, OSError, ValueError) as error:
            logger.debug("worker %d: %r", worker.number, error)
            committed = self._committed(worker) if phase == "step" else None
            if committed is None:
                failures.append(self._end(worker, None, phase))
            else:
                answers.append((worker, committed))
        del pending[worker]
        return True

    def _committed(self, worker: Worker) -> Frame | None:
        """Return the answer of a worker that ended its step and died before it could say so."""
        flags = int(self.blocks.committed[worker.number]) - 1 if self.blocks is not None else -1
        if flags < 0:
            return None
        worker.lost = True
        self._forget(worker)
        return Frame(channel.STEP, flags, self.sequence, b"")

    def _give_up(self, pending: Iterable[Worker], timeout: float, phase: str) -> list[Failure]:
        """Kill workers that took too long, after a look at what they were doing."""
        for worker in pending:
            if self.blocks is not None:
                self.blocks.cancelled[worker.number] = True
            if phase != "close":
                worker.ask_stack()
        return [self._end(worker, timeout, phase) for worker in pending]

    def _look_at(self, pending: dict[Worker, None], failures: list[Failure], phase: str) -> None:
        """Find processes that ended although somebody still holds their socket."""
        for worker in list(pending):
            if worker.has_ended():
                del pending[worker]
                failures.append(self._end(worker, None, phase))

    def _warn_slow(self, pending: Iterable[Worker], timeout: float, phase: str) -> None:
        """Say once per environment that half of the time is over."""
        for worker in pending:
            index = self._running(worker)
            if (index, phase) not in self._slow:
                self._slow.add((index, phase))
                logger.warning(
                    "env %d (pid %d, in %s): no answer for %.3g s, half of the timeout "
                    "(said once per environment).",
                    index,
                    worker.pid,
                    phase,
                    timeout / 2,
                )

    def _running(self, worker: Worker) -> int:
        """Index of the environment whose code the worker runs, else of its first one."""
        index = int(self.blocks.current[worker.number]) - 1 if self.blocks is not None else -1
        return index if index in worker.rows else worker.rows.start

    def _end(self, worker: Worker, timeout: float | None, phase: str) -> Failure:
        """Make sure that a worker has ended, and write down how."""
        worker.lost = True
        self._forget(worker)
        if timeout is not None:
            stack = worker.stack(patient=True) if phase != "close" else ""
            exitcode = worker.kill()
        else:
            # It ended by itself: its own exit code says why, that of a kill would not.
            exitcode = worker.wait(1.0)
            exitcode = worker.kill() if exitcode is None else exitcode
            stack = worker.stack(patient=False)
        return Failure(worker, timeout, exitcode, stack, self._running(worker), phase)

    def close(self, timeout: float) -> None:
        """Let the environments close, kill what does not end in time, give everything back."""
        self.begin()
        deadline = time.monotonic() + timeout
        alive = [worker for worker in self.workers if not worker.lost]
        for worker in alive:
            self.send(worker, channel.CLOSE)
        answers, failures = self.wait(alive, timeout, "close")
        for _, frame in answers:
            for text in json.loads(frame.payload)["logs"]:
                logger.warning("%s", printable(text))
        for failure in failures:
            logger.warning("env %d: %s (in close)", failure.env_index, failure.cause())
        for worker, _ in answers:
            worker.wait(max(0.05, deadline - time.monotonic()))
        self.release()

    def release(self) -> None:
        """Kill all workers and give back every descriptor."""
        for worker in self.workers:
            self._drop(worker)
        self.workers = []
        self.memory.close()

    def release_unless_forked(self) -> None:
        """Release, but leave the workers alone in a forked copy of the process they belong to."""
        if os.getpid() == self._creator:
            self.release()


@dataclass
class Failure:
    """A worker that can no longer be spoken to: it died, or did not answer in time.

    Attributes:
        worker: the worker; its process is dead by now.
        timeout: seconds it was given, None if it died by itself.
        exitcode: how it ended (negative: a signal).
        stack: what it was doing, as far as known.
        env_index: the environment whose code was running, or the worker's first.
        phase: what it had been told to do.
    """

    worker: Worker
    timeout: float | None
    exitcode: int | None
    stack: str
    env_index: int
    phase: str

    def cause(self) -> str:
        """What happened, without where."""
        if self.timeout is not None:
            return f"no answer within {self.timeout:g} s; its worker was killed"
        return f"its worker {describe_exit(self.exitcode)}"

    def error(self, restarts: int) -> VectorEnvError:
        """Build the named error."""
        message = f"env {self.env_index} (pid {self.worker.pid}, in {self.phase}): {self.cause()}"
        message += f"; it was restarted {restarts} times before." if restarts else "."
        if self.stack:
            message += f"\n\nStack of the worker:\n{self.stack.rstrip()}"
        message = printable(message)
        where: dict[str, Any] = {
            "env_index": self.env_index,
            "pid": self.worker.pid,
            "phase": self.phase,
            "restarts": restarts,
        }
        if self.timeout is not None:
            return WorkerTimeoutError(message, timeout=self.timeout, stack=self.stack, **where)
        return WorkerDiedError(
            message, exitcode=self.exitcode, signal_name=signal_name(self.exitcode), **where
        )
