"""Spaces as JSON: for run folders, exported policies, and between workers and their parent.

    {"type": "Box", "shape": [2], "dtype": "float32", "low": "-inf", "high": [0.5, 1.0]}
    {"type": "Discrete", "n": 3, "start": 0}
    {"type": "MultiDiscrete", "nvec": [2, 3], "start": [0, 0], "dtype": "int64"}
    {"type": "MultiBinary", "shape": 4}
    {"type": "Dict", "spaces": {"a": ...}}
    {"type": "Tuple", "spaces": [...]}

A Discrete of another dtype than int64 names it; a Dict whose keys are not all texts has ``pairs``
of key and space in place of ``spaces``. Equal spaces have equal descriptions. Whoever reads them
runs nothing: a description is numbers and names of kinds. Imports no JAX.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from kitae_envs.spaces import fold_space, nested

from kitae_marl.data.space_kinds import KINDS, kind_of
from kitae_marl.data.spaces import unknown_kind
from kitae_marl.errors import ConfigError

MAX_NUMBERS = 10**8
"""The most that an observation or an action may hold; a large picture has a hundredth of it."""


def space_to_json(space: gym.Space[Any], what: str = "a space") -> dict[str, Any]:
    """Describe a space by plain dicts, lists, strings and numbers.

    Args:
        space: the space.
        what: whose it is, for the message: ``"an observation space of agent 'a_0'"``.

    Raises:
        TypeError: for a space of another kind than Box, Discrete, MultiDiscrete, MultiBinary, Dict
            and Tuple, or a Dict whose keys are neither texts nor whole numbers.

    Example:
        >>> space_to_json(gym.spaces.Discrete(3))
        {'type': 'Discrete', 'n': 3, 'start': 0}
        >>> space_to_json(gym.spaces.Box(0, float("inf"), (2,)))
        {'type': 'Box', 'shape': [2], 'dtype': 'float32', 'low': 0.0, 'high': 'inf'}
    """

    def array_to_json(part: gym.Space[Any]) -> dict[str, Any]:
        kind = kind_of(part)
        if kind is None:
            raise unknown_kind(space, what)
        return {"type": kind, **KINDS[kind].to_json(part)}

    return fold_space(array_to_json, _nested_to_json, space)


def space_from_json(data: dict[str, Any], max_numbers: int | None = MAX_NUMBERS) -> gym.Space[Any]:
    """Rebuild the space that ``space_to_json`` described.

    Args:
        data: the description.
        max_numbers: the most numbers that an array, and the most choices that a number may have,
            so that a file makes no arrays that no game has; None where a game has made them.

    Raises:
        ConfigError: if the description is not one that ``space_to_json`` writes.

    Example:
        >>> space_from_json({"type": "Discrete", "n": 3, "start": 0})
        Discrete(3)
    """
    try:
        return _from_json(data, math.inf if max_numbers is None else max_numbers)
    except RecursionError:
        raise ConfigError(
            "expected the description of a space, got one nested without end."
        ) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"expected the description of a space, got {str(data)[:200]}: {str(error)[:200]}."
        ) from None


def _nested_to_json(space: gym.Space[Any], described: dict[Any, Any]) -> dict[str, Any]:
    """Describe a Dict or Tuple by its parts."""
    parts = nested(space, described)
    if isinstance(parts, tuple):
        return {"type": "Tuple", "spaces": list(parts)}
    if not all(isinstance(key, str | int) for key in parts):
        raise TypeError(
            f"expected a Dict space whose keys are texts or whole numbers, got {list(parts)}; "
            "name its parts so."
        )
    if all(isinstance(key, str) for key in parts):
        return {"type": "Dict", "spaces": parts}
    return {"type": "Dict", "pairs": [[key, part] for key, part in parts.items()]}


def _from_json(data: dict[str, Any], max_numbers: float) -> gym.Space[Any]:
    """Rebuild one space; any malformed part raises."""
    name = data["type"]
    if name == "Tuple":
        return gym.spaces.Tuple([_from_json(part, max_numbers) for part in data["spaces"]])
    if name == "Dict":
        pairs = data["pairs"] if "pairs" in data else data["spaces"].items()
        # as pairs, because Dict sorts the keys of a dict
        return gym.spaces.Dict([(key, _from_json(part, max_numbers)) for key, part in pairs])
    if name not in KINDS:
        raise ValueError(f"unknown kind {name!r}")
    for field, count in (("shape", math.prod), ("n", sum), ("nvec", sum)):
        if field in data and count(np.ravel(data[field]).tolist()) > max_numbers:
            raise ValueError(f"expected at most {max_numbers} numbers in all, got {data[field]}")
    return KINDS[name].from_json(data)
