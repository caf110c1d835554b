"""Runs the command line as on a system without POSIX: what Windows lacks is hidden first.

    python without_posix.py train GAME ...

``msvcrt`` stands for the module of Windows of that name.
"""

import asyncio  # noqa: F401 - it and what it imports need what is hidden
import fcntl
import multiprocessing.shared_memory  # noqa: F401
import os
import select
import signal
import subprocess  # noqa: F401
import sys
import types
from typing import Any

MISSING = {
    os: ("O_NOFOLLOW", "pread", "pwrite", "memfd_create", "sched_getaffinity"),
    select: ("poll",),
    signal: ("SIGPIPE", "SIGUSR1", "SIGKILL", "pthread_sigmask"),
}


def make_msvcrt() -> Any:
    """Make a module that locks a file as a whole, exclusively, where a byte is asked for."""
    flock, how = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB
    return types.SimpleNamespace(LK_NBLCK=2, locking=lambda handle, mode, size: flock(handle, how))


def hide() -> None:
    modules: dict[str, Any] = {"msvcrt": make_msvcrt(), "fcntl": None}
    sys.modules.update(modules)
    for module, names in MISSING.items():
        for name in names:
            delattr(module, name)


if __name__ == "__main__":
    hide()
    from kitae_marl.vector import options

    options.PROCESSES = False
    from kitae_marl.cli.main import main

    main()
