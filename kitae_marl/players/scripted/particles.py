"""This file has the oracles of the particle games: who goes where, and the shortest way there."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float, Int

from kitae_marl.types import AgentPyTree, Policy
from kitae_marl.vector.protocol import VecParallelEnv

MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)
"""Direction of each of the five moves."""
HORIZON = 4
"""Moves that are planned ahead; one more would cost five times as much."""
_PLANS = np.array(list(product(range(5), repeat=HORIZON)))
"""All sequences of moves, ``[5 ** HORIZON, HORIZON]``."""
DT, DAMPING, FORCE = 0.1, 0.25, 5.0
"""Time of a step, share of the speed lost in it, force of a move on a mass of 1."""


def plan(
    velocity: Float[np.ndarray, "B 2"], target: Float[np.ndarray, "B 2"]
) -> Int[np.ndarray, " B"]:
    """Return the first of the four moves that keep a particle nearest to a target.

    All sequences of four moves are tried; the sum of the distances after each step and two more
    without a move decides.

    Args:
        velocity: of each particle.
        target: its position, relative to the particle.

    Returns:
        Index of the move, ``[B]``.
    """
    speed = np.repeat(velocity[:, None], len(_PLANS), axis=1)
    away = np.repeat(target[:, None], len(_PLANS), axis=1)
    cost = np.zeros(speed.shape[:2], np.float32)
    for step in range(HORIZON + 2):
        away = away - speed * DT
        cost += np.linalg.norm(away, axis=-1)
        push = MOVES[_PLANS[:, step]] if step < HORIZON else np.zeros(2, np.float32)
        speed = speed * (1 - DAMPING) + FORCE * DT * push
    return _PLANS[np.argmin(cost, axis=1), 0]


def _landmarks(observation: Float[np.ndarray, "E K"], first: int, n: int) -> np.ndarray:
    """Relative positions ``[E, n, 2]`` of the landmarks in an observation."""
    return observation[:, first : first + 2 * n].reshape(-1, n, 2)


def spread_oracle(env: VecParallelEnv) -> Policy:
    """Send every agent of simple_spread to its landmark of the shortest assignment."""
    from scipy.optimize import linear_sum_assignment  # here: it costs a third of a second

    n = len(env.possible_agents)

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        del infos
        seen = [observations[agent] for agent in env.possible_agents]
        away = np.stack([_landmarks(x, 4, n) for x in seen], axis=1)  # [E, agent, landmark, 2]
        distance = np.linalg.norm(away, axis=-1)
        chosen = np.stack([linear_sum_assignment(costs)[1] for costs in distance])
        target = np.take_along_axis(away, chosen[..., None, None], axis=2)[:, :, 0]
        moves = plan(np.stack([x[:, :2] for x in seen], 1).reshape(-1, 2), target.reshape(-1, 2))
        moves = moves.reshape(-1, n)
        return {
            agent: _action(env.action_space(agent), moves[:, i], None)
            for i, agent in enumerate(env.possible_agents)
        }

    return act


def speaker_oracle(env: VecParallelEnv) -> Policy:
    """Send the listener to the goal that the speaker sees; the speaker names it."""

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        del infos
        goal = np.argmax(observations["speaker_0"], axis=1)
        moves = _towards(observations["listener_0"], goal)
        speaker, listener = (env.action_space(a) for a in ("speaker_0", "listener_0"))
        said = np.eye(3, dtype=np.float32)[goal] if isinstance(speaker, gym.spaces.Box) else goal
        return {"speaker_0": said, "listener_0": _action(listener, moves, None)}

    return act


def reference_oracle(env: VecParallelEnv) -> Policy:
    """Send each agent to the goal that the other one sees; both name what they see."""

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        del infos
        goals = {agent: np.argmax(seen[:, 8:11], axis=1) for agent, seen in observations.items()}
        first, second = env.possible_agents
        return {
            me: _action(env.action_space(me), _towards(observations[me], goals[other]), goals[me])
            for me, other in ((first, second), (second, first))
        }

    return act


def _towards(observation: Float[np.ndarray, "E K"], goal: Int[np.ndarray, " E"]) -> np.ndarray:
    """Move towards one of three landmarks, seen after one's own velocity."""
    target = _landmarks(observation, 2, 3)[np.arange(len(goal)), goal]
    return plan(observation[:, :2], target)


def _action(space: gym.Space, moves: np.ndarray, said: np.ndarray | None) -> np.ndarray:
    """Write moves, and what is said, as actions of the space: numbers, or strengths in a Box."""
    if not isinstance(space, gym.spaces.Box):
        return moves if said is None else moves + 5 * said
    parts = [np.eye(5, dtype=np.float32)[moves]]
    if said is not None:
        parts.append(np.eye(space.shape[0] - 5, dtype=np.float32)[said])
    return np.concatenate(parts, axis=1)
