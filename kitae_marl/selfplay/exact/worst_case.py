"""This file says what a policy gets at worst, over all that its opponent could do.

That is asked of the compiled rules alone, and holds for games in which two players take turns, see
everything and leave nothing to chance: there it is the best response of the opponent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from kitae_envs.core import Game
from kitae_envs.trees import GameTree, game_tree

from kitae_marl.errors import ConfigError
from kitae_marl.players.player import Player
from kitae_marl.runs.agent import Agent
from kitae_marl.selfplay.exact.responses import best_response, reaches, values_of
from kitae_marl.selfplay.exact.strategies import Strategy, strategy_of
from kitae_marl.types import Policy
from kitae_marl.vector.adapters.compiled_games import make_game


class WorstCase(NamedTuple):
    """What a policy gets against the opponent that is worst for it.

    Attributes:
        value: its return.
        positions: how many different positions its play allows.
        actions: the opponent's actions on one way to it, in order.
    """

    value: float
    positions: int
    actions: list[int]


def worst_case(policy: Policy | Agent | Player, game: str | Game, seat: str) -> WorstCase:
    """Return what a policy without chance and memory gets at worst in a seat.

    Args:
        policy: ``(observations, infos) -> actions`` over positions side by side, such as
            ``Agent.load(run).select_action``; it must play the same wherever it is asked the same.
            Of a trained agent itself it is the most probable actions.
        game: id of a game that has a compiled twin, or its rules (``kitae_envs.make(id)``).
        seat: name of the agent that it plays.

    Raises:
        ConfigError: for a game that does not take turns between two who see everything, an agent
            that is not in it, and games that are too large.
        TypeError: for a policy that is no function, or a game that is neither an id nor a Game.
        ValueError: if the policy chooses an action that is not allowed.

    Example:
        >>> def first(observations, infos):
        ...     return {a: mask.argmax(1) for a, mask in infos["action_mask"].items()}
        >>> found = worst_case(first, "classic/tictactoe-v3", "player_1")
        >>> found.value
        -1.0
    """
    tree = tree_of(game)
    game, agents = tree.game, list(tree.game.possible_agents)
    if not (game.turn_based and game.perfect_information):
        raise ConfigError(
            f"game: expected one in which two alike players take turns and see everything, got "
            f"{game.id}.",
            "game",
        )
    if seat not in agents:
        raise ConfigError(f"seat: expected one of {agents}, got {seat!r}.", "seat")
    number = agents.index(seat)
    own = strategy_of(policy, tree, sample=False)
    found = best_response(tree, own, 1 - number)
    both = [mine + theirs for mine, theirs in zip(_of(own, number), found.strategy, strict=True)]
    value = values_of(tree, both)[number]
    positions = sum(int((reach > 0).sum()) for reach in reaches(tree, own, number))
    return WorstCase(value, positions, _line(tree, both, 1 - number))


def tree_of(game: str | Game) -> GameTree:
    """Return the tree of a game, by its id or its rules.

    Raises:
        TypeError: for what is neither.
        ConfigError: for a game whose tree cannot be followed; the message says why.
    """
    game = make_game(game) if isinstance(game, str) else game
    if not isinstance(game, Game):
        raise TypeError(f"expected the id of a game or a Game, got {type(game).__name__}.")
    try:
        return game_tree(game)
    except ValueError as error:  # TooLargeError among them
        raise ConfigError(f"game: {error}", "game") from None


def _of(strategy: Strategy, seat: int) -> Strategy:
    """Return what one agent does, zero for the other."""
    own = (np.arange(2) == seat)[None, :, None]
    return [np.where(own, probabilities, 0.0) for probabilities in strategy]


def _line(tree: GameTree, strategy: Strategy, seat: int) -> list[int]:
    """Follow the game where nothing is left to chance; return the actions of one agent."""
    position, actions = 0, []
    for level, probabilities in zip(tree.levels, strategy, strict=True):
        mover = int(level.active[position].argmax())
        action = int(probabilities[position, mover].argmax())
        if mover == seat:
            actions.append(action)
        (move,) = np.flatnonzero((level.parent == position) & (level.action[:, mover] == action))
        position = int(level.child[move])
        if position < 0:
            break
    return actions
