"""This file completes a user's own vector that has only what training cannot do without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from kitae_marl.data.groups import group_specs
from kitae_marl.data.stacking import AgentDict
from kitae_marl.vector.protocol import OwnVector, Step

NEEDED = ("num_envs", "possible_agents", "observation_space", "action_space", "reset", "step")
"""What a vector must have so that it can be trained on."""


class CompletedVecParallelEnv(OwnVector):
    """A vector with the rest of :class:`kitae_marl.VecParallelEnv` added.

    What it has is used as it is; what it lacks gets the value that says "there is none".

    Args:
        env: has what :data:`NEEDED` names; closed with this one.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self.num_envs = env.num_envs
        self.possible_agents = list(env.possible_agents)
        self.groups = getattr(env, "groups", None) or group_specs(
            self.possible_agents, env.observation_space, env.action_space
        )
        self.metadata = getattr(env, "metadata", {})
        self.with_state = getattr(env, "with_state", False)
        self._actions: Mapping[str, Any] = {}

    # ``game`` stays None: what training did with it would pass by the steps of this vector.

    @property
    def metrics(self) -> dict[str, float]:
        """The vector's own, if it counts anything."""
        return getattr(self._env, "metrics", {})

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the vector's workers, if it tells them."""
        return getattr(self._env, "worker_pids", [])

    @property
    def state_space(self) -> gym.Space | None:
        """Space of one environment's global state, None where the vector tells none."""
        return getattr(self._env, "state_space", None)

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's observation in one environment."""
        return self._env.observation_space(agent)

    def action_space(self, agent: str) -> gym.Space:
        """Return the space of one agent's action in one environment."""
        return self._env.action_space(agent)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Start a new episode everywhere; options are handed on where there are any."""
        return self._env.reset(seed=seed, **({} if options is None else {"options": options}))

    def set_options(self, options: dict[str, Any] | None) -> None:
        """Give later episodes these options, if the vector can."""
        own = getattr(self._env, "set_options", None)
        if own is not None:
            own(options)
        else:
            super().set_options(options)

    def step(self, actions: Mapping[str, Any]) -> Step:
        """Step every environment once with ``{agent: [E, ...]}``."""
        return self._env.step(actions)

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Keep the actions: the whole step is made by :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> Step:
        """Step every environment once."""
        return self._env.step(self._actions)

    def state(self) -> np.ndarray:
        """Return the global states ``[E, ...]``."""
        return self._env.state()

    def render(self, env_index: int = 0) -> np.ndarray:
        """Return a frame ``[H, W, 3]`` of one environment."""
        return self._env.render(env_index)

    def close(self) -> None:
        """Close the vector, if it can be closed."""
        self.closed = True
        if hasattr(self._env, "close"):
            self._env.close()
