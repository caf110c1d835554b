"""This file has the options of the commands about games."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from kitae_marl.cli.options.fields import GameId, JsonObject, Positional, arg


@dataclass(frozen=True)
class List:
    """List the games that can be trained on."""

    match: Annotated[Positional[str], arg(metavar="[TEXT]")] = ""
    """Show only ids that contain this."""
    seed: int = 0
    """Not used by anything random here; accepted as everywhere."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Doctor:
    """Play random episodes of a game and report what it does."""

    env_id: Positional[GameId]
    """Id of the game."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the game."""
    episodes: int = 10
    """Episodes to play."""
    max_episode_steps: int | None = None
    """Truncate episodes of that many steps; None: they end by themselves."""
    strict_bounds: bool = False
    """An observation outside its declared Box is a problem, as for ``train --strict-bounds``."""
    seed: int = 0
    """Seed of the first episode."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Verify:
    """Compare a compiled game with its original, move by move."""

    env_id: Positional[GameId]
    """Id of the game."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the game."""
    episodes: int | None = None
    """Random games to play; None: 100, or 1000 of a board game."""
    exhaustive: bool = False
    """Play every move of every position (tic-tac-toe and Leduc)."""
    seed: int = 0
    """Seed of the random games."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Bench:
    """Measure speed; of games in Python beside their own loop, in the same run."""

    what: Positional[Literal["vector", "train", "compiled"]]
    """``vector``: stepping; ``train``: the whole of training; ``compiled``: a compiled game."""
    env_id: Positional[GameId]
    """Id of the game."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the game."""
    n_envs: int = 16
    """Environments side by side."""
    n_workers: int | None = None
    """Worker processes; None: one per core; 0: none."""
    repeats: int = 5
    """Measurements of each kind; the medians are reported."""
    seconds: float = 2.0
    """Length of each measurement."""
    max_episode_steps: int | None = None
    """Truncate episodes of that many steps in our environments; None: they end by themselves."""
    stock: bool = False
    """Build our environments with PettingZoo's own chain of wrappers."""
    train: bool = False
    """With ``compiled``: the whole of training, not stepping alone."""
    opponents: JsonObject = field(default_factory=dict)
    """With ``compiled --train``: measured beside it in turn, training against these opponents, as
    for ``train --opponents``."""
    seed: int = 0
    """Seed of the environments."""
    json: bool = False
    """Print one JSON object as the last line."""
