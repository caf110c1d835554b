"""This file makes one-agent parallel environments of Gymnasium's, single ones and vectors."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from pettingzoo import ParallelEnv

from kitae_marl.data.masks import described, fits, mask_text
from kitae_marl.data.spaces import mask_width, space_text
from kitae_marl.data.stacking import map_leaves
from kitae_marl.vector.adapters.foreign import ForeignStep, ForeignVecEnv
from kitae_marl.vector.stepping.results import in_words, refused

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
        result: Any = self.env.reset(seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise refused("reset()", "(observation, info)", in_words(result), "return both")
        observation, info = result
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
        result: Any = self.env.step(actions[AGENT])
        if not isinstance(result, tuple) or len(result) != 5:
            five = "(observation, reward, terminated, truncated, info)"
            advice = "tell the end of the game from the end of its time, as Gymnasium does"
            raise refused("step()", five, in_words(result), advice)
        observation, reward, terminated, truncated, info = result
        if terminated or truncated:
            self.agents = []
        return (
            {AGENT: observation},
            {AGENT: reward},
            {AGENT: terminated},
            {AGENT: truncated},
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


def _name_of(env: gym.Env[Any, Any]) -> str:
    """The registered id of a Gymnasium environment, else the name of its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


class GymnasiumVecParallelEnv(ForeignVecEnv):
    """A Gymnasium ``VectorEnv`` with the one agent ``agent_0``.

    Both ways of resetting finished environments are understood. In SAME_STEP mode the observation
    of the step that ends an episode is the new episode's first one, as in our own vectors. In
    NEXT_STEP mode it is the old episode's last one; the step after it only resets, so nobody is
    active then: ``infos["active"]`` is False beside the last observation and the action is
    ignored.

    Args:
        env: the vector. It is closed with this one.

    Raises:
        ValueError: if its autoreset is disabled, or one environment stands in several places.
        TypeError: if a space is of a kind that has no arrays of fixed size.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self.env = env
        _require_distinct(env)
        self._next_step = _resets_on_next_step(env)
        super().__init__(
            [AGENT],
            env.num_envs,
            env.single_observation_space,
            env.single_action_space,
            {**env.metadata, "autoreset_mode": "NextStep" if self._next_step else "SameStep"},
        )
        self._ending = np.zeros(self.num_envs, np.bool_)
        self._pending: Any = None

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> ForeignStep:
        observation, info = self.env.reset(seed=seed, options=options)
        self._ending[...] = False
        zero, no = np.zeros((self.num_envs, 1)), np.zeros(self.num_envs, np.bool_)
        active, mask = np.ones((self.num_envs, 1), np.bool_), self._mask(info)
        return ForeignStep(self._stacked(observation), zero, no, no, no, active, mask)

    def _send(self, actions: Any) -> None:
        self._pending = map_leaves(lambda leaf: leaf[:, 0].copy(), actions)
        if isinstance(self.env, AsyncVectorEnv):
            self.env.step_async(self._pending)

    def _receive(self) -> ForeignStep:
        if isinstance(self.env, AsyncVectorEnv):
            observation, reward, terminated, truncated, info = self.env.step_wait()
        else:
            observation, reward, terminated, truncated, info = self.env.step(self._pending)
        fresh = self._ending.copy()
        terminated, truncated = np.asarray(terminated, bool), np.asarray(truncated, bool)
        ended = terminated | truncated
        if self._next_step:
            self._ending[...] = ended
        return ForeignStep(
            observation=self._stacked(observation),
            reward=np.asarray(reward, np.float64)[:, None],
            terminated=terminated,
            truncated=truncated,
            fresh=fresh,
            active=~self._ending[:, None],
            mask=self._mask(info),
            final=None if self._next_step or not ended.any() else self._final(observation, info),
        )

    def _frame(self, env_index: int) -> Any:
        frames = self.env.render()
        return () if frames is None else frames[env_index]

    def _close(self) -> None:
        self.env.close()

    def _stacked(self, observation: Any) -> Any:
        """Give the batch an axis for its one agent."""
        return self._as_declared(self._flat(observation), (self.num_envs, 1))

    def _final(self, observation: Any, info: dict[str, Any]) -> Any:
        """Put the last observations of ended episodes, objects one by one, into arrays."""
        finals = [array.copy() for array in self._flat(observation)]
        if "final_obs" not in info:
            raise ValueError(
                "expected infos['final_obs'] on the step that ends an episode, got "
                f"{sorted(info)}; the vector environment says that it resets in the same step."
            )
        for row in np.flatnonzero(
            info.get("_final_obs", [x is not None for x in info["final_obs"]])
        ):
            for array, last in zip(finals, self._flat(info["final_obs"][row]), strict=True):
                array[row] = last
        return self._as_declared(finals, (self.num_envs, 1))

    def _mask(self, info: dict[str, Any]) -> np.ndarray | None:
        """Action masks ``[E, 1, n]`` from the infos; everything is allowed where there is none.

        Raises:
            ValueError: if a mask does not lie over the choices of the action space.
        """
        if "action_mask" not in info:
            return None
        given, space = info["action_mask"], self._action_space
        mask = np.ones((self.num_envs, mask_width(space)), np.int8)
        rows = np.asarray(info.get("_action_mask", np.ones(self.num_envs, np.bool_)), bool)
        for row in np.flatnonzero(rows):
            one: Any = given if isinstance(given, dict | tuple) else given[row]
            if not fits(space, one):
                raise ValueError(
                    f"expected {mask_text(space)} as infos['action_mask'] of env {row}, which does "
                    f"{space_text(space)}, got {described(one)}; give masks of that form."
                )
            mask[row] = one
        return mask[:, None]


def _require_distinct(env: VectorEnv[Any, Any, Any]) -> None:
    """Refuse a vector that steps one environment several times; of processes each has its copy."""
    place: dict[int, int] = {}
    for index, one in enumerate(env.envs if isinstance(env, SyncVectorEnv) else ()):
        first = place.setdefault(id(one.unwrapped), index)
        if first != index:
            raise ValueError(
                f"expected environments of their own, got the very object of env {first} as env "
                f"{index}, which would be stepped by both; let every function make a new one."
            )


def _resets_on_next_step(env: VectorEnv[Any, Any, Any]) -> bool:
    """Read the autoreset mode; refuse the one that does not reset."""
    mode = env.metadata.get("autoreset_mode")
    if mode is None:
        warnings.warn(
            f"{type(env).__name__} does not say in metadata['autoreset_mode'] how it resets "
            "finished environments; taking it for NEXT_STEP, as Gymnasium does.",
            stacklevel=4,
        )
        return True
    mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
    if mode is AutoresetMode.DISABLED:
        raise ValueError(
            "expected a vector environment that resets finished environments by itself, got "
            "autoreset_mode DISABLED; make it with AutoresetMode.SAME_STEP or NEXT_STEP."
        )
    return mode is AutoresetMode.NEXT_STEP
