"""Short runs on compiled games, by the compiled loop or by the host's."""

from __future__ import annotations

from typing import Any

from kitae_marl import Config, PPOConfig
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

N_ENVS, N_STEPS = 4, 8


class OnHost:
    """A compiled vector environment that hides its game, so that the host loop steps it."""

    def __init__(self, env: CompiledVecParallelEnv) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        if name == "game":
            raise AttributeError(name)
        return getattr(self._env, name)


def config(game: str, n_updates: int = 3, **ppo: Any) -> Config:
    settings = PPOConfig(n_steps=N_STEPS, n_epochs=2, n_minibatches=2, hidden_sizes=(16,), **ppo)
    steps = n_updates * N_STEPS * N_ENVS
    return Config(env_id=game, n_envs=N_ENVS, env_steps=steps, save_every=1, ppo=settings, seed=3)


def make(game: str) -> CompiledVecParallelEnv:
    return CompiledVecParallelEnv(game, N_ENVS, with_state=None)
