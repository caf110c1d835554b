"""Alice sends Bob a secret that Eve overhears, ``mpe/simple_crypto-v3``.

==============  ================================================================================
agents          ``eve_0``, ``bob_0``, ``alice_0``
observation     alice: float32 ``[8]``: message, key; bob: ``[8]``: key, alice's last word; eve:
                ``[4]``: alice's last word
action          Discrete(4) or ``Box(0, 1, (4,))``, a word
reward          with ``e_x`` the squared distance of x's word to the message (0 while silent):
                alice and bob ``e_eve - e_bob``, eve ``-e_eve``
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


class SimpleCrypto(ParticleGame):
    """Agree on a code that a listener cannot read.

    Args:
        max_cycles: steps until the episode is truncated.
        continuous_actions: Box actions instead of Discrete.
    """

    id: ClassVar[str] = "mpe/simple_crypto-v3"

    def __init__(self, max_cycles: int = 25, continuous_actions: bool = False) -> None:
        colors = {"eve_0": (0.75, 0.25, 0.25), "bob_0": (0.9, 0.7, 0.2), "alice_0": (0.3, 0.6, 0.9)}
        agents = tuple(
            Agent(name, movable=False, silent=False, collide=False, color=color)
            for name, color in colors.items()
        )
        super().__init__(
            World(agents, (Landmark(), Landmark()), dim_c=4, goals=(2, 2)),
            max_cycles=max_cycles,
            continuous_actions=continuous_actions,
        )

    def observe_agents(self, state: Particles) -> list[jax.Array]:
        """Alice sees message and key, Bob the key and her word, Eve her word."""
        message, key = jax.nn.one_hot(state.goal, 4, dtype=jnp.float32)
        word = state.message[2]
        return [word, jnp.concatenate([key, word]), jnp.concatenate([message, key])]

    def rewards(self, state: Particles) -> jax.Array:
        """How near Bob and Eve came to the message."""
        message = jax.nn.one_hot(state.goal[0], 4, dtype=jnp.float32)
        error = jnp.sum((state.message - message[None]) ** 2, axis=-1)
        eve, bob, _ = jnp.where(jnp.any(state.message != 0, axis=-1), error, 0.0)
        return jnp.stack([-eve, eve - bob, eve - bob])
