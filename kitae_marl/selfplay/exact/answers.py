"""This file gives exact answers to questions about small games: from their compiled rules alone.

How much can be gained against a policy, what it gets at worst, and who cannot be gained against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from kitae_envs.core import Game
from kitae_envs.trees import GameTree, game_tree

from kitae_marl.algos.table import flattened
from kitae_marl.config.checks import require, require_count
from kitae_marl.config.run import Config
from kitae_marl.config.table import TableConfig
from kitae_marl.data.spaces import feature_space
from kitae_marl.data.stacking import without_mask
from kitae_marl.errors import ConfigError
from kitae_marl.players.player import Player
from kitae_marl.runs.agent import Agent
from kitae_marl.selfplay.exact.responses import (
    Exploitability,
    best_response,
    gains,
    reaches,
    values_of,
)
from kitae_marl.selfplay.exact.solving import MAX_ITERATIONS, TARGET, equilibrium
from kitae_marl.selfplay.exact.strategies import Strategy, strategy_of
from kitae_marl.types import Policy
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv
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


def exploitability(
    policy: Policy | Agent | Player, game: str | Game, *, sample: bool = True
) -> Exploitability:
    """Return what best responses gain against a policy that plays both seats of a small game.

    Args:
        policy: a trained agent, or a function ``(observations, infos) -> actions`` without chance
            and memory.
        game: id of a game that has a compiled twin, or its rules (``kitae_envs.make(id)``).
        sample: of a trained agent, how it samples its actions; else its most probable ones.

    Raises:
        ConfigError: for a game whose tree cannot be followed; the message says why.
        TypeError: for a policy that is no function, or a game that is neither an id nor a Game.
        ValueError: for actions that are not allowed, and for agents with memory in games of perfect
            information.

    Example:
        >>> def first(observations, infos):
        ...     return {a: mask.argmax(1) for a, mask in infos["action_mask"].items()}
        >>> found = exploitability(first, "kitae/kuhn_poker-v0")
        >>> round(found.exploitability, 3)  # of who always passes
        1.0
    """
    tree = tree_of(game)
    return gains(tree, strategy_of(policy, tree, sample=sample))


class Solved(NamedTuple):
    """A player that nobody gains much against.

    Attributes:
        agent: it; ``agent.save(run_dir)`` keeps it.
        values: what each seat gets where both play by it.
        exploitability: what best responses gain against it, the mean over both seats.
        iterations: of CFR+; 0: it was found from the end of the game to its start.
    """

    agent: Agent
    values: tuple[float, float]
    exploitability: float
    iterations: int


def solve(
    env_id: str,
    target: float = TARGET,
    max_iterations: int = MAX_ITERATIONS,
    tell: Callable[[int, float], None] = lambda iteration, found: None,
    **kwargs: Any,
) -> Solved:
    """Find a player of a small zero-sum game against whom nobody gains more than ``target``.

    It plays by a table of what an agent may observe, so what an agent observes must hold all that
    it knows: of Leduc hold'em ``solve("classic/leduc_holdem-v4", history=True)``.

    Args:
        env_id: id of a game that has a compiled twin.
        target: exploitability to reach, in units of the game's rewards.
        max_iterations: of CFR+, after which it ends in any case.
        tell: called now and then with the iteration and the exploitability.
        **kwargs: arguments of the game.

    Raises:
        ConfigError: for a game that is too large or of another kind, and for one whose observations
            do not hold what a player knows; for a target that is not above 0, and no iterations.
        TypeError: for what is no id.
        ValueError: for an id without a compiled game.

    Example:
        >>> solved = solve("kitae/kuhn_poker-v0", target=1e-3)
        >>> round(solved.values[0], 2), solved.exploitability < 1e-3
        (-0.06, True)
    """
    good = isinstance(target, int | float) and 0 < target < float("inf")
    require(good, "target", "an exploitability above 0", target)
    require_count("max_iterations", max_iterations)
    if not isinstance(env_id, str):
        raise TypeError(f"expected the id of a game, got {type(env_id).__name__}.")
    tree = tree_of(make_game(env_id, **kwargs))
    try:
        found = equilibrium(tree, target, max_iterations, tell)
    except ValueError as error:
        raise ConfigError(f"game: {error}", "game") from None
    rows = _rows_of(tree, found.strategy)
    n_rows = max(len(of_seat) for of_seat in rows)
    steps = max(1, found.iterations)
    own = TableConfig(n_steps=1, n_rows=n_rows)
    config = Config(env_id, kwargs, algo="table", own=own, n_envs=1, env_steps=steps)
    env = CompiledVecParallelEnv(tree.game, 1)
    agent = Agent(env, config)
    agent.learned(_table(agent, rows), steps, ())
    as_played = gains(tree, strategy_of(agent, tree))
    return Solved(agent, as_played.values, as_played.exploitability, found.iterations)


Rows: TypeAlias = dict[bytes, tuple[np.ndarray, np.ndarray]]
"""What an agent may observe, and how probable its actions are then, by the former's bytes."""
DIFFERENT = 1e-2
"""Probabilities of one action that differ by more are not those of one observation."""


def _rows_of(tree: GameTree, strategy: Strategy) -> list[Rows]:
    """Return for each agent the observations it decides on, with its probabilities."""
    space = feature_space(tree.game.observation_space(tree.game.possible_agents[0]))
    rows: list[Rows] = [{}, {}]
    for level, probabilities in zip(tree.levels, strategy, strict=True):
        seen = np.asarray(flattened(space, without_mask(level.observation), 2))
        for row, seat in zip(*np.nonzero(level.active), strict=True):
            own = seen[row, seat], probabilities[row, seat]
            first = rows[seat].setdefault(own[0].tobytes(), own)
            if np.abs(first[1] - own[1]).max() > DIFFERENT:
                raise ConfigError(
                    f"game: expected observations that hold all that a player knows, got those of "
                    f"{tree.game.id}, which look alike where the best play differs; give "
                    "history=True (--env-kwargs '{\"history\": true}') where the game has it.",
                    "game",
                )
    return rows


def _table(agent: Agent, rows: list[Rows]) -> Any:
    """Return the agent's state with these rows in it."""
    ((name, empty),) = agent.state.items()
    state: Any = {field: np.array(values) for field, values in dict(empty).items()}
    for seat, of_seat in enumerate(rows):
        for number, (seen, probabilities) in enumerate(of_seat.values()):
            state["seen"][seat, number] = seen
            state["probabilities"][seat, number] = probabilities
    return {name: jax.tree.map(jnp.asarray, state)}


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
