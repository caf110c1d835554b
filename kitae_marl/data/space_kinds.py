"""Every kind of space that is one array: what the array may hold, and how JSON keeps the space.

A further kind is an entry of ``KINDS``: leaves, zeros, shared memory, what networks see, texts and
run folders follow from it. Kinds that are nested, Dict and Tuple, are those of
``kitae_envs.spaces``. Imports no JAX.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

MANY = 1000
"""From so many unequal bounds on they are written as bytes: nobody reads them as numbers."""


class Range(NamedTuple):
    """What the numbers of one array may be.

    Attributes:
        low: smallest values, broadcastable to the array.
        high: largest values, likewise.
        choices: of numbers that only tell choices apart, how many there are of each, counted from
            ``low``; else None.
        binary: whether the numbers are 0 and 1 for no and yes.
    """

    low: Any
    high: Any
    choices: Any = None
    binary: bool = False


class Kind(NamedTuple):
    """One kind of space that is one array.

    Attributes:
        space: its class in Gymnasium.
        range_of: ``space -> Range``.
        to_json: ``space -> dict`` of plain values, without the name of the kind.
        from_json: that dict -> space; anything else raises. Of how many numbers an array has, or
            how many choices there are, it speaks under ``shape``, ``n`` or ``nvec``.
    """

    space: type[gym.Space[Any]]
    range_of: Callable[[Any], Range]
    to_json: Callable[[Any], dict[str, Any]]
    from_json: Callable[[dict[str, Any]], gym.Space[Any]]


def kind_of(space: gym.Space[Any]) -> str | None:
    """Return the name in ``KINDS`` of a space's kind, None of a nested or an unknown one.

    Example:
        >>> kind_of(gym.spaces.Discrete(2)), kind_of(gym.spaces.Text(2))
        ('Discrete', None)
    """
    return next((name for name, kind in KINDS.items() if isinstance(space, kind.space)), None)


@cache
def _dtype_to_json(dtype: np.dtype) -> str:
    """The name of a dtype, which NumPy puts together slowly."""
    return str(dtype)


def _box_to_json(space: spaces.Box) -> dict[str, Any]:
    return {
        "shape": list(space.shape),
        "dtype": _dtype_to_json(space.dtype),
        "low": _bound_to_json(space.low),
        "high": _bound_to_json(space.high),
    }


def _box_from_json(data: dict[str, Any]) -> spaces.Box:
    shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
    low, high = (_bound_from_json(data[name], shape, dtype) for name in ("low", "high"))
    return spaces.Box(low, high, shape, dtype.type)


def _bound_to_json(bound: np.ndarray) -> Any:
    """One number where all are equal, else nested lists, or bytes of very many."""
    if not bound.size:
        return 0
    first = bound.flat[0]
    if (bound == first).all():
        return _plain(first.item())
    if bound.size > MANY:
        little = np.ascontiguousarray(bound, bound.dtype.newbyteorder("<"))
        return {"base64": base64.b64encode(little.tobytes()).decode()}
    return bound.tolist() if np.isfinite(bound).all() else _plain(bound.tolist())


def _plain(values: Any) -> Any:
    """Write infinities, which JSON does not have, as text."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return str(values) if isinstance(values, float) and not math.isfinite(values) else values


def _bound_from_json(data: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Read ``_bound_to_json`` back."""
    if isinstance(data, dict):
        written = base64.b64decode(data["base64"], validate=True)
        values = np.frombuffer(written, dtype.newbyteorder("<")).reshape(shape)
    elif dtype.kind in "iu":  # at once, or large ones would be rounded and others wrapped around
        values = np.asarray(data, dtype)
    else:
        values = np.asarray(data)
        values = values.astype(np.float64 if values.dtype.kind == "U" else values.dtype)
    return np.broadcast_to(values, shape).astype(dtype)


def _discrete_to_json(space: spaces.Discrete) -> dict[str, Any]:
    data = {"n": int(space.n), "start": int(space.start)}
    return data if space.dtype == np.int64 else data | {"dtype": _dtype_to_json(space.dtype)}


def _discrete_from_json(data: dict[str, Any]) -> spaces.Discrete:
    dtype = np.dtype(data.get("dtype", np.int64)).type
    return spaces.Discrete(data["n"], start=data["start"], dtype=dtype)


def _multi_discrete_to_json(space: spaces.MultiDiscrete) -> dict[str, Any]:
    return {
        "nvec": space.nvec.tolist(),
        "start": np.broadcast_to(space.start, space.nvec.shape).tolist(),
        "dtype": _dtype_to_json(space.dtype),
    }


def _multi_discrete_from_json(data: dict[str, Any]) -> spaces.MultiDiscrete:
    dtype = np.dtype(data["dtype"]).type
    return spaces.MultiDiscrete(np.asarray(data["nvec"]), dtype=dtype, start=data["start"])


def _multi_binary_to_json(space: spaces.MultiBinary) -> dict[str, Any]:
    return {"shape": space.n if isinstance(space.n, int) else list(space.shape)}


KINDS: dict[str, Kind] = {
    "Box": Kind(
        spaces.Box, lambda space: Range(space.low, space.high), _box_to_json, _box_from_json
    ),
    "Discrete": Kind(
        spaces.Discrete,
        lambda space: Range(
            int(space.start), int(space.start) + int(space.n) - 1, np.int64(space.n)
        ),
        _discrete_to_json,
        _discrete_from_json,
    ),
    "MultiDiscrete": Kind(
        spaces.MultiDiscrete,
        lambda space: Range(space.start, space.start + space.nvec - 1, space.nvec),
        _multi_discrete_to_json,
        _multi_discrete_from_json,
    ),
    "MultiBinary": Kind(
        spaces.MultiBinary,
        lambda space: Range(0, 1, binary=True),
        _multi_binary_to_json,
        lambda data: spaces.MultiBinary(data["shape"]),
    ),
}
"""The kinds by their name in JSON; the order does not matter, no class is a subclass of another."""
