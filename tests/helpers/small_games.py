"""Small deterministic games for the tests of agents, loops and the command line."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

LENGTH = 8


class Clock(ParallelEnv):
    """Agents see the time and their last action; the reward is the action. No chance in it.

    Args:
        length: steps of an episode, cut by truncation.
        delay: seconds that a step takes.
        render_mode: ``"rgb_array"`` or None.
    """

    metadata = {"name": "clock", "render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self, length: int = LENGTH, delay: float = 0.0, render_mode: str | None = None
    ) -> None:
        self.possible_agents = ["hand_0", "hand_1", "bell_0"]
        self.length, self.delay, self.render_mode = length, delay, render_mode
        self.agents: list[str] = []
        self.t = 0
        self.last: dict[str, Any] = {}

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(-10, 10, (2 if agent != "bell_0" else 3,), np.float32)

    def action_space(self, agent: str) -> gym.Space:
        return gym.spaces.Discrete(3) if agent != "bell_0" else gym.spaces.Discrete(2)

    def _see(self, agent: str) -> np.ndarray:
        size = self.observation_space(agent).shape[0]
        values = [self.t / self.length, self.last.get(agent, 0), 1.0]
        return np.array(values[:size], np.float32)

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.agents, self.t, self.last = list(self.possible_agents), 0, {}
        return {a: self._see(a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        if self.delay:
            time.sleep(self.delay)
        self.t += 1
        self.last = {agent: int(action) for agent, action in actions.items()}
        agents = self.agents
        over = self.t >= self.length
        self.agents = [] if over else agents
        return (
            {a: self._see(a) for a in agents},
            {a: float(self.last[a]) for a in agents},
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            {a: {} for a in agents},
        )

    def render(self) -> np.ndarray:
        return np.full((16, 16, 3), 10 * self.t, np.uint8)


class Solo(Clock):
    """The same with one agent alone."""

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["hand_0"]


def make_clock(**options: Any) -> Clock:
    """Make the game, for the id ``small_games:make_clock``."""
    return Clock(**options)


def make_blind() -> Clock:
    """Make the game without a ``render_mode``, for the id ``small_games:make_blind``."""
    return Clock()


class Printed(Clock):
    """The same, but shown as text."""

    metadata = {"name": "printed", "render_modes": ["ansi"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        if render_mode not in (None, "ansi"):
            raise ValueError(f"no such way to draw: {render_mode}")
        super().__init__(render_mode=render_mode)

    def render(self) -> Any:
        return f"\x1b[31mtime: {self.t}\x1b[0m" if self.render_mode == "ansi" else None


class Parts(ParallelEnv):
    """Actions have parts, each of which has one value that is rewarded; four steps of them."""

    metadata = {"name": "parts"}  # noqa: RUF012
    SPACE = gym.spaces.Dict(
        aim=gym.spaces.Box(-1, 1, (1,)),
        level=gym.spaces.Box(-1, 1, (1,), np.int8),
        both=gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([2, 2])]),
    )

    def __init__(self) -> None:
        self.possible_agents = ["bot_0", "bot_1"]
        self.render_mode = None

    def observation_space(self, agent: str) -> gym.Space:
        return gym.spaces.Box(0, 4, (1,))

    def action_space(self, agent: str) -> gym.Space:
        return self.SPACE

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.agents, self.t = list(self.possible_agents), 0
        return self._see(), {a: {} for a in self.agents}

    def _see(self) -> dict[str, np.ndarray]:
        return {a: np.array([self.t], np.float32) for a in self.possible_agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        assert all(self.SPACE.contains(action) for action in actions.values()), actions
        rewards = {}
        for agent, action in actions.items():
            hits = [action["aim"][0] > 0.5, action["level"][0] == 1, action["both"][0] == 2]
            hits.append(bool(action["both"][1][0]))
            rewards[agent] = float(np.mean(hits))
        self.t += 1
        agents, over = self.agents, self.t >= 4
        self.agents = [] if over else agents
        ended = dict.fromkeys(agents, over)
        return self._see(), rewards, dict.fromkeys(agents, False), ended, {a: {} for a in agents}
