"""This file has the options of the commands that train and list runs."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from kitae_marl.cli.options.fields import (
    JsonObject,
    KeepSetting,
    OwnSettings,
    Positional,
    Step,
    arg,
)
from kitae_marl.config.checks import require_count
from kitae_marl.config.counts import NEWEST
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, UnsafePathError


@dataclass(frozen=True)
class Train(Config):
    """Train agents on a game and keep the run in a folder."""

    env_id: Annotated[Positional[str], arg(metavar="[ID]")] = "mpe/simple_spread-v3"
    """Id of the game, as listed by ``kitae-marl list``."""
    env_steps: int = 500_000
    """Steps of single environments, all together; rounded up to whole updates. Whole numbers may be
    written as 1e6, 500k or 5M, here and elsewhere."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the game."""
    seats: JsonObject = field(default_factory=dict)
    """Who plays the agents that do not learn: ``{"adversary_*": "random", "agent_1": "frozen:X"}``,
    with X the name of a run in the runs folder."""
    opponents: JsonObject = field(default_factory=dict)
    """Who plays the other seats in which share of the environments, with settings of the pool
    beside them: ``{"latest": 0.5, "pool": 0.4, "random": 0.1, "matchmaking": "pfsp"}``. Others are
    ``frozen:RUN`` and ``bot:NAME``; help(kitae_marl.Opponents) explains the settings."""
    groups: JsonObject = field(default_factory=dict)
    """Agents that are to share a network, by name of their group: ``{"team": ["alice", "bob"]}``,
    by name or by pattern (``"*_red"``); all others by spaces and name before a number."""
    keep: KeepSetting = NEWEST
    """Checkpoints that stay: that many, the newest; ``all``; or ``every:500k``, for good the first
    at or after each 500,000 steps. The one that was evaluated best stays beside them."""
    own: OwnSettings = field(default_factory=dict)
    """Settings of an algorithm of your own, by name: ``{"learning_rate": 0.1}``."""
    config_file: Annotated[Path | None, arg(name="config", metavar="FILE")] = None
    """Settings to begin with: a ``config.json`` as every run has, or the folder of a run; options
    given beside it win."""
    init: str | None = None
    """Begin with the networks of a run, by name or as ``RUN@STEP``, and train them further: on the
    same game or one with the same spaces, and any number of agents where they share a network."""
    callback: tuple[str, ...] = ()
    """Callbacks as module:name, classes or objects derived from ``kitae_marl.Callback``."""
    eval_every: int | None = None
    """Environment steps between two evaluations of the most probable actions; none: never. The
    checkpoint that was evaluated best is kept: ``--step best`` plays it."""
    eval_episodes: int | None = None
    """Whole episodes of one evaluation, 32 if not given."""
    run: str | None = None
    """Name of the run folder; made from game, algorithm and seed if not given."""
    seeds: int = 1
    """Runs to train, with the seeds seed, seed + 1, ...; above 1 they become a set, one name."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    resume: Annotated[bool, arg(name="resume")] = False
    """Go on from the newest checkpoint of the run, with its settings where none are given.
    Callbacks and evaluations are no settings of a run: give them again."""
    resume_step: Step = None
    """Go on from the checkpoint of this environment step, or from the one that was evaluated best;
    implies --resume."""
    allow_import: bool = False
    """Import what the run to go on with, or the run of a frozen seat, names as module:name."""
    exact: bool = False
    """Go on only where the run will end as if it had never stopped, to the last bit."""
    overwrite: bool = False
    """Replace the run of this name."""
    json: bool = False
    """Print one JSON object as the last line."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ConfigError(f"seeds: expected at least 1, got {self.seeds}.", "seeds")
        self.config(self.seed + self.seeds - 1)  # the last one is a seed, too
        if self.resumes and self.overwrite:
            raise ConfigError("overwrite: expected without --resume, got both.", "overwrite")
        if self.init is not None and (self.resumes or self.seeds > 1):
            other = "--resume" if self.resumes else f"--seeds {self.seeds}"
            raise ConfigError(f"init: expected one new run, got {other} beside it.", "init")
        if self.eval_every is not None:
            require_count("eval_every", self.eval_every)
        if self.eval_episodes is not None:
            require_count("eval_episodes", self.eval_episodes)
            if self.eval_every is None:
                raise ConfigError(
                    f"eval_episodes: expected with --eval-every, got {self.eval_episodes} alone.",
                    "eval_episodes",
                )
        if self.exact and not self.resumes:
            raise ConfigError("exact: expected with --resume, got a new run.", "exact")

    @property
    def resumes(self) -> bool:
        """Whether to go on with a run."""
        return self.resume or self.resume_step is not None

    def config(self, seed: int | None = None) -> Config:
        """The part that is stored with the run, or with one run of a set."""
        names = [f.name for f in dataclasses.fields(Config)]
        values = {name: getattr(self, name) for name in names}
        values["own"] = values["own"] or None
        return Config(**values if seed is None else {**values, "seed": seed})

    def path(self, name: str) -> Path:
        """Return the folder of a run; for one further down, say by which options it is named.

        Raises:
            UnsafePathError: if the name is none, or a path.
        """
        from kitae_marl.runs.store import folders

        parent, _, last = name.rstrip("/").rpartition("/")
        if not parent or not all(map(folders.NAME.fullmatch, [*parent.split("/"), last])):
            return folders.run_path(self.runs_dir, name)
        below = self.runs_dir / parent
        own = Path(parent) == self.runs_dir or Path(parent, last).is_dir()
        folder = shlex.quote(parent if own and not (below / last).is_dir() else str(below))
        raise UnsafePathError(
            f"run: expected a name, got the path {name!r}; write --runs-dir {folder} --run {last}."
        )

    def all_seeds(self) -> list[int]:
        """Seeds of all runs to train."""
        return [self.seed + i for i in range(self.seeds)]


@dataclass(frozen=True)
class Runs:
    """List the runs: game, algorithm, steps, return, and whether they are at work."""

    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    seed: int = 0
    """Not used by anything random here; accepted as everywhere."""
    json: bool = False
    """Print one JSON object as the last line."""
