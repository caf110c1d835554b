"""This file has the options of the commands that write films, curves and exports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kitae_marl.cli.options.fields import (
    JsonObject,
    MetricNames,
    Positional,
    RunName,
    RunNames,
    Step,
)
from kitae_marl.config.learner import WhichPolicy


@dataclass(frozen=True)
class Watch:
    """Write a film of agents at play, with the rewards so far; several runs stand side by side."""

    run: Positional[RunNames]
    """Runs: paths of run folders or names in the runs folder; a name may be a set of seeds;
    ``RUN@STEP`` and ``RUN@best``: as of a checkpoint."""
    out: Path = Path("watch.gif")
    """File to write: .gif, or .mp4 with the extra kitae-marl[video]."""
    step: Step = None
    """Environment step of the checkpoint, or ``best``: the one that an evaluation during training
    (``--eval-every``) found best; None: the newest, or that of ``RUN@STEP``."""
    policy: WhichPolicy | None = None
    """The policy of a run that plays: ``last``, or the ``average`` of those that there were in
    training, where it was kept; None: the last one, or that of ``RUN@average``."""
    fps: float | None = None
    """Frames a second; None: as the game says."""
    plain: bool = False
    """Show the game's own pictures, without words."""
    episodes: int = 3
    """Episodes to show."""
    max_episode_steps: int | None = None
    """Truncate episodes of that many steps; None: as the runs were trained."""
    seats: JsonObject = field(default_factory=dict)
    """Who plays agents in place of the run: ``{"player_2": "random"}``, as for ``train``."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Arguments of the game in place of the run's, such as another number of agents."""
    simulations: int | None = None
    """Positions that runs which search (alphazero) look at before each move; 0: none, they play by
    their networks alone; None: as the runs say."""
    sample: bool = False
    """Sample actions as in training, instead of taking the most probable ones."""
    allow_import: bool = False
    """Import the module that a run with an id ``module:function`` names."""
    seed: int = 1_000_000
    """Seed of the first episode."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Plot:
    """Draw learning curves of runs of one game; runs that differ by seed alone are one curve."""

    run: Positional[RunNames]
    """Runs: paths of run folders or names in the runs folder; a name may be a set of seeds;
    ``RUN@STEP`` and ``RUN@best`` mark a checkpoint, as ``--step`` does for all."""
    out: Path = Path("curve.png")
    """File to write: .png, .pdf or .svg."""
    metric: MetricNames = ()
    """Metrics to draw, by commas: columns of metrics.csv, the last part of their names
    (``entropy``), the first (``win_rate``), patterns (``'update/*'``), or ``return`` for that of
    each side; if not given return/mean, or where sides differ the return of each and, in zero-sum
    games, the win rate against random."""
    smooth: int = 1
    """Draw at each update the mean of so many, up to it."""
    band: Literal["range", "interval"] = "range"
    """Band around several runs: lowest to highest, or the 95 % interval of the IQM."""
    step: Step = None
    """Mark the checkpoint of an environment step, or the ``best``, and say what it came to."""
    points: int = 100
    """Points of a curve; each is a mean over the updates in its part of the steps."""
    measure: int = 0
    """Episodes to measure the random policy and the oracle with, where no bracket is known."""
    max_episode_steps: int | None = None
    """With ``--measure``: truncate its episodes; None: as the runs were trained."""
    allow_import: bool = False
    """With ``--measure``: import the module that a run with an id ``module:function`` names."""
    seed: int = 1_000_000
    """Seed of the games that ``--measure`` plays."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Export:
    """Write the policies of a run as arrays, with a NumPy module that acts with them."""

    run: Positional[RunName]
    """Path of a run folder, or name of a run in the runs folder; ``RUN@STEP``: as of a
    checkpoint."""
    out: Path = Path("policy.npz")
    """File to write, .npz; the module stands beside it, under the same name with .py."""
    step: Step = None
    """Environment step of the checkpoint, or ``best``: the one that an evaluation during training
    (``--eval-every``) found best; None: the newest, or that of ``RUN@STEP``."""
    policy: WhichPolicy | None = None
    """The policy of a run that plays: ``last``, or the ``average`` of those that there were in
    training, where it was kept; None: the last one, or that of ``RUN@average``."""
    allow_import: bool = False
    """Import the algorithm that a run names as ``module:name``."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    seed: int = 0
    """Not used, nothing here is random; accepted as everywhere."""
    json: bool = False
    """Print one JSON object as the last line."""
