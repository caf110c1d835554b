"""This file gives scripted players names, by which commands and leagues call for them: bot:NAME."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kitae_marl.config.opponents import BOT as BOT
from kitae_marl.errors import ConfigError
from kitae_marl.players.policies import FirstLegal
from kitae_marl.players.scripted.board_bots import (
    connect_four_bot,
    connect_four_centre,
    tictactoe_bot,
)
from kitae_marl.players.scripted.oracles import oracle_for
from kitae_marl.players.scripted.tree_search import connect_four_search, tictactoe_search
from kitae_marl.types import Policy
from kitae_marl.vector.protocol import VecParallelEnv


class Bot(NamedTuple):
    """A scripted player.

    Attributes:
        definition: what it does, in words.
        make: ``(env, seed) -> policy`` for a vector of the game.
    """

    definition: str
    make: Callable[[VecParallelEnv, int], Policy]


_ONE_PLY = "wins where it can, else blocks, else plays at random"
_FIRST = Bot("takes its first legal action", lambda env, seed: FirstLegal(env))
SIMULATIONS = (50, 200, 1000)
"""Of the players that search."""


def _searching(search: Callable[[VecParallelEnv, int, int], Policy]) -> dict[str, Bot]:
    """Return players that look ahead, by name."""

    def bot(simulations: int) -> Bot:
        return Bot(
            f"looks ahead by {simulations} simulations of OpenSpiel's tree search",
            lambda env, seed: search(env, seed, simulations),
        )

    return {f"mcts_{simulations}": bot(simulations) for simulations in SIMULATIONS}


_BOTS = {
    "classic/connect_four-v3": {
        "centre": Bot(
            "wins where it can, else blocks, else plays nearest to the middle", connect_four_centre
        ),
        "one_ply": Bot(_ONE_PLY, connect_four_bot),
        **_searching(connect_four_search),
    },
    "classic/tictactoe-v3": {
        "one_ply": Bot(_ONE_PLY, tictactoe_bot),
        **_searching(tictactoe_search),
    },
}
"""By game and name; ``first`` and, where there is one, ``oracle`` come beside them."""


def bots_of(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> dict[str, Bot]:
    """Return the scripted players of a game, by name.

    Args:
        env_id: id of the game.
        env_kwargs: its arguments, which an oracle may not cope with.

    Example:
        >>> list(bots_of("classic/connect_four-v3"))
        ['centre', 'first', 'mcts_1000', 'mcts_200', 'mcts_50', 'one_ply', 'oracle']
    """
    found = {"first": _FIRST, **_BOTS.get(env_id, {})}
    oracle = oracle_for(env_id, env_kwargs)
    if oracle is not None:
        make = oracle.make
        found["oracle"] = Bot(oracle.definition, lambda env, seed: make(env))
    return dict(sorted(found.items()))


def bot_named(name: str, env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> Bot:
    """Return a scripted player of a game.

    Args:
        name: its name, with ``bot:`` before it or without.
        env_id: id of the game.
        env_kwargs: arguments of the game.

    Raises:
        ConfigError: if there is none; the message lists those there are.
    """
    bots = bots_of(env_id, env_kwargs)
    bare = name.removeprefix(BOT)
    if bare not in bots:
        known = "; ".join(f"{BOT}{known} ({bot.definition})" for known, bot in bots.items())
        raise ConfigError(
            f"players: expected a scripted player of {env_id}, got {name!r}; there are {known}.",
            "players",
        )
    return bots[bare]
