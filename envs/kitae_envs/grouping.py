"""Which agents of a game belong together. Imports nothing heavy: worker processes read it too."""

import re
from collections.abc import Callable, Sequence
from typing import Any


def agent_groups(
    possible_agents: Sequence[str], spaces: Callable[[str], Any]
) -> dict[str, tuple[str, ...]]:
    """Group agents that have equal spaces and the same name before a trailing ``_number``.

    Args:
        possible_agents: every agent of the game, in the game's order.
        spaces: maps an agent to anything comparable with ``==``, usually the pair
            (observation space, action space).

    Returns:
        ``{group name: agents}`` in order of first appearance. The name is the common stem
        (``adversary`` for ``adversary_0`` and ``adversary_1``); where agents of one stem differ in
        spaces, each further group takes the full name of its first agent.

    Example:
        >>> agent_groups(["adversary_0", "adversary_1", "agent_0"], lambda agent: 0)
        {'adversary': ('adversary_0', 'adversary_1'), 'agent': ('agent_0',)}
    """
    groups: dict[str, tuple[str, ...]] = {}
    for agent in possible_agents:
        stem = re.sub(r"_\d+$", "", agent)
        for name, members in groups.items():
            same_stem = re.sub(r"_\d+$", "", members[0]) == stem
            if same_stem and spaces(members[0]) == spaces(agent):
                groups[name] = (*members, agent)
                break
        else:
            name = stem if stem not in groups else agent
            while name in groups:  # an agent called like the stem of others with other spaces
                name += "_"
            groups[name] = (agent,)
    return groups
