"""Two games that only memory, and only a critic that sees the other agent, can understand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from probe_games import ProbeGame, box

from kitae_marl.algos import get_algorithm
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.evaluation import evaluate
from kitae_marl.loops.train import vectorized_train
from kitae_marl.runs.agent import Agent
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")
N_ENVS, N_STEPS = 16, 16


class Recall(ProbeGame):
    """What is to be done in the last of three steps is shown in the first alone."""

    agents_and_spaces = {"a": (box(2), gym.spaces.Discrete(2))}  # noqa: RUF012
    length = 3

    def start(self) -> None:
        self.cue = int(self.rng.integers(2))

    def see(self, agent: str) -> Any:
        shown = (2 * self.cue - 1) if self.t == 0 else 0
        return np.float32([shown, self.t == 2])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.t == 2 and actions["a"] == self.cue)


class Other(ProbeGame):
    """Each agent is paid what the other one sees."""

    agents_and_spaces = {f"a_{i}": (box(1), gym.spaces.Discrete(2)) for i in range(2)}  # noqa: RUF012

    def start(self) -> None:
        self.x = {agent: self.rng.choice([-1, 1]) for agent in self.possible_agents}

    def see(self, agent: str) -> Any:
        return np.float32([self.x[agent]])

    def pay(self, agent: str, actions: dict[str, Any]) -> float:
        return float(self.x["a_1" if agent == "a_0" else "a_0"])


class Last:
    """A writer that keeps the last value of each metric."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.values[tag] = scalar_value


def learn(game: Any, algo: str, n_updates: int, **settings: Any) -> tuple[Agent, dict[str, float]]:
    ppo = PPOConfig(n_steps=N_STEPS, learning_rate=1e-2, gamma=0.9, hidden_sizes=(16,), **settings)
    steps = n_updates * N_STEPS
    config = Config(env_id="probe", algo=algo, n_envs=N_ENVS, env_steps=steps * N_ENVS, ppo=ppo)
    agent, last = Agent(game(), config), Last()
    env = SubProcVecParallelEnv([game] * N_ENVS, n_workers=0)
    vectorized_train(0, agent, env, steps, get_algorithm(algo).algo_type, writer=last)
    return agent, last.values


@pytest.mark.parametrize(
    ("gru_size", "low", "high"), [(8, 0.95, 1.0), pytest.param(0, 0.2, 0.8, marks=pytest.mark.slow)]
)
def test_only_memory_recalls_what_is_no_longer_seen(gru_size, low, high):
    agent, _ = learn(Recall, "ippo", 40, gru_size=gru_size, chunk_length=8)
    env = SubProcVecParallelEnv([Recall] * N_ENVS, n_workers=0)
    result = evaluate(agent.select_action, env, 128, seed=1)
    env.close()
    assert low <= result.mean_over_agents().mean() <= high


@pytest.mark.parametrize(
    ("algo", "low", "high"),
    [("mappo", 0.9, 1.0), pytest.param("ippo", -0.2, 0.2, marks=pytest.mark.slow)],
)
def test_only_a_central_critic_knows_what_the_other_one_sees(algo, low, high):
    _, metrics = learn(Other, algo, 20)
    assert low <= metrics["update/a/explained_variance"] <= high
