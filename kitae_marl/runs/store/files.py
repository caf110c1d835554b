"""This file writes files whole or not at all, and locks a folder while a trainer writes into it."""

from __future__ import annotations

import importlib
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kitae_marl.errors import RunLockedError

fcntl: Any = None
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows locks bytes of a file instead
    msvcrt: Any = importlib.import_module("msvcrt")
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
"""Open no symbolic link, where the system can be told so."""


def require_output(out: str | Path, endings: Sequence[str]) -> Path:
    """Make sure that a file can be written, before the work that makes it.

    Args:
        out: path of the file.
        endings: those it may have, for instance ``[".gif", ".mp4"]``.

    Returns:
        The path.

    Raises:
        ValueError: for another ending, a folder that is missing or may not be written, or a folder
            of that name.
    """
    out = Path(out)
    if out.suffix.lower() not in endings:
        raise ValueError(f"expected a file that ends in {' or '.join(endings)}, got {out}.")
    if not out.parent.is_dir():
        raise ValueError(f"expected a folder that exists, got {out.parent}; make it first.")
    if out.is_dir():
        raise ValueError(f"expected the name of a file, got the folder {out}.")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"expected a folder that may be written, got {out.parent}.")
    return out


def require_folder(path: str | Path) -> None:
    """Make sure that a folder can be written into, or be made.

    Raises:
        ValueError: if there is a file in its place, or it may not be written.
    """
    nearest = os.path.abspath(path)
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        raise ValueError(f"expected a folder, got {nearest}; choose another, or remove that file.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(
            f"expected a folder that may be written, got {nearest}; choose another, or change its "
            "permissions."
        )


_UNFINISHED: set[str] = set()
"""Temporary files that are being written."""


def remove_unfinished() -> None:
    """Remove the temporary files of a process that is about to end in the middle of its work."""
    for name in _UNFINISHED:
        with suppress(OSError):
            os.unlink(name)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``out``, of the same ending; it replaces ``out`` at the end.

    After an error the temporary file is removed and ``out`` is as it was.
    """
    name = os.path.abspath(out.parent / f".unfinished-{secrets.token_hex(8)}{out.suffix}")
    _UNFINISHED.add(name)  # before the file is there: a signal may end the process at any moment
    try:
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600))
        yield Path(name)
        os.chmod(name, _permissions(out))
        os.replace(name, out)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
    finally:
        _UNFINISHED.remove(name)


def _permissions(out: Path) -> int:
    """Those of the file that is replaced, else those that the user's mask gives to a new one."""
    if out.exists():
        return stat.S_IMODE(out.stat().st_mode)
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, its line ends as they are."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


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
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on host {socket.gethostname()}".encode())
        yield
    finally:
        if fcntl is None:  # Windows removes no file that is open
            os.close(handle)
            with suppress(OSError):  # somebody looks at it: a file without a holder is harmless
                (path / LOCK).unlink()
        else:
            (path / LOCK).unlink(missing_ok=True)
            os.close(handle)


BEYOND = 1 << 30
"""Place of the byte that Windows locks, far beyond the text, which others are to read."""


def _lock(handle: int, *, shared: bool) -> None:
    """Lock an open file without waiting; the lock ends when the file is closed.

    Raises:
        BlockingIOError, PermissionError: if another process holds it; the second on Windows, where
            there are no shared locks.
    """
    if fcntl is None:
        os.lseek(handle, BEYOND, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _text(handle: int) -> str:
    """Return what stands in an open lock."""
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 200).decode(errors="replace")


def _take_lock(file: Path) -> int:
    """Open and lock a file, which its last holder may remove in this moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
        try:
            _lock(handle, shared=False)
            with suppress(FileNotFoundError):  # its last holder has removed it: another try
                if os.path.samestat(os.fstat(handle), file.stat()):
                    return handle
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                holder = _text(handle)
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
        handle = os.open(path / LOCK, os.O_RDONLY | NO_FOLLOW)
    except OSError:
        return ""
    try:
        _lock(handle, shared=True)
    except (BlockingIOError, PermissionError):
        return _text(handle) or "another process"
    finally:
        os.close(handle)
    return ""
