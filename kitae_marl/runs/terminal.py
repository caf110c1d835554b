"""What a person reads on the terminal: lines, warnings, and the progress of a training."""

from __future__ import annotations

import math
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What terminals take for the colour of the text that follows."""


def printable(text: str) -> str:
    r"""Leave out colours and escape other control characters: no text shall steer the terminal.

    Example:
        >>> print(printable("\x1b[33mhot\x1b[0m \x07"))
        hot \x07
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in COLOUR.sub("", text)
    )


def counted(number: int, word: str) -> str:
    """Return a number of things in words.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"


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

    def update(self, step: int, rate: float, means: dict[str, float]) -> None:
        """Print a line unless the last one is less than a second old."""
        now = time.monotonic()
        if now - self._last < 1.0 and step < self._total:
            return
        self._last = now
        headline = means.get("return/mean")
        shown = "" if headline is None else f"  return/mean {headline:.2f}"
        print(f"step {step}/{self._total}  {rate:.0f} env steps/s{shown}", flush=True)

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

    def update(self, step: int, rate: float, means: dict[str, float]) -> None:
        """Redraw."""
        headline = means.get("return/mean")
        text = "" if headline is None else f"return/mean {headline:.2f}"
        self._progress.update(self._task, completed=step, rate=rate, headline=text)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()


def make_display(total: int, done: int) -> PlainDisplay | RichDisplay:
    """Choose the display that fits standard output."""
    return RichDisplay(total, done) if sys.stdout.isatty() else PlainDisplay(total)
