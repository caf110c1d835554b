"""This file finds the rules that search steps, and says why a game cannot be searched."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
from kitae_envs.core import Game, State
from kitae_envs.spaces import parts_of

from kitae_marl.config.run import Config
from kitae_marl.data.spaces import feature_space, has_mask
from kitae_marl.data.stacking import without_mask
from kitae_marl.errors import ConfigError
from kitae_marl.types import GroupSpec
from kitae_marl.vector.adapters.compiled_games import make_game
from kitae_marl.vector.ids import imports_code


class Sight(NamedTuple):
    """What the agent to move sees in each game.

    Attributes:
        mover: its number, int32 ``[B]``; 0 where nobody is to move.
        seen: what the network sees, ``[B, ...]``.
        mask: which moves it may make, int8 ``[B, K]``; none where nobody is to move.
    """

    mover: jax.Array
    seen: jax.Array
    mask: jax.Array


class Step(NamedTuple):
    """What a move led to, each ``[B]``.

    Attributes:
        reward: of the agent that moved.
        discount: what the value of the position after it is worth to that agent: -1 where the
            other one is to move, 1 where it is itself, 0 at the end.
    """

    reward: jax.Array
    discount: jax.Array


class Rules:
    """The rules of a game for two, for batches of its positions. Pure.

    Args:
        game: a game for two that can be searched, of one group.

    Attributes:
        game: the game.
        n_actions: number of moves.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        (self._group,) = game.groups
        space: Any = game.action_space(game.possible_agents[0])
        self.n_actions = int(space.n)

    @property
    def space(self) -> gym.Space:
        """Space of what the network sees: of a Dict the part ``observation``."""
        space = feature_space(self.game.observation_space(self.game.possible_agents[0]))
        return (parts_of(space) or {}).get("observation", space)

    def sight(self, features: Any, mask: jax.Array) -> Sight:
        """Return what those to move see; who may move, is to move.

        Args:
            features: what both see, without masks, ``[B, 2, ...]``.
            mask: which moves each may make, ``[B, 2, K]``.
        """
        mover = jnp.argmax(jnp.any(mask != 0, axis=-1), axis=-1).astype(jnp.int32)
        return Sight(mover, of_mover(mover, _board(features)), of_mover(mover, mask))

    def states(self, features: Any, mover: jax.Array) -> State:
        """Return the states of games ``[B]`` from what the agents to move see."""
        seen = jax.tree.map(lambda x: of_mover(mover, x), features)
        whole = seen if isinstance(seen, Mapping) else {"observation": seen}
        return jax.vmap(self.game.state_of)(whole, mover)

    def play(self, key: jax.Array, states: State, move: jax.Array) -> tuple[State, Step, Sight]:
        """Make a move in each game; what is returned of games that were over means nothing.

        Args:
            key: of chance, which the games do not have.
            states: ``[B]``.
            move: int32 ``[B]``.
        """
        return jax.vmap(self._play_one, (None, 0, 0))(key, states, move)

    def _play_one(self, key: jax.Array, state: State, move: jax.Array) -> Any:
        """Make a move in one game."""
        name, game = self._group, self.game
        before = jnp.argmax(game.observe(state).active[name])
        state, outcome = game.transition(key, state, {name: jnp.stack([move, move])})
        view = game.observe(state)
        over = jnp.all(outcome.terminated[name] | outcome.truncated[name])
        mover = jnp.argmax(view.active[name]).astype(jnp.int32)
        discount = jnp.where(over, 0.0, jnp.where(mover == before, 1.0, -1.0))
        board, mask = _board(without_mask(view.observation[name])), view.action_mask[name]
        sight = Sight(mover, board[mover], mask[mover])
        return state, Step(outcome.reward[name][before], discount), sight


def of_mover(mover: jax.Array, x: jax.Array) -> jax.Array:
    """Return the rows ``[B, ...]`` of those to move in arrays ``[B, 2, ...]``."""
    first = mover.reshape(-1, *(1,) * (x.ndim - 2)) == 0
    return jnp.where(first, x[:, 0], x[:, 1])


def _board(features: Any) -> jax.Array:
    """Return the part that networks see."""
    return features["observation"] if isinstance(features, Mapping) else features


def rules_for(groups: tuple[GroupSpec, ...], config: Config) -> Rules:
    """Return the rules of the game that a run is trained on.

    Raises:
        ConfigError: if it cannot be searched, and why.
    """
    game = _game(config)
    why = _why_not(game, groups, config)
    if why:
        raise ConfigError(
            f"algo: expected a game that {config.algo} can search, got {config.env_id}: {why}; "
            "train it by ippo or mappo.",
            "algo",
        )
    return Rules(game)


def _game(config: Config) -> Game:
    """Make the game, of a module only where that is imported: run folders have nothing executed."""
    env_id, kwargs = config.env_id, dict(config.env_kwargs)
    kwargs.pop("render_mode", None)
    module = env_id.strip().partition(":")[0]
    if imports_code(env_id) and module not in sys.modules:
        raise ConfigError(
            f"env_id: expected the module of {env_id} to be imported, whose rules {config.algo} "
            f"searches; import {module} first, if you trust it.",
            "env_id",
        )
    try:
        game = make_game(env_id, **kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"algo: expected a game with compiled rules, which {config.algo} searches, got "
            f"{env_id}, which has none ({error}); train it by ippo or mappo.",
            "algo",
        ) from None
    if not isinstance(game, Game):
        raise ConfigError(
            f"algo: expected a game with compiled rules (a kitae_envs Game), which {config.algo} "
            f"searches, got {env_id}, which makes {type(game).__name__}; train it by ippo or "
            "mappo.",
            "algo",
        )
    return game


def _why_not(game: Game, groups: tuple[GroupSpec, ...], config: Config) -> str:
    """Say why a game cannot be searched; an empty text where it can."""
    if len(game.possible_agents) != 2:
        return f"it is for {len(game.possible_agents)} agents, not for two"
    if not game.turn_based:
        return "its agents move at the same time, not in turn"
    if not game.perfect_information:
        return "it hides something from its agents, or leaves something to chance"
    if not game.zero_sum:
        return "what one agent wins the other does not lose (Game.zero_sum)"
    first = game.possible_agents[0]
    action, seen = game.action_space(first), game.observation_space(first)
    if not isinstance(action, gym.spaces.Discrete) or action.start or not has_mask(seen):
        return f"its moves are {action}, not a Discrete from 0 with an action mask"
    if config.wrap:
        return f"it is seen through {', '.join(config.wrap)}, by which its state is not known"
    if [group.agents for group in groups] != [game.possible_agents] or len(game.groups) != 1:
        return (
            f"its agents learn as {[list(group.agents) for group in groups]}, not "
            f"{list(game.possible_agents)} with one network"
        )
    if groups[0].observation_space != seen:
        return f"what its agents see is {groups[0].observation_space}, not {seen} as in its rules"
    shape = Rules(game).space.shape
    if config.alphazero.channels and (shape is None or len(shape) != 3):
        return f"convolutions see boards [H, W, C], not {shape} (--alphazero.channels 0)"
    return ""
