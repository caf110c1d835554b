"""This file lists the games: every id, whether it can run here, who plays, what they see and do.

``catalogue.json`` holds what the games look like, so that none must be made for the list; the tests
compare each of its lines with the game.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from kitae_marl.data.spaces import space_text
from kitae_marl.vector.ids import MAMUJOCO, gymnasium_ids, install_hint, known_ids

_TABLE = Path(__file__).with_name("catalogue.json")
_GAMES_NEED = {
    "butterfly/pistonball": ("pygame", "pymunk"),
    "sisl/multiwalker": ("pygame", "Box2D"),
    "sisl/pursuit": ("pygame", "scipy"),
    "classic/chess": ("pygame", "chess"),
    "classic/hanabi": ("pygame", "shimmy", "pyspiel"),
    "classic/leduc_holdem": ("pygame", "rlcard"),
    "classic/texas_holdem": ("pygame", "rlcard"),
    "atari": ("pygame", "multi_agent_ale_py", "ale_py"),
    "mpe": ("pygame", "mpe2"),
    "magent": ("pygame", "magent2"),
    "mamujoco": ("gymnasium_robotics", "mujoco"),
    "openspiel": ("shimmy", "pyspiel"),
    "envpool": ("envpool",),
    "butterfly": ("pygame",),
    "sisl": ("pygame",),
    "classic": ("pygame",),
}
_GYMNASIUM_NEEDS = {"box2d": "Box2D", "mujoco": "mujoco", "phys2d": "jax", "tabular": "jax"}


class ListedGame(NamedTuple):
    """One row of the catalogue.

    Attributes:
        id: the id to give to ``make_parallel_env`` and ``kitae-marl train``.
        runs_here: whether the packages it needs are installed.
        install: the ``pip install`` that makes it run, empty where it does.
        agents: number of agents, 0 where it is not known before the game is made.
        observation: what they observe, one text for each group, separated by `` | ``.
        action: what they do, likewise.
        turn_based: one agent acts at a time.
        masked: actions are masked.
    """

    id: str
    runs_here: bool
    install: str = ""
    agents: int = 0
    observation: str = ""
    action: str = ""
    turn_based: bool = False
    masked: bool = False


def catalogue(match: str = "") -> list[ListedGame]:
    """List the games, sorted by id.

    Ids of Gymnasium are those of its own environments; others that are installed work as well.
    No game is made for this: what they look like comes from a table that a test compares with
    the games. EnvPool takes seconds to load, so its more than a thousand ids are one row, unless
    ``match`` starts with ``envpool:``; then the pools are asked what they look like.

    Args:
        match: give only the games whose ids contain this.
    """
    pools = match.startswith("envpool:") and _is_installed(("envpool",))
    games = _envpool_games(match.removeprefix("envpool:")) if pools else _games()
    return sorted(game for game in games if match in game.id)


def _games() -> Iterator[ListedGame]:
    """Generate the rows."""
    listed = {id for id in _table() if id.partition(":")[0] not in ("gymnasium", "openspiel")}
    listed.update(known_ids(), (f"mamujoco:{scenario}" for scenario in MAMUJOCO))
    names = _openspiel_names()
    spiels = [id for id in _table() if id.startswith("openspiel:")]
    listed.update(spiels if names is None else (f"openspiel:{name}" for name in names))
    listed.add("envpool:ID")
    for id in listed:
        yield _row(id, _needs(id), install_hint(id.partition(":")[0].partition("/")[0]))
    for name in gymnasium_ids():
        group = _gymnasium_group(name)
        if group is not None:
            needs = (_GYMNASIUM_NEEDS[group],) if group in _GYMNASIUM_NEEDS else ()
            extra = f'pip install "gymnasium[{"jax" if needs == ("jax",) else group}]"'
            yield _row(f"gymnasium:{name}", needs, extra)._replace(agents=1)


def _row(id: str, needs: tuple[str, ...], install: str) -> ListedGame:
    """Put together what the table and the installed packages say."""
    here = _is_installed(needs)
    return ListedGame(id, here, "" if here else install, **_table().get(id, {}))


def _needs(id: str) -> tuple[str, ...]:
    """The modules that a game imports, by the longest prefix of its id that is listed."""
    fitting = [prefix for prefix in _GAMES_NEED if id.startswith(prefix)]
    return _GAMES_NEED[max(fitting, key=len)] if fitting else ()


def install_for(id: str) -> str:
    """Return the ``pip install`` without which a game cannot be played here; empty where it can."""
    family = id.partition(":")[0].partition("/")[0]
    return "" if _is_installed(_needs(id)) else install_hint(family)


def _is_installed(modules: tuple[str, ...]) -> bool:
    """Whether all of these could be imported, seen without importing them."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _envpool_games(text: str) -> Iterator[ListedGame]:
    """Generate the rows of EnvPool's ids that contain a text, as their specifications have them."""
    envpool: Any = importlib.import_module("envpool")  # an extra

    for name in sorted(envpool.list_all_envs()):
        if text not in name:
            continue
        try:
            spec = envpool.make_spec(name)
        except ImportError as error:  # a library of the system that some games need
            yield ListedGame(f"envpool:{name}", False, str(error).partition(". ")[0])
            continue
        told = spec.state_array_spec
        yield ListedGame(
            f"envpool:{name}",
            True,
            agents=int(spec.config.max_num_players),
            observation=space_text(spec.observation_space),
            action=space_text(spec.action_space),
            turn_based="info:current_player" in told,
            masked="info:legal_action_mask" in told or "info:action_mask" in told,
        )


def _openspiel_names() -> tuple[str, ...] | None:
    """OpenSpiel's games that can be played without parameters; None where it is not installed."""
    if not _is_installed(("pyspiel",)):
        return None
    import pyspiel

    def plays(game: Any) -> bool:
        tensor = game.provides_observation_tensor or game.provides_information_state_tensor
        mean_field = game.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD
        return game.default_loadable and tensor and not mean_field

    return tuple(game.short_name for game in pyspiel.registered_games() if plays(game))


def _gymnasium_group(name: str) -> str | None:
    """The package of Gymnasium that an id comes from, None for ids of other packages."""
    import gymnasium

    entry = gymnasium.registry[name].entry_point
    parts = entry.split(":")[0].split(".") if isinstance(entry, str) else []
    return parts[2] if parts[:2] == ["gymnasium", "envs"] and len(parts) > 2 else None


@lru_cache
def _table() -> dict[str, dict[str, Any]]:
    """What the games look like, by id."""
    return json.loads(_TABLE.read_text())


def table(games: Sequence[ListedGame]) -> list[str]:
    """Write games as the lines of a table for people, with a heading and as wide as it must be."""
    heading = ("id", "agents", "act", "they see", "they do", "here")
    rows = [
        (
            game.id,
            str(game.agents or "?"),
            "in turn" if game.turn_based else "together" if game.agents else "?",
            game.observation or "?",
            (game.action or "?") + (" masked" if game.masked else ""),
            "ready" if game.runs_here else game.install,
        )
        for game in games
    ]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    padded = (zip(row, widths, strict=True) for row in (heading, *rows))
    return ["  ".join(cell.ljust(width) for cell, width in row).rstrip() for row in padded]
