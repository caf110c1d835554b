"""Every walk over a space: its leaves, its zeros, what networks see of it. Imports no JAX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from kitae_marl.data.stacking import without_mask


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


def is_image(space: gym.Space) -> bool:
    """Whether a space holds images: uint8, height x width x channels.

    Example:
        >>> is_image(gym.spaces.Box(0, 255, (84, 84, 3), np.uint8))
        True
    """
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8


def feature_space(space: gym.Space) -> gym.Space:
    """Return the part of an observation space that networks see: without the action mask.

    Example:
        >>> box, mask = gym.spaces.Box(0, 1, (3,)), gym.spaces.MultiBinary(2)
        >>> feature_space(gym.spaces.Dict(observation=box, action_mask=mask)) == box
        True
    """
    if not isinstance(space, gym.spaces.Dict):
        return space
    seen = without_mask(dict(space.spaces))
    return gym.spaces.Dict(seen) if isinstance(seen, dict) else seen


def zeros(space: gym.Space, *lead: int) -> Any:
    """Return a zero observation of a space behind leading axes ``lead``; NumPy arrays.

    Example:
        >>> zeros(gym.spaces.Discrete(3), 2, 1).shape
        (2, 1)
    """
    if isinstance(space, gym.spaces.Dict):
        return {key: zeros(part, *lead) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(zeros(part, *lead) for part in space.spaces)
    if isinstance(space, Stacked):
        return zeros(space.space, *lead, space.n)
    return np.zeros((*lead, *(space.shape or ())), space.dtype)


def lead_shape(space: gym.Space, observation: Any) -> tuple[int, ...]:
    """Return the axes that an observation has before those of its space.

    Example:
        >>> lead_shape(gym.spaces.Tuple([gym.spaces.Box(0, 1, (3,))]), (np.zeros((4, 2, 3)),))
        (4, 2)
    """
    if isinstance(space, gym.spaces.Dict):
        key = next(iter(space.spaces))
        return lead_shape(space.spaces[key], observation[key])
    if isinstance(space, gym.spaces.Tuple):
        return lead_shape(space.spaces[0], observation[0])
    return observation.shape[: observation.ndim - len(space.shape or ())]


class Stacked(gym.Space):
    """``n`` observations of one space, side by side: what a group of agents sees together."""

    def __init__(self, space: gym.Space, n: int) -> None:
        super().__init__()
        self.space, self.n = space, n


def flat_leaves(space: gym.Space[Any], value: Any) -> list[Any]:
    """The arrays of an observation, in the order of its space (its dicts may have another)."""
    if isinstance(space, gym.spaces.Dict):
        return [leaf for key, sub in space.items() for leaf in flat_leaves(sub, value[key])]
    if isinstance(space, gym.spaces.Tuple):
        parts = zip(space.spaces, value, strict=True)
        return [leaf for sub, part in parts for leaf in flat_leaves(sub, part)]
    return [value]


def space_text(space: spaces.Space[Any]) -> str:
    """Write a space shortly: ``Box(18)``, ``Box(84, 84, 3) uint8``, ``Discrete(5)``.

    Example:
        >>> space_text(spaces.Dict(board=spaces.MultiBinary([3, 3]), turn=spaces.Discrete(2)))
        'board: MultiBinary(3, 3), turn: Discrete(2)'
    """
    match space:
        case spaces.Dict():
            parts = {key: sub for key, sub in space.items() if key != "action_mask"}
            if list(parts) == ["observation"]:
                return space_text(parts["observation"])
            return ", ".join(f"{key}: {space_text(sub)}" for key, sub in parts.items())
        case spaces.Tuple():
            return f"({', '.join(map(space_text, space.spaces))})"
        case spaces.Box():
            dtype = "" if str(space.dtype) == "float32" else f" {space.dtype}"
            return f"Box({', '.join(map(str, space.shape))}){dtype}"
        case spaces.Discrete():
            return f"Discrete({space.n})"
        case spaces.MultiBinary():
            return f"MultiBinary({', '.join(map(str, space.shape))})"
        case spaces.MultiDiscrete():
            return f"MultiDiscrete({', '.join(map(str, space.nvec.ravel()))})"
        case _:
            return type(space).__name__
