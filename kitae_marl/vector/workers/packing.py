"""This file packs what a user gave, so that a worker can unpack it: functions, classes, options.

``cloudpickle`` sends functions and classes that only the running program has (of a script, a
notebook, standard input, another function) by value. It leaves to ``pickle`` what ``functools``
wraps around them, and that sends a name which no worker can look up. PettingZoo's own tutorial
writes ``@functools.lru_cache`` over the methods that return spaces, so these go by value, too.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from kitae_marl.errors import printable

_LruCache = type(functools.lru_cache(int))


class Packer(cloudpickle.Pickler):
    """A pickler of functions and classes by value that knows the wrappers of ``functools``."""

    def reducer_override(self, obj: Any) -> Any:
        """Say how to rebuild a wrapper; ``NotImplemented`` leaves an object to the usual way."""
        if isinstance(obj, _LruCache) and not _can_be_looked_up(obj):
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, functools.cached_property):  # up to Python 3.11 it holds a lock
            return _cached_property, (obj.func, obj.attrname)
        return super().reducer_override(obj)


def dumps(value: Any) -> bytes:
    """Pickle a value; ``pickle.loads`` reads it where this package can be imported.

    Example:
        >>> import pickle
        >>> pickle.loads(dumps(functools.lru_cache(lambda: 3)))()
        3
    """
    with io.BytesIO() as file:
        Packer(file).dump(value)
        return file.getvalue()


def pack(env_fns: Sequence[Any], first: int) -> bytes:
    """Pickle the makers of one worker's environments together: what they share stays shared.

    Args:
        env_fns: the makers, functions without arguments.
        first: index of the first environment.

    Raises:
        TypeError: if one cannot be pickled.
    """
    try:
        return dumps(list(env_fns))
    except Exception as error:
        raise TypeError(
            f"env {_first_to_fail(env_fns, first)}: expected a function that can be sent to a "
            f"worker, got one that cannot be pickled ({type(error).__name__}: "
            f"{printable(str(error))}); make inside the function what it now holds or takes from "
            "global variables, such as locks, open files and connections."
        ) from error


def _first_to_fail(env_fns: Sequence[Any], first: int) -> int:
    """Return the index of the first environment whose maker cannot be pickled by itself."""
    for i, env_fn in enumerate(env_fns):
        try:
            dumps(env_fn)
        except Exception:
            return first + i
    return first


def _can_be_looked_up(wrapper: Any) -> bool:
    """Whether a worker finds a wrapper by its name in a module that it can import."""
    module = wrapper.__module__
    by_value = ("__main__", *cloudpickle.list_registry_pickle_by_value())
    if any(f"{module}.".startswith(f"{name}.") for name in by_value):
        return False
    found: Any = sys.modules.get(module)
    for name in wrapper.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is wrapper


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Put an empty cache around a function, in the worker."""
    return functools.lru_cache(**parameters)(function)


def _cached_property(function: Callable[..., Any], name: str | None) -> Any:
    """Make a property that keeps its value, in the worker."""
    made = functools.cached_property(function)
    if name is not None:
        made.__set_name__(object, name)
    return made
