"""One trainer at a time in a folder, by ``flock``."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitae_marl.errors import RunLockedError

LOCK = ".lock"
"""The file that a trainer holds locked in its run folder; without a holder it means nothing."""
PATIENCE = 0.3
"""Seconds to wait for a lock: who only lists the runs holds it for less."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other trainers off a folder, which is made if it is missing.

    The lock ends with the process that holds it, however that ends: a file left behind is harmless.

    Raises:
        RunLockedError: if another trainer holds it; the message names its host and process.
    """
    path.mkdir(parents=True, exist_ok=True)
    handle = _take_lock(path / LOCK)
    try:
        os.truncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on host {socket.gethostname()}".encode(), 0)
        yield
    finally:
        (path / LOCK).unlink(missing_ok=True)
        os.close(handle)


def _take_lock(file: Path) -> int:
    """Open and lock a file, which its last holder may remove in this moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.exists() and os.path.samestat(os.fstat(handle), file.stat()):
                return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(handle, 200, 0).decode(errors="replace")
                os.close(handle)
                raise RunLockedError(
                    f"{file.parent} is in use by {holder or 'another process'}; wait until it "
                    "ends, or choose another name (--run)."
                ) from None
            time.sleep(0.02)
        os.close(handle)


def holder(path: Path) -> str:
    """Return who trains in a folder, as ``process 812 on host x``; empty if nobody does."""
    try:
        handle = os.open(path / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(handle, 200, 0).decode(errors="replace") or "another process"
    finally:
        os.close(handle)
    return ""
