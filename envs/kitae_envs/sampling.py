"""Uniformly random legal actions for batches of compiled games."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.core import ByGroup, Game, TimeStep, View


def sample_actions(game: Game, key: jax.Array, step: TimeStep | View) -> ByGroup:
    """Draw uniformly random legal actions for a batch.

    Args:
        game: the game.
        key: for the draw.
        step: the batch's TimeStep, or what its agents see, for its masks.

    Returns:
        ``{group: [E, A, ...]}``; rows without a legal action hold 0.
    """
    keys = jax.random.split(key, len(game.groups))
    return {
        name: _sample(game.action_space(agents[0]), k, step.active[name], step.action_mask[name])
        for k, (name, agents) in zip(keys, game.groups.items(), strict=True)
    }


def _sample(space: gym.Space, key: jax.Array, active: jax.Array, mask: Any) -> jax.Array:
    """Draw actions of one group."""
    if isinstance(space, gym.spaces.Box):
        shape = (*active.shape, *space.shape)
        low, high = np.broadcast_to(space.low, shape), np.broadcast_to(space.high, shape)
        return jax.random.uniform(key, shape, space.dtype, low, high)
    if not isinstance(space, gym.spaces.Discrete):
        raise TypeError(f"expected a Box or Discrete action space, got {space}.")
    bits = jax.random.bits(key, active.shape, jnp.uint32)
    if isinstance(mask, tuple):
        return (bits % jnp.uint32(space.n)).astype(jnp.int32)
    return _pick(bits, mask)


def _pick(bits: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the index of the ``bits % k``-th of the ``k`` legal actions, 0 if there is none."""
    n = mask.shape[-1]
    if n > 64:
        legal = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
        index = (legal <= _modulo(bits, legal[..., -1])[..., None]).sum(-1, dtype=jnp.int32)
    else:  # unrolled: on a CPU several times faster than XLA's cumulative sum
        columns = [mask[..., i].astype(jnp.int32) for i in range(n)]
        chosen = _modulo(bits, sum(columns, jnp.zeros_like(columns[0])))
        index = seen = jnp.zeros_like(columns[0])
        for column in columns:
            seen = seen + column
            index = index + (seen <= chosen)
    return jnp.where(index < n, index, 0)


def _modulo(bits: jax.Array, count: jax.Array) -> jax.Array:
    """Return ``bits % count`` as int32, 0 where the count is 0."""
    return (bits % jnp.maximum(count, 1).astype(jnp.uint32)).astype(jnp.int32)
