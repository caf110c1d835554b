"""The units in which a critic learns: distance from the mean of its targets, in their deviations.

Rewards of any scale lead to the same learning: with ``normalize_return`` nothing but rounding
depends on their unit. Where the units move, the critic's last layer moves with them, so that values
stay what they were, those of states that nobody visits any more included (PopArt, van Hasselt et
al. 2016).

A critic that began at zero would take long to come to the values of a game without an end, with a
discount of 0.99 a hundred rewards away. Meanwhile a state late in an episode, whose value is mostly
bootstrapped, would seem better than one at its start where rewards are negative, and policies would
learn to reach what looks late. So the first rollout is valued by one number for all states, the one
that is right on average.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kitae_marl.algos import ops
from kitae_marl.algos.nets.networks import CRITIC_HEAD
from kitae_marl.algos.nets.normalization import Moments, first_moments, with_rows
from kitae_marl.data.lifting import over_agents
from kitae_marl.types import GroupSpec, TrainState

LEAST_SHARE = 1e-3
"""Share of decisions after which nothing follows, at least: without end and discount values would
be infinite."""
LEAST_SIZE = 1e-8, 1e-5
"""Smallest unit, and smallest beside the mean: below that differences of values are rounding."""


class Units(NamedTuple):
    """Zero and size of the critic's units, in rewards."""

    zero: Any
    size: Any

    @classmethod
    def of(cls, moments: Moments) -> Units:
        """Units with the axes of ``[T, E, A]``, ``A`` may be 1, from the moments of targets."""
        return cls(moments.mean.reshape(1, 1, -1), _size_of(moments).reshape(1, 1, -1))

    def of_rewards(self, value: jax.Array) -> jax.Array:
        """Turn values from the critic's units into those of rewards."""
        return value * self.size + self.zero

    def of_critic(self, value: jax.Array) -> jax.Array:
        """Turn values from the units of rewards into the critic's."""
        return (value - self.zero) / self.size


def baseline_of(
    group: GroupSpec,
    reward: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    active: jax.Array,
    next_active: jax.Array,
    gamma: float | jax.Array,
) -> jax.Array:
    r"""Return the value that is right on average if all states of a rollout have the same one.

        b = E[R] + gamma (1 - P(terminated)) b,  so  b = E[R] / (1 - gamma (1 - P(terminated)))

    over decisions: R adds up to the next one, terminated is the share after which none follows by
    the rules. These are temporal differences whose one feature is a constant (LSTD, Bradtke and
    Barto 1996). Where an episode is cut, values go on as usual.

    Args:
        group: whose rollout it is; agents without a network in common have values of their own.
        reward: and all other arrays ``[T, E, A]``, as of :func:`ops.generalized_advantage`.
        gamma: discount per decision.

    Returns:
        ``[1, 1, A]``, where ``A`` is 1 for agents that share a network.
    """
    # Two estimates at once, on a last axis: with a discount and values of 0 the advantage is R;
    # with rewards of 0 and discount and values of 1 it is 0 where something follows and -1 at an
    # end.
    zero, one = jnp.zeros_like(reward), jnp.ones_like(reward)

    def twice(x: jax.Array) -> jax.Array:
        return jnp.stack([x, x], axis=-1)

    advantage, valid = ops.generalized_advantage(
        jnp.stack([reward, zero], axis=-1),
        jnp.stack([zero, one], axis=-1),
        jnp.stack([zero, one], axis=-1),
        twice(terminated),
        twice(truncated),
        twice(active),
        twice(next_active),
        jnp.array([0.0, 1.0]).reshape(1, 1, 2),
        0.0,
    )

    def mean(_: Any, rows: jax.Array, counted: jax.Array) -> jax.Array:
        return with_rows(first_moments((2,)), rows, counted).mean

    each = jnp.zeros(group.n_agents)  # of agents with networks of their own
    both = over_agents(mean, group, 2, 0)(each, advantage, valid[..., 0])
    total, ends = both[..., 0], -both[..., 1]
    return (total / jnp.maximum(1.0 - gamma * (1.0 - ends), LEAST_SHARE)).reshape(1, 1, -1)


def first_baseline(group: GroupSpec, moments: Moments, *rows: Any) -> jax.Array:
    """Return the baseline of a rollout if something is to be valued by it yet, else zeros.

    Args:
        group: whose rollout it is.
        moments: of targets before it.
        rows: and discount, as of :func:`baseline_of`.
    """
    known = moments.count.reshape(1, 1, -1) > 0
    return jax.lax.cond(
        jnp.all(known),
        lambda: jnp.zeros(known.shape),
        lambda: baseline_of(group, *rows),
    )


def values_of(moments: Moments, raw: jax.Array, baseline: jax.Array) -> jax.Array:
    """Return values ``[T, E, A]`` in rewards; before anything was learned all are the baseline."""
    known = moments.count.reshape(1, 1, -1) > 0
    return jnp.where(known, Units.of(moments).of_rewards(raw), baseline)


def in_units_of(state: TrainState, moments: Any) -> TrainState:
    """Return a state whose critic says the same values in new units, before it learns in these."""
    old, new = state.moments["target"], moments["target"]
    size = _size_of(new)
    # The first units are none: what the critic says until then is not read.
    known = old.count > 0
    ratio = jnp.where(known, _size_of(old) / size, 1.0)
    shift = jnp.where(known, (old.mean - new.mean) / size, 0.0)
    critic = state.params["critic"]["params"]
    head = critic[CRITIC_HEAD]
    head = {
        "kernel": head["kernel"] * ratio[..., None, None],
        "bias": head["bias"] * ratio[..., None] + shift[..., None],
    }
    params = {"params": {**critic, CRITIC_HEAD: head}}
    return state._replace(params={**state.params, "critic": params})


def _size_of(moments: Moments) -> jax.Array:
    """Standard deviation of targets, at least what can be told from rounding."""
    least, beside_mean = LEAST_SIZE
    size = jnp.sqrt(jnp.maximum(moments.variance, 0.0))
    return jnp.maximum(size, jnp.maximum(beside_mean * jnp.abs(moments.mean), least))
