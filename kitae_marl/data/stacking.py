"""Between dicts keyed by agent and arrays stacked by group, ``[E, A, ...]``.

Dicts keyed by agent exist only at the environment's edge; this module is the one place where they
become stacked arrays and back. It imports no JAX, so worker processes and the vector
environments may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from kitae_marl.types import GroupSpec


def map_leaves(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply a function to the leaves of nested dicts and tuples of arrays (a tiny ``tree.map``).

    Raises:
        ValueError: if trees of ``rest`` have other parts than ``tree``.
    """
    if isinstance(tree, dict):
        for other in rest:
            if not isinstance(other, dict) or other.keys() != tree.keys():
                raise _other_parts(tree, other)
        return {key: map_leaves(function, tree[key], *(r[key] for r in rest)) for key in tree}
    if isinstance(tree, tuple):
        for other in rest:
            if not isinstance(other, tuple) or len(other) != len(tree):
                raise _other_parts(tree, other)
        return tuple(
            map_leaves(function, leaf, *(r[i] for r in rest)) for i, leaf in enumerate(tree)
        )
    return function(tree, *rest)


def _other_parts(tree: Any, other: Any) -> ValueError:
    """Say in what two trees differ."""

    def parts(tree: Any) -> str:
        if isinstance(tree, dict):
            return f"a dict of {list(tree)}"
        return f"a tuple of {len(tree)}" if isinstance(tree, tuple) else f"{type(tree).__name__}"

    return ValueError(
        f"expected values with equal parts, {parts(tree)}, got {parts(other)}; give what the space "
        "of the agent says."
    )


class AgentDict(dict[str, Any]):
    """``{agent: [E, ...]}`` that remembers the stacked arrays its values are views of.

    It is an ordinary dict. ``blocks`` are the arrays ``{group: [E, A, ...]}`` (nested where the
    observation is a Dict or Tuple); ``stacked`` returns one of them without copying as long as
    nobody has replaced an entry.
    """

    def __init__(self, blocks: Mapping[str, Any], agents_of: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.blocks = blocks
        self.agents_of = agents_of
        self._views = {}
        for name, block in blocks.items():
            agents = agents_of[name]
            if isinstance(block, np.ndarray):  # made at every step, so without a general map
                views = [block[:, i] for i in range(len(agents))]
            else:
                views = [map_leaves(lambda x, i=i: x[:, i], block) for i in range(len(agents))]
            self._views[name] = views
            self.update(zip(agents, views, strict=True))

    def stacked(self, name: str, agents: tuple[str, ...]) -> Any | None:
        """Return the stacked array of these agents, or None if entries are no longer its views."""
        if self.agents_of.get(name) != agents or not self._intact(name):
            return None
        return self.blocks[name]

    def intact_blocks(self) -> Mapping[str, Any] | None:
        """Return all stacked arrays, or None if an entry has been replaced, added or removed."""
        whole = len(self) == sum(map(len, self.agents_of.values()))
        return self.blocks if whole and all(map(self._intact, self.blocks)) else None

    def _intact(self, name: str) -> bool:
        """Whether the entries of a group are still the views made at the start."""
        pairs = zip(self.agents_of[name], self._views[name], strict=True)
        return all(self.get(agent) is view for agent, view in pairs)


def stack(per_agent: Mapping[str, Any], groups: Iterable[GroupSpec]) -> dict[str, Any]:
    """Stack ``{agent: [E, ...]}`` into ``{group: [E, A, ...]}``; free for an unchanged AgentDict.

    Args:
        per_agent: arrays, or nested dicts or tuples of arrays, for every agent of the groups.
        groups: the groups to stack by.

    Returns:
        The stacked arrays. They may share memory with ``per_agent``.

    Raises:
        ValueError: if an agent is missing.

    Example:
        >>> import gymnasium as gym
        >>> box = gym.spaces.Box(0, 1, (2,))
        >>> group = GroupSpec("a", ("a_0", "a_1"), box, box)
        >>> stack({"a_0": np.zeros((5, 2)), "a_1": np.ones((5, 2))}, [group])["a"].shape
        (5, 2, 2)
    """
    return {group.name: _stack_group(per_agent, group) for group in groups}


def _stack_group(per_agent: Mapping[str, Any], group: GroupSpec) -> Any:
    """Stack one group."""
    if isinstance(per_agent, AgentDict):
        block = per_agent.stacked(group.name, group.agents)
        if block is not None:
            return block
    missing = [agent for agent in group.agents if agent not in per_agent]
    if missing:
        raise ValueError(
            f"expected values for the agents {list(group.agents)}, got {list(per_agent)}; "
            f"missing: {missing}."
        )
    values = [per_agent[agent] for agent in group.agents]
    return map_leaves(lambda *leaves: np.stack(leaves, axis=1), values[0], *values[1:])


def split_masks(
    observations: Mapping[str, Any], infos: Mapping[str, Any], groups: Iterable[GroupSpec]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Stack observations and action masks apart from each other.

    Args:
        observations: by agent; a Dict observation may hold an ``action_mask``.
        infos: may hold masks by agent under ``action_mask``.
        groups: the groups to stack by.

    Returns:
        ``(features, masks)``, both ``{group: [E, A, ...]}``: what the networks see, an observation
        of just ``observation`` and ``action_mask`` becoming its first part; and the masks, ``()``
        for a group without.
    """
    features, masks = {}, {}
    info_masks = infos.get("action_mask", {})
    for group in groups:
        stacked = _stack_group(observations, group)
        mask = mask_in(stacked)
        if mask is None and all(agent in info_masks for agent in group.agents):
            mask = _stack_group(info_masks, group)
        features[group.name] = without_mask(stacked)
        masks[group.name] = () if mask is None else mask
    return features, masks


STARTS = ("reset", "_final_observation", "_final_obs")
"""Infos that say where an episode has begun, ``[E]``, whichever there is."""


def starts(infos: Mapping[str, Any], n_envs: int) -> np.ndarray:
    """Return which environments are at the start of an episode, ``[E]``, by infos of their vector.

    Example:
        >>> starts({}, 2).tolist(), starts({"reset": np.ones(2, bool)}, 2).tolist()
        ([False, False], [True, True])
    """
    for name in STARTS:
        if name in infos:
            return np.asarray(infos[name], bool)
    return np.zeros(n_envs, bool)


def active_agents(
    infos: Mapping[str, Any], groups: Iterable[GroupSpec], n_envs: int
) -> dict[str, Any]:
    """Stack who is alive and to act, ``{group: bool [E, A]}``: all of whom infos say nothing.

    Example:
        >>> import gymnasium as gym
        >>> box = gym.spaces.Box(0, 1, (2,))
        >>> told = {"active": {"a_0": np.array([True, False])}}
        >>> active_agents(told, [GroupSpec("a", ("a_0", "a_1"), box, box)], 2)["a"].tolist()
        [[True, True], [False, True]]
    """
    groups, active = tuple(groups), infos.get("active", {})
    untold = [agent for group in groups for agent in group.agents if agent not in active]
    if untold:
        active = {**active, **dict.fromkeys(untold, np.ones(n_envs, bool))}
    return stack(active, groups)


def mask_in(observation: Any) -> Any | None:
    """Return the action mask that an observation holds, None where it holds none.

    Example:
        >>> mask_in({"observation": 1, "action_mask": 2}), mask_in(np.zeros(3))
        (2, None)
    """
    return observation.get("action_mask") if isinstance(observation, dict) else None


def without_mask(observation: Any) -> Any:
    """Return what the networks see of an observation: all but an ``action_mask`` in a dict.

    Example:
        >>> without_mask({"observation": 1, "action_mask": 2}), without_mask({"a": 1, "b": 2})
        (1, {'a': 1, 'b': 2})
    """
    if not isinstance(observation, dict) or "action_mask" not in observation:
        return observation
    rest = {key: part for key, part in observation.items() if key != "action_mask"}
    return rest["observation"] if list(rest) == ["observation"] else rest


def unstack(stacked: Mapping[str, Any], groups: Iterable[GroupSpec]) -> AgentDict:
    """Turn ``{group: [E, A, ...]}`` into ``{agent: [E, ...]}``, every value a view."""
    return AgentDict(stacked, {group.name: group.agents for group in groups})
