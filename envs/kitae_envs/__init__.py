"""Compiled multi-agent games: PettingZoo's games as pure JAX functions.

``make(id, **kwargs)`` builds a game under PettingZoo's id and keyword arguments, ``ids()`` lists
them. Importing this package imports no JAX; making a game does.
"""

from __future__ import annotations

import difflib
import importlib
import re
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitae_envs.core import Game

_GAMES = {
    "mpe/simple-v3": "simple:Simple",
    "mpe/simple_adversary-v3": "simple_adversary:SimpleAdversary",
    "mpe/simple_crypto-v3": "simple_crypto:SimpleCrypto",
    "mpe/simple_push-v3": "simple_push:SimplePush",
    "mpe/simple_reference-v3": "simple_reference:SimpleReference",
    "mpe/simple_speaker_listener-v4": "simple_speaker_listener:SimpleSpeakerListener",
    "mpe/simple_spread-v3": "simple_spread:SimpleSpread",
    "mpe/simple_tag-v3": "simple_tag:SimpleTag",
    "mpe/simple_world_comm-v3": "simple_world_comm:SimpleWorldComm",
    "classic/connect_four-v3": "connect_four:ConnectFour",
    "classic/leduc_holdem-v4": "leduc_holdem:LeducHoldem",
    "classic/rps-v2": "rps:RockPaperScissors",
    "classic/tictactoe-v3": "tictactoe:TicTacToe",
    "kitae/kuhn_poker-v0": "kuhn_poker:KuhnPoker",
}


_PICTURES = ("render_mode", "dynamic_rescaling", "screen_height", "screen_scaling")
"""Arguments of the originals that concern their pictures; a compiled game draws its own."""
_OURS = ("history", "curriculum_stage")
"""Arguments that no original takes."""


def ids() -> list[str]:
    """Return the ids of all games, sorted."""
    return sorted(_GAMES)


def resolve(id: str) -> str | None:
    """Return the full id of a game, None if there is no such game.

    ``mpe/simple_spread_v3`` and ``mpe/simple_spread`` both mean ``mpe/simple_spread-v3``.

    Example:
        >>> resolve("classic/connect_four"), resolve("classic/chess-v6")
        ('classic/connect_four-v3', None)
    """
    name = re.sub(r"_v(\d+)$", r"-v\1", id)
    if name in _GAMES:
        return name
    return next((full for full in _GAMES if full.rpartition("-")[0] == name), None)


def extends(id: str, kwargs: Mapping[str, Any]) -> bool:
    """Return whether a game with these arguments is ours alone, so that no original can be made.

    Example:
        >>> extends("kitae/kuhn_poker-v0", {}), extends("classic/leduc_holdem-v4", {})
        (True, False)
        >>> extends("classic/leduc_holdem-v4", {"history": True})
        True
    """
    full = resolve(id)
    return full is not None and (full.startswith("kitae/") or any(n in kwargs for n in _OURS))


def make(id: str, **kwargs: Any) -> Game:
    """Build a game.

    Args:
        id: PettingZoo's id, ``mpe/simple_spread-v3``; see :func:`ids`.
        **kwargs: the original's keyword arguments. Those of its pictures (``render_mode`` and the
            like) are accepted and mean nothing here; ``benchmark_data=True`` is not offered.

    Returns:
        The game.

    Raises:
        ValueError: if there is no such game (the message names the nearest ids), or an argument is
            out of its range.
        TypeError: if the game does not take an argument, or takes another kind of value.
    """
    full = resolve(id) if isinstance(id, str) else None
    if full is None:
        near = difflib.get_close_matches(str(id)[:100], ids(), n=3, cutoff=0.3)
        meant = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(
            f"expected the id of a compiled game, got {str(id)[:100]!r}; {meant}"
            "kitae_envs.ids() lists all."
        )
    kwargs = {key: value for key, value in kwargs.items() if key not in _PICTURES}
    if kwargs.pop("benchmark_data", False):
        raise ValueError("expected benchmark_data=False: compiled games give no infos; got True.")
    module, name = _GAMES[full].split(":")
    game = getattr(importlib.import_module(f"kitae_envs.games.{module}"), name)
    _require_kinds(full, game, kwargs)
    return game(**kwargs)


def _require_kinds(id: str, game: type, kwargs: dict[str, Any]) -> None:
    """Raise a TypeError unless a game takes these arguments, of these types."""
    kinds = {**typing.get_type_hints(game.__init__)}
    kinds.pop("return", None)
    for name, value in kwargs.items():
        if name not in kinds:
            raise TypeError(
                f"{name}: expected one of the arguments of {id}, {', '.join(kinds) or 'none'}; "
                f"got {name}={value!r}."
            )
        wanted = typing.get_args(kinds[name]) or (kinds[name],)
        given = (int, float) if type(value) is int else (type(value),)
        if not set(given) & set(wanted):
            what = " or ".join("None" if kind is type(None) else kind.__name__ for kind in wanted)
            raise TypeError(f"{name}: expected {what} for {id}, got {value!r}.")
