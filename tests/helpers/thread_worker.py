"""A third transport for the tests: workers that are threads, spoken to in frames over a socket."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import ClassVar

import cloudpickle
import numpy as np

from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame, StartOrder
from kitae_marl.vector.workers.memory import Memory
from kitae_marl.vector.workers.servant import Servant


class ThreadWorker:
    """One thread that serves like a worker process; its memory is that of this process.

    A thread cannot be killed: one that hangs is left alone and nobody hears what it says, but it
    may still write into the memory, so games that hang are tested with ``on_crash="raise"`` alone.
    """

    immediate: ClassVar[bool] = False
    memory_kind: ClassVar[str | None] = "private"

    def __init__(self, number: int, rows: range, memory: Memory, options: VectorOptions) -> None:
        self.number, self.rows, self.lost = number, rows, False
        self.pid = os.getpid()
        self._memory = memory
        self._sock, other = socket.socketpair()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 250_000))
        self._thread = threading.Thread(target=self._serve, args=(other,), daemon=True)
        self._thread.start()

    def _serve(self, sock: socket.socket) -> None:
        """Carry out commands until the connection is closed or the game leaves."""
        servant = Servant(self._attach)
        with sock:
            kind = channel.START
            while kind != channel.CLOSE:
                try:
                    kind, _, sequence, payload = channel.receive(sock)
                    flags, answer = servant.handle(kind, payload)
                    channel.send(sock, kind, sequence, answer, flags)
                except (EOFError, OSError, SystemExit):
                    return

    def _attach(self, name: str, size: int) -> np.ndarray:
        assert self._memory.array is not None
        return self._memory.array

    def fileno(self) -> int:
        return self._sock.fileno()

    def order_start(self, order: StartOrder, sequence: int, timeout: float) -> None:
        self.send(channel.START, sequence, cloudpickle.dumps(order), timeout)

    def send(self, kind: int, sequence: int, payload: bytes = b"", timeout: float = 10.0) -> None:
        try:
            channel.send(self._sock, kind, sequence, payload)
        except OSError:
            self.lost = True

    def order_step(self, sequence: int) -> None:
        self.send(channel.STEP, sequence)

    def receive(self, timeout: float, patient: bool = True) -> Frame:
        header = self._sock.recv(channel.HEADER.size, 0 if patient else socket.MSG_DONTWAIT)
        return channel.receive(self._sock, header)

    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def ask_stack(self) -> None:
        pass

    def stack(self, patient: bool) -> str:
        return ""

    def wait(self, timeout: float) -> int | None:
        self._thread.join(timeout)
        return 0 if self.has_ended() else None

    def kill(self) -> int | None:
        self._sock.close()
        return None

    def release(self) -> None:
        self.kill()
