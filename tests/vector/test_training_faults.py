"""Training goes on through faults of the games, and its metrics say so: rows V1 and V10."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from vector_faults import kill
from vector_games import CountGame

from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.loops.train import vectorized_train
from kitae_marl.runs.agent import Agent
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("nothing_left", "quickest_compilation")]

LENGTH = 6


class Scalars(dict[str, list[float]]):
    """A writer that remembers the values of each tag."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.setdefault(tag, []).append(scalar_value)


class Cloudy(CountGame):
    """What ``a_1`` observes at time 3 of every episode is not a number."""

    def observe(self, last: int = 0) -> dict[str, Any]:
        observations = super().observe(last)
        if self.t == 3 and "a_1" in observations:
            observations["a_1"] = np.full(4, np.nan, np.float32)
        return observations


def kill_at_three(game: Any) -> None:
    """The worker dies at time 3 of every episode."""
    if game.t == 3:
        kill(game)


@pytest.mark.parametrize(
    ("make", "metric"),
    [
        pytest.param(lambda: Cloudy(LENGTH), "faults/nonfinite", marks=pytest.mark.slow),
        (lambda: CountGame(LENGTH, fault=kill_at_three), "faults/worker_restarts"),
    ],
    ids=["v10", "v1"],
)
def test_training_goes_on_with_finite_parameters(make: Callable[[], Any], metric: str) -> None:
    config = Config(n_envs=2, ppo=PPOConfig(n_steps=8, hidden_sizes=(8,)))
    env = SubProcVecParallelEnv(
        [lambda: CountGame(LENGTH), make],
        n_workers=2,
        on_nonfinite="truncate",
        max_restarts=100,
    )
    agent, writer = Agent(env, config), Scalars()
    before = jax.tree.map(np.array, agent.state["a"].params)
    vectorized_train(0, agent, env, 16, agent.algorithm.algo_type, writer=writer)
    after = jax.tree.leaves(agent.state["a"].params)
    assert all(np.isfinite(leaf).all() for leaf in after)
    assert any((x != y).any() for x, y in zip(jax.tree.leaves(before), after, strict=True))
    assert writer[metric] == [2.0, 5.0]  # the third step of every episode; two updates
    assert writer["return/a_0"] == [LENGTH * (LENGTH + 1) / 2] * 2  # those of the healthy one alone
    assert writer["env/step_ms_max"][-1] > 0
