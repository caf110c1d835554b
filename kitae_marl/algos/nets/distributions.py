"""Action distributions by action space: sampling, log-probability, entropy and the mode.

A distribution is a record of pure functions of the network's output ``params[..., K]`` with any
leading axes. Actions are those of the action space itself, ready for the environment. Discrete ones
take masks; masked actions have probability 0. Of a Dict or Tuple the parts are independent of each
other, given what the network sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from kitae_envs.spaces import flat_space, parts_of

from kitae_marl.data.spaces import integer_choices, leaves, mask_width, nest

MASKED_LOGIT = -1e9
"""Logit of a forbidden action: its probability underflows to exactly 0, its gradient too, and a row
in which everything is masked stays finite."""


class Distribution(NamedTuple):
    """Functions of one action space.

    Attributes:
        n_outputs: how many numbers the network computes from what it sees.
        n_scales: how many log standard deviations it appends, learned and the same everywhere.
        sample: ``(params, key) -> action``.
        mode: ``(params) -> action``, the most probable one.
        log_prob: ``(params, action) -> [...]``.
        entropy: ``(params) -> [...]``, in nats.
        kl: ``(params, others) -> [...]``, in nats, the Kullback-Leibler divergence of the
            distribution with ``params`` from that with ``others``, which has the same mask.
        mask: ``(params, action_mask) -> params`` that give forbidden actions the probability 0;
            ``()`` forbids none.
        probabilities: ``(params) -> [..., K]``, of every action in order; None: of a space that is
            not Discrete.
    """

    n_outputs: int
    n_scales: int
    sample: Callable[..., Any]
    mode: Callable[..., Any]
    log_prob: Callable[..., Any]
    entropy: Callable[..., Any]
    kl: Callable[..., Any]
    mask: Callable[..., Any]
    probabilities: Callable[..., Any] | None = None


def distribution_for(space: gym.Space) -> Distribution:
    """Return the distribution over an action space.

    Args:
        space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, a ``Box`` of floats or of bounded
            integers, or a ``Dict`` or ``Tuple`` of these.

    Raises:
        TypeError: for any other space.

    Example:
        >>> distribution_for(gym.spaces.Discrete(5)).n_outputs
        5
    """
    if parts_of(space):
        return _composite(space)
    if isinstance(space, gym.spaces.Discrete):
        return _categorical(space)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return _multi_categorical(space.nvec, np.broadcast_to(space.start, space.nvec.shape))
    if isinstance(space, gym.spaces.MultiBinary):
        return _bernoulli(space)
    if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _clipped_normal(space)
    if isinstance(space, gym.spaces.Box):
        return _multi_categorical(integer_choices(space), space.low)
    raise TypeError(
        "expected an action space Discrete, MultiDiscrete, MultiBinary, Box, or a Dict or Tuple of "
        f"these, got {space}; wrap the environment so that it takes one of these."
    )


def mask_logits(logits: Float[Array, "*B K"], action_mask: Any) -> Float[Array, "*B K"]:
    """Forbid the actions whose mask is 0; ``()`` forbids none.

    Example:
        >>> jax.nn.softmax(mask_logits(jnp.zeros(3), jnp.array([1, 0, 1]))).tolist()
        [0.5, 0.0, 0.5]
    """
    if isinstance(action_mask, tuple):
        return logits
    return jnp.where(action_mask != 0, logits, MASKED_LOGIT)


def _categorical_entropy(logits: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """Entropy of a categorical distribution, masked entries counting nothing."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def _categorical_kl(
    logits: Float[Array, "*B K"], others: Float[Array, "*B K"]
) -> Float[Array, "*B"]:
    r"""Divergence of categorical distributions, ``sum_a p(a) (log p(a) - log q(a))``.

    Entries that are masked in both count nothing.

    Example:
        >>> p, q = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.75]))
        >>> round(_categorical_kl(p, q).item(), 4)  # log(4 / 3) / 2
        0.1438
    """
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _pick(logits: Float[Array, "*B K"], index: Any) -> Float[Array, "*B"]:
    """Log-probability of one entry per row."""
    log_p = jax.nn.log_softmax(logits)
    chosen = jax.nn.one_hot(index, logits.shape[-1], dtype=bool)
    return jnp.sum(jnp.where(chosen, log_p, 0.0), axis=-1)


def _categorical(space: gym.spaces.Discrete) -> Distribution:
    """Softmax over ``n`` actions, counted from the space's ``start``."""
    start = int(space.start)
    return Distribution(
        n_outputs=int(space.n),
        n_scales=0,
        sample=lambda logits, key: jax.random.categorical(key, logits) + start,
        mode=lambda logits: jnp.argmax(logits, axis=-1) + start,
        log_prob=lambda logits, action: _pick(logits, action - start),
        entropy=_categorical_entropy,
        kl=_categorical_kl,
        mask=mask_logits,
        probabilities=jax.nn.softmax,
    )


def _multi_categorical(choices: np.ndarray, first: np.ndarray) -> Distribution:
    """Independent softmaxes, their logits side by side; masks likewise.

    Args:
        choices: how many values each number of an action may have.
        first: the smallest value of each, in the same shape.
    """
    shape = choices.shape
    sizes = [int(n) for n in choices.reshape(-1)]
    edges = list(np.cumsum(sizes)[:-1])
    start = np.asarray(first, np.int32).reshape(-1)

    def split(logits: Array) -> list[Array]:
        return jnp.split(logits, edges, axis=-1)

    def shaped(action: Array) -> Array:
        return action.reshape(*action.shape[:-1], *shape)

    def sample(logits: Array, key: Array) -> Array:
        parts = zip(jax.random.split(key, len(sizes)), split(logits), strict=True)
        index = jnp.stack([jax.random.categorical(k, part) for k, part in parts], axis=-1)
        return shaped(index + _rows(start, index))

    def mode(logits: Array) -> Array:
        index = jnp.stack([jnp.argmax(part, axis=-1) for part in split(logits)], axis=-1)
        return shaped(index + _rows(start, index))

    def log_prob(logits: Array, action: Array) -> Array:
        action = action.reshape(*action.shape[: action.ndim - len(shape)], -1)
        index = action - _rows(start, action)
        return _summed([_pick(part, index[..., i]) for i, part in enumerate(split(logits))])

    def entropy(logits: Array) -> Array:
        return _summed([_categorical_entropy(part) for part in split(logits)])

    def kl(logits: Array, others: Array) -> Array:
        parts = zip(split(logits), split(others), strict=True)
        return _summed([_categorical_kl(part, other) for part, other in parts])

    return Distribution(
        n_outputs=sum(sizes),
        n_scales=0,
        sample=sample,
        mode=mode,
        log_prob=log_prob,
        entropy=entropy,
        kl=kl,
        mask=mask_logits,
    )


def _bernoulli(space: gym.spaces.MultiBinary) -> Distribution:
    """Independent bits in the space's shape."""
    shape = space.shape
    n_axes = len(shape)

    def flat(action: Array) -> Array:
        return action.reshape(*action.shape[: action.ndim - n_axes], -1)

    def unflat(bits: Array) -> Array:
        return bits.reshape(*bits.shape[:-1], *shape).astype(jnp.int8)

    def log_prob(logits: Array, action: Array) -> Array:
        sign = 2.0 * flat(action).astype(logits.dtype) - 1.0
        return jnp.sum(jax.nn.log_sigmoid(sign * logits), axis=-1)

    def entropy(logits: Array) -> Array:
        p = jax.nn.sigmoid(logits)
        nats = p * jax.nn.log_sigmoid(logits) + (1 - p) * jax.nn.log_sigmoid(-logits)
        return -jnp.sum(nats, axis=-1)

    def kl(logits: Array, others: Array) -> Array:
        p = jax.nn.sigmoid(logits)
        one = jax.nn.log_sigmoid(logits) - jax.nn.log_sigmoid(others)
        zero = jax.nn.log_sigmoid(-logits) - jax.nn.log_sigmoid(-others)
        return jnp.sum(p * one + (1 - p) * zero, axis=-1)

    return Distribution(
        n_outputs=math.prod(shape),
        n_scales=0,
        sample=lambda logits, key: unflat(jax.random.bernoulli(key, jax.nn.sigmoid(logits))),
        mode=lambda logits: unflat(logits > 0),
        log_prob=log_prob,
        entropy=entropy,
        kl=kl,
        mask=mask_logits,
    )


def _clipped_normal(space: gym.spaces.Box) -> Distribution:
    r"""Gaussian clipped to the bounds of a Box (clipped action policy, Fujita & Maeda 2018).

    The network's -1 and 1 stand for the bounds. An action inside the bounds has the density of the
    Gaussian, a bound has the whole probability of the tail beyond it:

        log p(low) = log Phi((low - mu) / sigma),  log p(high) = log Phi((mu - high) / sigma)

    so probabilities add up to one and the action that is stored is the one the game gets. A
    dimension without two finite bounds is not scaled, and clipped where it has a bound.
    ``params`` is the mean beside the log standard deviation, both in the network's units.
    """
    shape, n_axes, size = space.shape, len(space.shape), math.prod(space.shape)
    low, high = bounds_in_float32(space)
    centre, half = network_units(low, high)
    far = np.float32(1e6)  # an infinite bound in the network's units: its tail has no mass
    lowest = np.where(np.isfinite(low), (low - centre) / half, -far)
    highest = np.where(np.isfinite(high), (high - centre) / half, far)

    def to_env(u: Array) -> Array:
        action = jnp.clip(u * _rows(half, u) + _rows(centre, u), _rows(low, u), _rows(high, u))
        return action.reshape(*action.shape[:-1], *shape)

    def parts(params: Array) -> tuple[Array, Array, Array]:
        mean, log_std = params[..., :size], params[..., size:]
        return mean, log_std, jnp.exp(-log_std)

    def sample(params: Array, key: Array) -> Array:
        mean, log_std, _ = parts(params)
        return to_env(mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape))

    def log_prob(params: Array, action: Array) -> Array:
        mean, log_std, scale = parts(params)
        action = action.reshape(*action.shape[: action.ndim - n_axes], -1)
        z = ((action - _rows(centre, mean)) / _rows(half, mean) - mean) * scale
        density = -0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi) - _rows(np.log(half), mean)
        below = jax.scipy.special.log_ndtr((_rows(lowest, mean) - mean) * scale)
        above = jax.scipy.special.log_ndtr((mean - _rows(highest, mean)) * scale)
        per_axis = jnp.where(action >= _rows(high, action), above, density)
        per_axis = jnp.where(action <= _rows(low, action), below, per_axis)
        return jnp.sum(per_axis, axis=-1)

    def entropy(params: Array) -> Array:
        mean, log_std, scale = parts(params)
        a, b = (scale * (_rows(bound, mean) - mean) for bound in (lowest, highest))
        below, above = jax.scipy.special.log_ndtr(a), jax.scipy.special.log_ndtr(-b)
        inside = 1.0 - jnp.exp(below) - jnp.exp(above)
        tails = -jnp.exp(below) * below - jnp.exp(above) * above
        edges = 0.5 * (a * _standard_density(a) - b * _standard_density(b))
        body = log_std + _rows(np.log(half), mean) + 0.5 * math.log(2 * math.pi * math.e)
        return jnp.sum(tails + inside * body + edges, axis=-1)

    def kl(params: Array, others: Array) -> Array:
        # Both have their masses at the bounds; inside, log p - log q is a quadratic function of
        # z = (u - mu) / sigma, of which the moments of a normal distribution between the bounds
        # make the mean.
        (mean, log_std, scale), (mean_q, log_std_q, scale_q) = parts(params), parts(others)
        a, b = (scale * (_rows(bound, mean) - mean) for bound in (lowest, highest))
        a_q, b_q = (scale_q * (_rows(bound, mean) - mean_q) for bound in (lowest, highest))
        below, above = jax.scipy.special.log_ndtr(a), jax.scipy.special.log_ndtr(-b)
        below_q, above_q = jax.scipy.special.log_ndtr(a_q), jax.scipy.special.log_ndtr(-b_q)
        inside = 1.0 - jnp.exp(below) - jnp.exp(above)
        first = _standard_density(a) - _standard_density(b)
        second = inside + a * _standard_density(a) - b * _standard_density(b)
        ratio, shift = jnp.exp(log_std - log_std_q), (mean - mean_q) * scale_q
        squares = ratio**2 * second + 2.0 * ratio * shift * first + shift**2 * inside
        body = (log_std_q - log_std) * inside + 0.5 * (squares - second)
        tails = jnp.exp(below) * (below - below_q) + jnp.exp(above) * (above - above_q)
        return jnp.sum(body + tails, axis=-1)

    return Distribution(
        n_outputs=size,
        n_scales=size,
        sample=sample,
        mode=lambda params: to_env(params[..., :size]),
        log_prob=log_prob,
        entropy=entropy,
        kl=kl,
        mask=mask_logits,
    )


def _composite(space: gym.Space) -> Distribution:
    """Independent parts, nested as the space: outputs of all side by side, behind them all scales.

    A mask lies over the outputs of the parts that can be masked (``mask_width``), side by side.
    """
    arrays = leaves(space, "an action space")
    dists = [distribution_for(part) for _, part in flat_space(space)]
    widths = [mask_width(part) for _, part in flat_space(space)]
    n_outputs = sum(d.n_outputs for d in dists)

    def cut(x: Array, sizes: list[int]) -> list[Array]:
        return jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis=-1)

    def split(params: Array) -> list[Array]:
        outputs = cut(params[..., :n_outputs], [d.n_outputs for d in dists])
        scales = cut(params[..., n_outputs:], [d.n_scales for d in dists])
        pairs = zip(dists, outputs, scales, strict=True)
        return [jnp.concatenate([o, s], axis=-1) if d.n_scales else o for d, o, s in pairs]

    def sample(params: Array, key: Array) -> Any:
        keys = jax.random.split(key, len(dists))
        parts = zip(dists, split(params), keys, strict=True)
        return nest(space, [d.sample(part, k) for d, part, k in parts])

    def log_prob(params: Array, action: Any) -> Array:
        parts = zip(dists, split(params), arrays, strict=True)
        return _summed([d.log_prob(part, leaf.of(action)) for d, part, leaf in parts])

    def mask(params: Array, action_mask: Any) -> Array:
        if isinstance(action_mask, tuple):
            return params
        outputs = cut(params[..., :n_outputs], [d.n_outputs for d in dists])
        parts = zip(outputs, cut(action_mask, widths), widths, strict=True)
        masked = [mask_logits(out, part) if width else out for out, part, width in parts]
        return jnp.concatenate([*masked, params[..., n_outputs:]], axis=-1)

    return Distribution(
        n_outputs=n_outputs,
        n_scales=sum(d.n_scales for d in dists),
        sample=sample,
        mode=lambda params: nest(
            space, [d.mode(part) for d, part in zip(dists, split(params), strict=True)]
        ),
        log_prob=log_prob,
        entropy=lambda params: _summed(
            [d.entropy(part) for d, part in zip(dists, split(params), strict=True)]
        ),
        kl=lambda params, others: _summed(
            [d.kl(*both) for d, *both in zip(dists, split(params), split(others), strict=True)]
        ),
        mask=mask,
    )


def _summed(parts: list[Array]) -> Array:
    """Add up what is said of independent parts."""
    return sum(parts[1:], parts[0])


def _rows(constant: np.ndarray, x: Array) -> np.ndarray:
    """Give a constant ``[K]`` the axes of ``x[..., K]``: broadcasting is never left to chance."""
    return constant.reshape((1,) * (x.ndim - 1) + (-1,))


def bounds_in_float32(space: gym.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Return flat bounds in float32, rounded inwards so that actions stay in the space."""
    low, high = (bound.reshape(-1).astype(np.float32) for bound in (space.low, space.high))
    inf = np.float32(np.inf)
    low = np.where(low < space.low.reshape(-1), np.nextafter(low, inf), low)
    high = np.where(high > space.high.reshape(-1), np.nextafter(high, -inf), high)
    return low, high


def network_units(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network's 0 stands for, and how far from it 1 is, by the bounds of actions.

    Example:
        >>> inf = np.inf
        >>> [x.tolist() for x in network_units(np.array([-1, 2, 0]), np.array([2, 2, inf]))]
        [[0.5, 2.0, 0.0], [1.5, 1.0, 1.0]]
    """
    bounded = np.isfinite(low) & np.isfinite(high)
    centre = np.where(bounded, low, 0) / 2 + np.where(bounded, high, 0) / 2
    half = np.where(bounded, high, 1) / 2 - np.where(bounded, low, -1) / 2
    return centre, np.where(half > 0, half, np.float32(1))  # low == high: the action is that


def _standard_density(z: Any) -> Array:
    """Density of the standard normal distribution."""
    return jnp.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
