"""Further actors of a group beside the one that acts: a magnet, and the average policy.

In games of imperfect information the newest policy of self-play need not come to rest: what is best
against it goes round in circles. Two copies of the actor help. The **magnet** follows the actor
slowly and holds it back, by the divergence of the policy from it in the loss: magnetic mirror
descent (Sokota et al. 2023, "A unified approach to reinforcement learning, quantal response
equilibria, and two-player zero-sum games"), with a magnet that moves, so that what is approached is
no equilibrium of a game with a bonus, but of the game itself. The **average** is the mean of the
actor's parameters over the run, later updates counted for more; it changes less than they do.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from kitae_marl.config.run import Config
from kitae_marl.data.lifting import behind
from kitae_marl.errors import ConfigError
from kitae_marl.types import TrainState

MAGNET, AVERAGE = "magnet", "average"
LATER = 3.0
"""How much later updates count for more in the average, as of :func:`average_step`."""


def has_magnet(config: Config) -> bool:
    """Whether the policy is held near a magnet."""
    return config.ppo.magnet_coef > 0.0


def first_actors(config: Config, actor: Any) -> Any:
    """Return copies of the first actor for all that are in use, by name; ``()`` for none."""
    names = {MAGNET: has_magnet(config), AVERAGE: config.ppo.average}
    actors = {name: actor for name, used in names.items() if used}
    return jax.tree.map(jnp.array, actors) or ()  # copies: updates donate each array once


def moved_actors(config: Config, state: TrainState) -> Any:
    """Return the further actors after an update, of all agents of a group.

    Args:
        config: settings of the run.
        state: of the group, learned, its ``n_updates`` not yet counted up.
    """
    new = state.params["actor"]
    rates = {MAGNET: jnp.asarray(config.ppo.magnet_rate), AVERAGE: average_step(state.n_updates)}

    def moved(name: str, old: Any) -> Any:
        return jax.tree.map(lambda x, y: x + behind(rates[name], x) * (y - x), old, new)

    return {name: moved(name, old) for name, old in dict(state.actors).items()} or ()


def average_step(n_updates: jax.Array) -> jax.Array:
    r"""Return the share of its way to the actor that the average goes.

        a_t = a_(t-1) + (k + 1) / (t + k) (theta_t - a_(t-1)),  t = 1, 2, ...

    which weights theta_t with about t^k (polynomial-decay averaging, Shamir and Zhang 2013).

    Args:
        n_updates: updates before this one, ``t - 1``.

    Example:
        >>> average_step(jnp.array([0, 4])).tolist()
        [1.0, 0.5]
    """
    return (LATER + 1.0) / (n_updates + 1.0 + LATER)


def entropy_left(config: Config, n_updates: jax.Array) -> Any:
    """Return the share of the weight of the entropy bonus that is left after some updates."""
    end = config.ppo.entropy_end
    if end == 1.0:
        return 1.0
    return 1.0 - (1.0 - end) * jnp.minimum(n_updates / config.n_updates, 1.0)


def average(state: dict[str, TrainState]) -> dict[str, TrainState]:
    """Return a state that acts by the average policy; ``Algorithm.average``.

    Raises:
        ConfigError: if none was kept.
    """
    if any(AVERAGE not in dict(part.actors) for part in state.values()):
        raise ConfigError(
            "policy: expected a run that keeps its average policy, got one trained without; train "
            "it with --ppo.average (in Python average=True).",
            "policy",
        )
    return {
        name: part._replace(params={**part.params, "actor": part.actors[AVERAGE]})
        for name, part in state.items()
    }
