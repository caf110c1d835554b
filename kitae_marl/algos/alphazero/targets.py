"""This file says what is learned from a rollout: policies of searches, and results of games."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kitae_marl.algos.alphazero.rules import Rules, of_mover
from kitae_marl.types import Experience, GroupSpec


class Row(NamedTuple):
    """A position to learn from, as the agent to move saw it; arrays ``[B, ...]``.

    Attributes:
        seen: what the network sees.
        mask: which moves were allowed, int8 ``[B, K]``.
        policy: what the search made of the network's policy, ``[B, K]``.
        value: what the game came to for the agent to move.
        weight: 0 or 1, whether the value is learned from.
        policy_weight: 0 or 1, whether the policy is.
    """

    seen: Any
    mask: Any
    policy: Any
    value: Any
    weight: Any
    policy_weight: Any


def results(
    reward: Float[Array, "T *B"],
    root: Float[Array, "T *B"],
    terminated: Bool[Array, "T *B"],
    truncated: Bool[Array, "T *B"],
) -> Float[Array, "T *B"]:
    r"""What one agent gets from each step to the end of its game, undiscounted.

        G_t = r_t                 where the game ends in step t
        G_t = r_t + G_{t+1}       elsewhere
        G_t = root_t              where it is cut, or in the last step of the rollout

    Args:
        reward: of the agent.
        root: what a search before the step expected for it.
        terminated: the game ended in this step by its rules.
        truncated: the game was cut in this step.

    Example:
        >>> reward, root = jnp.array([0.0, 1.0, 0.0, 0.0]), jnp.array([0.1, 0.2, 0.3, 0.4])
        >>> ended, never = jnp.array([False, True, False, False]), jnp.zeros(4, bool)
        >>> [round(x, 1) for x in results(reward, root, ended, never).tolist()]
        [1.0, 1.0, 0.4, 0.4]
    """
    last = jnp.zeros_like(terminated).at[-1].set(True)

    def back(after: Array, step: Any) -> tuple[Array, Array]:
        reward, root, terminated, cut = step
        value = jnp.where(terminated, reward, jnp.where(cut, root, reward + after))
        return value, value

    steps = reward, root, terminated, truncated | last
    return jax.lax.scan(back, jnp.zeros_like(reward[0]), steps, reverse=True)[1]


def rows_of(
    rules: Rules, group: GroupSpec, experience: Experience, root_share: float | jax.Array
) -> Row:
    """Return the rows of a rollout, ``[T * E, ...]``.

    Args:
        rules: of the game.
        group: the two agents.
        experience: the rollout, with what was found by the searches as its extras.
        root_share: share of the search's own value in the value that is learned.
    """
    name = group.name
    lead = experience.reward[name].shape[:2]
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]),
        (experience.observation[name], experience.action_mask[name], experience.active[name]),
    )
    sight, found = rules.sight(*flat[:2]), experience.extras[name]
    # Seen by the first agent: what is good for one is as bad for the other.
    side = jnp.where(sight.mover.reshape(lead) == 0, 1.0, -1.0)
    root = found["value"][..., 0]
    result = side * results(
        experience.reward[name][..., 0],
        side * root,
        jnp.all(experience.terminated[name], axis=-1),
        jnp.all(experience.truncated[name], axis=-1),
    )
    weight = of_mover(sight.mover, flat[2]).astype(jnp.float32)
    full = found["full"][..., 0].reshape(-1)
    return Row(
        seen=sight.seen,
        mask=sight.mask,
        policy=found["policy"][:, :, 0].reshape(-1, rules.n_actions),
        value=((1.0 - root_share) * result + root_share * root).reshape(-1),
        weight=weight,
        policy_weight=weight * full,
    )
