"""An algorithm, a network and callbacks as users write them, by the package's public names alone.

The algorithm is off-policy: linear values of each action (Watkins 1989, with the semi-gradient of
Sutton and Barto 2018), epsilon-greedy play, and a small replay that is part of its state. It is for
Box observations, Discrete actions, and games whose agents all act in every step of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from kitae_marl import Algorithm, AlgoType, Experience, LearnerConfig
from kitae_marl.loops.update import update_epoch


@dataclass(frozen=True)
class LinearQConfig(LearnerConfig):
    """Settings of the linear Q-learner."""

    n_steps: int = 8
    """Joint steps between two updates."""
    capacity: int = 64
    """Joint steps that the replay holds; a multiple of ``n_steps``."""
    n_gradient_steps: int = 16
    """Minibatches of one update."""
    batch_size: int = 64
    """Rows of a minibatch."""
    learning_rate: float = 0.2
    """Step size."""
    gamma: float = 0.9
    """Discount factor per step."""
    epsilon: float = 0.3
    """Probability of an action at random."""

    TRACED: ClassVar[tuple[str, ...]] = ("learning_rate", "gamma")


class Rows(NamedTuple):
    """Transitions of a group, ``[N, ...]``."""

    seen: Any
    action: Any
    reward: Any
    discount: Any
    next_seen: Any
    weight: Any


def _features(x: jax.Array) -> jax.Array:
    """What values are linear in: the numbers observed, and 1."""
    return jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1))], axis=-1).astype(jnp.float32)


def train_state(groups: Any, config: Any) -> Callable[[Any], Any]:
    """Weights of zero, and an empty replay."""

    def first(key: Any) -> Any:
        del key
        state = {}
        for group in groups:
            n_seen = group.observation_space.shape[0] + 1
            shape = (config.own.capacity, config.n_envs, group.n_agents)
            replay = Rows(
                seen=jnp.zeros((*shape, n_seen)),
                action=jnp.zeros(shape, jnp.int32),
                reward=jnp.zeros(shape),
                discount=jnp.zeros(shape),
                next_seen=jnp.zeros((*shape, n_seen)),
                weight=jnp.zeros(shape),
            )
            weights = jnp.zeros((n_seen, int(group.action_space.n)))
            state[group.name] = {"weights": weights, "replay": replay, "at": jnp.zeros((), int)}
        return state

    return first


def _values(state: Any, group: Any, observation: Any, mask: Any) -> jax.Array:
    """Values of every action ``[E, A, K]``, lowest where it is not allowed."""
    value = _features(observation[group.name]) @ state[group.name]["weights"]
    allowed = mask[group.name]
    return value if isinstance(allowed, tuple) else jnp.where(allowed > 0, value, -jnp.inf)


def explore(groups: Any, config: Any) -> Callable[..., Any]:
    """Play the best action, or with probability epsilon one at random."""

    def act(state: Any, key: Any, observation: Any, mask: Any, carry: Any) -> Any:
        actions = {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            value = _values(state, group, observation, mask)
            which, random = jax.random.split(group_key)
            anything = jnp.where(jnp.isfinite(value), 0.0, -jnp.inf)
            at_random = jax.random.categorical(random, anything)
            chance = jax.random.uniform(which, at_random.shape) < config.own.epsilon
            actions[group.name] = jnp.where(chance, at_random, jnp.argmax(value, axis=-1))
        return actions, (), carry

    return act


def select(groups: Any, config: Any) -> Callable[..., Any]:
    """Play the best action."""
    del config

    def act(state: Any, observation: Any, mask: Any, carry: Any) -> Any:
        values = {g.name: _values(state, g, observation, mask) for g in groups}
        return {name: jnp.argmax(value, axis=-1) for name, value in values.items()}, carry

    return act


def learn(groups: Any, config: Any) -> Callable[..., Any]:
    """Put the newest steps into the replay, then learn from rows drawn from it."""
    own = config.own

    def step(weights: Any, key: Any, batch: Rows) -> Any:
        del key
        best = jnp.max(batch.next_seen @ weights, axis=-1)
        target = batch.reward + batch.discount * best
        value = jnp.take_along_axis(batch.seen @ weights, batch.action[:, None], axis=1)[:, 0]
        error = batch.weight * (target - value)
        chosen = jax.nn.one_hot(batch.action, weights.shape[1])
        total = jnp.maximum(jnp.sum(batch.weight), 1.0)
        ascent = jnp.einsum("bk,b,ba->ka", batch.seen, error, chosen) / total
        return weights + own.learning_rate * ascent, {"error": jnp.sum(error**2) / total}

    def draw(key: Any, rows: Any, batch_size: int) -> Any:
        n = own.n_gradient_steps, batch_size
        chosen = jax.random.choice(key, rows[0].shape[0], n, p=rows[-1])
        return tuple(x[chosen] for x in rows)

    def update(state: Any, key: Any, experience: Experience) -> Any:
        new, metrics = {}, {}
        for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
            name = group.name
            replay, at = _put(state[name]["replay"], state[name]["at"], experience, name, own)
            rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), replay)
            weights, info = update_epoch(
                group_key, state[name]["weights"], rows, draw, step,
                experience_type=Rows, batch_size=own.batch_size,
            )  # fmt: skip
            new[name] = {"weights": weights, "replay": replay, "at": at}
            metrics |= {f"{name}/{key}": value for key, value in info.items()}
        return new, metrics

    return update


def _put(replay: Rows, at: Any, experience: Experience, name: str, own: Any) -> Any:
    """Write the newest joint steps over the oldest."""
    newest = Rows(
        seen=_features(experience.observation[name]),
        action=experience.action[name].astype(jnp.int32),
        reward=experience.reward[name],
        discount=own.gamma * (1.0 - experience.terminated[name]),
        next_seen=_features(experience.next_observation[name]),
        weight=experience.active[name].astype(jnp.float32),
    )
    put = jax.lax.dynamic_update_slice_in_dim
    replay = jax.tree.map(lambda old, x: put(old, x.astype(old.dtype), at, 0), replay, newest)
    return replay, (at + own.n_steps) % own.capacity


linear_q = Algorithm(
    name="linear_q",
    algo_type=AlgoType.OFF_POLICY,
    settings=LinearQConfig,
    carry=lambda groups, config: lambda n_envs: (),
    train_state=train_state,
    explore=explore,
    select=select,
    learn=learn,
    acting=lambda state: {name: {"weights": part["weights"]} for name, part in state.items()},
)


class SmallNet(nn.Module):
    """Features of an observation: one layer, of a width that no default has."""

    space: Any

    @nn.compact
    def __call__(self, observation: Any) -> Any:
        lead = observation.ndim - len(self.space.shape)
        flat = observation.reshape(*observation.shape[:lead], -1).astype(jnp.float32)
        return nn.relu(nn.Dense(7)(flat))
