"""Agents by group: who is stacked together, and who shares parameters.

Imports no JAX, so worker processes and the vector environments may use it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
from kitae_envs.grouping import agent_groups

from kitae_marl.config.run import Config
from kitae_marl.data.spaces import action_leaf, feature_space, leaves
from kitae_marl.types import GroupSpec


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


def learning_groups(env: Any, config: Config) -> tuple[GroupSpec, ...]:
    """Group the agents of an environment as they learn with the settings of a run.

    Args:
        env: anything with ``possible_agents``, ``observation_space(agent)`` and
            ``action_space(agent)``.
        config: the settings.

    Raises:
        TypeError: if it is no environment of many agents, or a space is of an unknown kind.
        ValueError: if agents are there that have a seat, or as of ``group_specs``.
    """
    if not hasattr(env, "possible_agents"):
        raise TypeError(
            f"expected an environment with possible_agents, got {type(env).__name__}; wrap a "
            "Gymnasium one by kitae_marl.check_env."
        )
    told = [agent for agent in env.possible_agents if first_match(agent, config.seats)]
    if told:
        raise ValueError(
            f"expected an environment without the agents that have seats in the config, got "
            f"{told}; make it by kitae_marl.with_seats."
        )
    groups = group_specs(
        env.possible_agents,
        env.observation_space,
        env.action_space,
        config.learner.share_params,
        getattr(env, "state_space", None) if config.central else None,
    )
    for group in groups:
        _require_arrays(group)
    return groups


def _require_arrays(group: GroupSpec) -> None:
    """Raise a TypeError where networks cannot see or do what the agents of a group can."""
    agent, space = group.agents[0], group.observation_space
    leaves(space, f"an observation space of agent {agent!r}")
    action_leaf(group.action_space, f"an action space of agent {agent!r}")
    if group.state_space is not None:
        leaves(group.state_space, "a state space")
    if not leaves(feature_space(space)):
        raise TypeError(
            f"expected an observation space of agent {agent!r} with something to see beside an "
            f"action mask, got {space}; add an observation, a Box of zeros where there is none."
        )


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
