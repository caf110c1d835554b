"""Good agents hide which landmark is theirs, ``mpe/simple_adversary-v3``.

==============  ================================================================================
agents          ``adversary_0``; ``agent_0`` ... ``agent_{N-1}``
observation     good: float32 ``[2 + 2N + 2N]``: goal, landmarks, other agents, all relative;
                adversary: the same without the goal
action          Discrete(5): stay, left, right, down, up; or ``Box(0, 1, (5,))``
reward          adversary: minus its distance to the goal; good: plus that distance, minus the
                nearest good agent's distance to the goal
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


class SimpleAdversary(ParticleGame):
    """Reach the goal without giving it away.

    Args:
        N: number of good agents and of landmarks.
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
        num_agent_neighbors: see only so many nearest agents; None: all.
        num_landmark_neighbors: see only so many nearest landmarks; None: all.
    """

    id: ClassVar[str] = "mpe/simple_adversary-v3"

    def __init__(
        self,
        N: int = 2,
        max_cycles: int = 25,
        continuous_actions: bool = False,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        check_count("N", N)
        red = Agent("adversary_0", size=0.15, collide=False, color=(0.85, 0.35, 0.35))
        good = tuple(Agent(f"agent_{i}", size=0.15, collide=False) for i in range(N))
        mark = Landmark(size=0.08, color=(0.15, 0.15, 0.15))
        super().__init__(
            World((red, *good), (mark,) * N, goals=(N,)),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
        )
        self.n = N + 1
        self.seen_agents = check_count("num_agent_neighbors", num_agent_neighbors)
        self.seen_landmarks = check_count("num_landmark_neighbors", num_landmark_neighbors)

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """Goal (good agents only), landmarks and other agents, relative."""
        agents, landmarks = state.position[: self.n], state.position[self.n :]
        goal = landmarks[state.goal[0]]
        rows = []
        for i in range(self.n):
            marks = nearest_offsets(agents[i], landmarks, self.seen_landmarks)
            rest = nearest_offsets(agents[i], agents[others(self.n, i)], self.seen_agents)
            secret = [goal - agents[i]] if i > 0 else []
            rows.append(jnp.concatenate([*secret, marks.reshape(-1), rest.reshape(-1)]))
        return rows

    def rewards(self, state: Particles) -> jax.Array:
        """Distances to the goal."""
        goal = state.position[self.n :][state.goal[0]]
        gap = jnp.sqrt(jnp.sum((state.position[: self.n] - goal[None]) ** 2, axis=-1))
        good = gap[0] - jnp.min(gap[1:])
        return jnp.where(np.arange(self.n) == 0, -gap[0], good)

    def colors(self, goal: np.ndarray) -> list[tuple[float, float, float]]:
        """Paint the goal green."""
        colors = super().colors(goal)
        colors[self.n + int(goal[0])] = (0.15, 0.65, 0.15)
        return colors
