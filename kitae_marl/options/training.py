"""Options of the command that trains."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from kitae_marl.config import Config
from kitae_marl.options.fields import JsonObject, Positional, arg


@dataclass(frozen=True)
class Train(Config):
    """Train agents on a game and keep the run in a folder."""

    env_id: Positional[str] = "mpe/simple_spread-v3"
    """Id of the game, as listed by ``kitae-marl list``."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the game."""
    run: str | None = None
    """Name of the run folder; made from game, algorithm and seed if not given."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    resume: Annotated[bool, arg(name="resume")] = False
    """Go on from the newest checkpoint of the run, with its settings where none are given."""
    overwrite: bool = False
    """Replace the run of this name."""
    json: bool = False
    """Print one JSON object as the last line."""

    def config(self) -> Config:
        """The part that is stored with the run."""
        names = [f.name for f in dataclasses.fields(Config)]
        return Config(**{name: getattr(self, name) for name in names})
