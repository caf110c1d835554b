"""The one walk over nested spaces, of this package and of kitae_marl.

Everything that asks what a Dict or a Tuple consists of asks here, so a further kind of nested
space is a change of ``parts_of`` and ``nested`` alone. Imports nothing heavy: worker processes
read it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym


def parts_of(space: gym.Space[Any]) -> dict[Any, gym.Space[Any]] | None:
    """Return the parts of a nested space by the keys that lead to them, None of a single array.

    Example:
        >>> parts_of(gym.spaces.Tuple([gym.spaces.Discrete(2)]))
        {0: Discrete(2)}
        >>> parts_of(gym.spaces.Discrete(2)) is None
        True
    """
    if isinstance(space, gym.spaces.Dict):
        return dict(space.spaces)
    if isinstance(space, gym.spaces.Tuple):
        return dict(enumerate(space.spaces))
    return None


def nested(space: gym.Space[Any], values: Mapping[Any, Any]) -> Any:
    """Nest one value for each part as the values of a space are nested, ``parts_of`` backwards.

    Example:
        >>> nested(gym.spaces.Tuple([gym.spaces.Discrete(2)]), {0: "a"})
        ('a',)
    """
    return tuple(values.values()) if isinstance(space, gym.spaces.Tuple) else dict(values)


def fold_space(
    leaf: Callable[..., Any],
    join: Callable[[gym.Space[Any], dict[Any, Any]], Any],
    space: gym.Space[Any],
    *trees: Any,
) -> Any:
    """Walk over a space: ask ``leaf`` about every array in it and ``join`` the answers.

    Args:
        leaf: ``(space, *values) -> answer``, of a space that is not nested and what the trees
            hold there.
        join: ``(space, {key: answer}) -> answer``, of a nested space and the answers of its parts,
            in the order of the space.
        space: where to walk.
        *trees: values nested like the space, walked beside it.

    Raises:
        ValueError: if a tree lacks a part of the space.

    Example:
        >>> space = gym.spaces.Dict(a=gym.spaces.Discrete(2), b=gym.spaces.MultiBinary(3))
        >>> fold_space(lambda part: part.shape, lambda _, shapes: [*shapes.values()], space)
        [(), (3,)]
    """
    parts = parts_of(space)
    if parts is None:
        return leaf(space, *trees)
    for tree in trees:
        _require_parts(space, parts, tree)
    return join(
        space,
        {
            key: fold_space(leaf, join, part, *(tree[key] for tree in trees))
            for key, part in parts.items()
        },
    )


def map_space(function: Callable[..., Any], space: gym.Space[Any], *trees: Any) -> Any:
    """Return what a function says of every array of a space, nested like the space.

    Args:
        function: ``(space, *values) -> answer``.
        space: where to walk.
        *trees: values nested like the space, walked beside it.

    Raises:
        ValueError: if a tree lacks a part of the space.

    Example:
        >>> space = gym.spaces.Dict(a=gym.spaces.Discrete(2), b=gym.spaces.MultiBinary(3))
        >>> map_space(lambda part, value: (part.shape, value), space, {"b": "x", "a": "y"})
        {'a': ((), 'y'), 'b': ((3,), 'x')}
    """
    return fold_space(function, nested, space, *trees)


def flat_space(space: gym.Space[Any]) -> list[tuple[tuple[Any, ...], gym.Space[Any]]]:
    """Return every array of a space in its order, with the keys that lead to it.

    Example:
        >>> flat_space(gym.spaces.Dict(a=gym.spaces.Tuple([gym.spaces.Discrete(2)])))
        [(('a', 0), Discrete(2))]
    """
    return fold_space(
        lambda part: [((), part)],
        lambda _, below: [((key, *path), leaf) for key in below for path, leaf in below[key]],
        space,
    )


def _require_parts(space: gym.Space[Any], parts: Mapping[Any, Any], tree: Any) -> None:
    """Raise unless a value has the parts of its space; what it has beside them does not matter."""
    if isinstance(space, gym.spaces.Tuple):
        sound = isinstance(tree, tuple | list) and len(tree) == len(parts)
    else:
        sound = isinstance(tree, Mapping) and parts.keys() <= tree.keys()
    if not sound:
        raise ValueError(
            f"expected a value with the parts {list(parts)} of {space}, got {str(tree)[:200]}; "
            "give what the space says."
        )
