"""A short run on the game of the clock, for the tests of agents and of run folders."""

from __future__ import annotations

from typing import Any

from small_games import LENGTH, Clock

from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

N_ENVS, N_UPDATES = 2, 6
# episodes are as long as rollouts, so a continuation starts where the whole run starts an episode
CONFIG = Config(
    env_id="small_games:make_clock",
    backend="python",
    n_envs=N_ENVS,
    n_workers=0,
    env_steps=N_ENVS * LENGTH * N_UPDATES,
    save_every=N_ENVS * LENGTH * 2,
    seed=3,
    ppo=PPOConfig(n_steps=LENGTH, n_epochs=2, n_minibatches=2, hidden_sizes=(8,)),
)


def make_env(**options: Any) -> SubProcVecParallelEnv:
    return SubProcVecParallelEnv([lambda: Clock(**options)] * N_ENVS, n_workers=0)
