"""Which agents of a game belong together. Imports nothing heavy: worker processes read it too."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

MANY = 8
"""Agents who are alone in their groups, and alike, beyond which they are stacked together."""
_NUMBER = re.compile(r"[\W_]?\d+$")


def stem_of(agent: str) -> str:
    """Return the name of an agent without its number and one sign before that, if there is one.

    Example:
        >>> [stem_of(agent) for agent in ("red_0", "drone12", "agent-1", "blue.3", "alice", "7")]
        ['red', 'drone', 'agent', 'blue', 'alice', '']
    """
    return _NUMBER.sub("", agent)


def agent_groups(
    possible_agents: Sequence[str], spaces: Callable[[str], Any], taken: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Group agents that have equal spaces and the same name before a trailing number.

    Agents who are alone so, and alike, are a group of their own each. Only where there are more
    than ``MANY`` of them do they become one, since every group costs time in each step.

    Args:
        possible_agents: every agent of the game, in the game's order.
        spaces: maps an agent to anything comparable with ``==``, usually the pair
            (observation space, action space).
        taken: names that no group may have.

    Returns:
        ``{group name: agents}`` in order of first appearance. The name is the common stem
        (``adversary`` for ``adversary_0`` and ``adversary_1``, ``agent`` for ``0`` and ``1``);
        where agents of one stem differ in spaces, each further group takes the full name of its
        first agent.

    Example:
        >>> agent_groups(["adversary_0", "adversary_1", "agent_0"], lambda agent: 0)
        {'adversary': ('adversary_0', 'adversary_1'), 'agent': ('agent_0',)}
    """
    groups: dict[str, list[str]] = {}
    by_stem: dict[str, list[tuple[Any, list[str]]]] = {}
    for agent in possible_agents:
        own, stem = spaces(agent), stem_of(agent)
        of_stem = by_stem.setdefault(stem, [])
        members = next((agents for theirs, agents in of_stem if theirs == own), None)
        if members is not None:
            members.append(agent)
            continue
        of_stem.append((own, [agent]))
        groups[_free(stem or "agent", agent, {*groups, *taken})] = of_stem[-1][1]
    _gather_alone(groups, spaces, taken)
    return {name: tuple(agents) for name, agents in groups.items()}


def _free(name: str, agent: str, taken: Collection[str]) -> str:
    """Return the name of a group, or the agent's where that is taken."""
    name = name if name not in taken else agent
    while name in taken:  # an agent called like the stem of others with other spaces
        name += "_"
    return name


def _gather_alone(
    groups: dict[str, list[str]], spaces: Callable[[str], Any], taken: Collection[str]
) -> None:
    """Make one group of many that hold one agent each, all with equal spaces."""
    alike: list[tuple[Any, list[str]]] = []
    for name, agents in groups.items():
        if len(agents) == 1:
            own = spaces(agents[0])
            names = next((names for theirs, names in alike if theirs == own), None)
            if names is None:
                alike.append((own, [name]))
            else:
                names.append(name)
    for _, names in alike:
        if len(names) > MANY:
            members = [groups.pop(name)[0] for name in names]
            groups[_free("agents", members[0], {*groups, *taken})] = members
