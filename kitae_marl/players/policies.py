"""The first legal action of everyone: what to step a game with when nothing is being learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kitae_marl.vector.stepping.spaces import action_leaf


def first_action(space: Any) -> np.ndarray:
    """The action of zeros, or the one nearest to it that the space contains.

    Example:
        >>> from gymnasium.spaces import Box
        >>> first_action(Box(1.0, 2.0, (2,)))
        array([1., 1.], dtype=float32)
    """
    leaf = action_leaf(space)
    zeros = np.zeros(leaf.shape, leaf.dtype)
    return np.minimum(np.maximum(zeros, leaf.low), leaf.high).astype(leaf.dtype)


class FirstLegal:
    """Chooses for every agent its first legal action, in one environment or in a vector of them.

    Where no mask comes from the game, that is always the same action, the one of ``first_action``.

    Args:
        env: a parallel environment, or a vector of them (told by ``num_envs``).
    """

    def __init__(self, env: Any) -> None:
        n_envs = getattr(env, "num_envs", None)
        self._first: dict[str, Any] = {}
        for agent in env.possible_agents:
            action = first_action(env.action_space(agent))
            if n_envs is not None:
                self._first[agent] = np.repeat(action[None], n_envs, axis=0)
            else:
                self._first[agent] = action if action.ndim else action.item()
        self._starts = {a: int(getattr(env.action_space(a), "start", 0)) for a in self._first}
        self._vector = n_envs is not None

    def __call__(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> dict[str, Any]:
        """Choose; both arguments as ``reset`` or ``step`` returned them.

        Returns:
            Actions of the agents that were observed; of all agents in a vector.
        """
        if self._vector:
            masks = infos.get("action_mask")
            if masks is None:
                return self._first
            starts = self._starts
            chosen = {agent: mask.argmax(axis=1) + starts[agent] for agent, mask in masks.items()}
            return {**self._first, **chosen}
        actions = {}
        for agent, observation in observations.items():
            mask = observation.get("action_mask") if isinstance(observation, dict) else None
            if mask is None:
                mask = infos[agent].get("action_mask") if agent in infos else None
            actions[agent] = (
                self._first[agent] if mask is None else int(mask.argmax()) + self._starts[agent]
            )
        return actions
