"""This file is the transport over processes: they are started, spoken to, looked into and killed.

``subprocess`` and not ``fork``: JAX is threaded and a forked copy of it hangs. One socket pair
per worker, whose other end nobody else holds, so a worker's death is always seen as the end of
its stream.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kitae_marl.vector.options import VectorOptions
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.channel import Frame, StartOrder
from kitae_marl.vector.workers.memory import Memory
from kitae_marl.vector.workers.packing import dumps

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}
"""Set in every worker: one thread each, and no GPU for a game that happens to import JAX."""
WORKER_DEFAULTS = {
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYTHONHASHSEED": "0",
    # Observations that are images come and go with every step; glibc would return their memory to
    # the kernel each time and take it back page by page, which costs more than the copies.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 27),
}
"""Set in every worker unless the parent's environment says otherwise."""

SLICE = 0.25
"""Seconds between looks at processes whose socket a grandchild may be holding open."""


class WorkerProcess:
    """One worker process and the parent's end of its socket.

    Args:
        number, rows, memory, options: see :class:`kitae_marl.vector.workers.transport.Worker`.
    """

    immediate: ClassVar[bool] = False
    memory_kind: ClassVar[str | None] = None

    def __init__(self, number: int, rows: range, memory: Memory, options: VectorOptions) -> None:
        self.number, self.rows, self.lost = number, rows, False
        self.sock, other = socket.socketpair()
        slice_ = struct.pack("ll", 0, round(1e6 * SLICE))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, slice_)
        self._stack_fd = _unnamed_file()
        pass_fds = [other.fileno(), self._stack_fd, *([memory.fd] if memory.fd >= 0 else [])]
        arguments = [other.fileno(), memory.fd, self._stack_fd, os.getpid()]
        try:
            self.popen = in_lasting_thread(lambda: _spawn(arguments, pass_fds, options.worker_env))
        except BaseException:
            self.sock.close()
            os.close(self._stack_fd)
            raise
        finally:
            other.close()
        self.pid = self.popen.pid
        self.send(channel.START, 0, "\0".join(path or "." for path in sys.path).encode())

    def fileno(self) -> int:
        """Descriptor of the socket."""
        return self.sock.fileno()

    def order_start(self, order: StartOrder, sequence: int, timeout: float) -> None:
        """Send the order to make the environments."""
        self.send(channel.START, sequence, dumps(order), timeout)

    def send(self, kind: int, sequence: int, payload: bytes = b"", timeout: float = 10.0) -> None:
        """Send a command; a broken connection shows when the answer is read."""
        try:
            self.sock.settimeout(timeout)
            channel.send(self.sock, kind, sequence, payload)
            self.sock.settimeout(None)
        except OSError:
            self.lost = True

    def order_step(self, sequence: int) -> None:
        """Send the shortest command; the socket has room, for every answer was read."""
        try:
            if self.sock.send(channel.HEADER.pack(0, channel.STEP, 0, 0, sequence)) != 16:
                self.lost = True
        except OSError:
            self.lost = True

    def receive(self, timeout: float, patient: bool = True) -> Frame:
        """Receive an answer; once it has begun to arrive, the rest must come within the timeout.

        Raises:
            BlockingIOError: if nothing arrives for ``SLICE`` seconds, or nothing is there and the
                caller is not patient.
            EOFError, OSError, ValueError: see :func:`kitae_marl.vector.workers.channel.receive`.
        """
        header = self.sock.recv(channel.HEADER.size, 0 if patient else socket.MSG_DONTWAIT)
        if len(header) == channel.HEADER.size:
            length, kind, flags, _, sequence = channel.HEADER.unpack(header)
            if not length:
                return Frame(kind, flags, sequence, b"")
        self.sock.settimeout(timeout)
        try:
            return channel.receive(self.sock, header)
        finally:
            self.sock.settimeout(None)

    def ask_stack(self) -> None:
        """Ask the process what it is doing; works in C code that holds the GIL too."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGUSR1)

    def has_ended(self) -> bool:
        """Whether the process ended; a grandchild may hold its end of the socket open."""
        return self.popen.poll() is not None

    def stack(self, patient: bool) -> str:
        """Return what ``faulthandler`` wrote, asked by a signal or by a segmentation fault.

        Args:
            patient: wait up to half a second for the answer to :meth:`ask_stack`.
        """
        size = -1
        for _ in range(25 if patient else 0):
            time.sleep(0.02)
            before, size = size, os.fstat(self._stack_fd).st_size
            if size > 0 and size == before:
                break
        return os.pread(self._stack_fd, 1 << 16, 0).decode(errors="replace")

    def kill(self) -> int:
        """End the process for certain and return its exit code (negative: a signal)."""
        if self.popen.returncode is None:
            self.popen.kill()
        return self.popen.wait()

    def wait(self, timeout: float) -> int | None:
        """Wait for the process to end; None if it does not in time."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def release(self) -> None:
        """Kill the process if it still runs and give back all descriptors."""
        self.kill()
        self.sock.close()
        if self._stack_fd >= 0:
            os.close(self._stack_fd)
            self._stack_fd = -1


def _spawn(
    arguments: list[int], pass_fds: list[int], variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a worker; SIGINT and SIGTERM are held back until it has arranged to ignore them."""
    environment = {**WORKER_DEFAULTS, **os.environ, **WORKER_ENVIRONMENT, **variables}
    root = str(Path(__file__).resolve().parents[3])
    environment["PYTHONPATH"] = os.pathsep.join(
        [path for path in (os.environ.get("PYTHONPATH"), root) if path]
    )
    command = [sys.executable, "-m", "kitae_marl.vector.workers.worker", *map(str, arguments)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        # What games print goes to standard error: standard output is the program's own.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=pass_fds, env=environment
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _unnamed_file() -> int:
    """Open a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("kitae_marl_stack")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Keeper:
    """A thread that lives as long as the process and starts processes for others.

    The kernel ties "kill me when my parent dies" to the *thread* that started the process, so a
    worker started from a short-lived thread would die with that thread.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], concurrent.futures.Future[Any]]]
        self._tasks = queue.SimpleQueue()
        threading.Thread(target=self._run, name="kitae_marl-keeper", daemon=True).start()

    def _run(self) -> None:
        while True:
            task, future = self._tasks.get()
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)

    def call(self, task: Callable[[], Any]) -> Any:
        """Run a task in the thread and return its result."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._tasks.put((task, future))
        return future.result()


_keepers: list[_Keeper] = []
_keepers_lock = threading.Lock()


def in_lasting_thread(task: Callable[[], Any]) -> Any:
    """Run a task in the main thread if we are there, else in one that lasts as long."""
    if threading.current_thread() is threading.main_thread():
        return task()
    with _keepers_lock:
        if not _keepers or _keepers[-1].pid != os.getpid():
            _keepers.append(_Keeper())
    return _keepers[-1].call(task)


def signal_name(exitcode: int | None) -> str:
    """Return the name of the signal that ended a process, empty if it exited by itself."""
    if exitcode is None or exitcode >= 0:
        return ""
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def describe_exit(exitcode: int | None) -> str:
    """Say how a process ended."""
    name = signal_name(exitcode)
    if name == "SIGKILL":
        return "killed by SIGKILL; out of memory?"
    return f"killed by {name}" if name else f"exited with code {exitcode}"
