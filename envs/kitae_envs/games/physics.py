"""The physics of the multi-agent particle environments.

Particles are discs in a plane: agents first, then landmarks. In one step positions move by
``dt * v``, velocities are damped and pushed, ``v <- (1 - damping) * v + dt * f``, and cut at the
particle's top speed. ``f`` is the agent's own force plus, for every pair of colliding particles,
``contact_force * margin * softplus((r_a + r_b - d) / margin)`` along the line between them
(Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive Environments").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Agent:
    """One agent of a particle game.

    Attributes:
        name: its name.
        size: radius.
        movable: it can move and be pushed.
        silent: it cannot speak.
        collide: it bumps into other particles.
        accel: force of a full move.
        max_speed: top speed, infinite by default.
        color: red, green and blue in [0, 1], for drawing.
    """

    name: str
    size: float = 0.05
    movable: bool = True
    silent: bool = True
    collide: bool = True
    accel: float = 5.0
    max_speed: float = float("inf")
    color: tuple[float, float, float] = (0.35, 0.35, 0.85)


@dataclass(frozen=True)
class Landmark:
    """One landmark: a disc that does not move. ``reach`` bounds its first coordinates."""

    size: float = 0.05
    collide: bool = False
    reach: float = 1.0
    color: tuple[float, float, float] = (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class World:
    """Everything about a particle game that does not change, in game order.

    Attributes:
        agents: the agents.
        landmarks: the landmarks.
        dim_c: size of a message.
        goals: for each goal drawn at the start, the number of values it can take.
        dt: length of a step in time.
        damping: share of the velocity that a step takes away.
        contact_force: strength of collisions.
        contact_margin: depth over which a collision becomes hard.
    """

    agents: tuple[Agent, ...]
    landmarks: tuple[Landmark, ...]
    dim_c: int = 2
    goals: tuple[int, ...] = ()
    dt: float = 0.1
    damping: float = 0.25
    contact_force: float = 100.0
    contact_margin: float = 1e-3
    sizes: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = np.array([e.size for e in (*self.agents, *self.landmarks)], np.float32)
        object.__setattr__(self, "sizes", sizes)

    @cached_property
    def speakers(self) -> list[int]:
        """Indices of the agents that speak."""
        return [i for i, agent in enumerate(self.agents) if not agent.silent]

    @cached_property
    def contacts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs that collide, indices ``a`` and ``b`` ``[P]``, and who is pushed, ``[A, P]``."""
        n, entities = len(self.agents), (*self.agents, *self.landmarks)
        pairs = [
            (a, b)
            for a in range(len(entities))
            for b in range(a + 1, len(entities))
            if entities[a].collide and entities[b].collide and a < n
        ]
        first, second = np.array(pairs, np.int32).reshape(-1, 2).T
        pushed = np.zeros((len(entities), len(pairs)), np.float32)
        pushed[first, np.arange(len(pairs))] = 1
        pushed[second, np.arange(len(pairs))] = -1
        movable = np.array([agent.movable for agent in self.agents], np.float32)
        return first, second, pushed[:n] * movable[:, None]


class Particles(NamedTuple):
    """State of a particle game.

    Attributes:
        position: float32 ``[A + L, 2]``, agents first.
        velocity: float32 ``[A, 2]``.
        message: float32 ``[S, dim_c]``, the last words of the agents that speak.
        goal: int32 ``[G]``, what was drawn at the start besides positions.
        cycle: int32, steps taken.
    """

    position: jax.Array
    velocity: jax.Array
    message: jax.Array
    goal: jax.Array
    cycle: jax.Array


def push(world: World, position: jax.Array) -> jax.Array:
    """Return the force ``[A, 2]`` of all collisions on each agent."""
    a, b, pushed = world.contacts
    if not len(a):
        return jnp.zeros((len(world.agents), 2), jnp.float32)
    delta = position[a] - position[b]
    squared = jnp.sum(delta**2, axis=-1)
    distance = jnp.sqrt(jnp.maximum(squared, 1e-24))
    depth = (world.sizes[a] + world.sizes[b] - distance) / world.contact_margin
    # softplus written out: XLA turns log and exp into vector code on CPUs, log1p not
    soft = jnp.maximum(depth, 0) + jnp.log(1 + jnp.exp(-jnp.abs(depth)))
    strength = world.contact_force * world.contact_margin * soft / distance
    return jnp.matmul(pushed, strength[:, None] * delta, precision=jax.lax.Precision.HIGHEST)


def move(world: World, state: Particles, control: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Integrate one step.

    Args:
        world: the world.
        state: where everything is.
        control: ``[A, 2]``, direction and share of each agent's own force.

    Returns:
        The next positions ``[A + L, 2]`` and velocities ``[A, 2]``.
    """
    n = len(world.agents)
    accel = np.array([[agent.accel] for agent in world.agents], np.float32)
    movable = np.array([[agent.movable] for agent in world.agents], np.float32)
    top = np.array([agent.max_speed for agent in world.agents], np.float32)
    force = control * accel * movable + push(world, state.position)
    agents = state.position[:n] + state.velocity * world.dt * movable
    velocity = state.velocity * (1 - world.damping) + force * world.dt
    if np.isfinite(top).any():
        speed = jnp.sqrt(jnp.sum(velocity**2, axis=-1))
        scale = jnp.where(speed > top, top / jnp.maximum(speed, 1e-12), 1.0)
        velocity = velocity * scale[:, None]
    return jnp.concatenate([agents, state.position[n:]]), velocity * movable
