"""Rollouts of random numbers, for tests of what algorithms learn from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import jax
import numpy as np

from kitae_marl.types import Experience, GroupSpec

T, E = 8, 4
"""Steps and environments of a rollout."""
BOX = gym.spaces.Box(-9, 9, (3,), np.float32)


def make_groups(share_params: bool, n_agents: int = 2) -> tuple[GroupSpec, ...]:
    """A group that chooses among four actions under masks, and one that steers."""
    agents = tuple(f"a_{i}" for i in range(n_agents))
    box = gym.spaces.Box(-1, 1, (2,), np.float32)
    return (
        GroupSpec("a", agents, BOX, gym.spaces.Discrete(4), share_params),
        GroupSpec("b", ("b_0",), BOX, box, share_params),
    )


def rollout(groups: tuple[GroupSpec, ...], act: Any) -> Experience:
    """A rollout with turns: random numbers, about a third of the rows inactive."""
    rng = np.random.default_rng(0)
    n_agents = {group.name: group.n_agents for group in groups}

    def each(make: Any) -> dict[str, np.ndarray]:
        return {name: make((T, E, n)) for name, n in n_agents.items()}

    def normal(shape: tuple[int, ...]) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    observation = each(lambda shape: normal((*shape, 3)))
    mask = {"a": rng.integers(2, size=(T, E, n_agents["a"], 4), dtype=np.int8), "b": ()}
    mask["a"][..., 1] = 1
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (observation, mask))
    action, log_prob, _ = act(*flat)
    action, log_prob = jax.tree.map(
        lambda x: np.asarray(x).reshape(T, E, *x.shape[1:]), (action, log_prob)
    )
    ends = rng.random((2, T, E, 1)) < 0.1
    return Experience(
        observation=observation,
        action=action,
        reward=each(normal),
        terminated=each(lambda shape: np.broadcast_to(ends[0], shape)),
        truncated=each(lambda shape: np.broadcast_to(ends[1] & ~ends[0], shape)),
        next_observation=each(lambda shape: normal((*shape, 3))),
        extras=log_prob,
        action_mask=mask,
        active=each(lambda shape: rng.random(shape) < 0.7),
        next_active=each(lambda shape: rng.random(shape) < 0.7),
    )
