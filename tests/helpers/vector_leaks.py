"""What a process may leave behind: children, descriptors, names."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def children() -> set[int]:
    """Return the process ids of our children, zombies included."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended since
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def descriptors() -> int:
    """Count our open descriptors."""
    return len(os.listdir("/proc/self/fd"))


def new_names(before: set[str], seconds: float = 10.0) -> set[str]:
    """Return the names of shared memory that are there to stay.

    Tests beside this one have names, too, for a while; what is left behind stays for good.
    """
    new, deadline = set(os.listdir("/dev/shm")) - before, time.monotonic() + seconds
    while new and time.monotonic() < deadline:
        time.sleep(0.05)
        new &= set(os.listdir("/dev/shm"))
    return new
