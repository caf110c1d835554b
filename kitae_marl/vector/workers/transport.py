"""This file says what a transport is: how commands reach a worker and its answers come back.

What is said (commands, sequence numbers, reports) is the business of the pool and of the servant at
the other end and the same everywhere. A transport only carries it, and says how its workers end.
It is one class that meets :class:`Worker`: ``WorkerProcess`` in ``process``, :class:`InlineWorker`
here. To add another, write such a class and a subclass of ``SubProcVecParallelEnv`` that names it
as its ``transport``.
"""

from __future__ import annotations

import os
from typing import ClassVar, Protocol

import numpy as np

from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame, StartOrder
from kitae_marl.vector.workers.memory import Memory
from kitae_marl.vector.workers.servant import Servant


class Worker(Protocol):
    """Some of the environments of a vector, as the parent sees them.

    Args:
        number: which worker it is, from 0.
        rows: the environments it holds.
        memory: the memory that it shares with the parent; nothing is allocated yet.
        options: the options of the vector.

    Attributes:
        immediate: a command is carried out while it is sent, so that no answer must be waited for
            and the worker cannot be lost.
        memory_kind: kind of :class:`Memory` that parent and worker can share; None: the best one
            between processes of this machine.
        pid: process in which the environments live.
        lost: the connection broke; the worker has ended or is about to be killed.
    """

    immediate: ClassVar[bool]
    memory_kind: ClassVar[str | None]
    number: int
    rows: range
    pid: int
    lost: bool

    def __init__(
        self, number: int, rows: range, memory: Memory, options: VectorOptions
    ) -> None: ...

    def fileno(self) -> int:
        """Descriptor that can be read from as soon as an answer is there or the worker is gone.

        It is asked for only if the transport is not immediate; -1 once the worker is released.
        """
        ...

    def order_start(self, order: StartOrder, sequence: int, timeout: float) -> None:
        """Send the order to make the environments."""
        ...

    def send(self, kind: int, sequence: int, payload: bytes = b"", timeout: float = 10.0) -> None:
        """Send a command; a broken connection sets ``lost`` or shows when the answer is read."""
        ...

    def order_step(self, sequence: int) -> None:
        """Send the command to step, the same as ``send(STEP, sequence)``, as fast as possible."""
        ...

    def receive(self, timeout: float, patient: bool = True) -> Frame:
        """Receive an answer; once it has begun to arrive, the rest must come within the timeout.

        Raises:
            BlockingIOError: if nothing arrives for a short while, or nothing is there and the
                caller is not patient.
            EOFError, OSError, ValueError: if the worker is gone or no frame can be read.
        """
        ...

    def has_ended(self) -> bool:
        """Whether the worker ended by itself, even if ``fileno`` does not show it."""
        ...

    def ask_stack(self) -> None:
        """Ask a worker that hangs what it is doing, without waiting for the answer."""
        ...

    def stack(self, patient: bool) -> str:
        """Return what the worker was doing, as far as it can be known.

        Args:
            patient: give an answer to :meth:`ask_stack` some time to arrive.
        """
        ...

    def wait(self, timeout: float) -> int | None:
        """Wait for the worker to end; return its exit code, None if it does not end in time."""
        ...

    def kill(self) -> int | None:
        """End the worker for certain; return its exit code (negative: a signal)."""
        ...

    def release(self) -> None:
        """Kill the worker if it still runs and give back all that it holds."""
        ...


class InlineWorker:
    """The transport without a process: commands are carried out when they are sent."""

    immediate: ClassVar[bool] = True
    memory_kind: ClassVar[str | None] = "private"

    def __init__(self, number: int, rows: range, memory: Memory, options: VectorOptions) -> None:
        self.number, self.rows, self.lost = number, rows, False
        self.pid = os.getpid()
        self._memory = memory
        self._servant = Servant(self._attach)
        self._answer: Frame | None = None

    def _attach(self, name: str, size: int) -> np.ndarray:
        """The parent's own array."""
        if self._memory.array is None:
            raise RuntimeError("expected the memory to be allocated before it is mapped.")
        return self._memory.array

    def fileno(self) -> int:
        """None: every answer is there as soon as the command was sent."""
        return -1

    def order_start(self, order: StartOrder, sequence: int, timeout: float) -> None:
        """Make the environments, or take them: the order is not copied on its way."""
        flags, answer = self._servant.make(order)
        self._answer = Frame(channel.START, flags, sequence, answer)

    def send(self, kind: int, sequence: int, payload: bytes = b"", timeout: float = 10.0) -> None:
        """Carry out a command."""
        flags, answer = self._servant.handle(kind, payload)
        self._answer = Frame(kind, flags, sequence, answer)

    def order_step(self, sequence: int) -> None:
        """Step."""
        self.send(channel.STEP, sequence)

    def receive(self, timeout: float, patient: bool = True) -> Frame:
        """Return the answer to the last command."""
        if self._answer is None:
            raise EOFError("expected a command before its answer.")
        return self._answer

    def has_ended(self) -> bool:
        """Never: it lives as long as this process."""
        return False

    def ask_stack(self) -> None:
        """Nothing is to be asked: it cannot hang while the parent looks at it."""

    def stack(self, patient: bool) -> str:
        """Nothing is known, see :meth:`ask_stack`."""
        return ""

    def wait(self, timeout: float) -> int | None:
        """Return at once: there is no process to wait for."""
        return 0

    def kill(self) -> int | None:
        """Let the environments go."""
        self.release()
        return 0

    def release(self) -> None:
        """Let the environments go."""
        self._servant = Servant(self._attach)
