"""This file has opponents for board games that look one move ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kitae_marl.types import AgentPyTree, Policy
from kitae_marl.vector.protocol import VecParallelEnv


def _lines(height: int, width: int, length: int) -> np.ndarray:
    """Every line of a board, as flat indices ``[lines, length]``."""
    lines = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for y in range(height):
            for x in range(width):
                last_y, last_x = y + dy * (length - 1), x + dx * (length - 1)
                if last_y < height and 0 <= last_x < width:
                    lines.append([(y + dy * k) * width + x + dx * k for k in range(length)])
    return np.array(lines)


def tictactoe_bot(env: VecParallelEnv, seed: int = 0) -> Policy:
    """Win if it can, else block, else play at random."""
    lines = _lines(3, 3, 3)
    return _one_ply(env, lines, lambda empty, action: action, _at_random(seed))


def connect_four_bot(env: VecParallelEnv, seed: int = 0) -> Policy:
    """Win if it can, else block, else play at random."""
    return _one_ply(env, _lines(6, 7, 4), _lowest, _at_random(seed))


def connect_four_centre(env: VecParallelEnv, seed: int = 0) -> Policy:
    """Win if it can, else block, else play as near to the middle as it can, to the left of it."""
    del seed  # nothing is left to chance
    middle = 3
    return _one_ply(
        env, _lines(6, 7, 4), _lowest, lambda legal: int(min(legal, key=lambda x: abs(x - middle)))
    )


def _lowest(empty: np.ndarray, column: int) -> int:
    """Return the square that a piece falls to."""
    return int(np.flatnonzero(empty[column::7])[-1]) * 7 + column


def _at_random(seed: int) -> Callable[[np.ndarray], int]:
    """Return what draws one of some moves."""
    generator = np.random.default_rng(seed)
    return lambda legal: int(generator.choice(legal))


def _one_ply(
    env: VecParallelEnv,
    lines: np.ndarray,
    square: Callable[[np.ndarray, int], int],
    otherwise: Callable[[np.ndarray], int],
) -> Policy:
    """Make the policy of a game whose player wins by filling a line.

    Args:
        env: vector of the game; an observation holds the boards of both players, one's own first.
        lines: flat indices of every line.
        square: ``(empty, action) -> index`` of the square that an action fills.
        otherwise: ``legal -> action`` where there is nothing to win and nothing to block.
    """

    def completes(board: np.ndarray, index: int) -> bool:
        through = lines[np.any(lines == index, axis=1)]
        return bool(np.any(board[through].sum(axis=1) == lines.shape[1] - 1))

    def choose(boards: np.ndarray, mask: np.ndarray) -> int:
        own, other = boards.reshape(-1, 2).T
        legal = np.flatnonzero(mask)
        if not len(legal):  # it is not this agent's turn, and any action will do
            return 0
        squares = [square((own + other) == 0, int(action)) for action in legal]
        for board in (own, other):  # its own board first: winning comes before blocking
            for action, index in zip(legal, squares, strict=True):
                if completes(board, index):
                    return int(action)
        return otherwise(legal)

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        del infos
        return {
            agent: np.array(
                [
                    choose(boards, mask)
                    for boards, mask in zip(
                        observations[agent]["observation"],
                        observations[agent]["action_mask"],
                        strict=True,
                    )
                ]
            )
            for agent in env.possible_agents
        }

    return act
