"""This file makes parallel games of AEC ones, without the wrappers that only check.

PettingZoo's chain observes every agent twice a step and sends each action through up to four
wrappers. Here the core is stepped directly and observed once. What the wrappers did beyond checking
stays: clipping of actions, the loss for an illegal move, emptiness after the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import wrappers

Step = tuple[
    dict[str, Any], dict[str, Any], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
]
"""Observations, rewards, terminations, truncations and infos, each keyed by agent."""


@dataclass(frozen=True)
class Peeled:
    """A game without the wrappers that only check.

    Attributes:
        core: what was inside them.
        clips: whether actions outside their Box are clipped (else they are refused).
        illegal_reward: reward of a player who makes an illegal move; None where moves are not
            checked against the action mask.
    """

    core: AECEnv[str, Any, Any]
    clips: bool = False
    illegal_reward: float | None = None


def peel(env: AECEnv[str, Any, Any]) -> Peeled:
    """Take PettingZoo's checking wrappers off a game; stop at the first that does anything else."""
    clips, illegal_reward = False, None
    while True:
        if type(env) is wrappers.ClipOutOfBoundsWrapper:
            clips = True
        elif type(env) is wrappers.TerminateIllegalWrapper:
            illegal_reward = float(env._illegal_value)
        elif type(env) not in (wrappers.OrderEnforcingWrapper, wrappers.AssertOutOfBoundsWrapper):
            return Peeled(env, clips, illegal_reward)
        env = env.env  # type: ignore[attr-defined]  # all four are BaseWrapper


class LeanEnv(ParallelEnv[str, Any, Any]):
    """What all lean environments share: everything that is asked of the core unchanged.

    Args:
        core: the game inside the wrappers.
    """

    def __init__(self, core: Any) -> None:
        self.core = core
        self.metadata = core.metadata
        self.possible_agents = list(core.possible_agents)
        self.agents: list[str] = []
        self._was_reset = False
        self.render_mode = getattr(core, "render_mode", None)
        self._action_spaces = {agent: core.action_space(agent) for agent in self.possible_agents}
        if hasattr(core, "state_space"):
            self.state_space = core.state_space

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the space of an agent's observations."""
        return self.core.observation_space(agent)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return the space of an agent's actions."""
        return self._action_spaces[agent]

    def _agents_to_act(self, actions: dict[str, Any]) -> list[str]:
        """The agents in the game, each of which has an action; nobody after the end."""
        for agent in self.agents:
            if agent not in actions:
                raise ValueError(
                    f"expected an action of agent {agent!r}, got actions of {list(actions)}."
                )
        return self.agents

    def _nothing(self) -> Step:
        """What a step after the end returns; an error before the first reset."""
        if not self._was_reset:
            raise RuntimeError("expected reset before the first step; call reset(seed) first.")
        return {}, {}, {}, {}, {}

    def state(self) -> np.ndarray:
        """Return the global state, where the game has one."""
        return self.core.state()

    def render(self) -> Any:
        """Return what the game renders."""
        return self.core.render()

    def close(self) -> None:
        """Close the game."""
        self.core.close()

    @property
    def unwrapped(self) -> Any:
        """The game itself."""
        return self.core.unwrapped


class LeanParallelEnv(LeanEnv):
    """An AEC game whose agents act in a fixed cycle, one joint step a cycle.

    Args:
        peeled: the game without its checking wrappers.
    """

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled.core)
        self._checks = {
            agent: action_check(agent, space, peeled.clips)
            for agent, space in self._action_spaces.items()
        }

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        core = self.core
        core.reset(seed=seed, options=options)
        self.agents, self._was_reset = list(core.agents), True
        dead = {
            agent for agent in core.agents if core.terminations[agent] or core.truncations[agent]
        }
        living = [agent for agent in core.agents if agent not in dead]
        return self._observe(living), dict(core.infos)

    def step(self, actions: dict[str, Any]) -> Step:
        """Let every agent act once; after the end everything is empty until ``reset``."""
        core, checks, agents = self.core, self._checks, self._agents_to_act(actions)
        if not agents:
            return self._nothing()
        rewards: dict[str, Any] = dict.fromkeys(agents, 0)
        for agent in agents:
            if agent != core.agent_selection:
                raise _out_of_turn(agent, core)
            core.step(checks[agent](actions[agent]))
            if any(core.rewards.values()):
                for receiver in core.agents:
                    rewards[receiver] += core.rewards[receiver]
        flags = dict(core.terminations), dict(core.truncations)
        infos = dict(core.infos)
        observations = self._observe(core.agents)
        remove_dead(core)
        self.agents = list(core.agents)
        return observations, rewards, *flags, infos

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        return {agent: self.core.observe(agent) for agent in agents}


class LeanNativeParallelEnv(LeanEnv):
    """A game that is parallel by nature, freed from the way through AEC and back (Atari's way).

    An agent that is truncated leaves the game, as it does in the stock chain.

    Args:
        env: the parallel game.
    """

    def __init__(self, env: ParallelEnv[str, Any, Any]) -> None:
        super().__init__(env)
        self._checks = {
            agent: action_check(agent, space, False) for agent, space in self._action_spaces.items()
        }

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        observations, infos = self.core.reset(seed=seed, options=options)
        self.agents, self._was_reset = list(self.core.agents), True
        return observations, infos

    def step(self, actions: dict[str, Any]) -> Step:
        """Let every agent act once; after the end everything is empty until ``reset``."""
        agents = self._agents_to_act(actions)
        if not agents:
            return self._nothing()
        checked = {agent: self._checks[agent](actions[agent]) for agent in agents}
        observations, rewards, terminations, truncations, infos = self.core.step(checked)
        self.agents = [
            agent
            for agent in self.core.agents
            if not (terminations.get(agent, False) or truncations.get(agent, False))
        ]
        return observations, rewards, terminations, truncations, infos


def remove_dead(core: Any) -> None:
    """Let the dead agents at the head of the order take their leave."""
    while core.agents:
        agent = core.agent_selection
        if not (core.terminations[agent] or core.truncations[agent]):
            return
        core.step(None)


def action_check(agent: str, space: spaces.Space[Any], clips: bool) -> Any:
    """Build the function that checks, or clips, the actions of one agent.

    Args:
        agent: its name, for the message.
        space: its action space.
        clips: whether actions outside a Box are clipped instead of refused.

    Returns:
        A function that returns the action to use and raises ``ValueError`` for one that is none.
    """

    def refuse(action: Any) -> ValueError:
        return ValueError(
            f"expected an action in {space} for agent {agent!r}, got {action!r}; "
            "sample or clip it to the action space."
        )

    if isinstance(space, spaces.Discrete):
        first, last = int(space.start), int(space.start + space.n) - 1

        def check(action: Any) -> Any:
            try:
                inside = first <= action <= last and action == int(action)
            except (TypeError, ValueError):
                inside = False
            if not inside:
                raise refuse(action)
            return action

    elif isinstance(space, spaces.Box) and clips:
        low, high, shape = space.low, space.high, space.shape

        def check(action: Any) -> Any:
            action = np.asarray(action)
            if action.shape != shape or np.isnan(action.sum()):
                raise refuse(action)
            return np.minimum(np.maximum(action, low), high)

    else:

        def check(action: Any) -> Any:
            if not space.contains(action):
                raise refuse(action)
            return action

    return check


def _out_of_turn(agent: str, core: Any) -> RuntimeError:
    """Say that a game that calls itself parallelizable does not let its agents act in turn."""
    return RuntimeError(
        f"expected the turn of agent {agent!r}, got the turn of {core.agent_selection!r}; set "
        "metadata['is_parallelizable'] to False to have the game converted as a turn-based one."
    )
