"""The command line, ``kitae-marl``; options are generated from the config dataclasses."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg, subcommand

from kitae_marl.config import Config
from kitae_marl.errors import (
    CheckpointError,
    CheckpointWriteError,
    ConfigError,
    KitaeError,
    NoCheckpointError,
    VectorEnvError,
)


def _json_object(text: list[str]) -> dict[str, Any]:
    """Read a JSON object from the command line."""
    try:
        value = json.loads(text[0])
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected a JSON object such as '{{\"N\": 5}}', got {text[0]!r}"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object such as '{{\"N\": 5}}', got {text[0]!r}")
    return value


JsonObject = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_json_object,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]


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


@dataclass(frozen=True)
class List:
    """List the games that can be trained on."""

    match: Positional[str] = ""
    """Show only ids that contain this."""
    seed: int = 0
    """Not used by anything random here; accepted as everywhere."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Doctor:
    """Play random episodes of a game and report what it does."""

    env_id: Positional[str]
    """Id of the game."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments of the game."""
    episodes: int = 10
    """Episodes to play."""
    seed: int = 0
    """Seed of the first episode."""
    json: bool = False
    """Print one JSON object as the last line."""


@dataclass(frozen=True)
class Verify:
    """Compare a compiled game with its original, move by move."""

    env_id: Positional[str]
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
    env_id: Positional[str]
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
    stock: bool = False
    """Build our environments with PettingZoo's own chain of wrappers."""
    train: bool = False
    """With ``compiled``: the whole of training, not stepping alone."""
    seed: int = 0
    """Seed of the environments."""
    json: bool = False
    """Print one JSON object as the last line."""


Command = (
    Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Watch, subcommand("watch")]
    | Annotated[List, subcommand("list")]
    | Annotated[Doctor, subcommand("doctor")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Bench, subcommand("bench")]
)


def parse(args: list[str]) -> Any:
    """Parse a command line; ``train --resume`` takes the run's settings as defaults."""
    parsed: Any = tyro.cli(Command, args=args, prog="kitae-marl", description=__doc__)
    if not isinstance(parsed, Train) or not parsed.resume:
        return parsed
    from kitae_marl import runs

    path = runs.run_path(parsed.runs_dir, parsed.run or runs.default_name(parsed.config()))
    stored = runs.read_config(runs.find_run(path))
    if stored.env_id != parsed.env_id:
        raise ConfigError(
            f"env_id: the run {path.name} trains on {stored.env_id}, got {parsed.env_id}; give its "
            "own id, or another --run.",
            "env_id",
        )
    values = {f.name: getattr(stored, f.name) for f in dataclasses.fields(Config)}
    rest = args[args.index("train") + 1 :]
    return tyro.cli(Train, args=rest, prog="kitae-marl train", default=Train(**values))


def _set_up_xla() -> None:
    """Choose what XLA reads from the environment, where the user has not.

    One thread: networks of the usual size gain nothing from more, and results depend on the number.
    Programs are kept in the user's cache folder, so a second start need not compile.
    """
    os.environ.setdefault("NPROC", "1")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "kitae_marl" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def main(args: list[str] | None = None) -> None:
    """Run a command.

    Exits with 0; with 1 where something failed, or ``verify`` found a difference; with 2 after bad
    input, with 74 where the disk refused a checkpoint, with 130 or 143 after a signal.
    """
    try:
        command = parse(sys.argv[1:] if args is None else args)
        _set_up_xla()
        from kitae_marl import commands, runs  # imports what parsing does not need

        result = commands.RUN[type(command)](command)
        if command.json:
            print(runs.json_text(result), flush=True)
        if result.get("ok") is False:
            sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (KitaeError, ValueError, TypeError, OSError, ImportError) as error:
        from kitae_marl.logger import say_error

        say_error(error)
        sys.exit(_exit_code(error))


def _exit_code(error: Exception) -> int:
    """Tell bad input (2) from what failed on the way (1, or 74 for a checkpoint not written)."""
    if isinstance(error, CheckpointWriteError):
        return 74
    if str(getattr(error, "remote_type", "")).endswith("UnknownEnvironmentError"):
        return 2  # the module or function to import is looked for where the game is made
    failed = isinstance(error, VectorEnvError | CheckpointError)
    return 1 if failed and not isinstance(error, NoCheckpointError) else 2
