"""This file has the options of the command that shows the league of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kitae_marl.cli.options.fields import Positional, RunName


@dataclass(frozen=True)
class League:
    """Show who was in the pool of a run, how strong they are, and who beats whom."""

    run: Positional[RunName]
    """Path of a run that was trained with ``--opponents``, or name of one; it may be training."""
    all: bool = False
    """List the learner's earlier periods among the players, too."""
    anchor: str | None = None
    """Player who is rated 0; None: random, or else the oldest snapshot that played."""
    out: Path | None = None
    """Draw ratings over steps and the matrix into this file (.png, .pdf, .svg); needs
    kitae-marl[plot]."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""
