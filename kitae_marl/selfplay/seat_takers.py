"""This file finds who is meant by a player's name, and lets it take either seat of a game."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kitae_marl.data.groups import require_spaces
from kitae_marl.errors import ConfigError
from kitae_marl.players.player import Player
from kitae_marl.players.policies import random_policy
from kitae_marl.players.scripted.bots import BOT, bot_named
from kitae_marl.players.transfer import player_for
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store.search import run_at
from kitae_marl.selfplay.seats import Frozen, only, policy_for
from kitae_marl.types import Policy
from kitae_marl.vector.protocol import VecParallelEnv

SomePlayer = str | Path | Agent | Player | Frozen | Policy
"""``random``, ``bot:NAME``, a run by path or name (``RUN@STEP``, ``RUN@average``), an agent, a
player, ``frozen(...)``, or a function ``(observations, infos) -> actions``."""


class NamedGame(NamedTuple):
    """A game that is to be played.

    Attributes:
        env: a vector of it.
        env_id: its id, by which bots are known; None: of a vector that somebody brought.
        env_kwargs: its arguments.
    """

    env: VecParallelEnv
    env_id: str | None
    env_kwargs: Mapping[str, Any]


class SeatTaker(NamedTuple):
    """A player who can take either seat.

    Attributes:
        name: of the player.
        policy: ``(agents, seed) -> policy`` for one side of the game, its memory empty.
    """

    name: str
    policy: Callable[[Sequence[str], int], Policy]


def seat_taker(
    name: str, player: SomePlayer, game: NamedGame, *, sample: bool, runs_dir: str | Path
) -> SeatTaker:
    """Return a player who can take either seat of a game.

    Args:
        name: what it is called.
        player: who it is.
        game: the game.
        sample: whether trained players sample their actions; ``frozen(...)`` says that itself.
        runs_dir: folder that holds the runs.

    Raises:
        ConfigError: for a bot that there is not, and a player who does not know all seats.
        NoCheckpointError: for a run that there is not.
        TypeError: for what is no player.
    """
    env = game.env
    if isinstance(player, str) and player == "random":
        return SeatTaker(name, lambda agents, seed: random_policy(only(env, agents), seed))
    if isinstance(player, str) and player.startswith(BOT):
        if game.env_id is None:
            raise ConfigError(
                f"players: expected the id of a game beside {player}, got a vector; bots are known "
                "by games.",
                "players",
            )
        bot = bot_named(player, game.env_id, game.env_kwargs)
        return SeatTaker(name, lambda agents, seed: bot.make(env, seed))
    if isinstance(player, str | Path):
        at = run_at(player, runs_dir)
        player = Agent.load(at.path, **at.how)
    if isinstance(player, Frozen):
        player, sample = player
    if isinstance(player, Agent | Player):
        trained = known_to_all_seats(name, player.player(), env)
        return SeatTaker(
            name, lambda agents, seed: policy_for(trained, agents, sample=sample, seed=seed)
        )
    if callable(player):
        return SeatTaker(name, lambda agents, seed: player)
    raise TypeError(
        "expected 'random', 'bot:NAME', a run, an Agent, a Player, frozen(...) or a function "
        f"(observations, infos) -> actions, got {player!r}."
    )


def known_to_all_seats(name: str, player: Player, env: VecParallelEnv) -> Player:
    """Return a trained player who knows all agents of the game."""
    agents = list(env.possible_agents)
    if set(player.possible_agents) < set(agents):
        raise ConfigError(
            f"players: expected players for both seats, got {name}, which learned to play "
            f"{player.possible_agents} of {agents} alone; `kitae-marl evaluate {name}` plays it in "
            "its seat.",
            "players",
        )
    if not set(agents) <= set(player.possible_agents):
        return player_for(player, env)
    require_spaces(env, agents, player.groups)
    return player
