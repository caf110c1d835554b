"""This file has the options of the commands that play whole episodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from kitae_marl.cli.options.fields import (
    GameIds,
    JsonObject,
    Positional,
    RunName,
    RunNames,
    Step,
    arg,
)
from kitae_marl.config.learner import WhichPolicy

Seeds = Annotated[tuple[int, ...], arg(aliases=["--seed"])]


@dataclass(frozen=True, kw_only=True)
class Playing:
    """What all commands that play have in common."""

    episodes: int = 200
    """Episodes to play for each seed (and for each side, with ``--against``)."""
    seeds: Seeds = (1_000_000,)
    """Seeds of the games: environment i starts with seed + i; far from the seeds of training."""
    n_envs: int = 16
    """Environments side by side."""
    n_workers: int | None = None
    """Worker processes; None: one per core; 0: none."""
    max_episode_steps: int | None = None
    """Truncate episodes of that many steps; None: as the runs were trained, if any."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True, kw_only=True)
class PlayingRuns(Playing):
    """What all commands that play with trained agents have in common."""

    step: Step = None
    """Environment step of the runs' checkpoint, or ``best``: the one that an evaluation during
    training (``--eval-every``) found best; None: the newest, or that of ``RUN@STEP``."""
    policy: WhichPolicy | None = None
    """The policy of a run that plays: ``last``, or the ``average`` of those that there were in
    training, where it was kept; None: the last one, or that of ``RUN@average``."""
    sample: bool = False
    """Sample actions as in training, instead of taking the most probable ones."""
    simulations: int | None = None
    """Positions that runs which search (alphazero) look at before each move; 0: none, they play by
    their networks alone; None: as the runs say."""
    seats: JsonObject = field(default_factory=dict)
    """Who plays agents in place of the run: ``{"player_2": "random"}``, as for ``train``."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Arguments of the game in place of the run's, such as another number of agents."""
    against: str | None = None
    """Opponent that plays the other sides: ``random``, ``oracle``, a run or
    ``RUN@STEP``; each side in turn."""
    allow_import: bool = False
    """Import the module that a run with an id ``module:function`` names."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""


@dataclass(frozen=True)
class Evaluate(PlayingRuns):
    """Play whole episodes with the agents of runs, the random policy and the oracle beside them."""

    run: Positional[RunNames]
    """Runs: paths of run folders or names in the runs folder; a name may stand for several seeds.
    ``RUN@STEP`` and ``RUN@best`` are as of a checkpoint. Runs that differ by seed alone are one
    result, each step of them another."""
    oracle: bool = True
    """Play the scripted oracle too, where the game has one."""


@dataclass(frozen=True)
class Compare(PlayingRuns):
    """Tell how probable it is that one run (or set of seeds) is better than another."""

    run_a: Positional[RunName]
    """Path of a run folder, or name of a run or of a set of seeds in the runs folder;
    ``RUN@STEP``: as of a checkpoint."""
    run_b: Positional[RunName]
    """The same; a run of the same game, or another step of it."""
    out: Path | None = None
    """Draw the comparison into this file (.png, .pdf, .svg); needs kitae-marl[plot]."""


@dataclass(frozen=True)
class Brackets(Playing):
    """Measure what the random policy and the scripted oracle get in games; without ids: list."""

    env_id: Positional[GameIds] = ()
    """Ids of games."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the games."""
