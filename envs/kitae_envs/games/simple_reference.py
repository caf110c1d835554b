"""Two agents tell each other where to go, ``mpe/simple_reference-v3``.

==============  ================================================================================
agents          ``agent_0``, ``agent_1``
observation     float32 ``[21]``: velocity, landmarks relative, colour of the landmark that the
                *other* agent is to reach, the other's last word (10)
action          Discrete(50): ``move + 5 * word``; or ``Box(0, 1, (15,))``: moves, then words
reward          ``local_ratio`` times minus the distance of the other agent to its landmark,
                plus the rest times the mean of both
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

from kitae_envs.games.particles import ParticleGame
from kitae_envs.games.physics import Agent, Landmark, Particles, World

COLORS = ((0.75, 0.25, 0.25), (0.25, 0.75, 0.25), (0.25, 0.25, 0.75))


class SimpleReference(ParticleGame):
    """Send the other agent to its landmark.

    Args:
        local_ratio: weight of an agent's own reward against the mean.
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
    """

    id: ClassVar[str] = "mpe/simple_reference-v3"

    def __init__(
        self, local_ratio: float = 0.5, max_cycles: int = 25, continuous_actions: bool = False
    ) -> None:
        agents = tuple(Agent(f"agent_{i}", silent=False, collide=False) for i in range(2))
        marks = tuple(Landmark(color=color) for color in COLORS)
        super().__init__(
            World(agents, marks, dim_c=10, goals=(3, 3)),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
            local_ratio=local_ratio,
        )

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """The landmarks, the other's goal and the other's word."""
        landmarks = state.position[2:]
        colors = jnp.asarray(np.asarray(COLORS, np.float32))
        return [
            jnp.concatenate(
                [
                    state.velocity[i],
                    (landmarks - state.position[i][None]).reshape(-1),
                    colors[state.goal[i]],
                    state.message[1 - i],
                ]
            )
            for i in (0, 1)
        ]

    def rewards(self, state: Particles) -> jax.Array:
        """Minus the distance of the other agent to the goal that this one knows."""
        goals = state.position[2:][state.goal]
        return -jnp.sqrt(jnp.sum((state.position[1::-1] - goals) ** 2, axis=-1))

    def global_reward(self, state: Particles) -> jax.Array:
        """Mean of both agents' rewards."""
        return jnp.mean(self.rewards(state))

    def colors(self, goal: np.ndarray) -> list[tuple[float, float, float]]:
        """Give each agent its goal's colour."""
        return [COLORS[int(goal[1])], COLORS[int(goal[0])], *COLORS]
