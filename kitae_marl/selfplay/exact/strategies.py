"""This file asks policies for what they do in every position of a game tree.

A strategy is a list of arrays, one for each level of the tree: how probable each action of each
agent is in each position, float64 ``[N, 2, K]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from kitae_envs.trees import GameTree, Level

from kitae_marl.data.groups import require_spaces
from kitae_marl.data.stacking import map_leaves
from kitae_marl.players.player import Player
from kitae_marl.runs.agent import Agent
from kitae_marl.types import Policy

Strategy: TypeAlias = list[np.ndarray]
"""Probabilities by level, ``[N, 2, K]``; zero where an action is not allowed."""


def uniform(tree: GameTree) -> Strategy:
    """Return the strategy that takes every allowed action alike.

    Example:
        >>> from kitae_envs import make
        >>> from kitae_envs.trees import game_tree
        >>> uniform(game_tree(make("kitae/kuhn_poker-v0")))[0][0].tolist()
        [[0.5, 0.5], [0.0, 0.0]]
    """
    return [normalised(allowed(level).astype(float)) for level in tree.levels]


def allowed(level: Level) -> np.ndarray:
    """Return which actions those have who are to act, bool ``[N, 2, K]``."""
    return level.mask & level.active[..., None]


def strategy_of(
    policy: Policy | Agent | Player, tree: GameTree, *, sample: bool = True
) -> Strategy:
    """Return what a policy does everywhere in a tree.

    Args:
        policy: a trained agent; or a function ``(observations, infos) -> actions`` that does the
            same wherever it sees the same.
        tree: of the game.
        sample: of a trained agent, how it samples; else its most probable actions.

    Raises:
        TypeError: for anything else.
        ValueError: for actions that are not allowed, or no whole numbers; for agents of another
            game; for agents with memory
            where positions are followed by what they are alone, and not by how they were reached.
    """
    if not callable(policy) and not isinstance(policy, Agent | Player):
        raise TypeError(
            "expected a trained agent, or a policy (observations, infos) -> actions such as "
            f"Agent.load(run).select_action, got {type(policy).__name__}."
        )
    player = policy.player() if isinstance(policy, Agent | Player) else None
    if player is not None:
        require_spaces(tree.game, player.possible_agents, player.groups)
    if player is not None and player.remembers and tree.game.perfect_information:
        raise ValueError(
            f"expected a policy without memory (gru_size=0) in {tree.game.id}, got one that "
            "remembers: there positions are told apart by what they are, not by the ways to them."
        )
    own: Any = policy if player is None else player
    ask = _Asked(own, tree, sample=sample)
    return [ask(number) for number in range(len(tree.levels))]


class _Asked:
    """A policy that is asked for one level of a tree after the other."""

    def __init__(self, policy: Policy | Player, tree: GameTree, *, sample: bool) -> None:
        self._policy, self._tree, self._sample = policy, tree, sample
        self._agents = list(tree.game.possible_agents)
        # All calls have one size, so that one program is compiled.
        self._size = max(len(level.known) for level in tree.levels)

    def __call__(self, number: int) -> np.ndarray:
        """Return probabilities ``[N, 2, K]`` in the positions of a level."""
        level = self._tree.levels[number]
        seen, infos = self._seen(level)
        infos["reset"] = np.full(self._size, number == 0)
        if not isinstance(self._policy, Player):
            return _one_hot(self._policy(seen, infos), level, self._agents)
        if number:
            self._carry_on(self._tree.levels[number - 1].came_from)
        if not self._sample:
            return _one_hot(self._policy.select_action(seen, infos), level, self._agents)
        found = self._policy.probabilities(seen, infos)
        stacked = np.stack([found[agent] for agent in self._agents], axis=1)
        return normalised(stacked[: len(level.known)].astype(float) * allowed(level))

    def _seen(self, level: Level) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the agents see in a level, as the vectors say it; filled up to one size."""
        rows = np.minimum(np.arange(self._size), len(level.known) - 1)
        whole = level.observation, level.mask, level.active
        observation, mask, active = jax.tree.map(lambda x: x[rows], whole)

        def by_agent(stacked: Any) -> dict[str, Any]:
            parts = (map_leaves(lambda x, i=i: x[:, i], stacked) for i in range(2))
            return dict(zip(self._agents, parts, strict=True))

        infos = {"active": by_agent(active), "action_mask": by_agent(mask.astype(np.int8))}
        return by_agent(observation), infos

    def _carry_on(self, came_from: np.ndarray) -> None:
        """Let memory be that of the positions before."""
        assert isinstance(self._policy, Player)
        rows = np.zeros(self._size, int)
        rows[: len(came_from)] = came_from
        self._policy.memory = jax.tree.map(lambda x: x[rows], self._policy.memory)


def _one_hot(actions: Any, level: Level, agents: list[str]) -> np.ndarray:
    """Return actions of those who are to act as probabilities, checked."""
    n, mask = len(level.known), level.mask
    chosen = np.zeros(mask.shape)
    for i, agent in enumerate(agents):
        to_act = np.flatnonzero(level.active[:, i])
        if not to_act.size:
            continue
        if not isinstance(actions, Mapping) or agent not in actions:
            got = list(actions) if isinstance(actions, Mapping) else type(actions).__name__
            raise ValueError(
                f"expected actions {{agent: [E]}} with {agent} among them from the policy, got "
                f"{got}."
            )
        own = np.asarray(actions[agent])
        if own.ndim != 1 or len(own) < n or not np.issubdtype(own.dtype, np.integer):
            raise ValueError(
                f"expected whole numbers [E] for {agent} from the policy, one for each of the "
                f"environments that it sees, got {own.dtype}{list(own.shape)}."
            )
        for row in to_act:
            allowed = np.flatnonzero(mask[row, i]).tolist()
            if own[row] not in allowed:
                raise ValueError(
                    f"expected an action of {allowed} for {agent} from the policy, got "
                    f"{own[row]}; what is allowed is infos['action_mask'][agent]."
                )
            chosen[row, i, own[row]] = 1.0
    return chosen


def normalised(weights: np.ndarray) -> np.ndarray:
    """Return weights divided by their sums; rows of zeros stay."""
    sums = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)
