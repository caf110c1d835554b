"""One agent walks to a landmark, ``mpe/simple-v3``.

==============  ================================================================================
agents          ``agent_0``
observation     float32 ``[4]``: velocity, landmark relative to the agent
action          Discrete(5): stay, left, right, down, up; or ``Box(0, 1, (5,))``
reward          minus the squared distance to the landmark
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

from kitae_envs.games.particles import ParticleGame
from kitae_envs.games.physics import Agent, Landmark, Particles, World


class Simple(ParticleGame):
    """Walk to the landmark.

    Args:
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
    """

    id: ClassVar[str] = "mpe/simple-v3"

    def __init__(self, max_cycles: int = 25, continuous_actions: bool = False) -> None:
        world = World(
            (Agent("agent_0", collide=False, color=(0.25, 0.25, 0.25)),),
            (Landmark(color=(0.75, 0.25, 0.25)),),
            dim_c=0,
        )
        super().__init__(world, max_cycles=max_cycles, continuous_actions=continuous_actions)

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """Velocity and where the landmark is."""
        return [jnp.concatenate([state.velocity[0], state.position[1] - state.position[0]])]

    def rewards(self, state: Particles) -> jax.Array:
        """Minus the squared distance."""
        return -jnp.sum((state.position[:1] - state.position[1:]) ** 2, axis=-1)
