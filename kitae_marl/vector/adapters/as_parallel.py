"""Environments of other interfaces as parallel ones: what ``check_env`` and the makers build on."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from pettingzoo import AECEnv, ParallelEnv

from kitae_marl.vector.adapters.compiled_games import is_game

AGENT = "agent_0"
"""Name of the only agent of a single-agent environment."""


class GymnasiumParallelEnv(ParallelEnv[str, Any, Any]):
    """A Gymnasium environment as a parallel environment with the one agent ``agent_0``.

    Observations, rewards, flags and infos are the environment's own, unchanged.

    Args:
        env: the single-agent environment. It is closed with this one.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env
        self.possible_agents = [AGENT]
        self.agents: list[str] = []
        self.metadata = {"name": _name_of(env), **env.metadata}
        self.render_mode = env.render_mode

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Return the environment's observation space."""
        return self.env.observation_space

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Return the environment's action space."""
        return self.env.action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.agents = [AGENT]
        return {AGENT: observation}, {AGENT: info}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, Any],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Step with ``actions["agent_0"]``; after the end everything is empty until ``reset``."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        observation, reward, terminated, truncated, info = self.env.step(actions[AGENT])
        if terminated or truncated:
            self.agents = []
        return (
            {AGENT: observation},
            {AGENT: float(reward)},
            {AGENT: bool(terminated)},
            {AGENT: bool(truncated)},
            {AGENT: info},
        )

    def render(self) -> Any:
        """Return what the environment renders."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    @property
    def unwrapped(self) -> Any:
        """The single-agent environment without its wrappers."""
        return self.env.unwrapped


def as_parallel(env: Any) -> Any:
    """Return the environment if it is a parallel one, else a compatible parallel one.

    Args:
        env: a PettingZoo ``ParallelEnv``; a vector of such (``SubProcVecParallelEnv`` or anything
            that follows its protocol); an ``AECEnv``; a Gymnasium ``Env`` or ``VectorEnv``; an
            EnvPool made for Gymnasium; a compiled game.

    Returns:
        A ``ParallelEnv`` for a single environment, an environment of the ``VecParallelEnv``
        protocol for a vector. Single-agent ones have the one agent ``agent_0``.

    Raises:
        TypeError: if it is none of these.
        ValueError: if it is a Gymnasium vector whose autoreset is disabled.
    """
    if is_vec_parallel(env) or isinstance(env, ParallelEnv):
        return env
    if is_game(type(env)):
        from kitae_envs.parallel import GameParallelEnv

        return GameParallelEnv(env, render_mode="rgb_array")
    if _is_envpool(env):  # first: a pool calls itself an Env and a VectorEnv as well
        from kitae_marl.vector.adapters.envpool import envpool_as_parallel

        return envpool_as_parallel(env)
    if isinstance(env, gym.vector.VectorEnv):
        from kitae_marl.vector.adapters.gymnasium import GymnasiumVecParallelEnv

        return GymnasiumVecParallelEnv(env)
    if isinstance(env, gym.Env):
        return GymnasiumParallelEnv(env)
    if isinstance(env, AECEnv):
        from kitae_marl.vector.lean.aec import aec_as_parallel

        return aec_as_parallel(env)
    raise TypeError(
        "expected a PettingZoo ParallelEnv, a vector of them (SubProcVecParallelEnv), an AECEnv, "
        f"a Gymnasium Env or VectorEnv, an EnvPool or a compiled game, got {type(env).__name__}; "
        "make one by kitae_marl.make_parallel_env or kitae_marl.make_vec_env."
    )


def is_vec_parallel(env: Any) -> bool:
    """Whether an environment is a vector of parallel ones, by what training needs of it."""
    wanted = ("num_envs", "possible_agents", "observation_space", "action_space", "reset", "step")
    return not isinstance(env, gym.vector.VectorEnv) and all(hasattr(env, name) for name in wanted)


def _is_envpool(env: Any) -> bool:
    """Whether an environment is an EnvPool, told without importing envpool."""
    return any(base.__module__.startswith("envpool.") for base in type(env).__mro__)


def _name_of(env: gym.Env[Any, Any]) -> str:
    """The registered id of a Gymnasium environment, else the name of its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
