"""Agents cover landmarks without bumping into each other, ``mpe/simple_spread-v3``.

==============  ================================================================================
agents          ``agent_0`` ... ``agent_{N-1}``, one group
observation     float32 ``[6N]``: own velocity and position, landmarks and other agents relative
                to it, two zeros for each other agent (nobody speaks)
action          Discrete(5): stay, left, right, down, up; or ``Box(0, 1, (5,))``
reward          ``(1 - local_ratio)`` times minus the sum over landmarks of the distance to the
                nearest agent, minus ``local_ratio`` for each collision of its own
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

from kitae_envs.games.particles import ParticleGame, check_count, nearest_offsets, others
from kitae_envs.games.physics import Agent, Landmark, Particles, World

CAPTURE_RADIUS = 0.1


class SimpleSpread(ParticleGame):
    """Cover all landmarks.

    Args:
        N: number of agents and of landmarks.
        local_ratio: weight of an agent's collisions against the shared distances.
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
        curriculum: without the collision penalty in stage 0.
        terminate_on_success: end as soon as every landmark is covered.
        num_agent_neighbors: see only so many nearest agents; None: all.
        num_landmark_neighbors: see only so many nearest landmarks; None: all.
        curriculum_stage: the stage, fixed for the game (mpe2 changes it by a method).
    """

    id: ClassVar[str] = "mpe/simple_spread-v3"

    def __init__(
        self,
        N: int = 3,
        local_ratio: float = 0.5,
        max_cycles: int = 25,
        continuous_actions: bool = False,
        curriculum: bool = False,
        terminate_on_success: bool = False,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
        curriculum_stage: int = 0,
    ) -> None:
        self.n = check_count("N", N)
        agents = tuple(Agent(f"agent_{i}", size=0.15) for i in range(N))
        super().__init__(
            World(agents, (Landmark(),) * N),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
            local_ratio=local_ratio,
        )
        self.collision_penalty = 0.0 if curriculum and curriculum_stage == 0 else 1.0
        self.terminate_on_success = terminate_on_success
        self.seen_agents = check_count("num_agent_neighbors", num_agent_neighbors)
        self.seen_landmarks = check_count("num_landmark_neighbors", num_landmark_neighbors)

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """Own velocity and position, then what is around."""
        agents, landmarks = state.position[: self.n], state.position[self.n :]
        rows = []
        for i in range(self.n):
            marks = nearest_offsets(agents[i], landmarks, self.seen_landmarks)
            rest = nearest_offsets(agents[i], agents[others(self.n, i)], self.seen_agents)
            silence = jnp.zeros(rest.size, jnp.float32)
            around = [marks.reshape(-1), rest.reshape(-1), silence]
            rows.append(jnp.concatenate([state.velocity[i], agents[i], *around]))
        return rows

    def rewards(self, state: Particles) -> jax.Array:
        """Count collisions, each agent its own."""
        agents = state.position[: self.n]
        if self.n == 1:
            return jnp.zeros(1, jnp.float32)
        first, second = np.triu_indices(self.n, 1)
        reach = self.world.sizes[first] + self.world.sizes[second]
        apart = jnp.sum((agents[first] - agents[second]) ** 2, axis=-1)
        hit = (jnp.sqrt(apart) < reach).astype(jnp.float32)
        member = (np.arange(self.n)[:, None] == np.stack([first, second])[:, None]).any(0)
        return -self.collision_penalty * jnp.sum(jnp.where(member, hit[None], 0.0), axis=1)

    def global_reward(self, state: Particles) -> jax.Array:
        """Minus the sum of each landmark's distance to the nearest agent."""
        return -jnp.sum(self._nearest_agent(state))

    def success(self, state: Particles) -> jax.Array | None:
        """Every landmark has an agent within the capture radius."""
        if not self.terminate_on_success:
            return None
        return jnp.all(self._nearest_agent(state) < CAPTURE_RADIUS)

    def _nearest_agent(self, state: Particles) -> jax.Array:
        """Return each landmark's distance to the nearest agent, ``[N]``."""
        gap = state.position[self.n :, None] - state.position[None, : self.n]
        return jnp.sqrt(jnp.min(jnp.sum(gap**2, axis=-1), axis=1))
