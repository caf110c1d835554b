"""Ctrl-C and SIGTERM as a request to end between two steps, so that a run can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal(stop: Callable[[int], None]) -> Iterator[None]:
    """Call ``stop(number)`` at the first SIGINT or SIGTERM; a second one ends the process at once.

    Outside the main thread, where Python has no signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in HANDLED}

    def handle(number: int, frame: Any) -> None:
        del frame
        for handled in HANDLED:
            signal.signal(handled, signal.SIG_DFL)
        stop(number)

    for number in HANDLED:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pass_on(number: int) -> None:
    """Raise what a signal means to the caller: KeyboardInterrupt or SystemExit(143); for 0 none."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise SystemExit(128 + number)
