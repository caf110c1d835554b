"""This file names run folders, and makes them where nothing is lost by it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from kitae_marl.config.run import Config
from kitae_marl.errors import RunExistsError, UnsafePathError
from kitae_marl.runs.store.contents import (
    AGENTS_FILE,
    BOARD,
    CHECKPOINTS,
    CONFIG_FILE,
    INIT_FILE,
    SEATS,
    SEATS_FILE,
    SUMMARY_FILE,
    is_run,
    step_of_folder,
)
from kitae_marl.runs.store.files import LOCK, holder, require_folder
from kitae_marl.runs.store.league import LEAGUE
from kitae_marl.runs.store.metrics import METRICS_FILE, STEP, last_values
from kitae_marl.runs.store.sets import SET_FILE, is_set, member_name, read_set

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What runs and sets may be called: nothing that a shell or a path takes for something else."""

RUN_PARTS = (
    *(CONFIG_FILE, AGENTS_FILE, INIT_FILE, SUMMARY_FILE, METRICS_FILE),
    *(BOARD, CHECKPOINTS, LEAGUE, SEATS, SEATS_FILE),
)
"""All that a run's folder may hold."""


def run_path(runs_dir: str | Path, name: str) -> Path:
    """Return the folder of a run, made sure to lie in ``runs_dir``.

    Raises:
        UnsafePathError: if the name is not letters, digits, ``.``, ``_`` and ``-`` (up to 100, the
            first a letter or digit), or leads out of ``runs_dir`` by a symbolic link.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UnsafePathError(
            "expected a run name of 1 to 100 letters, digits, '.', '_' and '-', the first a letter "
            f"or a digit; got {name!r}."
        )
    root = Path(runs_dir).resolve()
    path = (root / name).resolve()
    if path.parent != root:
        raise UnsafePathError(f"the run {name!r} leads outside {root}, to {path}; remove the link.")
    return path


def default_name(config: Config, n_seeds: int = 1) -> str:
    """Name a run by game, algorithm and seed: ``simple_spread-v3-ippo-0``, or ``...-0-to-4``."""
    game, algo = (
        re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
        for text in (config.env_id.rsplit("/", 1)[-1], config.algo)
    )
    algo = algo[:24]
    last = f"-to-{config.seed + n_seeds - 1}" if n_seeds > 1 else ""
    return f"{game[: 84 - len(algo)] or 'run'}-{algo or 'own'}-{config.seed}{last}"


def member(path: Path, seed: int) -> Path:
    """Return the folder of one run of a set, made sure to lie in that of the set."""
    return run_path(path, member_name(seed))


def came_to_nothing(path: Path) -> bool:
    """Whether a folder holds a run, or a set of runs, that ended before it had learned anything.

    It may have a checkpoint of step 0, of a run that was stopped while it was compiled; a folder
    that holds anything else than parts of a run is not looked upon as one.
    """
    held = {part.name for part in path.iterdir()}
    if is_set(path):
        members = {member_name(seed) for seed in read_set(path)} & held
        return held <= {SET_FILE, LOCK, *members} and all(
            came_to_nothing(path / name) for name in members
        )
    if not held <= {*RUN_PARTS, LOCK} or not is_run(path):
        return False
    folder = path / CHECKPOINTS
    begun = folder.is_dir() and any(step_of_folder(p.name, 1) for p in folder.iterdir())
    return not begun and last_values(path / METRICS_FILE, STEP)[0] == 0


def require_free(path: Path, *, overwrite: bool = False) -> None:
    """Make sure that a run may be made in a folder; nothing is changed.

    Raises:
        RunExistsError: if the folder holds a run that has learned something and ``overwrite`` is
            False, or holds other things.
        ValueError: if it may not be written, or made.
    """
    if path.exists() and not path.is_dir():
        raise RunExistsError(f"{path} is a file; choose another name or remove it yourself.")
    require_folder(path)
    held = {part.name for part in path.iterdir()} - {LOCK} if path.exists() else set()
    if not held or came_to_nothing(path):
        return
    if not is_run(path) and not is_set(path):
        raise RunExistsError(
            f"{path} is not empty and holds no run; choose another name or empty it yourself."
        )
    if not overwrite:
        raise RunExistsError(
            f"{path} already holds a run; continue it (--resume, Agent.resume), replace it "
            "(--overwrite, overwrite=True), or choose another name (--run)."
        )


def is_unused(path: Path) -> bool:
    """Whether nothing is lost by a run of this name, and nobody is at work in the folder."""
    if not path.exists():
        return True
    return path.is_dir() and came_to_nothing(path) and not holder(path)


def remove_nothing(path: Path) -> None:
    """Remove the folder of a run that came to nothing; others stay, and so does what is no run."""
    if path.is_dir() and came_to_nothing(path):
        shutil.rmtree(path, ignore_errors=True)


def create_run(path: Path, *, overwrite: bool = False) -> None:
    """Make an empty run folder, in place of the run it holds if ``overwrite`` is set.

    Raises:
        RunExistsError: as ``require_free``.
    """
    require_free(path, overwrite=overwrite)
    path.mkdir(parents=True, exist_ok=True)
    last = (CONFIG_FILE, SET_FILE)  # until they go, what is left can be overwritten again
    for part in sorted(path.iterdir(), key=lambda part: part.name in last):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        elif part.name != LOCK:
            part.unlink()
