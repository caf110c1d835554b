"""Running mean and variance of observations, states and value targets.

Moments are pytrees that follow a space: one :class:`Moments` for each Box whose numbers are put
into units of their standard deviation, ``()`` for what is encoded otherwise (images and other
bytes, discrete parts). Every function is pure; rows of weight zero have no influence.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kitae_marl.data.spaces import leaves, nest

LARGEST = 10.0
"""Normalised observations are clipped to this many standard deviations."""


class Moments(NamedTuple):
    """Mean and variance of the ``count`` values seen so far, float32.

    Attributes:
        count: number of rows, a scalar.
        mean: mean of each element, the element's shape.
        variance: variance of each element.
    """

    count: Any
    mean: Any
    variance: Any


def first_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Moments before anything was seen: normalising by them does nothing but clip."""
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def moments_of(space: gym.Space) -> Any:
    """Moments for the Boxes of a space that are normalised.

    Example:
        >>> moments_of(gym.spaces.Discrete(3)), moments_of(gym.spaces.Box(0, 1, (2,))).mean.shape
        ((), (2,))
    """
    return nest(space, [first_moments(x.shape) if x.is_amount else () for x in leaves(space)])


def _is_moments(tree: Any) -> bool:
    """Whether to stop here when walking through moments."""
    return isinstance(tree, Moments) or tree == ()


def with_rows(moments: Any, tree: Any, weight: Float[Array, "*B"]) -> Any:
    """Add rows to moments (Chan et al. 1983, the parallel update of mean and variance).

        mean' = mean + (m - mean) n / (n0 + n)
        variance' = (n0 variance + n v + (m - mean)^2 n0 n / (n0 + n)) / (n0 + n)

    Args:
        moments: as ``moments_of``.
        tree: what they are of, leaves ``[*B, ...]``.
        weight: 1 for rows that count, 0 for others.

    Example:
        >>> m = with_rows(first_moments(), jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1, 1, 0]))
        >>> m.count.item(), m.mean.item(), m.variance.item()
        (2.0, 2.0, 1.0)
    """

    def add(old: Any, x: Any) -> Any:
        if not isinstance(old, Moments):
            return old
        flat = weight.reshape(-1, *(1,) * old.mean.ndim)
        x = x.reshape(-1, *old.mean.shape).astype(jnp.float32)
        n = jnp.sum(weight).astype(jnp.float32)
        mean = jnp.sum(jnp.where(flat > 0, x, 0.0), axis=0) / jnp.maximum(n, 1.0)
        centred = jnp.where(flat > 0, x - mean[None], 0.0)
        variance = jnp.sum(centred**2, axis=0) / jnp.maximum(n, 1.0)
        count, delta = old.count + n, mean - old.mean
        share = n / jnp.maximum(count, 1.0)
        first = jnp.where(old.count > 0, old.variance, 0.0)
        merged = first * (1 - share) + variance * share + delta**2 * share * (1 - share)
        return Moments(count, old.mean + delta * share, jnp.where(count > 0, merged, old.variance))

    return jax.tree.map(add, moments, tree, is_leaf=_is_moments)


def normalized(moments: Any, tree: Any) -> Any:
    """Shift and scale to mean 0 and standard deviation 1, clipped to ``LARGEST``.

    Args:
        moments: as ``moments_of``.
        tree: what they are of, leaves ``[*B, ...]``.
    """

    def scale(m: Any, x: Any) -> Any:
        if not isinstance(m, Moments):
            return x
        mean, deviation = (_behind(part, x) for part in (m.mean, standard_deviation(m)))
        return jnp.clip((x - mean) / deviation, -LARGEST, LARGEST)

    return jax.tree.map(scale, moments, tree, is_leaf=_is_moments)


def standard_deviation(moments: Moments) -> Array:
    """Standard deviation, with a floor so that dividing by it is safe.

    Example:
        >>> standard_deviation(Moments(2, 0.0, jnp.array(9.0))).item()
        3.0
    """
    return jnp.sqrt(jnp.maximum(moments.variance, math.ulp(1.0) ** 0.5))


def _behind(part: Array, x: Any) -> Array:
    """Give a part of moments the number of axes of what it is of."""
    return part.reshape((1,) * (x.ndim - part.ndim) + part.shape)
