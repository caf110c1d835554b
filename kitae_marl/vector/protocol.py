"""What training and evaluation need from a vector of environments, and how episodes are seeded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import gymnasium as gym

    from kitae_marl.data.stacking import AgentDict
    from kitae_marl.types import GroupSpec


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


class Seeds:
    """Chooses the seed of every reset of a vector environment."""

    def __init__(self, n_envs: int) -> None:
        self._n_envs = n_envs
        self._given: int | None = None
        self._n_resets = 0

    def next(self, seed: int | None) -> int:
        """Return the given seed, or one that follows from it, or at first one from entropy.

        Raises:
            ValueError: if it is negative.
        """
        if seed is not None and seed < 0:
            raise ValueError(f"expected a seed of at least 0, got {seed}.")
        if seed is None and self._given is not None:
            self._n_resets += 1
            return episode_seed(self._given, self._n_envs, self._n_resets)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0]) >> 1
        self._given, self._n_resets = int(seed), 0
        return self._given
