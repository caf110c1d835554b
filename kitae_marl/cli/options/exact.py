"""This file has the options of the commands that give exact answers in small games."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kitae_marl.cli.options.fields import JsonObject, Positional, RunNames
from kitae_marl.config.learner import WhichPolicy


@dataclass(frozen=True)
class Exploit:
    """Say how much can be gained against runs by those who know how they play.

    In small games for two (Kuhn, Leduc, rock paper scissors, tic-tac-toe) that is exact, by the
    compiled rules alone. Elsewhere an opponent is trained against each run, for a stated time.
    """

    runs: Positional[RunNames]
    """Runs by path or name, or ``RUN@STEP``."""
    policy: WhichPolicy | None = None
    """The policy of a run that plays: ``last``, or the ``average`` of those that there were in
    training, where it was kept; None: the last one, or that of ``RUN@average``."""
    budget: str | None = None
    """Train an opponent for so long instead, such as 10m or 1h, and report what it scores."""
    games: int = 1000
    """Games that a trained opponent plays against the run, half of them from each seat."""
    n_envs: int = 256
    """Environments in which an opponent is trained side by side."""
    seed: int = 0
    """Seed of that training, and of the games."""
    allow_import: bool = False
    """Import the module that a game or run names as ``module:name``."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Solve:
    """Find a player of a small game against whom nobody gains, and keep it as a run.

    It plays, takes seats (``frozen:RUN``), is rated and played against like any other run.
    """

    env_id: Positional[str]
    """Id of the game, which has a compiled twin."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the game, such as ``{"history": true}``."""
    run: str | None = None
    """Name of the run folder; made from the game if not given."""
    target: float = 1e-4
    """Exploitability to reach, in units of the game's rewards."""
    max_iterations: int = 20_000
    """Iterations after which it ends in any case."""
    overwrite: bool = False
    """Replace the run of this name."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""
