"""Long calls in a thread of their own, so that the main one hears signals meanwhile.

This module imports no JAX: the command line asks it at the end whether a call still goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")
GIVEN_UP = "kitae_marl call that was given up"
"""Name of the thread of such a call."""
LOOK_SECONDS = 0.1
"""How often a waiting thread looks whether it is to go on waiting."""


class GivenUpError(Exception):
    """What was called goes on, and nobody waits for it any more."""


class LongCall(Generic[Result]):
    """A call that Python's signal handlers could not interrupt, at work in a thread of its own.

    Python runs them between two steps of the main thread only; inside XLA there are none.

    Args:
        function: what to call; that begins at once.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._done: list[Result] = []
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def _call(self) -> None:
        try:
            self._done.append(self._function())
        except BaseException as error:  # whatever it is, it is raised in the thread that waits
            self._failed.append(error)

    def wait(self, stopping: Callable[[], bool] = lambda: False, patience: float = 0.0) -> Result:
        """Return the result, once it is there.

        Args:
            stopping: whether the caller is to end; asked meanwhile.
            patience: seconds that the call still has from then on.

        Raises:
            GivenUpError: if the call did not end in time; its thread goes on until it does.
        """
        deadline = None
        while self._thread.is_alive():
            self._thread.join(LOOK_SECONDS)
            if deadline is None and stopping():
                deadline = time.perf_counter() + patience
            over = deadline is not None and time.perf_counter() >= deadline
            if over and self._thread.is_alive():
                self._thread.name = GIVEN_UP
                raise GivenUpError
        if self._failed:
            raise self._failed[0]
        return self._done[0]


def is_busy() -> bool:
    """Whether a call that was given up still goes on; the process would wait for it at its end.

    The name of its thread is the flag: it is set where the call is given up, and gone with it.
    """
    return any(thread.name == GIVEN_UP for thread in threading.enumerate())
