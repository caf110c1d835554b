"""This file is what the adapters of vectors made by other packages share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from kitae_marl.data.groups import group_specs
from kitae_marl.data.spaces import leaves, nest, zeros
from kitae_marl.data.stacking import AgentDict, mask_in
from kitae_marl.vector.protocol import OwnVector, Step
from kitae_marl.vector.stepping.casting import cast
from kitae_marl.vector.stepping.dicts import ActionWriter


@dataclass
class ForeignStep:
    """One step of a foreign vector of E environments with N equal agents.

    Attributes:
        observation: arrays ``[E, N, ...]``, nested as the space.
        reward: ``[E, N]``.
        terminated: ``[E]``.
        truncated: ``[E]``.
        fresh: ``[E]``, the environment was only reset in this step: no reward, no action counted.
        active: ``[E, N]``, who is to act on this observation.
        mask: action masks ``[E, N, n]``, or None.
        final: the last observations of the episodes that ended, like ``observation``; None where
            ``observation`` holds them already.
    """

    observation: Any
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    fresh: np.ndarray
    active: np.ndarray
    mask: np.ndarray | None = None
    final: Any = None


class ForeignVecEnv(OwnVector):
    """Base of the adapters: everything of ``VecParallelEnv`` but how to reset and to step.

    All agents have the same spaces. Episodes start as the other package starts them: only
    environment i's first one is seeded ``seed + i``, the later ones go on from there.

    Args:
        agents: names of the agents.
        num_envs: number of environments.
        observation_space: what one agent observes in one environment.
        action_space: what it does.
        metadata: of the foreign vector.
    """

    def __init__(
        self,
        agents: Sequence[str],
        num_envs: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        metadata: dict[str, Any],
    ) -> None:
        self.num_envs = num_envs
        self.possible_agents = list(agents)
        self.metadata = dict(metadata)
        self._observation_space, self._action_space = observation_space, action_space
        self.groups = group_specs(self.possible_agents, self.observation_space, self.action_space)
        self._leaves = leaves(observation_space, f"an observation space of agent {agents[0]!r}")
        leaves(action_space, f"an action space of agent {agents[0]!r}")  # or it says what is not
        shape = (num_envs, len(agents))
        self._active = np.zeros(shape, np.bool_)
        self._action = zeros(action_space, *shape)
        name = self.groups[0].name
        self._writer = ActionWriter(self.groups, {name: self._action}, {name: self._active})
        self._return, self._length = np.zeros(shape), np.zeros(shape, np.int64)
        self._state = "new"  # new, ready or stepping

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of one agent's observation in one environment."""
        return self._observation_space

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of one agent's action in one environment."""
        return self._action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Begin a new episode in every environment."""
        self._refuse_closed()
        outcome = self._reset(seed, options)
        self._return[...], self._length[...] = 0.0, 0
        self._active[...] = outcome.active
        self._state = "ready"
        infos = self._infos(outcome) | {"reset": np.ones(self.num_envs, np.bool_)}
        return self._by_agent(outcome.observation), infos

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Begin a step."""
        self._refuse_unless("ready", "step")
        self._writer.write(actions)
        self._state = "stepping"
        self._send(self._action)

    def step_wait(self) -> Step:
        """End the step that ``step_async`` began."""
        self._refuse_unless("stepping", "step_wait")
        self._state = "ready"
        outcome = self._receive()
        played = ~outcome.fresh[:, None]
        self._return += np.where(played, outcome.reward, 0.0)
        self._length += played
        self._active[...] = outcome.active
        infos = self._infos(outcome)
        reward = np.asarray(outcome.reward, np.float64)
        ended = outcome.terminated | outcome.truncated
        if ended.any():
            self._add_episodes(infos, outcome, ended)
        return (
            self._by_agent(outcome.observation),
            self._by_agent(reward),
            self._for_all(outcome.terminated),
            self._for_all(outcome.truncated),
            infos,
        )

    def state(self) -> np.ndarray:
        """Refuse: these environments have no global state."""
        raise ValueError("expected a game with a state_space, got one without.")

    def render(self, env_index: int = 0) -> np.ndarray:
        """Return a frame ``[H, W, 3]`` of one environment.

        Raises:
            ValueError: if the environments were not made with ``render_mode="rgb_array"``.
        """
        self._refuse_closed()
        frame = np.asarray(self._frame(range(self.num_envs)[env_index]))
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(
                f"expected a uint8 frame [H, W, 3], got {frame.dtype} {frame.shape}; make the "
                'environments with render_mode="rgb_array".'
            )
        return frame

    def close(self) -> None:
        """Close all environments; calling it again does nothing."""
        if not self.closed:
            self.closed = True
            self._close()

    # --------------------------------------------------- left to the adapters

    @abstractmethod
    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> ForeignStep:
        """Begin new episodes; only observation, active and mask of the outcome count."""

    @abstractmethod
    def _send(self, actions: Any) -> None:
        """Begin a step with actions ``[E, N, ...]``, nested as their space is."""

    @abstractmethod
    def _receive(self) -> ForeignStep:
        """End the step."""

    @abstractmethod
    def _frame(self, env_index: int) -> Any:
        """Render one environment."""

    @abstractmethod
    def _close(self) -> None:
        """Close the foreign vector."""

    # ---------------------------------------------------------------- helpers

    def _infos(self, outcome: ForeignStep) -> dict[str, Any]:
        """Say who is active, and what they may do."""
        infos: dict[str, Any] = {"active": self._by_agent(self._active.copy())}
        mask = mask_in(outcome.observation) if outcome.mask is None else outcome.mask
        if mask is not None:
            infos["action_mask"] = self._by_agent(
                np.where(self._active[..., None], mask, 0).astype(np.int8)
            )
        return infos

    def _add_episodes(self, infos: dict[str, Any], outcome: ForeignStep, ended: np.ndarray) -> None:
        """Report the episodes that ended and begin to count anew."""
        final = outcome.observation if outcome.final is None else outcome.final
        infos["_final_observation"] = ended
        infos["final_observation"] = self._by_agent(final)
        infos["_episode"] = ended.copy()
        infos["episode"] = {
            "return": self._by_agent(self._return.copy()),
            "length": self._by_agent(self._length.copy()),
        }
        self._return[ended], self._length[ended] = 0.0, 0

    def _by_agent(self, stacked: Any) -> AgentDict:
        """Give ``[E, N, ...]`` by agent."""
        return AgentDict(
            {self.groups[0].name: stacked}, {self.groups[0].name: self.groups[0].agents}
        )

    def _for_all(self, flag: np.ndarray) -> AgentDict:
        """Give every agent the flag ``[E]`` of its environment."""
        return self._by_agent(np.repeat(flag[:, None], len(self.possible_agents), axis=1))

    def _flat(self, observation: Any) -> list[np.ndarray]:
        """The arrays of an observation in the order of its space, which its dicts may lack."""
        return [np.asarray(leaf.of(observation)) for leaf in self._leaves]

    def _as_declared(self, values: list[np.ndarray], rows: tuple[int, ...]) -> Any:
        """Cast the leaves of an observation to the dtypes of its space and nest them."""
        arrays = (
            cast(value, leaf.dtype, f"observation{leaf.name}").reshape(*rows, *leaf.shape)
            for value, leaf in zip(values, self._leaves, strict=True)
        )
        return nest(self._observation_space, arrays)

    def _refuse_unless(self, state: str, call: str) -> None:
        self._refuse_closed()
        if self._state != state:
            first = {"new": "reset", "ready": "step_async", "stepping": "step_wait"}[self._state]
            raise RuntimeError(f"{call} was called out of order; call {first} first.")
