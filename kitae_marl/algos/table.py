"""Policies that are tables: what an agent sees, and how probable each of its actions is then.

They are found by solving a game, not learned, and play, are rated and take seats like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kitae_marl.config.run import Config
from kitae_marl.config.table import TableConfig
from kitae_marl.data.lifting import no_memory
from kitae_marl.data.spaces import feature_space, leaves
from kitae_marl.errors import ConfigError
from kitae_marl.types import Algorithm, AlgoType, GroupSpec

Groups = tuple[GroupSpec, ...]
UNSEEN = -3e38
"""In the rows of a table that hold no observation."""


def flattened(space: gym.Space, observation: Any, n_lead: int) -> Float[Array, "*B D"]:
    """Return observations of a space as rows of numbers, behind ``n_lead`` leading axes.

    Example:
        >>> box = gym.spaces.Box(0, 1, (2, 2))
        >>> flattened(box, jnp.ones((3, 2, 2)), 1).shape
        (3, 4)
    """
    parts = [jnp.asarray(leaf.of(observation)) for leaf in leaves(space)]
    flat = [x.reshape(*x.shape[:n_lead], -1).astype(jnp.float32) for x in parts]
    return jnp.concatenate(flat, axis=-1)


def width(space: gym.Space) -> int:
    """How many numbers an observation of a space is."""
    return sum(int(np.prod(leaf.shape)) for leaf in leaves(space))


def _actions(group: GroupSpec) -> tuple[int, int]:
    """Return how many actions there are to choose from, and the number of the first."""
    if not isinstance(group.action_space, gym.spaces.Discrete):
        raise ConfigError(
            f"algo: expected Discrete actions for a table, got {group.action_space}.", "algo"
        )
    return int(group.action_space.n), int(group.action_space.start)


def empty_table(groups: Groups, config: Config) -> Callable[[jax.Array], Any]:
    """Make ``train_state(key)``: tables that know nothing yet, ``{group: ...}``.

    ``seen`` is ``[A, R, D]``, what each agent may observe; ``probabilities`` ``[A, R, K]``.
    """
    rows = config.own.n_rows

    def train_state(key: jax.Array) -> Any:
        del key
        return {
            group.name: {
                # What nobody observes, so that an empty row is nobody's.
                "seen": jnp.full(
                    (group.n_agents, rows, width(feature_space(group.observation_space))), UNSEEN
                ),
                "probabilities": jnp.zeros((group.n_agents, rows, _actions(group)[0])),
            }
            for group in groups
        }

    return train_state


def probabilities_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``probabilities(state, observation, action_mask, carry)``, of every action.

    Where an agent sees what has no row, all allowed actions are alike.
    """

    def of_group(group: GroupSpec, table: Any, observation: Any, mask: Any) -> Array:
        flat = flattened(feature_space(group.observation_space), observation, 2)
        same = jnp.all(flat[:, :, None] == table["seen"][None], axis=-1)  # [E, A, R]
        agents = jnp.arange(group.n_agents)[None]
        row = table["probabilities"][agents, jnp.argmax(same, axis=-1)]
        own = jnp.where(jnp.any(same, axis=-1)[..., None], row, 1.0)
        own = own if isinstance(mask, tuple) else own * (mask != 0)
        total = jnp.sum(own, axis=-1, keepdims=True)
        # Also where no action is allowed, as of an agent that waits, it stays a distribution.
        return jnp.where(total > 0, own / jnp.maximum(total, 1e-9), 1.0 / own.shape[-1])

    def probabilities(state: Any, observation: Any, action_mask: Any, carry: Any) -> Any:
        found = {
            g.name: of_group(g, state[g.name], observation[g.name], action_mask[g.name])
            for g in groups
        }
        return found, carry

    return probabilities


def explore_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``explore(state, key, observation, action_mask, carry)``, which samples actions."""
    probabilities = probabilities_factory(groups, config)

    def explore(state: Any, key: jax.Array, observation: Any, mask: Any, carry: Any) -> Any:
        found, carry = probabilities(state, observation, mask, carry)
        keys = jax.random.split(key, len(groups))
        action = {
            group.name: jax.random.categorical(one, jnp.log(found[group.name])) + _actions(group)[1]
            for group, one in zip(groups, keys, strict=True)
        }
        return action, (), carry

    return explore


def select_factory(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``select(state, observation, action_mask, carry)``, the most probable actions."""
    probabilities = probabilities_factory(groups, config)

    def select(state: Any, observation: Any, mask: Any, carry: Any) -> Any:
        found, carry = probabilities(state, observation, mask, carry)
        return {g.name: jnp.argmax(found[g.name], axis=-1) + _actions(g)[1] for g in groups}, carry

    return select


def refuse_to_learn(groups: Groups, config: Config) -> Callable[..., Any]:
    """Make ``learn(state, key, experience)``, which says that nothing is learned."""

    def learn(state: Any, key: Any, experience: Any) -> Any:
        raise ConfigError(
            "algo: expected an algorithm that learns, got table, a policy that was solved; train "
            "with another --algo, or write a table by kitae-marl solve ID.",
            "algo",
        )

    return learn


table = Algorithm(
    name="table",
    algo_type=AlgoType.ON_POLICY,
    settings=TableConfig,
    carry=no_memory,
    train_state=empty_table,
    explore=explore_factory,
    select=select_factory,
    learn=refuse_to_learn,
    probabilities=probabilities_factory,
)
"""A policy that is a table."""
