"""This file is what vectors share that change who acts in the environments of another one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from kitae_marl.vector.protocol import OwnVector, Seeds, VecParallelEnv


class VectorAround(OwnVector):
    """Environments of another vector: all that is not about who acts is as that one has it.

    Args:
        env: the environments; closed with these.
    """

    def __init__(self, env: VecParallelEnv) -> None:
        self._env = env
        self.num_envs, self.metadata = env.num_envs, env.metadata
        self.with_state, self.closed = env.with_state, env.closed
        self._seeds = Seeds(env.num_envs)

    # ``game`` stays None, also around compiled games: training would step it without the seats.

    @property
    def metrics(self) -> dict[str, float]:
        """The environment's own."""
        return self._env.metrics

    @property
    def worker_pids(self) -> list[int]:
        """The environment's own."""
        return self._env.worker_pids

    @property
    def state_space(self) -> gym.Space | None:
        """Space of one environment's global state, None where the game has none."""
        return self._env.state_space

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's observation in one environment."""
        return self._env.observation_space(agent)

    def action_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's action in one environment."""
        return self._env.action_space(agent)

    def set_options(self, options: dict[str, Any] | None) -> None:
        """Give every episode that begins from now on these options, if the environments can."""
        self._env.set_options(options)

    def state(self) -> np.ndarray:
        """Return the global states ``[E, ...]``."""
        return self._env.state()

    def render(self, env_index: int = 0) -> np.ndarray:
        """Return a frame ``[H, W, 3]`` of one environment."""
        return self._env.render(env_index)

    def close(self) -> None:
        """Close the environments."""
        self.closed = True
        self._env.close()
