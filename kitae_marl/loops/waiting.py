"""Long calls in a thread of their own, so that the main one hears signals meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
THREAD = "kitae_marl long call"
LOOK_SECONDS = 0.1
"""How often a waiting thread looks whether it is to go on waiting."""


class GivenUpError(Exception):
    """What was called goes on, and nobody waits for it any more."""


def call_and_wait(
    function: Callable[[], Result],
    stopping: Callable[[], bool] = lambda: False,
    patience: float = 0.0,
) -> Result:
    """Call a function that Python's signal handlers could not interrupt, and return its result.

    Python runs them between two steps of the main thread only; inside a program of XLA there are
    none.

    Args:
        function: what to call, in a thread of its own.
        stopping: whether the caller is to end; asked meanwhile.
        patience: seconds that the call still has from then on.

    Raises:
        GivenUpError: if the call did not end in time; its thread goes on until it does.
    """
    done: list[Result] = []
    failed: list[BaseException] = []

    def call() -> None:
        try:
            done.append(function())
        except BaseException as error:  # whatever it is, it is raised in the thread that waits
            failed.append(error)

    thread = threading.Thread(target=call, name=THREAD)
    thread.start()
    deadline = None
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if deadline is None and stopping():
            deadline = time.perf_counter() + patience
        if deadline is not None and thread.is_alive() and time.perf_counter() >= deadline:
            raise GivenUpError
    if failed:
        raise failed[0]
    return done[0]


def is_busy() -> bool:
    """Whether a call that was given up still goes on; the process would wait for it at its end."""
    return any(thread.name == THREAD for thread in threading.enumerate())
