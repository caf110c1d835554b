"""Options of the commands that play with trained agents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kitae_marl.options.fields import Positional


@dataclass(frozen=True)
class Evaluate:
    """Play whole episodes with the agent of a run, and with the random policy beside it."""

    run: Positional[str]
    """Path of a run folder, or name of a run in the runs folder."""
    episodes: int = 200
    """Episodes to play."""
    n_envs: int = 16
    """Environments side by side."""
    n_workers: int | None = None
    """Worker processes; None: one per core; 0: none."""
    sample: bool = False
    """Sample actions as in training, instead of taking the most probable ones."""
    allow_import: bool = False
    """Import the module that a run with an id ``module:function`` names."""
    seed: int = 1_000_000
    """Environment i starts with seed + i; the default is far from the seeds of training."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Watch:
    """Write a film of the agent of a run at play."""

    run: Positional[str]
    """Path of a run folder, or name of a run in the runs folder."""
    out: Path = Path("watch.gif")
    """File to write: .gif, or .mp4 with the extra kitae-marl[video]."""
    episodes: int = 3
    """Episodes to show."""
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
