"""Predators chase faster prey around obstacles, ``mpe/simple_tag-v3``.

==============  ================================================================================
agents          ``adversary_0`` ... (predators); ``agent_0`` ... (prey)
observation     float32: own velocity and position, obstacles and other agents relative,
                velocities of the prey (of the other prey)
action          Discrete(5): stay, left, right, down, up; or ``Box(0, 1, (5,))``
reward          prey: -10 for each predator that touches it, and a penalty beyond 0.9 from the
                centre; predators: 10 for every touch by any of them
length          ``max_cycles`` steps, then truncated
version         v3 of mpe2
equality shown  each step within 1e-5 from the same state; starts and random returns in
                distribution
==============  ================================================================================
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.games.particles import (
    ParticleGame,
    check_count,
    nearest,
    nearest_offsets,
    others,
    outside,
    pad_rows,
    touching,
)
from kitae_envs.games.physics import Agent, Landmark, Particles, World

PREY_SPEED = (0.5, 0.75, 1.0)
"""Share of its full speed that the prey has in each stage of the curriculum."""


class SimpleTag(ParticleGame):
    """Chase and flee.

    Args:
        num_good: number of prey.
        num_adversaries: number of predators.
        num_obstacles: number of obstacles.
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
        curriculum: slower prey in the stages before the last.
        terminate_on_success: end as soon as all prey is caught at once.
        num_agent_neighbors: see only so many nearest agents; None: all.
        num_landmark_neighbors: see only so many nearest obstacles; None: all.
        curriculum_stage: the stage, fixed for the game (mpe2 changes it by a method).
    """

    id: ClassVar[str] = "mpe/simple_tag-v3"

    def __init__(
        self,
        num_good: int = 1,
        num_adversaries: int = 3,
        num_obstacles: int = 2,
        max_cycles: int = 25,
        continuous_actions: bool = False,
        curriculum: bool = False,
        terminate_on_success: bool = False,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
        curriculum_stage: int = 0,
    ) -> None:
        self.bad = check_count("num_adversaries", num_adversaries)
        speed = PREY_SPEED[min(max(curriculum_stage, 0), 2)] if curriculum else 1.0
        adversaries = tuple(
            Agent(f"adversary_{i}", 0.075, accel=3.0, max_speed=1.0, color=(0.85, 0.35, 0.35))
            for i in range(num_adversaries)
        )
        good = tuple(
            Agent(
                f"agent_{i}",
                0.05,
                accel=4.0 * speed,
                max_speed=1.3 * speed,
                color=(0.35, 0.85, 0.35),
            )
            for i in range(check_count("num_good", num_good))
        )
        obstacle = Landmark(size=0.2, collide=True, reach=0.9)
        check_count("num_obstacles", num_obstacles, 0)
        super().__init__(
            World((*adversaries, *good), (obstacle,) * num_obstacles),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
        )
        self.n = num_adversaries + num_good
        self.terminate_on_success = terminate_on_success
        self.seen_agents = check_count("num_agent_neighbors", num_agent_neighbors)
        self.seen_landmarks = check_count("num_landmark_neighbors", num_landmark_neighbors)

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """Own motion, what is around, and how fast the prey runs."""
        agents, landmarks = state.position[: self.n], state.position[self.n :]
        rows = []
        for i in range(self.n):
            marks = nearest_offsets(agents[i], landmarks, self.seen_landmarks)
            rest = nearest_offsets(agents[i], agents[others(self.n, i)], self.seen_agents)
            speeds = self._prey_velocity(state, i)
            around = [marks.reshape(-1), rest.reshape(-1), speeds.reshape(-1)]
            rows.append(jnp.concatenate([state.velocity[i], agents[i], *around]))
        return rows

    def _prey_velocity(self, state: Particles, i: int) -> jax.Array:
        """Return the velocities of other prey that agent ``i`` sees."""
        rest = others(self.n, i)
        if self.seen_agents is None:
            return state.velocity[rest[rest >= self.bad]]
        is_prey = (rest >= self.bad).astype(np.float32)[:, None]
        order = nearest(state.position[i], state.position[rest], self.seen_agents)
        return pad_rows((state.velocity[rest] * is_prey)[order], self.seen_agents)

    def rewards(self, state: Particles) -> jax.Array:
        """Count touches, and keep the prey inside."""
        touch = self._touches(state)
        prey = -10.0 * jnp.sum(touch, axis=1) - outside(state.position[self.bad : self.n])
        return jnp.concatenate([jnp.broadcast_to(10.0 * jnp.sum(touch), (self.bad,)), prey])

    def success(self, state: Particles) -> jax.Array | None:
        """All prey is caught at once."""
        if not self.terminate_on_success:
            return None
        return jnp.all(jnp.any(self._touches(state) > 0, axis=1))

    def _touches(self, state: Particles) -> jax.Array:
        """Return ``[prey, predators]``, 1.0 where they touch."""
        return touching(self.world, state, range(self.bad, self.n), range(self.bad))
