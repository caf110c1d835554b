"""An adversary pushes an agent away from its landmark, ``mpe/simple_push-v3``.

==============  ================================================================================
agents          ``adversary_0``, ``agent_0``
observation     agent: float32 ``[19]``: velocity, goal, own colour (names the goal), landmarks,
                their colours, adversary; adversary: ``[8]``: velocity, landmarks, agent
action          Discrete(5): stay, left, right, down, up; or ``Box(0, 1, (5,))``
reward          agent: minus its distance to the goal; adversary: that distance minus its own
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

AGENT_COLORS = np.array([[0.25, 0.75, 0.25], [0.25, 0.25, 0.75]], np.float32)
LANDMARK_COLORS = ((0.1, 0.9, 0.1), (0.1, 0.1, 0.9))


class SimplePush(ParticleGame):
    """Push the other away from the goal.

    Args:
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
    """

    id: ClassVar[str] = "mpe/simple_push-v3"

    def __init__(self, max_cycles: int = 25, continuous_actions: bool = False) -> None:
        agents = (Agent("adversary_0", color=(0.75, 0.25, 0.25)), Agent("agent_0"))
        marks = tuple(Landmark(color=color) for color in LANDMARK_COLORS)
        super().__init__(
            World(agents, marks, goals=(2,)),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
        )

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """The agent knows the goal, the adversary does not."""
        (adversary, agent), landmarks = state.position[:2], state.position[2:]
        color = jnp.asarray(AGENT_COLORS)[state.goal[0]]
        colors = np.asarray(LANDMARK_COLORS, np.float32).reshape(-1)
        knows = [
            state.velocity[1],
            landmarks[state.goal[0]] - agent,
            color,
            (landmarks - agent[None]).reshape(-1),
            colors,
            adversary - agent,
        ]
        guesses = [state.velocity[0], (landmarks - adversary[None]).reshape(-1), agent - adversary]
        return [jnp.concatenate(guesses), jnp.concatenate(knows)]

    def rewards(self, state: Particles) -> jax.Array:
        """Distances to the goal."""
        goal = state.position[2:][state.goal[0]]
        gap = jnp.sqrt(jnp.sum((state.position[:2] - goal[None]) ** 2, axis=-1))
        return jnp.stack([gap[1] - gap[0], -gap[1]])

    def colors(self, goal: np.ndarray) -> list[tuple[float, float, float]]:
        """Give the agent the goal's colour."""
        colors = super().colors(goal)
        red, green, blue = AGENT_COLORS[int(goal[0])].tolist()
        colors[1] = (red, green, blue)
        return colors
