"""Stacked arrays by other groups: where agents of one group of a game learn in several groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kitae_marl.data.stacking import map_leaves


def regroup(
    stacked: Mapping[str, Any], old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Stack ``{group: [E, A, ...]}`` by other groups of the same agents; free for equal ones.

    Args:
        stacked: arrays, or nested dicts or tuples of arrays, ``()`` stays so.
        old: agents of the groups they are stacked by.
        new: agents of the groups to stack by, each of them part of an old one or made of whole
            old ones.

    Example:
        >>> x = {"a": jnp.array([[1, 2, 3]])}
        >>> split = {"b": ("a_0", "a_2"), "c": ("a_1",)}
        >>> regroup(x, {"a": ("a_0", "a_1", "a_2")}, split)["b"].tolist()
        [[1, 3]]
    """
    place = {agent: (name, i) for name, agents in old.items() for i, agent in enumerate(agents)}

    def pick(agents: Sequence[str]) -> Any:
        sources = dict.fromkeys(place[agent][0] for agent in agents)
        if [tuple(old[name]) for name in sources] == [tuple(agents)]:
            return stacked[next(iter(sources))]
        order = [agent for name in sources for agent in old[name]]
        rows = np.array([order.index(agent) for agent in agents])
        parts = [stacked[name] for name in sources]
        return map_leaves(lambda *xs: jnp.concatenate(xs, axis=1)[:, rows], *parts)

    return {name: pick(agents) for name, agents in new.items()}
