"""This file keeps the rows of the newest rollouts, as arrays in the state of an algorithm."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Replay(NamedTuple):
    """A ring of rollouts.

    Attributes:
        rows: pytree of arrays ``[N, B, ...]``: rollouts and their rows.
        n_added: rollouts put in so far, an int32 scalar.
    """

    rows: Any
    n_added: Any


def empty_replay(row: Any, n_rollouts: int, n_rows: int) -> Replay:
    """Return a ring that holds nothing.

    Args:
        row: pytree of the shapes and dtypes of one row.
        n_rollouts: how many rollouts it keeps.
        n_rows: rows of a rollout.
    """
    lead = n_rollouts, n_rows
    zeros = jax.tree.map(lambda x: jnp.zeros((*lead, *x.shape), x.dtype), row)
    return Replay(zeros, jnp.zeros((), jnp.int32))


def add(replay: Replay, rows: Any) -> Replay:
    """Put a rollout ``[B, ...]`` in the place of the oldest.

    Example:
        >>> replay = empty_replay(jnp.float32(0), 2, 1)
        >>> for x in (1.0, 2.0, 3.0):
        ...     replay = add(replay, jnp.array([x]))
        >>> replay.rows.tolist()
        [[3.0], [2.0]]
    """
    place = replay.n_added % jax.tree.leaves(replay.rows)[0].shape[0]
    put = jax.lax.dynamic_update_index_in_dim
    rows = jax.tree.map(lambda old, x: put(old, x.astype(old.dtype), place, 0), replay.rows, rows)
    return Replay(rows, replay.n_added + 1)


def sample(key: jax.Array, replay: Replay, shape: tuple[int, ...]) -> Any:
    """Draw rows, each with equal probability, with replacement; leaves ``[*shape, ...]``.

    Example:
        >>> replay = add(empty_replay(jnp.float32(0), 3, 2), jnp.array([4.0, 5.0]))
        >>> set(sample(jax.random.key(0), replay, (50,)).tolist()) == {4.0, 5.0}
        True
    """
    n_rollouts, n_rows = jax.tree.leaves(replay.rows)[0].shape[:2]
    held = jnp.minimum(replay.n_added, n_rollouts)
    at = jax.random.randint(key, shape, 0, held * n_rows)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[at], replay.rows)
