"""What an action mask lies over: the choices of an action space, and those that it leaves.

A mask is a row of 0 and 1, one for each choice of Discrete and MultiDiscrete. Of a Dict or Tuple it
lies over the choices of all parts that have some, side by side in their order; parts without (Box,
MultiBinary) are never masked. Imports no JAX.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from kitae_envs.spaces import parts_of

from kitae_marl.data.spaces import leaves, mask_width, nest


def mask_text(space: gym.Space[Any]) -> str:
    """Say in words which mask an action space takes.

    Example:
        >>> mask_text(gym.spaces.Discrete(5))
        '5 numbers 0 or 1'
        >>> keys = gym.spaces.MultiDiscrete([2, 3])
        >>> mask_text(gym.spaces.Dict(aim=gym.spaces.Box(0, 1), keys=keys, move=keys))
        "10 numbers 0 or 1 (side by side 5 for ['keys'], 5 for ['move'])"
    """
    width = mask_width(space)
    if not width:
        return "no action_mask, for none of these actions can be masked"
    text = f"{width} number{'s' if width > 1 else ''} 0 or 1"
    if not parts_of(space):
        return text
    counts = [(leaf.name, leaf.choices) for leaf in leaves(space) if leaf.choices is not None]
    return f"{text} (side by side {', '.join(f'{np.sum(n)} for {name}' for name, n in counts)})"


def described(mask: Any) -> str:
    """Say what came in place of a mask.

    Example:
        >>> described({"move": [1, 0]})
        "a dict with the keys ['move']"
        >>> described([1, 0, 1])
        'list of shape (3,), dtype int64'
    """
    if isinstance(mask, dict):
        return f"a dict with the keys {list(mask)[:10]}"
    try:
        array = np.asarray(mask)
    except ValueError:  # its parts are not of one length
        return f"{type(mask).__name__} of {len(mask)} parts"
    return f"{type(mask).__name__} of shape {array.shape}, dtype {array.dtype}"


def fits(space: gym.Space[Any], mask: Any) -> bool:
    """Whether a mask has the form that an action space takes.

    Example:
        >>> fits(gym.spaces.Discrete(2), [1, 0]), fits(gym.spaces.Box(0, 1), [1])
        (True, False)
    """
    try:
        array = np.asarray(mask)
    except ValueError:
        return False
    width = mask_width(space)
    return bool(width) and array.shape == (width,) and array.dtype.kind in "biuf"


def wrong_mask_space(
    observation: gym.Space[Any], action: gym.Space[Any]
) -> tuple[str, str, str] | None:
    """Say what is wrong with the mask in an observation space: expected, got and advice.

    Returns:
        None where there is no mask, or one that lies over the choices of the action space.

    Example:
        >>> seen = gym.spaces.Dict(action_mask=gym.spaces.MultiBinary(4))
        >>> wrong_mask_space(seen, gym.spaces.Discrete(3))
        ('3 numbers 0 or 1', 'MultiBinary(4)', 'declare it as MultiBinary(3)')
    """
    parts, width = parts_of(observation), mask_width(action)
    mask = parts.get("action_mask") if isinstance(parts, dict) else None
    if mask is None or (width and parts_of(mask) is None and mask.shape == (width,)):
        return None
    advice = f"declare it as MultiBinary({width})" if width else "leave it out"
    return mask_text(action), str(mask)[:200], advice


def leave_action(space: gym.Space[Any], masks: np.ndarray) -> np.ndarray:
    """Which masks leave an action, a choice for each number that has some; any leading axes.

    Example:
        >>> bool(leave_action(gym.spaces.MultiDiscrete([2, 2]), np.array([1, 1, 0, 0])))
        False
        >>> leave_action(gym.spaces.Discrete(2), np.array([[1, 0], [0, 0]])).tolist()
        [True, False]
    """
    return np.logical_and.reduce([piece.any(axis=-1) for piece in _pieces(space, masks)])


def is_legal(space: gym.Space[Any], mask: np.ndarray, action: Any) -> bool:
    """Whether a mask leaves an action.

    Example:
        >>> is_legal(gym.spaces.MultiDiscrete([2, 2]), np.array([1, 1, 0, 1]), np.array([1, 0]))
        False
    """
    chosen = [
        number
        for leaf in leaves(space)
        if leaf.choices is not None
        for number in np.ravel(np.asarray(leaf.of(action)) - leaf.low).tolist()
    ]
    pieces = _pieces(space, mask)
    return all(bool(piece[i]) for piece, i in zip(pieces, chosen, strict=True))


def best_scored(space: gym.Space[Any], scores: np.ndarray, others: Any = None) -> Any:
    """Return the actions whose choices have the largest scores, the first of several.

    Args:
        space: the action space.
        scores: one for each choice that a mask would lie over, behind any leading axes.
        others: actions to take from what has no choices, nested as the space is.

    Example:
        >>> best_scored(gym.spaces.MultiDiscrete([2, 3]), np.array([0, 1, 5, 9, 7])).tolist()
        [1, 1]
    """
    if isinstance(space, gym.spaces.Discrete):  # by far the most, and asked for every step
        return np.argmax(scores, axis=-1) + space.start
    pieces = _pieces(space, scores)
    values = []
    for leaf in leaves(space):
        if leaf.choices is None:
            values.append(leaf.of(others))
            continue
        index = [np.argmax(next(pieces), axis=-1) for _ in range(np.size(leaf.choices))]
        stacked = np.stack(index, axis=-1).reshape((*index[0].shape, *leaf.shape))
        values.append(stacked + leaf.low)
    return nest(space, values)


def _pieces(space: gym.Space[Any], row: np.ndarray) -> Iterator[np.ndarray]:
    """Cut what lies over all choices into what lies over those of each number."""
    all_choices = [leaf.choices for leaf in leaves(space) if leaf.choices is not None]
    sizes = np.concatenate([np.ravel(choices) for choices in all_choices])
    return iter(np.split(row, np.cumsum(sizes)[:-1], axis=-1))
