"""This file speaks with the person at the terminal: lines, warnings, progress, and Ctrl-C."""

from __future__ import annotations

import math
import os
import shlex
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from kitae_marl.errors import printable


def counted(number: int, word: str) -> str:
    """Return a number of things in words.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"


def in_time(seconds: float) -> str:
    """Return a length of time for people.

    Example:
        >>> in_time(7.6), in_time(100), in_time(5400), in_time(200_000)
        ('8 s', '1.7 min', '1.5 h', '2.3 days')
    """
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def pip_install(package: str) -> str:
    """Return the command that installs a package for the Python that runs."""
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(package)}"


def say(text: str) -> None:
    """Print one line for the user; control characters from outside are escaped."""
    print(printable(text), flush=True)


def say_error(text: str) -> None:
    """Print one line for the user on standard error; control characters are escaped."""
    print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Let warnings be one line for the user, as errors are; control characters are escaped."""
    as_python_does = warnings.formatwarning

    def formatted(message: Any, category: Any, *where: Any, **more: Any) -> str:
        if category is UserWarning:
            return printable(f"warning: {message}\n")
        return as_python_does(message, category, *where, **more)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = as_python_does


class PlainDisplay:
    """Progress as plain lines, about one a second; for files and pipes."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last = -math.inf

    def update(self, step: int, rate: float, headline: str) -> None:
        """Print a line unless the last one is less than a second old."""
        now = time.monotonic()
        if now - self._last < 1.0 and step < self._total:
            return
        self._last = now
        shown = f"  {headline}" if headline else ""
        left = (
            f", {in_time((self._total - step) / rate)} left" if rate and step < self._total else ""
        )
        print(f"step {step}/{self._total}  {rate:.0f} env steps/s{left}{shown}", flush=True)

    def close(self) -> None:
        """Nothing to finish."""


class RichDisplay:
    """A progress bar that redraws itself; for terminals."""

    def __init__(self, total: int, done: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(),
            TextColumn("{task.fields[rate]:,.0f} env steps/s"),
            TextColumn("[bold]{task.fields[headline]}"),
            TimeRemainingColumn(),
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=total, completed=done, rate=0, headline="")

    def update(self, step: int, rate: float, headline: str) -> None:
        """Redraw."""
        self._progress.update(self._task, completed=step, rate=rate, headline=headline)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()


def make_display(total: int, done: int) -> PlainDisplay | RichDisplay:
    """Choose the display that fits standard output."""
    return RichDisplay(total, done) if sys.stdout.isatty() else PlainDisplay(total)


HANDLED = (signal.SIGINT, signal.SIGTERM)
"""The signals by which a user or a system asks a program to end."""
UNREAD = 13
"""Number of SIGPIPE, of which Windows has no name: nobody reads the output any more."""


@contextmanager
def stop_on_signal(
    stop: Callable[[int], None], amid_import: Callable[[int], None] | None = None
) -> Iterator[None]:
    """Call ``stop(number)`` at the first SIGINT or SIGTERM; a second one ends the process at once.

    Outside the main thread, where Python has no signal handlers, nothing changes.

    Args:
        stop: called between two steps of the main thread; it may raise.
        amid_import: called instead where the signal came in the middle of an import, if given. To
            raise there is to crash: modules in C take it badly, and the module's lock stays held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in HANDLED}

    def handle(number: int, frame: FrameType | None) -> None:
        for handled in HANDLED:
            signal.signal(handled, signal.SIG_DFL)
        if amid_import is not None and _is_of_an_import(frame):
            amid_import(number)
        else:
            stop(number)

    for number in HANDLED:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


PATIENCE = 1.0
"""Seconds after a signal without an end that deserve a word."""


@contextmanager
def answering_signals(text: str) -> Iterator[None]:
    """Say that a signal was heard, where what it asks to end goes on for longer than ``PATIENCE``.

    Python calls the handlers of signals between two steps of the main thread, which may wait inside
    XLA for minutes. But it writes the number of each into a socket at once, where a thread reads
    it. Where a second one comes before the first was handled, the process ends here.

    Args:
        text: what is going to happen.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    over = threading.Event()
    thread = threading.Thread(target=_answer, args=(reader, over, text), daemon=True)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        over.set()
        writer.close()
        thread.join()
        reader.close()


def _answer(reader: socket.socket, over: threading.Event, text: str) -> None:
    """Read the numbers of signals, until the other end is closed."""
    heard = 0
    while number := reader.recv(1):
        if number[0] not in HANDLED:
            continue
        heard += 1
        if heard > 1:
            os._exit(128 + number[0])
        if not over.wait(PATIENCE):
            with suppress(OSError):  # the signal may have ended the reader, too
                say(f"{signal.Signals(number[0]).name}: {text}; a second signal ends it at once")


def _is_of_an_import(frame: FrameType | None) -> bool:
    """Whether a frame, which every handler of a signal is given, was called by an import."""
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None


def pass_on(number: int) -> None:
    """Raise what a signal means to the caller: KeyboardInterrupt or SystemExit(143); for 0 none."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise SystemExit(128 + number)
