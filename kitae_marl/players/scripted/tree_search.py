"""This file has opponents for board games that look ahead: OpenSpiel's tree search.

Monte Carlo tree search (UCT; Kocsis and Szepesvari 2006) with the constant 2, each new position
judged by one game to its end at random, lost and won positions proven. It grows stronger with the
number of simulations and has learned nothing from anybody, which makes it a yardstick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kitae_marl.data.stacking import starts
from kitae_marl.errors import ConfigError
from kitae_marl.types import AgentPyTree, Policy
from kitae_marl.vector.protocol import VecParallelEnv

EXPLORATION = 2.0
"""Weight of what was looked at less often."""
MEMORY = 100
"""Megabytes that the tree of one player may take."""


def connect_four_search(env: VecParallelEnv, seed: int, simulations: int) -> Policy:
    """Look ahead by so many simulations before each move; a move is a column."""
    return _Search(env, seed, simulations, "connect_four", columns=7)


def tictactoe_search(env: VecParallelEnv, seed: int, simulations: int) -> Policy:
    """Look ahead by so many simulations before each move; a move is a square."""
    return _Search(env, seed, simulations, "tic_tac_toe", columns=9)


class _Search:
    """A player by tree search, which follows each game from move to move.

    Args:
        env: vector of the game.
        seed: of its chance.
        simulations: positions that it looks at before a move.
        game: OpenSpiel's name of the game.
        columns: places that pieces go to, one for each action: the last axis of a board, flat.

    Raises:
        ConfigError: if OpenSpiel is not installed.
    """

    def __init__(
        self, env: VecParallelEnv, seed: int, simulations: int, game: str, columns: int
    ) -> None:
        try:
            import pyspiel
        except ImportError as error:
            raise ConfigError(
                "players: expected OpenSpiel for players by tree search, got none; install "
                "kitae-marl[classic].",
                "players",
            ) from error
        self._spiel, self._game = pyspiel, pyspiel.load_game(game)
        self._agents, self._columns = list(env.possible_agents), columns
        self._simulations, self._chance = simulations, np.random.default_rng(seed)
        self._states: list[Any] = []
        self._bots: list[Any] = []

    def __call__(self, observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        """Choose for the agents that are to move; others get any action."""
        masks = [np.asarray(observations[agent]["action_mask"]) for agent in self._agents]
        n_envs = len(masks[0])
        if len(self._states) != n_envs:
            self._states = [self._game.new_initial_state() for _ in range(n_envs)]
            self._bots = [self._bot() for _ in range(n_envs)]
        board = np.asarray(observations[self._agents[0]]["observation"])
        pieces = board.reshape(n_envs, -1, self._columns, 2).sum(axis=(1, 3))
        for i in np.flatnonzero(starts(infos, n_envs)):
            self._states[i] = self._game.new_initial_state()
        active = infos.get("active", {})
        actions = {agent: np.zeros(n_envs, int) for agent in self._agents}
        for i, state in enumerate(self._states):
            self._follow(state, pieces[i].astype(int))
            for agent, mask in zip(self._agents, masks, strict=True):
                to_move = bool(active[agent][i]) if agent in active else bool(mask[i].any())
                if to_move and not state.is_terminal():
                    actions[agent][i] = self._bots[i].step(state)
        return actions

    def _bot(self) -> Any:
        """Make what searches."""
        seeds = self._chance.integers(1 << 30, size=2).tolist()
        judge = self._spiel.RandomRolloutEvaluator(1, seeds[0])
        how = EXPLORATION, self._simulations, MEMORY, True, seeds[1], False
        return self._spiel.MCTSBot(self._game, judge, *how)

    def _follow(self, state: Any, pieces: np.ndarray) -> None:
        """Make the moves that have been made since the last time, one at most in each step."""
        known = np.bincount(state.history(), minlength=self._columns)
        new = np.flatnonzero(pieces > known)
        if len(new) > 1 or (pieces < known).any() or (pieces - known).max(initial=0) > 1:
            raise ValueError(
                "expected every step of a game, from its first on, by a player that searches, got "
                f"{pieces.tolist()} pieces after {state.history()}."
            )
        if len(new):
            state.apply_action(int(new[0]))
