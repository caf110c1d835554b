"""What follows from a space: its arrays, its zeros, its text, what networks see of it.

All walk over it by ``kitae_envs.spaces`` and ask ``kitae_marl.data.space_kinds`` what an array
may hold. Imports no JAX.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from kitae_envs.spaces import flat_space, fold_space, map_space, nested, parts_of

from kitae_marl.data.space_kinds import KINDS, kind_of
from kitae_marl.data.stacking import without_mask

MAX_CHOICES = 1 << 16
"""The most outputs that the numbers of a Box of integers may need, where actions are drawn."""


@dataclass(frozen=True)
class Leaf:
    """One array inside an observation: where it lies, and what it may hold.

    Attributes:
        path: keys that lead to it, ``()`` where the observation is the array itself.
        shape: shape of one agent's value.
        dtype: its dtype.
        low: smallest allowed values, broadcastable to ``shape``.
        high: largest allowed values, broadcastable to ``shape``.
        choices: of numbers that only tell choices apart, how many each has, counted from
            ``low``; else None.
        binary: whether the numbers are 0 and 1 for no and yes.
        kind: name of the kind of space that holds it, ``"Box"``.
    """

    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    low: Any
    high: Any
    choices: Any
    binary: bool
    kind: str

    @property
    def name(self) -> str:
        """The path as text, for messages."""
        return _name(self.path)

    @property
    def is_amount(self) -> bool:
        """Whether its numbers are amounts, which networks may see in units of their deviation.

        Example:
            >>> leaves(gym.spaces.Box(0, 255, (2,), np.uint8))[0].is_amount  # bytes are not
            False
        """
        return self.choices is None and not self.binary and self.dtype != np.uint8

    @property
    def is_image(self) -> bool:
        """Whether it is a picture: uint8, height x width x channels.

        Example:
            >>> leaves(gym.spaces.Box(0, 255, (84, 84, 3), np.uint8))[0].is_image
            True
        """
        return self.choices is None and len(self.shape) == 3 and self.dtype == np.uint8

    def of(self, value: Any) -> Any:
        """Return this array of a value nested like the space.

        Raises:
            ValueError: if it is not there.

        Example:
            >>> leaf, _ = leaves(gym.spaces.Tuple([gym.spaces.Discrete(2)] * 2))
            >>> leaf.of(("a", "b"))
            'a'
        """
        found = value
        for key in self.path:
            try:
                found = found[key]
            except (LookupError, TypeError):
                raise ValueError(
                    f"expected an array at {self.name}, got {str(value)[:200]}; give what the "
                    "space says."
                ) from None
        return found


def _name(path: Iterable[str | int]) -> str:
    """Keys as text."""
    return "".join(f"[{key!r}]" for key in path)


def leaves(space: gym.Space[Any], what: str = "a space") -> list[Leaf]:
    """Return the arrays of a space, in its order.

    Args:
        space: where to look.
        what: whose space it is, for the message: ``"an observation space of agent 'a_0'"``.

    Raises:
        TypeError: if a part has no array of a fixed size (``Text``, ``Graph``, ``Sequence``, ...).

    Example:
        >>> space = gym.spaces.Dict(a=gym.spaces.Discrete(3, start=1), b=gym.spaces.MultiBinary(2))
        >>> [(leaf.name, leaf.shape, leaf.low, leaf.high) for leaf in leaves(space)]
        [("['a']", (), 1, 3), ("['b']", (2,), 0, 1)]
    """
    found = []
    for path, part in flat_space(space):
        kind = kind_of(part)
        if kind is None:
            raise unknown_kind(space, what)
        dtype = np.dtype(part.dtype)
        found.append(Leaf(path, part.shape or (), dtype, *KINDS[kind].range_of(part), kind))
    return found


def unknown_kind(space: gym.Space[Any], what: str) -> TypeError:
    """Say which part of a space is of no known kind; ``what`` as of ``leaves``."""
    path, part = next(pair for pair in flat_space(space) if kind_of(pair[1]) is None)
    place = f" at {_name(path)}" if path else ""
    return TypeError(
        f"expected {what} made of {', '.join(KINDS)}, Dict and Tuple, got "
        f"{str(part)[:200]}{place}; "
        "wrap the environment so that it has arrays of a fixed size there."
    )


def integer_choices(space: gym.spaces.Box) -> np.ndarray:
    """Return how many integers lie between the bounds of each number of a Box.

    Raises:
        TypeError: if they are too many to be told apart one by one.

    Example:
        >>> integer_choices(gym.spaces.Box(-1, 1, (2,), np.int8)).tolist()
        [3, 3]
    """
    sizes = space.high.astype(object) - space.low.astype(object) + 1
    limit = np.iinfo(np.int32)
    inside = bool((space.low >= limit.min).all() and (space.high <= limit.max).all())
    if not inside or int(sizes.sum()) > MAX_CHOICES:
        raise TypeError(
            f"expected integers with at most {MAX_CHOICES} values in all, within 32 bits, in an "
            f"action space, got {str(space)[:200]}; wrap the environment so that it takes fewer, "
            "or a Box of floats that it rounds."
        )
    return sizes.astype(np.int64)


def nest(space: gym.Space[Any], values: Iterable[Any]) -> Any:
    """Nest one value for each of ``leaves(space)`` the way the space nests them.

    Example:
        >>> nest(gym.spaces.Dict(a=gym.spaces.Discrete(2), b=gym.spaces.Discrete(2)), [1, 2])
        {'a': 1, 'b': 2}
    """
    rest = iter(values)
    return map_space(lambda _: next(rest), space)


def zeros(space: gym.Space[Any], *lead: int) -> Any:
    """Return a zero observation of a space behind leading axes ``lead``; NumPy arrays.

    Example:
        >>> zeros(gym.spaces.Discrete(3), 2, 1).shape
        (2, 1)
    """
    return map_space(lambda part: np.zeros((*lead, *(part.shape or ())), part.dtype), space)


def lead_shape(space: gym.Space[Any], observation: Any) -> tuple[int, ...]:
    """Return the axes that an observation has before those of its space.

    Example:
        >>> lead_shape(gym.spaces.Tuple([gym.spaces.Box(0, 1, (3,))]), (np.zeros((4, 2, 3)),))
        (4, 2)
    """
    leaf = leaves(space)[0]
    array = leaf.of(observation)
    return array.shape[: array.ndim - len(leaf.shape)]


def feature_space(space: gym.Space[Any]) -> gym.Space[Any]:
    """Return the part of an observation space that networks see: without the action mask.

    Example:
        >>> box, mask = gym.spaces.Box(0, 1, (3,)), gym.spaces.MultiBinary(2)
        >>> feature_space(gym.spaces.Dict(observation=box, action_mask=mask)) == box
        True
    """
    if not has_mask(space):
        return space
    seen = without_mask(parts_of(space))
    return gym.spaces.Dict(seen) if isinstance(seen, dict) else seen


def has_mask(space: gym.Space[Any]) -> bool:
    """Whether the observations of a space hold an action mask.

    Example:
        >>> has_mask(gym.spaces.Dict(action_mask=gym.spaces.MultiBinary(2)))
        True
    """
    return "action_mask" in (parts_of(space) or ())


def mask_width(space: gym.Space[Any]) -> int:
    """Return the length of the masks of an action space, 0 where its actions cannot be masked.

    A mask of a Dict or Tuple lies over the choices of all parts that have some, side by side.

    Raises:
        TypeError: as ``leaves``.

    Example:
        >>> mask_width(gym.spaces.Discrete(5)), mask_width(gym.spaces.MultiDiscrete([2, 3]))
        (5, 5)
        >>> mask_width(gym.spaces.Dict(aim=gym.spaces.Box(0, 1), fire=gym.spaces.Discrete(2)))
        2
        >>> mask_width(gym.spaces.Box(0, 1, (2,)))
        0
    """
    all_choices = [leaf.choices for leaf in leaves(space, "an action space")]
    return sum(int(np.sum(choices)) for choices in all_choices if choices is not None)


def space_text(space: gym.Space[Any]) -> str:
    """Write a space shortly, without its action mask: ``Box(84, 84, 3) uint8``, ``Discrete(5)``.

    Example:
        >>> board, turn = gym.spaces.MultiBinary([3, 3]), gym.spaces.Discrete(2)
        >>> space_text(gym.spaces.Dict(board=board, turn=turn, action_mask=turn))
        'board: MultiBinary(3, 3), turn: Discrete(2)'
    """
    return fold_space(_array_text, _nested_text, space)


def _array_text(space: gym.Space[Any]) -> str:
    """Write what is not nested: its choices or its shape; of another kind the name alone."""
    kind = kind_of(space)
    if kind is None:
        return type(space).__name__
    (leaf,) = leaves(space)
    numbers = leaf.shape if leaf.choices is None else leaf.choices.ravel()
    dtype = f" {leaf.dtype}" if kind == "Box" and leaf.dtype != np.float32 else ""
    return f"{kind}({', '.join(map(str, numbers))}){dtype}"


def _nested_text(space: gym.Space[Any], texts: dict[Any, str]) -> str:
    """Join the texts of the parts as far as anybody sees them."""
    seen = nested(space, texts)
    if isinstance(seen, tuple):
        return f"({', '.join(seen)})"
    seen.pop("action_mask", None)
    if list(seen) == ["observation"]:
        return seen["observation"]
    return ", ".join(f"{key}: {text}" for key, text in seen.items())
