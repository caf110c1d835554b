"""What a compiled game gives its agents, stacked by agent group."""

from __future__ import annotations

from typing import Any, NamedTuple

ByGroup = dict[str, Any]
"""One entry for each agent group."""
State = Any
"""A pytree of arrays; each game has a type of its own."""


class View(NamedTuple):
    """What the agents see in a state.

    Attributes:
        observation: ``{group: [A, ...]}``, nested where the observation space is a Dict or Tuple.
        action_mask: ``{group: [A, n]}`` int8, 1 where an action is legal; ``()`` for a group
            without masks.
        active: ``{group: [A]}`` bool, the agent is in the game and to act now.
    """

    observation: ByGroup
    action_mask: ByGroup
    active: ByGroup


Sight = tuple[View, Any]
"""What the agents see, and the global state."""


class Outcome(NamedTuple):
    """What one step gives the agents, each ``{group: [A]}``.

    Attributes:
        reward: float32.
        terminated: bool, the game is over for this agent.
        truncated: bool, the agent was cut off by a limit outside the game.
    """

    reward: ByGroup
    terminated: ByGroup
    truncated: ByGroup


class TimeStep(NamedTuple):
    """One step of one game (or of a batch, with a leading axis ``E``).

    After an auto-reset ``observation``, ``action_mask``, ``active`` and ``state`` are the new
    episode's first; the other fields belong to the episode that ended. Without one, ``observation``
    and ``next_observation`` are the same, and so are ``state`` and ``next_state``.

    Attributes:
        observation: ``{group: [A, ...]}``, what to act on.
        reward: ``{group: [A]}`` float32.
        terminated: ``{group: [A]}`` bool, True on the step where the agent's flag rises.
        truncated: ``{group: [A]}`` bool, likewise.
        next_observation: ``{group: [A, ...]}``, what this step led to, before any auto-reset.
        action_mask: ``{group: [A, n]}`` int8, or ``()`` for a group without masks.
        active: ``{group: [A]}`` bool, the agent is in the game and to act on ``observation``.
        over: bool ``[]``, the episode ended with this step.
        state: the game's global state ``[S]`` (no agent axis), ``()`` where it has none.
        next_state: the global state before any auto-reset.
    """

    observation: ByGroup
    reward: ByGroup
    terminated: ByGroup
    truncated: ByGroup
    next_observation: ByGroup
    action_mask: ByGroup
    active: ByGroup
    over: Any
    state: Any = ()
    next_state: Any = ()
