"""Any compiled game as a PettingZoo ``ParallelEnv``."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import gymnasium as gym
import jax
import numpy as np
from pettingzoo import ParallelEnv

import kitae_envs
from kitae_envs.core import Game, TimeStep
from kitae_envs.spaces import map_space, parts_of


class GameParallelEnv(ParallelEnv):
    """One compiled game, stepped from Python.

    Agents that are not to act take part in every step all the same; their actions are not read.
    ``infos[agent]["active"]`` says who is to act; where all are, it is left out. An agent leaves
    ``agents`` on the step where its flag rises, as PettingZoo asks.

    Args:
        game: the game, or the id of one.
        render_mode: ``"rgb_array"`` or None.
        **kwargs: arguments of the game, where an id is given.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, game: Game | str, *, render_mode: str | None = None, **kwargs: Any) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"expected render_mode None or 'rgb_array', got {render_mode!r}.")
        if isinstance(game, str):
            game = _make_once(game, tuple(sorted(kwargs.items())))
        elif kwargs:
            raise TypeError(f"expected no arguments beside a built game, got {sorted(kwargs)}.")
        self.game = game
        self.render_mode = render_mode
        self.metadata = {  # type: ignore[misc]
            **type(self).metadata,
            "name": game.id.replace("-", "_").rpartition("/")[2],
            "render_fps": 2 if game.turn_based else 10,
        }
        self.possible_agents = list(game.possible_agents)
        self.agents: list[str] = []
        self.observation_spaces = {a: game.observation_space(a) for a in self.possible_agents}
        self.action_spaces = {a: game.action_space(a) for a in self.possible_agents}
        if game.state_space is not None:
            self.state_space = game.state_space
        self._places = {
            agent: (name, i)
            for name, agents in game.groups.items()
            for i, agent in enumerate(agents)
        }
        self._init, self._step = _programs(game)
        self._key: jax.Array | None = None
        self._state: Any = None
        self._summary: Any = None
        self._steps = 0

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space that the agent observes, the same object each time."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space:
        """Return the space that the agent acts in, the same object each time."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode.

        Args:
            seed: makes this and all following episodes reproducible; None goes on with the
                present stream, or draws a seed from entropy at the first reset.
            options: unused.
        """
        if seed is not None or self._key is None:
            if seed is None:
                seed = int(np.random.SeedSequence().generate_state(1)[0])
            self._key = jax.random.key(seed)
        start, self._key = jax.random.split(self._key)
        self._state, step = self._init(start)
        step = self._fetch(step)
        self.agents = list(self.possible_agents)
        self._steps = 0
        return self._observations(step, self.agents), self._infos(step, self.agents)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Play one joint step.

        Args:
            actions: ``{agent: action}``; agents that are not to act may be left out.

        Raises:
            RuntimeError: if the environment was not reset.
        """
        if self._key is None:
            raise RuntimeError("expected a reset before the first step; call reset().")
        present = list(self.agents)
        if not present:
            return {}, {}, {}, {}, {}
        self._steps += 1
        chance = jax.random.fold_in(self._key, self._steps)
        self._state, step = self._step(chance, self._state, self._stack(actions))
        step = self._fetch(step)
        rewards = {a: float(self._pick(step.reward, a)) for a in present}
        terminated = {a: bool(self._pick(step.terminated, a)) for a in present}
        truncated = {a: bool(self._pick(step.truncated, a)) for a in present}
        infos = self._infos(step, present)
        self.agents = [a for a in present if not (terminated[a] or truncated[a])]
        return self._observations(step, present), rewards, terminated, truncated, infos

    def state(self) -> np.ndarray:
        """Return the global state, for games that have one."""
        if isinstance(self._summary, tuple):
            raise NotImplementedError(f"{self.game.id} has no global state; use the observations.")
        return self._summary

    def render(self) -> np.ndarray | None:
        """Draw the game, uint8 ``[H, W, 3]``; None without a render mode."""
        if self.render_mode is None:
            return None
        return self.game.frame(jax.device_get(self._state))

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _fetch(self, step: TimeStep) -> TimeStep:
        """Bring a TimeStep to the host."""
        step = jax.device_get(step)
        self._summary = step.state
        return step

    def _stack(self, actions: dict[str, Any]) -> dict[str, np.ndarray]:
        """Stack actions by group, zeros for agents without one."""
        stacked = {}
        for name, agents in self.game.groups.items():
            space = self.action_spaces[agents[0]]
            zero = np.zeros(space.shape or (), space.dtype)
            stacked[name] = np.stack([np.asarray(actions.get(a, zero), zero.dtype) for a in agents])
        return stacked

    def _pick(self, by_group: dict[str, Any], agent: str) -> Any:
        """Take one agent's row out of arrays stacked by group."""
        name, i = self._places[agent]
        return jax.tree.map(lambda leaf: leaf[i], by_group[name])

    def _is_out(self, step: TimeStep, agent: str) -> bool:
        """Whether this step has ended the agent's episode."""
        return bool(self._pick(step.terminated, agent) or self._pick(step.truncated, agent))

    def _observations(self, step: TimeStep, agents: list[str]) -> dict[str, Any]:
        """Return observations in the types of their spaces."""
        return {
            a: map_space(_as_declared, self.observation_spaces[a], self._pick(step.observation, a))
            for a in agents
        }

    def _infos(self, step: TimeStep, agents: list[str]) -> dict[str, dict[str, Any]]:
        """Say who is to act; add masks that the observation does not hold."""
        infos: dict[str, dict[str, Any]] = {a: {} for a in agents}
        for agent in agents:
            active = bool(self._pick(step.active, agent))
            if self.game.turn_based or not (active or self._is_out(step, agent)):
                infos[agent]["active"] = active
            mask = step.action_mask[self._places[agent][0]]
            in_observation = "action_mask" in (parts_of(self.observation_spaces[agent]) or ())
            if not isinstance(mask, tuple) and not in_observation:
                infos[agent]["action_mask"] = self._pick(step.action_mask, agent).astype(np.int8)
        return infos


@lru_cache(maxsize=64)
def _make_once(id: str, kwargs: tuple[tuple[str, Any], ...]) -> Game:
    """Make a game that all environments of one id and arguments share: it never changes."""
    return kitae_envs.make(id, **dict(kwargs))


@lru_cache(maxsize=64)
def _programs(game: Game) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Compile a game's ``init`` and ``step`` once for all environments that share it."""
    return jax.jit(game.init), jax.jit(game.step)


def _as_declared(space: gym.Space, value: Any) -> np.ndarray:
    """Give an array the type that its space contains."""
    return np.array(value, space.dtype)
