"""A speaker names the landmark that a listener walks to, ``mpe/simple_speaker_listener-v4``.

==============  ================================================================================
agents          ``speaker_0``, ``listener_0``
observation     speaker: float32 ``[3]``, the goal's colour; listener: ``[11]``: velocity,
                landmarks relative, the last word
action          speaker: Discrete(3) or ``Box(0, 1, (3,))``, a word; listener: Discrete(5) or
                ``Box(0, 1, (5,))``, a move
reward          both: minus the squared distance from the listener to the goal
length          ``max_cycles`` steps, then truncated
version         v4 of mpe2
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

COLORS = ((0.65, 0.15, 0.15), (0.15, 0.65, 0.15), (0.15, 0.15, 0.65))


class SimpleSpeakerListener(ParticleGame):
    """One knows, the other walks.

    Args:
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
    """

    id: ClassVar[str] = "mpe/simple_speaker_listener-v4"

    def __init__(self, max_cycles: int = 25, continuous_actions: bool = False) -> None:
        grey = (0.25, 0.25, 0.25)
        speaker = Agent("speaker_0", 0.075, movable=False, silent=False, collide=False, color=grey)
        listener = Agent("listener_0", size=0.075, collide=False)
        marks = tuple(Landmark(size=0.04, color=color) for color in COLORS)
        super().__init__(
            World((speaker, listener), marks, dim_c=3, goals=(3,)),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
        )

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """The speaker sees the goal, the listener the landmarks and the word."""
        marks = (state.position[2:] - state.position[1][None]).reshape(-1)
        return [
            jnp.asarray(np.asarray(COLORS, np.float32))[state.goal[0]],
            jnp.concatenate([state.velocity[1], marks, state.message[0]]),
        ]

    def rewards(self, state: Particles) -> jax.Array:
        """Minus the squared distance, for both."""
        gap = jnp.sum((state.position[1] - state.position[2:][state.goal[0]]) ** 2)
        return jnp.stack([-gap, -gap])

    def colors(self, goal: np.ndarray) -> list[tuple[float, float, float]]:
        """Give the listener a light shade of the goal's colour."""
        colors = super().colors(goal)
        red, green, blue = COLORS[int(goal[0])]
        colors[1] = (red + 0.45, green + 0.45, blue + 0.45)
        return colors
