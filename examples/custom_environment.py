"""Train on a game of your own: any PettingZoo ParallelEnv will do.

Two agents stand on a line of nine places and get a point for every step they end on the same
place. From Python pass the class; from the command line name it:

    python examples/custom_environment.py
    cd examples && kitae-marl train custom_environment:Meeting --env-steps 50000
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import tyro
from pettingzoo import ParallelEnv

from kitae_marl import Agent, Config, SubProcVecParallelEnv, evaluate, random_policy

LAST = 8  # places 0 to 8


class Meeting(ParallelEnv):
    """Two agents on a line; a step costs nothing, being together pays 1 to both."""

    metadata: ClassVar[dict[str, Any]] = {"name": "meeting"}

    def __init__(self, max_cycles: int = 20) -> None:
        self.possible_agents = ["walker_0", "walker_1"]
        self.max_cycles = max_cycles

    def observation_space(self, agent: str) -> gymnasium.Space:
        """Own place and the other's, both scaled to [0, 1]."""
        return gymnasium.spaces.Box(0.0, 1.0, (2,))

    def action_space(self, agent: str) -> gymnasium.Space:
        """Left, stay, right."""
        return gymnasium.spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Put both on random places; keep the generator unless a seed is given."""
        if seed is not None or not hasattr(self, "random"):
            self.random = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.places = self.random.integers(0, LAST + 1, size=2)
        self.steps = 0
        return self._observations(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Move both; the game has no end of its own, so the limit is a truncation."""
        moves = np.array([actions[agent] for agent in self.possible_agents]) - 1
        self.places = np.clip(self.places + moves, 0, LAST)
        self.steps += 1
        together = float(self.places[0] == self.places[1])
        late = self.steps >= self.max_cycles
        everyone = list(self.agents)
        if late:
            self.agents = []
        return (
            self._observations(),
            dict.fromkeys(everyone, together),
            dict.fromkeys(everyone, False),
            dict.fromkeys(everyone, late),
            {agent: {} for agent in everyone},
        )

    def _observations(self) -> dict[str, np.ndarray]:
        mine = (self.places / LAST).astype(np.float32)
        return {"walker_0": mine, "walker_1": mine[::-1].copy()}


def main(env_steps: int = 100_000, n_envs: int = 8, episodes: int = 200, seed: int = 0) -> None:
    """Train both agents, and print their return beside the random policy's."""
    config = Config(
        env_id="custom_environment:Meeting", seed=seed, n_envs=n_envs, env_steps=env_steps
    )
    env = SubProcVecParallelEnv([Meeting] * n_envs)
    agent = Agent(env, config)
    agent.train(env)  # closes env
    env = SubProcVecParallelEnv([Meeting] * n_envs)
    for name, policy in (("trained", agent.select_action), ("random", random_policy(env))):
        returns = evaluate(policy, env, episodes, seed=1_000_000).mean_over_agents()
        print(f"{name:8s} {returns.mean():.2f} steps of 20 together")
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
