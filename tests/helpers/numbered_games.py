"""Games whose agents are numbers; workers import this module too."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import AECEnv, ParallelEnv


class Numbered(ParallelEnv[Any, Any, Any]):
    """Agent i sees i and the time, and is rewarded for the action i; agent 1 leaves at time 2."""

    metadata = {"name": "numbered_v0"}  # noqa: RUF012

    def __init__(self, ids: tuple[Any, ...] = (0, 1, 2)) -> None:
        self.possible_agents = list(ids)
        self.state_space = Box(0, 9, (1,))
        self._seen = {agent: Box(0, 99, (2,)) for agent in ids}
        self._done = {agent: Discrete(3) for agent in ids}
        self.render_mode = None

    def observation_space(self, agent: Any) -> Box:
        return self._seen[agent]

    def action_space(self, agent: Any) -> Discrete:
        return self._done[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents, self.t = list(self.possible_agents), 0
        return self._see(), {agent: {} for agent in self.agents}

    def _see(self) -> dict[Any, Any]:
        ids = self.possible_agents
        return {a: np.array([ids.index(a), self.t], np.float32) for a in self.agents}

    def step(self, actions: dict[Any, Any]) -> Any:
        assert list(actions) == self.agents
        self.t += 1
        ids, acted = self.possible_agents, list(self.agents)
        rewards = {agent: float(action == ids.index(agent)) for agent, action in actions.items()}
        gone = {agent: agent == ids[1] and self.t == 2 for agent in acted}
        ended = dict.fromkeys(acted, self.t == 4)
        observations = self._see()
        self.agents = [a for a in acted if not gone[a] and not ended[a]]
        return observations, rewards, gone, ended, {agent: {} for agent in acted}

    def state(self) -> np.ndarray:
        return np.array([self.t], np.float32)


class TurnByTurn(AECEnv[Any, Any, Any]):
    """Two numbered players who move in turn, four moves in all."""

    metadata = {"name": "turns_v0", "is_parallelizable": False}  # noqa: RUF012

    def __init__(self) -> None:
        self.possible_agents = [0, 1]
        self.render_mode = None

    def observation_space(self, agent: int) -> Box:
        return Box(0, 9, (1,))

    def action_space(self, agent: int) -> Discrete:
        return Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.agents, self.t, self.agent_selection = [0, 1], 0, 0
        self.rewards = self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}

    def observe(self, agent: int) -> np.ndarray:
        return np.array([self.t], np.float32)

    def step(self, action: int | None) -> None:
        if self.terminations[self.agent_selection]:
            return self._was_dead_step(action)
        self.t += 1
        self.terminations = dict.fromkeys(self.agents, self.t == 4)
        self.agent_selection = 1 - self.agent_selection
        return None
