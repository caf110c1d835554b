"""What the magnet and the average are for: Kuhn poker, whose best responses are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from kitae_envs import make

from kitae_marl import Config, PPOConfig, exploitability, train_many

KUHN = "kitae/kuhn_poker-v0"
SETTINGS = {
    "n_steps": 8,
    "gamma": 1.0,
    "learning_rate": 2e-3,
    "hidden_sizes": (32,),
    "activation": "relu",
    "entropy_coef": 0.02,
    "average": True,
}


def found(magnet_coef: float) -> dict[str, np.ndarray]:
    """Exploitability of the last and of the average policy of three runs."""
    ppo = PPOConfig(magnet_coef=magnet_coef, magnet_rate=0.05, **SETTINGS)
    config = Config(
        env_id=KUHN,
        env_kwargs={"history": True},
        algo="mappo",
        n_envs=128,
        env_steps=300_000,
        ppo=ppo,
    )
    runs, rules = train_many(KUHN, config, seeds=range(3), show=False), make(KUHN, history=True)
    return {
        policy: np.array(
            [exploitability(run.agent.player(policy=policy), rules).exploitability for run in runs]
        )
        for policy in ("last", "average")
    }


@pytest.mark.slow
def test_the_last_policy_comes_to_rest_near_a_magnet_and_goes_in_circles_without() -> None:
    held, free = found(1.0), found(0.0)
    assert held["last"].max() < 0.06  # 0.023, 0.010 and 0.020; uniform play: 0.458
    assert held["average"].max() < 0.04
    assert free["last"].min() > 0.12  # 0.29, 0.48 and 0.22
    assert free["average"].mean() < 0.8 * free["last"].mean()  # 0.21 and 0.33
