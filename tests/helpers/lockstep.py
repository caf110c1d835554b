"""Step two constructions of a game side by side and compare everything they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

WARNINGS = (
    "ignore:.*precision lowered by casting:UserWarning",
    "ignore:.*builtin type .*:DeprecationWarning",
    "ignore:pkg_resources is deprecated",
    "ignore:.*render method without specifying any render mode.*:UserWarning",
)


def same(left: Any, right: Any) -> bool:
    """Whether two nested values are equal, arrays to the bit, dtype and shape."""
    if isinstance(left, Mapping):
        return (
            isinstance(right, Mapping)
            and list(left) == list(right)
            and all(same(left[key], right[key]) for key in left)
        )
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype == right.dtype
            and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
        )
    return bool(left == right)


def legal_mask(observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
    """The action mask, from the observation or the info."""
    if isinstance(observation, Mapping) and "action_mask" in observation:
        return np.asarray(observation["action_mask"], dtype=np.int8)
    mask = info.get("action_mask")
    return None if mask is None else np.asarray(mask, dtype=np.int8)


def random_actions(
    env: Any, observations: Mapping[str, Any], infos: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    """Draw a legal action for every agent in the game."""
    actions = {}
    for agent in env.agents:
        space = env.action_space(agent)
        space.seed(int(rng.integers(2**31)))
        mask = legal_mask(observations[agent], infos.get(agent, {}))
        actions[agent] = space.sample() if mask is None else space.sample(mask)
    return actions


def without(infos: Mapping[str, Mapping[str, Any]], *names: str) -> dict[str, dict[str, Any]]:
    """Infos without some of their entries."""
    return {a: {k: v for k, v in info.items() if k not in names} for a, info in infos.items()}
