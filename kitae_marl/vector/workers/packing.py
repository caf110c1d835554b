"""Makers of environments on their way into workers: pickled once, when the vector is made.

By value where their module cannot be imported elsewhere (scripts, notebooks), else by name. A
worker that is started again gets the same bytes: what the user's program has changed since then,
a global variable or a class that a notebook's cell defined anew, does not reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from kitae_marl.runs.terminal import printable


def pack(env_fns: Sequence[Callable[[], Any]], first: int) -> bytes:
    """Pickle the makers of one worker's environments together: what they share stays shared.

    Args:
        env_fns: the makers.
        first: index of the first environment.

    Raises:
        TypeError: if one cannot be pickled.
    """
    try:
        return cloudpickle.dumps(list(env_fns))
    except Exception as error:
        raise TypeError(
            f"env {_first_to_fail(env_fns, first)}: expected a function that can be sent to a "
            f"worker, got one that cannot be pickled ({type(error).__name__}: "
            f"{printable(str(error))}); make inside the function what it now holds or takes from "
            "global variables, such as locks, open files and connections."
        ) from error


def _first_to_fail(env_fns: Sequence[Callable[[], Any]], first: int) -> int:
    """Return the index of the first environment whose maker cannot be pickled by itself."""
    for i, env_fn in enumerate(env_fns):
        try:
            cloudpickle.dumps(env_fn)
        except Exception:
            return first + i
    return first
