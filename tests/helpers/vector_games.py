"""Small games for the tests of the vector environments; workers import this module too."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

BOX = gym.spaces.Box(-1e6, 1e6, (4,), np.float32)


class CountGame(ParallelEnv):
    """Observations tell episode seed, time, process and the last action; reward is the time.

    Args:
        length: steps of an episode.
        agents: names of the agents.
        fault: called with the game at the start of every step.
        on_reset: called with the game at the start of every reset.
        space: observation space of every agent.
    """

    metadata = {"name": "count"}  # noqa: RUF012

    def __init__(
        self,
        length: int = 5,
        agents: tuple[str, ...] = ("a_0", "a_1"),
        fault: Callable[[Any], None] | None = None,
        on_reset: Callable[[Any], None] | None = None,
        space: gym.Space = BOX,
    ) -> None:
        self.possible_agents = list(agents)
        self.length, self.fault, self.on_reset, self.space = length, fault, on_reset, space
        self.t = self.seed = self.n_resets = 0
        self.state_space = gym.spaces.Box(-1e9, 1e9, (2,), np.float64)

    def observation_space(self, agent: str) -> gym.Space:
        return self.space

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(3)

    def observe(self, last: int = 0) -> dict[str, Any]:
        value = np.array([self.seed % 100_000, self.t, os.getpid() % 100_000, last], np.float32)
        return dict.fromkeys(self.agents, value)

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.n_resets += 1
        if self.on_reset:
            self.on_reset(self)
        self.agents, self.t = list(self.possible_agents), 0
        self.seed = -1 if seed is None else seed
        return self.observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        self.t += 1
        if self.fault:
            self.fault(self)
        over = self.t >= self.length
        observations = self.observe(int(actions[self.agents[0]]))
        rewards = {agent: float(self.t) for agent in self.agents}
        terminations = dict.fromkeys(self.agents, False)
        truncations = dict.fromkeys(self.agents, over)
        infos: dict[str, dict] = {agent: {} for agent in self.agents}
        if over:
            self.agents = []
        return observations, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        return np.array([self.seed, self.t], np.float64)

    def render(self) -> np.ndarray:
        return np.full((4, 6, 3), self.t, np.uint8)


class ScriptGame(CountGame):
    """Plays a script: what ``reset`` and each ``step`` return, and who is listed after it.

    Args:
        script: per step ``{agent: (observation, reward, terminated, truncated)}`` and the list of
            ``env.agents`` afterwards; entry 0 is the reset, ``{agent: observation}``.
        agents: all agents.
        space: observation space.
    """

    def __init__(
        self,
        script: list[tuple[dict[str, Any], list[str]]],
        agents: tuple[str, ...] = ("a_0", "a_1", "a_2"),
        space: gym.Space = gym.spaces.Box(-100, 100, (1,), np.float32),  # noqa: B008
        infos: list[dict[str, dict]] | None = None,
    ) -> None:
        super().__init__(agents=agents, space=space)
        self.script, self.infos, self.received = script, infos, []

    def _infos(self, names: Any) -> dict[str, dict]:
        return self.infos[self.t] if self.infos else {name: {} for name in names}

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.t = 0
        observations, self.agents = self.script[0][0], list(self.script[0][1])
        return observations, self._infos(observations)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        self.t += 1
        if set(actions) != set(self.agents):
            raise ValueError(f"step {self.t}: actions for {sorted(actions)}")
        rows, self.agents = self.script[self.t][0], list(self.script[self.t][1])
        columns = [{a: row[i] for a, row in rows.items() if len(row) > i} for i in range(4)]
        return (*columns, self._infos(rows))  # pyright: ignore[reportReturnType]


def one(value: float) -> np.ndarray:
    """Return an observation of :class:`ScriptGame`."""
    return np.array([value], np.float32)


class SpaceGame(ParallelEnv):
    """Samples observations from any space, with actions of any space; reproducible by seed."""

    metadata = {"name": "space"}  # noqa: RUF012

    def __init__(
        self,
        observation: gym.Space,
        action: gym.Space,
        length: int = 4,
        agents: tuple[str, ...] = ("a_0", "a_1", "b_0"),
    ) -> None:
        self.possible_agents = list(agents)
        self._observation = {agent: _copy(observation) for agent in agents}
        self._action, self.length = action, length

    def observation_space(self, agent: str) -> gym.Space:
        return self._observation[agent]

    def action_space(self, agent: str) -> gym.Space:
        return self._action

    def _observe(self) -> dict[str, Any]:
        return {agent: self._observation[agent].sample() for agent in self.agents}

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.agents, self.t = list(self.possible_agents), 0
        for i, agent in enumerate(self.agents):
            self._observation[agent].seed((seed or 0) * 10 + i)
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        self.t += 1
        for agent in self.agents:
            if not self._action.contains(actions[agent]):
                raise ValueError(f"{actions[agent]!r} is not in {self._action}")
        observations = self._observe()
        rewards = {a: float(np.sum(actions[a])) for a in self.agents}
        over = dict.fromkeys(self.agents, self.t >= self.length)
        infos: dict[str, dict] = {agent: {} for agent in self.agents}
        no = dict.fromkeys(self.agents, False)
        if self.t >= self.length:
            self.agents = []
        return observations, rewards, over, no, infos


def _copy(space: gym.Space) -> gym.Space:
    """Copy a space, since sampling changes it."""
    import copy

    return copy.deepcopy(space)
