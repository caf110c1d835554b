"""This file is a worker process: ``python -m kitae_marl.vector.workers.worker SOCKET MEMORY STACK
PARENT``.

The three numbers are inherited descriptors, the last is the parent's process id. It imports no
JAX. It leaves when the parent does, whatever happens: on Linux the kernel kills it with its
parent, elsewhere the closed socket tells it, as soon as the game's code returns.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1


def bind_to_parent(parent: int) -> None:
    """Make sure that this process does not outlive its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def prepare(parent: int, stack: int) -> None:
    """Bind to the parent, leave Ctrl-C and SIGTERM to it, and be ready to show the stack."""
    bind_to_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    faulthandler.enable(stack)
    faulthandler.register(signal.SIGUSR1, stack, all_threads=True)


def serve(sock: socket.socket, memory: int) -> None:
    """Carry out commands until the parent closes the connection or says so."""
    from kitae_marl.vector.workers import channel
    from kitae_marl.vector.workers.memory import attach
    from kitae_marl.vector.workers.servant import Servant

    servant = Servant(lambda name, size: attach(memory, name, size), own_process=True)
    while True:
        try:
            frame = channel.receive(sock)
        except (EOFError, ConnectionError):
            os._exit(0)
        flags, payload = servant.handle(frame.kind, frame.payload)
        if frame.kind == channel.MAP:
            gc.collect()
            gc.freeze()  # modules and environments are here to stay; do not walk them again
        try:
            channel.send(sock, frame.kind, frame.sequence, payload, flags)
        except ConnectionError:
            os._exit(0)
        if frame.kind == channel.CLOSE:
            os._exit(0)


def main() -> None:
    """Run the worker."""
    fd, memory, stack, parent = (int(argument) for argument in sys.argv[1:5])
    prepare(parent, stack)
    sys.argv = ["kitae_marl.vector.workers.worker"]
    sock = socket.socket(fileno=fd)
    from kitae_marl.vector.workers import channel

    # The first frame holds the parent's module path: user code must be found as it was there.
    sys.path[:] = channel.receive(sock).payload.decode().split("\0")
    serve(sock, memory)


if __name__ == "__main__":
    main()
