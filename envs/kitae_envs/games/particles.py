"""What the games of particles have in common: spaces, actions, episodes, pictures."""

from __future__ import annotations

import abc
from functools import cached_property
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs import render
from kitae_envs.core import ByGroup, Game, Outcome, View
from kitae_envs.games.physics import Agent, Particles, World, move

MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)
"""Directions of the discrete moves: stay, left, right, down, up."""


class ParticleGame(Game):
    """A game of particles: spaces, actions and episodes as in mpe2; rules in the subclasses.

    Args:
        world: agents, landmarks and physics.
        max_cycles: steps until the episode is truncated.
        continuous_actions: actions are ``Box(0, 1)`` instead of Discrete.
        local_ratio: weight of an agent's own reward against :meth:`global_reward`; None: own only.
    """

    def __init__(
        self,
        world: World,
        *,
        max_cycles: int = 25,
        continuous_actions: bool = False,
        local_ratio: float | None = None,
    ) -> None:
        if max_cycles < 1:
            raise ValueError(f"expected max_cycles of at least 1, got {max_cycles}.")
        if local_ratio is not None and not 0.0 <= local_ratio <= 1.0:
            raise ValueError(f"expected local_ratio in [0, 1], got {local_ratio}.")
        self.world = world
        self.max_cycles = max_cycles
        self.continuous_actions = continuous_actions
        self.local_ratio = local_ratio
        self.possible_agents = tuple(agent.name for agent in world.agents)

    # --- rules ------------------------------------------------------------------------------

    @abc.abstractmethod
    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """Return each agent's observation, vectors in the agents' order."""

    @abc.abstractmethod
    def rewards(self, state: Particles) -> jax.Array:
        """Return each agent's own reward in the state a step led to, ``[A]``."""

    def global_reward(self, state: Particles) -> jax.Array:
        """Return the reward that all agents share, a scalar."""
        return jnp.zeros((), jnp.float32)

    def success(self, state: Particles) -> jax.Array | None:
        """Return whether the episode ends before its limit; None: it never does."""
        return None

    # --- spaces -----------------------------------------------------------------------------

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Length of each agent's observation."""
        shapes = jax.eval_shape(lambda: self.observe_agents(self.start(jax.random.key(0))))
        return {a: s.shape[0] for a, s in zip(self.possible_agents, shapes, strict=True)}

    def observation_space(self, agent: str) -> gym.Space:
        """Return the unbounded Box of the agent's observation."""
        return gym.spaces.Box(-np.inf, np.inf, (self._sizes[agent],), np.float32)

    def action_space(self, agent: str) -> gym.Space:
        """Return Discrete (words x moves) or ``Box(0, 1)`` (moves, then words)."""
        spec = self.world.agents[self.possible_agents.index(agent)]
        words = 0 if spec.silent else self.world.dim_c
        if self.continuous_actions:
            return gym.spaces.Box(0, 1, ((5 if spec.movable else 0) + words,), np.float32)
        return gym.spaces.Discrete((5 if spec.movable else 1) * max(words, 1))

    @property
    def state_space(self) -> gym.Space:
        """All observations, one after the other."""
        return gym.spaces.Box(-np.inf, np.inf, (sum(self._sizes.values()),), np.float32)

    # --- Game -------------------------------------------------------------------------------

    def start(self, key: jax.Array) -> Particles:
        """Draw positions uniformly, velocities zero, and the goals."""
        reach = [1.0] * len(self.world.agents) + [m.reach for m in self.world.landmarks]
        bound = np.array(reach, np.float32)[:, None]
        goals = np.array(self.world.goals, np.float32)
        n, speakers = len(self.world.agents), len(self.world.speakers)
        draw = jax.random.uniform(key, (2 * len(reach) + len(goals),))
        return Particles(
            position=(2 * draw[: 2 * len(reach)].reshape(-1, 2) - 1) * bound,
            velocity=jnp.zeros((n, 2), jnp.float32),
            message=jnp.zeros((speakers, self.world.dim_c), jnp.float32),
            goal=(draw[2 * len(reach) :] * goals).astype(jnp.int32),
            cycle=jnp.zeros((), jnp.int32),
        )

    def transition(
        self, key: jax.Array, state: Particles, action: ByGroup
    ) -> tuple[Particles, Outcome]:
        """Apply forces and words, then reward what came of them."""
        control, message = self._decode(action)
        position, velocity = move(self.world, state, control)
        state = Particles(position, velocity, message, state.goal, state.cycle + 1)
        reward = self.rewards(state)
        if self.local_ratio is not None:
            shared = self.global_reward(state) * (1 - self.local_ratio)
            reward = shared + reward * self.local_ratio
        late = state.cycle >= self.max_cycles
        success = self.success(state)
        won = jnp.zeros((), bool) if success is None else success & ~late
        everyone = jnp.ones(len(self.possible_agents), bool)
        return state, Outcome(
            self._by_group(reward.astype(jnp.float32)),
            self._by_group(everyone & won),
            self._by_group(everyone & late),
        )

    def observe(self, state: Particles) -> View:
        """Stack the observations by group."""
        rows = dict(zip(self.possible_agents, self.observe_agents(state), strict=True))
        return View(
            {g: jnp.stack([rows[a] for a in agents]) for g, agents in self.groups.items()},
            dict.fromkeys(self.groups, ()),
            {g: jnp.ones(len(agents), bool) for g, agents in self.groups.items()},
        )

    def global_state(self, state: Particles) -> jax.Array:
        """Return all observations, one after the other."""
        return jnp.concatenate(self.observe_agents(state))

    def frame(self, state: Particles) -> np.ndarray:
        """Draw the particles, with names and words."""
        return render.particles(
            np.asarray(state.position),
            self.world.sizes,
            self.colors(np.asarray(state.goal)),
            self.possible_agents,
            self._words(np.asarray(state.message)),
        )

    def colors(self, goal: np.ndarray) -> list[tuple[float, float, float]]:
        """Return the colour of every particle, given the goals."""
        return [entity.color for entity in (*self.world.agents, *self.world.landmarks)]

    def _words(self, message: np.ndarray) -> dict[str, str]:
        """Return what each speaking agent says, for the picture."""
        said = {}
        for row, i in enumerate(self.world.speakers):
            if not message[row].any():
                word = "_"
            elif self.continuous_actions:
                word = " ".join(f"{value:.2f}" for value in message[row])
            else:
                word = chr(ord("A") + int(message[row].argmax()))
            said[self.possible_agents[i]] = word
        return said

    def _by_group(self, values: jax.Array) -> ByGroup:
        """Cut ``[A, ...]`` in the agents' order into groups."""
        index = {agent: i for i, agent in enumerate(self.possible_agents)}
        return {
            name: values[np.array([index[a] for a in agents])]
            for name, agents in self.groups.items()
        }

    def _decode(self, action: ByGroup) -> tuple[jax.Array, jax.Array]:
        """Turn actions into controls ``[A, 2]`` and messages ``[S, dim_c]``."""
        rows = {a: (name, i) for name, agents in self.groups.items() for i, a in enumerate(agents)}
        controls, messages = [], []
        for spec in self.world.agents:
            name, i = rows[spec.name]
            control, word = self._decode_one(spec, jnp.asarray(action[name][i]))
            controls.append(control)
            messages += [] if spec.silent else [word]
        empty = jnp.zeros((0, self.world.dim_c), jnp.float32)
        return jnp.stack(controls), jnp.stack(messages) if messages else empty

    def _decode_one(self, spec: Agent, action: jax.Array) -> tuple[jax.Array, Any]:
        """Turn one agent's action into a control ``[2]`` and a message ``[dim_c]``."""
        still = jnp.zeros(2, jnp.float32)
        if self.continuous_actions:
            action = jnp.clip(action.astype(jnp.float32), 0, 1)
            if not spec.movable:
                return still, action
            control = jnp.stack([action[2] - action[1], action[4] - action[3]])
            return control, action[5:]
        action = action.astype(jnp.int32)
        step, word = (action % 5, action // 5) if spec.movable else (None, action)
        control = still if step is None else jnp.asarray(MOVES)[step]
        return control, jax.nn.one_hot(word, self.world.dim_c, dtype=jnp.float32)


def others(n: int, i: int) -> np.ndarray:
    """Return the indices of all agents but ``i``."""
    return np.array([j for j in range(n) if j != i], np.int32)


def nearest(center: jax.Array, points: jax.Array, count: int) -> jax.Array:
    """Return the indices of the nearest points, closest first, at most ``count``."""
    return jnp.argsort(jnp.sqrt(jnp.sum((points - center[None]) ** 2, axis=-1)))[:count]


def pad_rows(rows: jax.Array, count: int) -> jax.Array:
    """Append rows of zeros up to ``count``."""
    return jnp.pad(rows, ((0, max(count - rows.shape[0], 0)), (0, 0)))


def nearest_offsets(center: jax.Array, points: jax.Array, count: int | None) -> jax.Array:
    """Return the points relative to a center: all in order, or the nearest ``count``.

    Args:
        center: ``[2]``.
        points: ``[P, 2]``.
        count: None for all in their order; else the nearest ones first, padded with zeros.
    """
    offsets = points - center[None]
    if count is None:
        return offsets
    return pad_rows(offsets[nearest(center, points, count)], count)


def check_count(name: str, count: int | None, minimum: int = 1) -> Any:
    """Return the count, refusing numbers below ``minimum``.

    Raises:
        ValueError: if ``count`` is not None and not an integer of at least ``minimum``.
    """
    if count is not None and (not isinstance(count, int) or count < minimum):
        raise ValueError(f"expected an integer of at least {minimum} for {name}, got {count!r}.")
    return count


def touching(world: World, state: Particles, first: range, second: range) -> jax.Array:
    """Return float32 ``[len(first), len(second)]``, 1 where two particles overlap."""
    a, b = np.array(first, np.int32), np.array(second, np.int32)
    gap = state.position[a][:, None] - state.position[b][None]
    reach = world.sizes[a][:, None] + world.sizes[b][None]
    return (jnp.sqrt(jnp.sum(gap**2, axis=-1)) < reach).astype(jnp.float32)


def outside(position: jax.Array) -> jax.Array:
    """Return the penalty ``[A]`` for leaving the arena, summed over both coordinates.

    For ``x`` the distance from the centre along one axis: 0 below 0.9, ``10 (x - 0.9)`` below 1,
    then ``min(exp(2 x - 2), 10)``.
    """
    x = jnp.abs(position)
    far = jnp.minimum(jnp.exp(2 * x - 2), 10.0)
    return jnp.sum(jnp.where(x < 0.9, 0.0, jnp.where(x < 1.0, (x - 0.9) * 10, far)), axis=-1)
