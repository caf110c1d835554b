"""Returns, advantages and losses: each formula once, with its equation and its paper.

Time is the first axis where there is one. Every function is pure and jittable; rows with weight or
``active`` zero have no influence on any result, whatever numbers they hold.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

LEAST_WEIGHT = 1e-8
"""Smallest sum of weights that a mean divides by."""


def weighted_sum(x: Float[Array, "*B"], weight: Float[Array, "*B"]) -> Float[Array, ""]:
    r"""Sum over rows of positive weight, ``sum(w x)``.

    Example:
        >>> weighted_sum(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 2.0, 0.0])).item()
        7.0
    """
    return jnp.sum(jnp.where(weight > 0, x, 0.0) * weight)


def weighted_mean(x: Float[Array, "*B"], weight: Float[Array, "*B"]) -> Float[Array, ""]:
    r"""Mean over rows of positive weight, ``sum(w x) / max(sum(w), 1e-8)``; 0 where there is none.

    Example:
        >>> weighted_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0])).item()
        2.0
    """
    return weighted_sum(x, weight) / jnp.maximum(jnp.sum(weight), LEAST_WEIGHT)


def normalize(
    x: Float[Array, "*B"], weight: Float[Array, "*B"], eps: float = 1e-8
) -> Float[Array, "*B"]:
    """Shift and scale to mean 0 and standard deviation 1 over the rows of positive weight.

    Example:
        >>> normalize(jnp.array([1.0, 3.0]), jnp.ones(2)).tolist()
        [-1.0, 1.0]
    """
    mean = weighted_mean(x, weight)
    centred = jnp.where(weight > 0, x - mean, 0.0)
    variance = weighted_mean(centred**2, weight)
    return centred * jax.lax.rsqrt(variance + eps**2)


def generalized_advantage(
    reward: Float[Array, "T *B"],
    value: Float[Array, "T *B"],
    next_value: Float[Array, "T *B"],
    terminated: Bool[Array, "T *B"],
    truncated: Bool[Array, "T *B"],
    active: Bool[Array, "T *B"],
    next_active: Bool[Array, "T *B"],
    gamma: float | Float[Array, ""],
    lam: float | Float[Array, ""],
) -> tuple[Float[Array, "T *B"], Bool[Array, "T *B"]]:
    r"""Generalised advantage estimation over own decisions (Schulman et al. 2016, eq. 16).

    Between two decisions of the agent (rows where ``active``), rewards add up undiscounted to R and

        delta_t = R_t + gamma * (1 - terminated) * V(next decision) - V_t
        A_t = delta_t + gamma * lambda * (1 - ended) * A(next decision)

    Where the episode ends before the next decision, the value that bootstraps is ``next_value`` of
    the ending row if it was truncated, 0 if it was terminated. In a game where every agent acts at
    every step this is the usual estimator.

    Args:
        reward: reward of each step, shape ``[T, ...]``; counted also where the agent was waiting.
        value: value of each observation.
        next_value: value of the true next observation (read at the end of an episode and in the
            last row).
        terminated: the agent's episode ended by the rules.
        truncated: the agent's episode was cut.
        active: the agent was to act.
        next_active: the agent is to act on the next observation (read in the last row).
        gamma: discount per decision, in [0, 1].
        lam: decay, in [0, 1].

    Returns:
        ``(advantage, valid)``. ``valid`` marks decisions whose outcome lies inside the rollout;
        elsewhere the advantage is 0.
    """
    ended = terminated | truncated

    def step(carry, row):
        later_reward, bootstrap, trace, closed = carry
        reward, value, next_value, terminated, ended, active = row
        later_reward = jnp.where(ended, 0.0, later_reward)
        bootstrap = jnp.where(ended, jnp.where(terminated, 0.0, next_value), bootstrap)
        trace = jnp.where(ended, 0.0, trace)
        closed = closed | ended
        total = reward + later_reward
        valid = active & closed
        advantage = jnp.where(valid, total + gamma * bootstrap - value + gamma * lam * trace, 0.0)
        carry = (
            jnp.where(active, 0.0, total),
            jnp.where(active, value, bootstrap),
            jnp.where(active, advantage, trace),
            active | closed,
        )
        return carry, (advantage, valid)

    zeros = jnp.zeros_like(value[-1])
    last = (zeros, next_value[-1], zeros, next_active[-1])
    rows = (reward, value, next_value, terminated, ended, active)
    _, (advantage, valid) = jax.lax.scan(step, last, rows, reverse=True)
    return advantage, valid


def clipped_surrogate_loss(
    log_prob: Float[Array, "*B"],
    old_log_prob: Float[Array, "*B"],
    advantage: Float[Array, "*B"],
    clip: float | Float[Array, ""],
) -> Float[Array, "*B"]:
    r"""Per-row policy loss of PPO (Schulman et al. 2017, eq. 7), to be minimised.

        r = exp(log_prob - old_log_prob)
        loss = -min(r A, clip(r, 1 - eps, 1 + eps) A)

    Example:
        >>> clipped_surrogate_loss(jnp.log(2.0), jnp.log(1.0), jnp.array(1.0), 0.2).round(3).item()
        -1.2000000476837158
    """
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def approximate_kl(
    log_prob: Float[Array, "*B"], old_log_prob: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    r"""Per-row estimate of KL(old || new), ``(r - 1) - log r`` (Schulman 2020, estimator k3).

    Example:
        >>> approximate_kl(jnp.array(0.0), jnp.array(0.0)).item()
        0.0
    """
    log_ratio = log_prob - old_log_prob
    return jnp.expm1(log_ratio) - log_ratio


def explained_variance(
    prediction: Float[Array, "*B"], target: Float[Array, "*B"], weight: Float[Array, "*B"]
) -> Float[Array, ""]:
    """Share of the targets' variance that the predictions explain: 1 perfect, 0 like a constant."""
    error = jnp.where(weight > 0, target - prediction, 0.0)
    centred_error = error - weighted_mean(error, weight)
    centred_target = target - weighted_mean(target, weight)
    variance = weighted_mean(centred_target**2, weight)
    residual = weighted_mean(centred_error**2, weight)
    return 1.0 - residual / jnp.maximum(variance, 1e-8)
