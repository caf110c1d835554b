"""Workers that can no longer be spoken to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kitae_marl.errors import VectorEnvError, WorkerDiedError, WorkerTimeoutError
from kitae_marl.runs.terminal import printable
from kitae_marl.vector.workers.process import Worker, describe_exit, signal_name


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
