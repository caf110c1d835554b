"""This file has the policies that learn nothing: random and first legal actions, and seats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from kitae_envs.spaces import parts_of

from kitae_marl.data.masks import best_scored
from kitae_marl.data.spaces import Leaf, leaves, nest
from kitae_marl.data.stacking import map_leaves, mask_in
from kitae_marl.types import AgentPyTree, Policy
from kitae_marl.vector.adapters.as_parallel import is_vec_parallel
from kitae_marl.vector.protocol import VecParallelEnv


def first_action(space: Any) -> Any:
    """The action of zeros, or the one nearest to it that the space contains, nested likewise.

    Example:
        >>> from gymnasium.spaces import Box
        >>> first_action(Box(1.0, 2.0, (2,)))
        array([1., 1.], dtype=float32)
    """

    def first(leaf: Leaf) -> np.ndarray:
        zeros = np.zeros(leaf.shape, leaf.dtype)
        return np.minimum(np.maximum(zeros, leaf.low), leaf.high).astype(leaf.dtype)

    return nest(space, map(first, leaves(space, "an action space")))


class FirstLegal:
    """Chooses for every agent its first legal action, in one environment or in a vector of them.

    Where no mask comes from the game, that is always the same action, the one of ``first_action``.

    Args:
        env: a parallel environment, or a vector of them.
    """

    def __init__(self, env: Any) -> None:
        n_envs = env.num_envs if is_vec_parallel(env) else None
        self._first: dict[str, Any] = {}
        for agent in env.possible_agents:
            action = first_action(env.action_space(agent))
            if n_envs is not None:
                self._first[agent] = map_leaves(
                    lambda leaf: np.repeat(leaf[None], n_envs, axis=0), action
                )
            else:
                self._first[agent] = map_leaves(_plain, action)
        self._spaces = {agent: env.action_space(agent) for agent in self._first}
        self._vector = n_envs is not None

    def __call__(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> dict[str, Any]:
        """Choose; both arguments as ``reset`` or ``step`` returned them.

        Returns:
            Actions of the agents that were observed; of all agents in a vector.
        """
        if self._vector:
            masks = infos.get("action_mask")
            if masks is None:
                return self._of_rows(infos)
            chosen = {
                a: best_scored(self._spaces[a], mask, self._first[a]) for a, mask in masks.items()
            }
            return {**self._of_rows(infos), **chosen}
        actions = {}
        for agent, observation in observations.items():
            mask = mask_in(observation)
            if mask is None:
                mask = infos[agent].get("action_mask") if agent in infos else None
            if mask is None:
                actions[agent] = self._first[agent]
            else:
                action = best_scored(self._spaces[agent], mask, self._first[agent])
                actions[agent] = map_leaves(_plain, action)
        return actions

    def _of_rows(self, infos: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first actions, in as many environments as were observed."""
        active = infos.get("active")
        if not active:
            return self._first
        n_envs = len(next(iter(active.values())))
        return {
            agent: map_leaves(lambda leaf: leaf[:n_envs], action)
            for agent, action in self._first.items()
        }


def random_policy(env: VecParallelEnv, seed: int = 0) -> Policy:
    """Return the policy that draws every allowed action with equal probability.

    Actions of a Box without two finite bounds are drawn as its ``sample`` does.
    """
    generator = np.random.default_rng(seed)
    for agent in env.possible_agents:
        env.action_space(agent).seed(int(generator.integers(2**31)))

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        return {agent: draw(agent, observations[agent], infos) for agent in env.possible_agents}

    def draw(agent: str, observation: Any, infos: Mapping[str, Any]) -> np.ndarray:
        space: Any = env.action_space(agent)
        mask = infos.get("action_mask", {}).get(agent)
        if mask is None:
            mask = mask_in(observation)
        if mask is not None:
            scores = np.where(mask != 0, generator.random(mask.shape), -1.0)
            return best_scored(space, scores, drawn(space) if parts_of(space) else None)
        return drawn(space)

    def drawn(space: Any) -> Any:
        if isinstance(space, gym.spaces.Discrete):
            return generator.integers(space.n, size=env.num_envs) + space.start
        samples = [space.sample() for _ in range(env.num_envs)]
        return map_leaves(lambda *rows: np.stack(rows), *samples)

    return act


def _plain(action: np.ndarray) -> Any:
    """Return an array as it is, or the number that it holds."""
    return action if np.ndim(action) else np.asarray(action).item()


def seated(policies: Mapping[str, Policy]) -> Policy:
    """Join policies, one for each agent, into the policy of all agents.

    Each distinct policy is called once a step, for all agents; only the actions of the agents it
    was given for are taken.

    Args:
        policies: ``{agent: policy}`` for every agent of the game.
    """
    distinct = list({id(policy): policy for policy in policies.values()}.values())

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        actions = {id(policy): policy(observations, infos) for policy in distinct}
        return {agent: actions[id(policy)][agent] for agent, policy in policies.items()}

    return act
