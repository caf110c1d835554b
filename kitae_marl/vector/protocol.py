"""This file is the protocol of all vectors of environments, what ours share, and their seeds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from kitae_marl.data.stacking import AgentDict
from kitae_marl.errors import ClosedError, printable

if TYPE_CHECKING:
    import gymnasium as gym
    from kitae_envs.core import Game

    from kitae_marl.types import GroupSpec

Step: TypeAlias = tuple[AgentDict, AgentDict, AgentDict, AgentDict, dict[str, Any]]
"""Observations, rewards, terminations, truncations and infos of one joint step."""


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


def require_n_envs(n_envs: Any) -> None:
    """Raise unless this is a number of environments that a vector can be made of.

    Raises:
        TypeError: if it is no whole number.
        ValueError: if it is below one.
    """
    if not isinstance(n_envs, int):
        raise TypeError(f"expected a whole number of environments, got n_envs={n_envs!r}.")
    if n_envs < 1:
        raise ValueError(f"expected n_envs of at least 1, got {n_envs}.")


@runtime_checkable
class VecParallelEnv(Protocol):
    """All that training, players, evaluation and self-play use of a vector of environments.

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

    :class:`OwnVector` has what a vector of its own rarely changes. A vector that lacks a part of
    this is completed by :func:`kitae_marl.vector.adapters.as_parallel.require_vector`.

    Attributes:
        num_envs: number of environments ``E``.
        possible_agents: all agents, in the game's order.
        groups: agents with equal spaces, stacked together.
        metadata: name, render modes and frames per second of the game.
        with_state: whether ``state()`` is free and infos hold ``"final_state"``.
        closed: whether ``close`` was called.
    """

    num_envs: int
    possible_agents: list[str]
    groups: tuple[GroupSpec, ...]
    metadata: dict[str, Any]
    with_state: bool
    closed: bool

    @property
    def game(self) -> Game | None:
        """Rules of a compiled game, which training may step inside its own program; else None."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """Counters worth logging, by tag; empty where the vector counts nothing."""
        ...

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers; empty where everything runs in this process."""
        ...

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

    def set_options(self, options: dict[str, Any] | None) -> None:
        """Give every episode that begins from now on these options, as for ``env.reset``."""
        ...

    def step(self, actions: dict[str, Any]) -> Step:
        """Step every environment once with ``{agent: [E, ...]}``."""
        ...

    def step_async(self, actions: dict[str, Any]) -> None:
        """Begin a step."""
        ...

    def step_wait(self) -> Step:
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


class OwnVector(ABC):
    """What our own vectors share of :class:`VecParallelEnv`: the parts that few of them change."""

    num_envs: int
    possible_agents: list[str]
    groups: tuple[GroupSpec, ...]
    metadata: dict[str, Any]
    with_state: bool = False
    closed: bool = False

    @property
    def game(self) -> Game | None:
        """None: the games are written in Python."""
        return None

    @property
    def metrics(self) -> dict[str, float]:
        """Nothing is counted."""
        return {}

    @property
    def worker_pids(self) -> list[int]:
        """Empty: there are no worker processes."""
        return []

    @property
    def state_space(self) -> gym.Space | None:
        """None: the game has no global state."""
        return None

    def set_options(self, options: dict[str, Any] | None) -> None:
        """Refuse options for later episodes: few vectors can hand any to episodes they begin.

        Raises:
            ValueError: if there are any.
        """
        self._refuse_options(options)

    def step(self, actions: Mapping[str, Any]) -> Step:
        """Step every environment once.

        Args:
            actions: ``{agent: [E, ...]}``; what agents say that are not active is ignored.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            ValueError: if actions are wrong; nothing has been stepped then.
            VectorEnvError: one of its kinds, if an environment failed; then only ``reset`` and
                ``close`` are possible.
        """
        self.step_async(actions)
        return self.step_wait()

    @abstractmethod
    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Begin a step; see :meth:`step`."""

    @abstractmethod
    def step_wait(self) -> Step:
        """End the step that :meth:`step_async` began."""

    def _refuse_options(self, options: dict[str, Any] | None) -> None:
        if options:
            raise ValueError(
                f"expected no options, got {printable(str(options))}: {type(self).__name__} has no "
                "way to hand them to its environments. SubProcVecParallelEnv has, with games of "
                "Python (on the command line: --backend python)."
            )

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ClosedError("the vector environment was closed; make a new one.")


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
            return self.beside(0)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0]) >> 1
        self._given, self._n_resets = int(seed), 0
        return self._given

    def beside(self, source: int) -> int:
        """Return the seed of chance beside the environments, such as that of a seat, until reset.

        Sources are counted from where the environments end, so none shares a seed with these.

        Raises:
            RuntimeError: before the first :meth:`next`.
        """
        if self._given is None:
            raise RuntimeError("expected next() before beside(): there is no seed yet.")
        return episode_seed(self._given, self._n_envs + source, self._n_resets)
