"""Many copies of a multi-agent game, stepped together.

:class:`SubProcVecParallelEnv` steps them in worker processes; with ``n_workers=0`` the same class
steps them in this one. :class:`VecParallelEnv` is what training and evaluation need from either,
and from any other vector of parallel environments. Importing this package imports no JAX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import gymnasium as gym

    from kitae_marl.data.groups import GroupSpec
    from kitae_marl.data.stacking import AgentDict
    from kitae_marl.vector.make import make_parallel_env, make_vec_env
    from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

__all__ = [
    "SubProcVecParallelEnv",
    "VecParallelEnv",
    "episode_seed",
    "make_parallel_env",
    "make_vec_env",
]

_HOMES = {
    "SubProcVecParallelEnv": "kitae_marl.vector.workers.subproc",
    "make_parallel_env": "kitae_marl.vector.make",
    "make_vec_env": "kitae_marl.vector.make",
}


def __getattr__(name: str) -> Any:
    """Load public names on first use: a worker process needs few of them."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def episode_seed(seed: int, env_index: int, episode: int) -> int:
    """Return the seed of a later episode of one environment.

    Episode 0 of environment i is seeded ``seed + i``; every later one gets this. It depends on
    nothing but the three numbers, so neither the number of workers nor what the other
    environments do changes it.

    Args:
        seed: seed of the vector environment, at least 0.
        env_index: index of the environment.
        episode: number of the episode, counted from 0.

    Returns:
        A number of 31 bits.

    Example:
        >>> episode_seed(7, 0, 1) == episode_seed(7, 0, 1) != episode_seed(7, 1, 1)
        True
    """
    numbers: Any = (seed, env_index, episode)
    if max(numbers) < 2**32:  # as an array they are the same numbers, read faster
        numbers = np.array(numbers, np.uint32)
    sequence = np.random.SeedSequence(numbers)
    return int(sequence.generate_state(1)[0]) >> 1


@runtime_checkable
class VecParallelEnv(Protocol):
    """What training and evaluation need from a vector of parallel environments.

    Observations, rewards and flags are dicts ``{agent: [E, ...]}`` (:class:`AgentDict`) over all
    ``possible_agents``. They are **live views**: the next ``reset`` or ``step`` overwrites them in
    place, so copy what you keep.

    ``infos`` holds, beside anything else:

    * ``"active"``: ``{agent: bool [E]}``, the agent is alive and is to act on this observation
      (training takes an agent that is not there for active);
    * ``"reset"``: bool ``[E]``, all True, on ``reset``: every episode begins;
    * ``"action_mask"``: ``{agent: int8 [E, n]}`` for the agents whose actions are masked;
    * on steps where an episode ended: ``"_final_observation"`` (bool ``[E]``, where),
      ``"final_observation"``, ``"final_state"``, and ``"_episode"`` with
      ``"episode": {"return": {agent: [E]}, "length": {agent: [E]}}``;
    * ``"worker_restarted"``: bool ``[E]``, on steps where an environment had to be started again.

    Environments reset themselves on the step that ends an episode: the observation returned is
    the new episode's first one, reward and flags are the old one's last, and the last observation
    stands in ``final_observation``.
    """

    num_envs: int
    possible_agents: list[str]
    groups: tuple[GroupSpec, ...]
    metadata: dict[str, Any]
    closed: bool

    @property
    def state_space(self) -> gym.Space | None:
        """Space of one environment's global state, None where the game has none."""
        ...

    def observation_space(self, agent: str) -> gym.Space:
        """Space of one agent's observation in one environment."""
        ...

    def action_space(self, agent: str) -> gym.Space:
        """Space of one agent's action in one environment."""
        ...

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Start a new episode everywhere; environment i is seeded ``seed + i``."""
        ...

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[AgentDict, AgentDict, AgentDict, AgentDict, dict[str, Any]]:
        """Step every environment once with ``{agent: [E, ...]}``."""
        ...

    def step_async(self, actions: dict[str, Any]) -> None:
        """Begin a step."""
        ...

    def step_wait(self) -> tuple[AgentDict, AgentDict, AgentDict, AgentDict, dict[str, Any]]:
        """End the step that :meth:`step_async` began."""
        ...

    def state(self) -> np.ndarray:
        """Return the global states ``[E, ...]``."""
        ...

    def render(self, env_index: int = 0) -> np.ndarray:
        """Return a frame ``[H, W, 3]`` of one environment."""
        ...

    def close(self) -> None:
        """Close all environments; calling it again does nothing."""
        ...
