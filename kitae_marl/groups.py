"""Agents by group: between dicts keyed by agent and arrays stacked ``[E, A, ...]``.

Dicts keyed by agent exist only at the environment's edge; this module is the one place where they
become stacked arrays and back. It imports no JAX, so worker processes and the vector
environments may use it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from kitae_envs.grouping import agent_groups


@dataclass(frozen=True)
class GroupSpec:
    """Agents that are stacked together: equal spaces, one network each or one for all.

    Attributes:
        name: name of the group, the common stem of its agents' names.
        agents: its agents, in the game's order; axis ``A`` of every stacked array.
        observation_space: the space that each of them observes.
        action_space: the space that each of them acts in.
        share_params: one set of parameters for all (True) or one for each agent.
        state_space: space of the global state that the critic sees; None: it sees observations.
    """

    name: str
    agents: tuple[str, ...]
    observation_space: gym.Space
    action_space: gym.Space
    share_params: bool = True
    state_space: gym.Space | None = None

    @property
    def n_agents(self) -> int:
        """Number of agents in the group."""
        return len(self.agents)

    def __hash__(self) -> int:
        return hash((self.name, self.agents, self.share_params))


def group_specs(
    possible_agents: Sequence[str],
    observation_space: Callable[[str], gym.Space],
    action_space: Callable[[str], gym.Space],
    share_params: bool | Mapping[str, str] = True,
    state_space: gym.Space | None = None,
) -> tuple[GroupSpec, ...]:
    """Group the agents of a game by spaces and stem of the name.

    Args:
        possible_agents: every agent of the game, in the game's order.
        observation_space: maps an agent to its observation space.
        action_space: maps an agent to its action space.
        share_params: whether agents of a group share parameters; or shell patterns of agent
            names, ``{"adversary_*": "shared", "agent_*": "independent"}``, of which the first that
            matches counts. Agents of a group that match different patterns become groups of their
            own, each named after its first agent.
        state_space: space of the global state, where critics are to see it.

    Returns:
        The groups in order of their first agent.

    Raises:
        ValueError: if a name in ``possible_agents`` is not unique, no pattern matches an agent, or
            a pattern matches none.
    """
    if not possible_agents:
        raise ValueError("expected at least one agent, got none; possible_agents must name all.")
    if len(set(possible_agents)) != len(possible_agents):
        raise ValueError(f"expected distinct agent names, got {list(possible_agents)}.")

    def spaces(agent: str) -> tuple[gym.Space, gym.Space]:
        return observation_space(agent), action_space(agent)

    groups = []
    for stem, agents in agent_groups(possible_agents, spaces).items():
        parts = _by_pattern(agents, share_params)
        for shares, part in parts:
            name = stem if len(parts) == 1 else part[0]
            groups.append(GroupSpec(name, part, *spaces(part[0]), shares, state_space))
    if isinstance(share_params, Mapping):
        idle = [p for p in share_params if not fnmatch.filter(possible_agents, p)]
        if idle:
            raise ValueError(
                f"expected patterns of share_params that match some of {list(possible_agents)}, "
                f"got {idle}, which match none; leave them out."
            )
    return tuple(sorted(groups, key=lambda group: possible_agents.index(group.agents[0])))


def _by_pattern(
    agents: tuple[str, ...], share_params: bool | Mapping[str, str]
) -> list[tuple[bool, tuple[str, ...]]]:
    """Split a group by the patterns its agents match, and look up who shares parameters."""
    if not isinstance(share_params, Mapping):
        return [(share_params, agents)]
    parts: dict[str, list[str]] = {}
    for agent in agents:
        pattern = first_match(agent, share_params)
        if pattern is None:
            raise ValueError(
                f"no pattern of share_params matches {agent!r}; got {list(share_params)}; "
                'add a pattern for it, for instance "*": "shared".'
            )
        parts.setdefault(pattern, []).append(agent)
    return [(share_params[p] == "shared", tuple(part)) for p, part in parts.items()]


def first_match(agent: str, patterns: Iterable[str]) -> str | None:
    """Return the first shell pattern that matches the name of an agent, None if none does.

    Example:
        >>> first_match("cat_1", ["dog_*", "cat_[12]", "*"])
        'cat_[12]'
    """
    return next((p for p in patterns if fnmatch.fnmatchcase(agent, p)), None)


def require_spaces(env: Any, possible_agents: list[str], groups: Iterable[GroupSpec]) -> None:
    """Make sure that an environment has these agents and no others, with their groups' spaces.

    Raises:
        ValueError: naming the agent and both spaces where they differ.
    """
    if list(env.possible_agents) != possible_agents:
        raise ValueError(
            f"expected an environment with the agents {possible_agents}, got "
            f"{list(env.possible_agents)}; use the game these were made for."
        )
    for group in groups:
        for agent in [a for a in possible_agents if a in group.agents]:
            for what, known, given in (
                ("observation", group.observation_space, env.observation_space(agent)),
                ("action", group.action_space, env.action_space(agent)),
            ):
                if known != given:
                    raise ValueError(
                        f"expected {known} as the {what} space of {agent}, got {given}; use the "
                        "game, and the arguments of it, that the agent was made for."
                    )


def map_leaves(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply a function to the leaves of nested dicts and tuples of arrays (a tiny ``tree.map``)."""
    if isinstance(tree, dict):
        return {key: map_leaves(function, tree[key], *(r[key] for r in rest)) for key in tree}
    if isinstance(tree, tuple):
        return tuple(
            map_leaves(function, leaf, *(r[i] for r in rest)) for i, leaf in enumerate(tree)
        )
    return function(tree, *rest)


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
        mask: Any = ()
        if isinstance(stacked, dict) and "action_mask" in stacked:
            mask = stacked["action_mask"]
        elif all(agent in info_masks for agent in group.agents):
            mask = _stack_group(info_masks, group)
        features[group.name], masks[group.name] = without_mask(stacked), mask
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


def over_agents(
    function: Callable[..., Any],
    group: GroupSpec,
    agent_axis: int | Sequence[int | None],
    out_axes: Any,
) -> Callable[..., Any]:
    """Apply a function of one set of parameters to a whole group: the only ``vmap`` over agents.

    Args:
        function: takes ``(first, *arrays)``: ``first`` belongs to one set of parameters (the
            parameters themselves, or a TrainState), the arrays are data.
        group: says whether its agents share parameters.
        agent_axis: which axis of the arrays is ``A``; or one for each array, None for arrays
            without.
        out_axes: where ``A`` shall stand in the outputs if each agent has its own parameters; as
            of ``jax.vmap``.

    Returns:
        With shared parameters the function itself: it is called once, with ``A`` still among the
        arrays' axes. With independent parameters the function mapped over axis 0 of ``first`` and
        ``agent_axis`` of the arrays. Compile time grows with the number of agents in neither.
    """
    if group.share_params:
        return function
    import jax  # here, so that worker processes can import this module without JAX

    def mapped(first: Any, *arrays: Any) -> Any:
        axes = (agent_axis,) * len(arrays) if isinstance(agent_axis, int) else agent_axis
        in_axes = (0, *axes)
        return jax.vmap(function, in_axes=in_axes, out_axes=out_axes)(first, *arrays)

    return mapped
