"""Groups of agents and their spaces as JSON, so that a run can be loaded without its game."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np

from kitae_marl.errors import ConfigError

MAX_NUMBERS = 10**8
"""The most that an observation or an action may hold; a large picture has a hundredth of it."""


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """Describe a space by plain dicts, lists, strings and numbers.

    Raises:
        TypeError: for a space other than Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple.

    Example:
        >>> space_to_json(gym.spaces.Discrete(3))
        {'type': 'Discrete', 'n': 3, 'start': 0}
    """
    spaces = gym.spaces
    if isinstance(space, spaces.Box):
        return {
            "type": "Box",
            "shape": list(space.shape),
            "dtype": str(space.dtype),
            "low": _bound(space.low),
            "high": _bound(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "type": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": np.broadcast_to(space.start, space.nvec.shape).tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        n = space.n
        return {"type": "MultiBinary", "shape": n if isinstance(n, int) else list(space.shape)}
    if isinstance(space, spaces.Dict):
        parts = {key: space_to_json(part) for key, part in space.spaces.items()}
        return {"type": "Dict", "spaces": parts}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
    raise TypeError(
        "expected a Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple space, got "
        f"{space}; wrap the environment so that it has one of these."
    )


def space_from_json(data: dict[str, Any]) -> gym.Space:
    """Rebuild the space that ``space_to_json`` described.

    Raises:
        ConfigError: if the description is not one that ``space_to_json`` writes.
    """
    try:
        return _from_json(data)
    except (AttributeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"expected the description of a space, got {data!r}: {error}.") from None


def _from_json(data: dict[str, Any]) -> gym.Space:
    """Rebuild one space; any malformed part raises."""
    spaces, kind = gym.spaces, data["type"]
    if kind in ("Box", "Discrete", "MultiBinary"):
        _require_small(np.atleast_1d(data["n" if kind == "Discrete" else "shape"]).tolist())
    if kind == "Box":
        shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
        low, high = (np.broadcast_to(_numbers(data[k], dtype), shape) for k in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(data["n"], start=data["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(
            np.asarray(data["nvec"]), dtype=np.dtype(data["dtype"]).type, start=data["start"]
        )
    if kind == "MultiBinary":
        return spaces.MultiBinary(data["shape"])
    if kind == "Dict":
        return spaces.Dict({key: _from_json(part) for key, part in data["spaces"].items()})
    if kind == "Tuple":
        return spaces.Tuple([_from_json(part) for part in data["spaces"]])
    raise ValueError(f"unknown kind {kind!r}")


def _require_small(shape: list[int]) -> None:
    """Raise where a file would have arrays made that no game has."""
    if math.prod(shape) > MAX_NUMBERS:
        raise ValueError(f"expected at most {MAX_NUMBERS} numbers, got {shape}")


def _bound(bound: np.ndarray) -> Any:
    """One number where all are equal, else nested lists; infinities as strings."""
    if bound.size and (bound == bound.flat[0]).all():
        return _plain(bound.flat[0].item())
    return _nested(bound.tolist())


def _nested(values: Any) -> Any:
    """Apply ``_plain`` in nested lists."""
    return [_nested(v) for v in values] if isinstance(values, list) else _plain(values)


def _plain(value: float) -> float | str:
    """JSON has no infinity."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _numbers(bound: Any, dtype: np.dtype) -> np.ndarray:
    """Read ``_bound`` back."""
    values = np.asarray(bound)
    return values.astype(np.float64 if values.dtype.kind == "U" else values.dtype).astype(dtype)
