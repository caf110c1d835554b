"""A vector of one environment as a single parallel environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

from kitae_marl.data.stacking import map_leaves
from kitae_marl.vector.lean.aec import Step


class SingleParallelEnv(ParallelEnv[str, Any, Any]):
    """The only environment of a vector, with the interface of PettingZoo.

    For games that exist as vectors only, such as EnvPool's. All agents stay in the game until it
    ends; ``infos[agent]`` holds ``active`` and, where there is one, ``action_mask``.

    Args:
        vec: an environment of the ``VecParallelEnv`` protocol with ``num_envs`` of 1. It is closed
            with this one.

    Raises:
        ValueError: if the vector holds more than one environment.
    """

    def __init__(self, vec: Any) -> None:
        if vec.num_envs != 1:
            raise ValueError(f"expected a vector of one environment, got num_envs={vec.num_envs}.")
        self.vec = vec
        self.possible_agents = list(vec.possible_agents)
        self.agents: list[str] = []
        self.metadata = vec.metadata
        self.render_mode = None

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of an agent's observations."""
        return self.vec.observation_space(agent)

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of an agent's actions."""
        return self.vec.action_space(agent)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        observations, infos = self.vec.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._rows(observations), self._infos(infos)

    def step(self, actions: dict[str, Any]) -> Step:
        """Step; after the end everything is empty until ``reset``."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        stacked = {agent: np.asarray(action)[None] for agent, action in actions.items()}
        observations, rewards, terminated, truncated, infos = self.vec.step(stacked)
        if "_final_observation" in infos and infos["_final_observation"][0]:
            observations = infos["final_observation"]
            self.agents = []
        return (
            self._rows(observations),
            {agent: float(rewards[agent][0]) for agent in self.possible_agents},
            {agent: bool(terminated[agent][0]) for agent in self.possible_agents},
            {agent: bool(truncated[agent][0]) for agent in self.possible_agents},
            self._infos(infos),
        )

    def render(self) -> Any:
        """Return a frame."""
        return self.vec.render(0)

    def close(self) -> None:
        """Close the vector."""
        self.vec.close()

    def _rows(self, stacked: Any) -> dict[str, Any]:
        """The only row of each agent, in memory of its own."""
        return {
            agent: map_leaves(lambda leaf: np.array(leaf[0]), stacked[agent])
            for agent in self.possible_agents
        }

    def _infos(self, infos: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Who is to act, and what each may do."""
        return {
            agent: {
                "active": bool(infos["active"][agent][0]) and bool(self.agents),
                **(
                    {"action_mask": infos["action_mask"][agent][0].copy()}
                    if "action_mask" in infos
                    else {}
                ),
            }
            for agent in self.possible_agents
        }
