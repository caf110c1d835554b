"""Spaces as plain data, and as the arrays that hold their values.

A worker tells the parent which agents and spaces its environments have. Answers of workers are
never unpickled, so spaces travel as JSON: numbers, names and, for bounds that vary, base64 bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


@dataclass(frozen=True)
class Leaf:
    """One array inside an observation: where it lies, and what it may hold.

    Attributes:
        path: keys that lead to it, ``()`` where the observation is the array itself.
        shape: shape of one agent's value.
        dtype: its dtype.
        low: smallest allowed values, broadcastable to ``shape``.
        high: largest allowed values, broadcastable to ``shape``.
    """

    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    low: Any
    high: Any

    @property
    def name(self) -> str:
        """The path as text, for messages."""
        return "".join(f"[{key!r}]" for key in self.path)


def leaves(space: gym.Space, path: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Yield the arrays of a space, in the order of ``kitae_marl.data.stacking.map_leaves``.

    Raises:
        TypeError: if the space has no fixed-size arrays (``Text``, ``Graph``, ``Sequence``, ...).
    """
    match space:
        case spaces.Dict():
            for key, sub in space.spaces.items():
                yield from leaves(sub, (*path, key))
        case spaces.Tuple():
            for i, sub in enumerate(space.spaces):
                yield from leaves(sub, (*path, i))
        case spaces.Box():
            yield Leaf(path, space.shape, np.dtype(space.dtype), space.low, space.high)
        case spaces.Discrete():
            first, last = int(space.start), int(space.start + space.n - 1)
            yield Leaf(path, (), np.dtype(space.dtype), first, last)
        case spaces.MultiDiscrete():
            last = space.start + space.nvec - 1
            yield Leaf(path, space.shape, np.dtype(space.dtype), space.start, last)
        case spaces.MultiBinary():
            yield Leaf(path, space.shape, np.dtype(space.dtype), 0, 1)
        case _:
            raise TypeError(
                "expected a space of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple, "
                f"got {type(space).__name__}; wrap the environment so that it observes arrays of "
                "a fixed size."
            )


def tree(space: gym.Space, arrays: Iterator[Any]) -> Any:
    """Nest one value per leaf the way the space nests them; consumes ``arrays``."""
    if isinstance(space, spaces.Dict):
        return {key: tree(sub, arrays) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(tree(sub, arrays) for sub in space.spaces)
    return next(arrays)


def describe(env: Any) -> str:
    """Describe a parallel environment as canonical JSON: equal texts mean equal agents and spaces.

    Raises:
        TypeError: if a space is none of those that :func:`leaves` and :func:`action_leaf` know.
    """
    agents = [str(agent) for agent in env.possible_agents]
    known: dict[tuple[int, int], int] = {}
    table: list[Any] = []
    numbers = []
    keep = []  # spaces made on the fly must live, or ids would repeat
    for agent in agents:
        pair = (env.observation_space(agent), env.action_space(agent))
        keep.append(pair)
        key = (id(pair[0]), id(pair[1]))
        if key not in known:
            list(leaves(pair[0]))
            action_leaf(pair[1])
            encoded = [_encode(pair[0]), _encode(pair[1])]
            known[key] = table.index(encoded) if encoded in table else len(table)
            if known[key] == len(table):
                table.append(encoded)
        numbers.append(known[key])
    state = getattr(env, "state_space", None)
    return json.dumps(
        {
            "agents": agents,
            "spaces": table,
            "of": numbers,
            "state": _encode(state) if isinstance(state, spaces.Box) else None,
        }
    )


@dataclass(frozen=True)
class Description:
    """Agents and spaces of an environment, decoded from :func:`describe`."""

    agents: tuple[str, ...]
    observation_spaces: dict[str, gym.Space]
    action_spaces: dict[str, gym.Space]
    state_space: gym.Space | None


def decode(description: str) -> Description:
    """Turn the text of :func:`describe` back into spaces; agents with equal spaces share them."""
    data = json.loads(description)
    table = [(_decode(observation), _decode(action)) for observation, action in data["spaces"]]
    pairs = dict(zip(data["agents"], (table[i] for i in data["of"]), strict=True))
    return Description(
        agents=tuple(data["agents"]),
        observation_spaces={agent: pair[0] for agent, pair in pairs.items()},
        action_spaces={agent: pair[1] for agent, pair in pairs.items()},
        state_space=None if data["state"] is None else _decode(data["state"]),
    )


def action_leaf(space: gym.Space) -> Leaf:
    """Return the array that holds one agent's action.

    Raises:
        TypeError: if the action space is nested or of an unknown kind.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise TypeError(
            "expected an action space of Box, Discrete, MultiDiscrete or MultiBinary, got "
            f"{type(space).__name__}; flatten it with a wrapper."
        )
    return next(leaves(space))


def _encode(space: gym.Space) -> Any:
    """Encode one space; canonical, so that equal spaces give equal values."""
    match space:
        case spaces.Dict():
            return ["Dict", [[key, _encode(sub)] for key, sub in space.spaces.items()]]
        case spaces.Tuple():
            return ["Tuple", [_encode(sub) for sub in space.spaces]]
        case spaces.Box():
            bounds = [_encode_array(space.low), _encode_array(space.high)]
            return ["Box", list(space.shape), np.dtype(space.dtype).str, *bounds]
        case spaces.Discrete():
            return ["Discrete", int(space.n), int(space.start), np.dtype(space.dtype).str]
        case spaces.MultiDiscrete():
            nvec, start = space.nvec.tolist(), space.start.tolist()
            return ["MultiDiscrete", nvec, start, np.dtype(space.dtype).str]
        case spaces.MultiBinary():
            return ["MultiBinary", list(space.shape)]
        case _:
            raise TypeError(f"cannot describe a {type(space).__name__} space.")


def _decode(data: Any) -> gym.Space:
    """Decode one space."""
    match data:
        case ["Dict", items]:
            return spaces.Dict({key: _decode(sub) for key, sub in items})
        case ["Tuple", items]:
            return spaces.Tuple([_decode(sub) for sub in items])
        case ["Box", shape, dtype, low, high]:
            kind = np.dtype(dtype)
            bounds = (_decode_array(low, shape, kind), _decode_array(high, shape, kind))
            return spaces.Box(*bounds, tuple(shape), kind.type)
        case ["Discrete", n, start, dtype]:
            return spaces.Discrete(n, start=start, dtype=np.dtype(dtype).type)
        case ["MultiDiscrete", nvec, start, dtype]:
            kind = np.dtype(dtype).type
            return spaces.MultiDiscrete(np.array(nvec), dtype=kind, start=np.array(start))
        case ["MultiBinary", shape]:
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case _:
            raise ValueError(f"expected an encoded space, got {str(data)[:80]!r}.")


def _encode_array(array: np.ndarray) -> Any:
    """One number where all are equal, else base64 of the bytes."""
    if array.size and (array == array.flat[0]).all():
        return array.flat[0].item()
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _decode_array(data: Any, shape: list[int], dtype: np.dtype) -> np.ndarray:
    """Invert :func:`_encode_array`."""
    if isinstance(data, str):
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
    return np.full(shape, data, dtype)
