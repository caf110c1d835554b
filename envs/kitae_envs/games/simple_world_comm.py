"""A led pack hunts prey among food and forests, ``mpe/simple_world_comm-v3``.

==============  ================================================================================
agents          ``leadadversary_0``, ``adversary_0`` ... (predators); ``agent_0`` ... (prey)
observation     float32: own velocity and position, landmarks relative, other agents relative,
                velocities of the (other) prey, 1 or -1 for each forest one is in, the leader's
                last word (predators only; prey has the velocities last). In different places of
                the woods agents do not see each other (zeros); the leader sees all.
action          Discrete(5) or ``Box(0, 1, (5,))``; the leader Discrete(20), ``move + 5 *
                word``, or ``Box(0, 1, (9,))``
reward          prey: -5 for each predator that touches it, 2 for each food it touches, minus
                0.05 times the distance to the nearest food, a penalty beyond 0.9 from the
                centre; predators: 5 for every touch by any of them, minus 0.1 times the
                distance to the nearest prey
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

from kitae_envs.games.particles import ParticleGame, check_count, others, outside, touching
from kitae_envs.games.physics import Agent, Landmark, Particles, World


class SimpleWorldComm(ParticleGame):
    """Hunt together, led by words.

    Args:
        num_good: number of prey.
        num_adversaries: number of predators, the leader among them.
        num_obstacles: number of obstacles.
        num_food: number of places with food.
        max_cycles: steps until the episode is truncated.
        num_forests: number of forests.
        continuous_actions: Box actions instead of Discrete.
    """

    id: ClassVar[str] = "mpe/simple_world_comm-v3"

    def __init__(
        self,
        num_good: int = 2,
        num_adversaries: int = 4,
        num_obstacles: int = 1,
        num_food: int = 2,
        max_cycles: int = 25,
        num_forests: int = 2,
        continuous_actions: bool = False,
    ) -> None:
        self.bad = check_count("num_adversaries", num_adversaries)
        self.n = num_adversaries + check_count("num_good", num_good)
        first = self.n + check_count("num_obstacles", num_obstacles, 0)
        self.food = range(first, first + check_count("num_food", num_food))
        self.forests = range(
            self.food.stop, self.food.stop + check_count("num_forests", num_forests, 0)
        )
        landmarks = (
            *(Landmark(0.2, collide=True, reach=0.9) for _ in range(num_obstacles)),
            *(Landmark(0.03, reach=0.9, color=(0.15, 0.15, 0.65)) for _ in range(num_food)),
            *(Landmark(0.3, reach=0.9, color=(0.6, 0.9, 0.6)) for _ in range(num_forests)),
        )
        super().__init__(
            World(self._pack(num_good, num_adversaries), landmarks, dim_c=4),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
        )

    @staticmethod
    def _pack(num_good: int, num_adversaries: int) -> tuple[Agent, ...]:
        """Return leader, predators and prey."""
        dark, red, green = (0.65, 0.15, 0.15), (0.95, 0.45, 0.45), (0.45, 0.95, 0.45)
        leader = Agent("leadadversary_0", 0.075, silent=False, accel=3.0, max_speed=1.0, color=dark)
        return (
            leader,
            *(
                Agent(f"adversary_{i}", 0.075, accel=3.0, max_speed=1.0, color=red)
                for i in range(num_adversaries - 1)
            ),
            *(
                Agent(f"agent_{i}", 0.045, accel=4.0, max_speed=1.3, color=green)
                for i in range(num_good)
            ),
        )

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """Own motion, landmarks, and the agents that the forests do not hide."""
        agents, landmarks = state.position[: self.n], state.position[self.n :]
        inside = touching(self.world, state, range(self.n), self.forests) > 0
        open_air = ~jnp.any(inside, axis=1)
        rows = []
        for i in range(self.n):
            rest = others(self.n, i)
            together = jnp.any(inside[i][None] & inside[rest], axis=1)
            seen = together | (open_air[i] & open_air[rest]) | (i == 0)
            offsets = jnp.where(seen[:, None], agents[rest] - agents[i][None], 0.0)
            prey = rest >= self.bad
            speeds = jnp.where(seen[prey][:, None], state.velocity[rest[prey]], 0.0).reshape(-1)
            woods = jnp.where(inside[i], 1.0, -1.0)
            own = [state.velocity[i], agents[i], (landmarks - agents[i][None]).reshape(-1)]
            told = [speeds, woods, state.message[0]] if i < self.bad else [woods, speeds]
            rows.append(jnp.concatenate([*own, offsets.reshape(-1), *told]))
        return rows

    def rewards(self, state: Particles) -> jax.Array:
        """Touches, food, and distances to what one wants."""
        prey, food = range(self.bad, self.n), np.array(self.food)
        caught = touching(self.world, state, prey, range(self.bad))
        eaten = jnp.sum(touching(self.world, state, prey, self.food), axis=1)
        hungry = _nearest(state.position[self.bad : self.n], state.position[food])
        good = -5.0 * jnp.sum(caught, axis=1) + 2.0 * eaten - 0.05 * hungry
        good = good - 2.0 * outside(state.position[self.bad : self.n])
        chase = _nearest(state.position[: self.bad], state.position[self.bad : self.n])
        return jnp.concatenate([5.0 * jnp.sum(caught) - 0.1 * chase, good])


def _nearest(points: jax.Array, targets: jax.Array) -> jax.Array:
    """Return each point's distance to its nearest target."""
    gap = jnp.sum((points[:, None] - targets[None]) ** 2, axis=-1)
    return jnp.sqrt(jnp.min(gap, axis=1))
