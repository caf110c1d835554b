"""Agents by group: who is stacked together, and who shares parameters.

Imports no JAX, so worker processes and the vector environments may use it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
from kitae_envs.grouping import agent_groups, stem_of

from kitae_marl.config.run import Config
from kitae_marl.data.masks import wrong_mask_space
from kitae_marl.data.spaces import feature_space, leaves, space_text
from kitae_marl.errors import ConfigError
from kitae_marl.types import AgentSpaces, GroupSpec


def group_specs(
    possible_agents: Sequence[str],
    observation_space: Callable[[str], gym.Space],
    action_space: Callable[[str], gym.Space],
    share_params: bool | Mapping[str, str] = True,
    state_space: gym.Space | None = None,
    named: Mapping[str, str | Sequence[str]] | None = None,
) -> tuple[GroupSpec, ...]:
    """Group the agents of a game: as they are told to, others by spaces and stem of the name.

    Agents of different stems that are stacked only because they are many keep networks of their
    own, unless ``named`` says that they belong together.

    Args:
        possible_agents: every agent of the game, in the game's order.
        observation_space: maps an agent to its observation space.
        action_space: maps an agent to its action space.
        share_params: whether agents of a group share parameters; or shell patterns of agent
            names, ``{"adversary_*": "shared", "agent_*": "independent"}``, of which the first that
            matches counts. Agents of a group that match different patterns become groups of their
            own, each named after its first agent.
        state_space: space of the global state, where critics are to see it.
        named: names of agents, or patterns of them, by the name of the group that they are to be.
            The first group that has an agent counts.

    Returns:
        The groups in order of their first agent.

    Raises:
        ConfigError: if agents that ``named`` puts together differ in spaces, or it names none.
        ValueError: if a name in ``possible_agents`` is not unique, no pattern matches an agent, or
            a pattern matches none.
    """
    if not possible_agents:
        raise ValueError("expected at least one agent, got none; possible_agents must name all.")
    if len(set(possible_agents)) != len(possible_agents):
        raise ValueError(f"expected distinct agent names, got {list(possible_agents)}.")

    spaces = {agent: (observation_space(agent), action_space(agent)) for agent in possible_agents}
    told = _told_groups(possible_agents, named or {}, spaces)
    placed = {agent for agents in told.values() for agent in agents}
    rest = [agent for agent in possible_agents if agent not in placed]
    found = told | agent_groups(rest, spaces.__getitem__, taken=told)
    groups: dict[str, GroupSpec] = {}
    for stem, agents in found.items():
        alike = stem in told or len({stem_of(agent) for agent in agents}) == 1
        parts = _by_pattern(agents, share_params)
        for shares, part in parts:
            name = stem if len(parts) == 1 else part[0]
            while name in groups:
                name += "_"
            shares = shares and alike
            groups[name] = GroupSpec(name, part, *spaces[part[0]], shares, state_space)
    if isinstance(share_params, Mapping):
        idle = [p for p in share_params if not fnmatch.filter(possible_agents, p)]
        if idle:
            raise ValueError(
                f"expected patterns of share_params that match some of {list(possible_agents)}, "
                f"got {idle}, which match none; leave them out."
            )
    place = {agent: i for i, agent in enumerate(possible_agents)}
    return tuple(sorted(groups.values(), key=lambda group: place[group.agents[0]]))


def _told_groups(
    possible_agents: Sequence[str],
    named: Mapping[str, str | Sequence[str]],
    spaces: Mapping[str, tuple[gym.Space, gym.Space]],
) -> dict[str, tuple[str, ...]]:
    """Look up the agents of the groups that were named, and compare their spaces."""
    groups: dict[str, list[str]] = {name: [] for name in named}
    for agent in possible_agents:
        for name, patterns in named.items():
            patterns = [patterns] if isinstance(patterns, str) else patterns
            if agent in patterns or first_match(agent, patterns) is not None:
                groups[name].append(agent)
                break
    for name, agents in groups.items():
        if not agents:
            raise ConfigError(
                f"groups: expected names or patterns that match some of {list(possible_agents)}, "
                f"got {named[name]!r} for {name!r}, which match none that an earlier group has "
                "not; correct them or leave them out.",
                "groups",
            )
        for agent in agents[1:]:
            if spaces[agent] != spaces[agents[0]]:
                raise ConfigError(
                    f"groups: expected agents of equal spaces in {name!r}, got {agents[0]!r} with "
                    f"{_in_words(spaces[agents[0]])} and {agent!r} with {_in_words(spaces[agent])};"
                    " leave one of them out, or pad what they see and do to equal sizes.",
                    "groups",
                )
    return {name: tuple(agents) for name, agents in groups.items()}


def _in_words(spaces: tuple[gym.Space, gym.Space]) -> str:
    """Say what an agent sees and does."""
    return " and ".join(space_text(space) for space in spaces)


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


def learning_groups(env: AgentSpaces, config: Config) -> tuple[GroupSpec, ...]:
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
        config.groups,
    )
    for group in groups:
        require_arrays(group)
    return groups


def require_arrays(group: GroupSpec) -> None:
    """Raise a TypeError where networks cannot see or do what the agents of a group can."""
    agent, space = group.agents[0], group.observation_space
    leaves(space, f"an observation space of agent {agent!r}")
    if not leaves(group.action_space, f"an action space of agent {agent!r}"):
        raise TypeError(
            f"expected an action space of agent {agent!r} with something to do, got "
            f"{group.action_space}; give it a Discrete(1) where there is nothing."
        )
    if group.state_space is not None:
        leaves(group.state_space, "a state space")
    if not leaves(feature_space(space)):
        raise TypeError(
            f"expected an observation space of agent {agent!r} with something to see beside an "
            f"action mask, got {space}; add an observation, a Box of zeros where there is none."
        )
    if (wrong := wrong_mask_space(space, group.action_space)) is not None:
        expected, got, advice = wrong
        raise TypeError(
            f"observation space['action_mask'] of agent {agent!r}: expected {expected}, got {got}; "
            f"{advice}."
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
