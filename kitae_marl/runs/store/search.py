"""This file finds runs and sets of runs by path or by name."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Literal, NamedTuple

from kitae_marl.config.counts import read_count
from kitae_marl.errors import ConfigError, NoCheckpointError
from kitae_marl.runs.store.contents import CONFIG_FILE
from kitae_marl.runs.store.folders import NAME, member
from kitae_marl.runs.store.sets import SET_FILE, is_set, read_set


class RunAt(NamedTuple):
    """A run, as of one of its checkpoints.

    Attributes:
        path: folder of the run.
        step: environment step of the checkpoint, or ``"best"``; None: the newest.
    """

    path: Path
    step: int | Literal["best"] | None

    def __str__(self) -> str:
        return self.path.name if self.step is None else f"{self.path.name}@{self.step}"


def run_at(
    run: str | Path, runs_dir: str | Path = "runs", step: int | Literal["best"] | None = None
) -> RunAt:
    """Return the run, and the checkpoint of it, that ``RUN`` or ``RUN@STEP`` means.

    Args:
        run: path of a folder, or its name in ``runs_dir``, with or without a step behind it.
        runs_dir: folder that holds the runs.
        step: of the checkpoint, where it stands apart; None: what stands behind the name.

    Raises:
        ConfigError: if a step is given twice.
        NoCheckpointError: as ``find_run``.
    """
    run, step = _with_step(run, step)
    return RunAt(find_run(run, runs_dir), step)


def runs_at(
    run: str | Path, runs_dir: str | Path = "runs", step: int | Literal["best"] | None = None
) -> list[RunAt]:
    """Return the checkpoint that is meant, of a set of runs that of each run, by seed.

    Arguments and errors are those of ``run_at``.
    """
    run, step = _with_step(run, step)
    return [RunAt(path, step) for path in find_runs(run, runs_dir)]


def _with_step(
    run: str | Path, step: int | Literal["best"] | None
) -> tuple[str | Path, int | Literal["best"] | None]:
    """Return the run without the step behind it, and the one step that was given."""
    if not isinstance(run, str | Path):
        return run, step  # of which ``find_run`` says what is wrong
    name, named = split_step(run)
    if named is None:
        return run, step
    if step is not None:
        raise ConfigError(
            f"step: expected one step, got {step} and {run}; leave one of the two out.", "step"
        )
    return name, named


def find_runs(run: str | Path, runs_dir: str | Path = "runs") -> list[Path]:
    """Return the folders of a run, or of all runs of a set that have been started, by seed.

    Args:
        run: path of a folder, or its name in ``runs_dir``.
        runs_dir: folder that holds the runs.

    Raises:
        NoCheckpointError: if there is no run; the message lists those there are.
    """
    for path in _candidates(run, runs_dir):
        if is_set(path):
            started = _started(path)
            if started:
                return started
    return [find_run(run, runs_dir)]


def _started(path: Path) -> list[Path]:
    """Return the folders of those runs of a set that have been started, by seed."""
    members = [member(path, seed) for seed in read_set(path)]
    return [found for found in members if (found / CONFIG_FILE).is_file()]


def _candidates(run: str | Path, runs_dir: str | Path) -> list[Path]:
    """Folders that a path or a name (``x``, ``x/seed_0``) may mean."""
    named = all(NAME.fullmatch(part) for part in str(run).split("/"))
    return [Path(run), Path(runs_dir) / run] if named else [Path(run)]


def find_run(run: str | Path, runs_dir: str | Path = "runs") -> Path:
    """Return the folder of an existing run, given its path or its name in ``runs_dir``.

    Raises:
        NoCheckpointError: if there is no run, or a set of them; the message lists those there are.
        TypeError: if it is no path.
    """
    if not isinstance(run, str | Path):
        raise TypeError(f"expected a run as a path or a name, got {type(run).__name__}.")
    for path in _candidates(run, runs_dir):
        try:
            found = (path / CONFIG_FILE).is_file()
        except PermissionError:
            raise
        except OSError:  # a name too long to be one
            found = False
        if found:
            return path.resolve()
        if is_set(path):
            begun = ", ".join(f"{run}/{part.name}" for part in _started(path)) or "none"
            raise NoCheckpointError(
                f"expected one run, got the set {str(run)!r}; begun are {begun}.", str(run)
            )
    whole, step = split_step(run)
    if step is not None:
        find_run(whole, runs_dir)  # where there is none, that is said
        raise NoCheckpointError(
            f"expected a run without a step, got {str(run)!r}; this is about the run as a whole: "
            f"leave @{step} out.",
            str(run),
        )
    raise NoCheckpointError(_what_is_there(run, runs_dir), str(run))


def split_step(run: str | Path) -> tuple[str | Path, int | Literal["best"] | None]:
    """Take ``RUN@STEP`` apart, which names one checkpoint of a run.

    Returns:
        The run by path or name, and the environment step, or ``"best"``, that stands behind its
        last ``@``, written as after ``--step``; None where there is none, or the whole is the path
        of a folder.

    Example:
        >>> split_step("crosses@20480"), split_step("crosses@best"), split_step("crosses")
        (('crosses', 20480), ('crosses', 'best'), ('crosses', None))
    """
    name, _, step = str(run).rpartition("@")
    if not name or os.path.isdir(run):
        return run, None
    if step == "best":
        return name, "best"
    try:
        return name, read_count(step)
    except ValueError:  # a name with an @ in it, or a slip, of which is said what it lacks
        return run, None


def _what_is_there(run: str | Path, runs_dir: str | Path) -> str:
    """Say what there is in place of a run: a folder of runs by its name, or other runs."""
    for path in _candidates(run, runs_dir):
        if names := runs_in(path):
            folder = shlex.quote(str(path))
            return (
                f"{str(run)!r} is a folder of runs ({', '.join(names)}): name one of them, such as "
                f"{path / names[0]} (for train: --runs-dir {folder} --run {names[0]}); "
                f"`kitae-marl runs --runs-dir {folder}` shows them."
            )
    listed = ", ".join(runs_in(Path(runs_dir))) or "none"
    return f"no run at {str(run)!r}; runs in {runs_dir}: {listed}.{hint_at_step(run)}"


def hint_at_step(run: str | Path) -> str:
    """Say what stands behind an ``@``, where a run that was not found has one."""
    if "@" not in str(run):
        return ""
    return " Behind an @ stands an environment step, such as 204800 or 200k, or best."


def runs_in(folder: Path) -> list[str]:
    """Return the names of the runs and sets of runs that stand in a folder, none if it is none."""
    if not os.path.isdir(folder):  # which takes a name too long to be one, too
        return []
    markers = (CONFIG_FILE, SET_FILE)
    return sorted({p.parent.name for marker in markers for p in folder.glob(f"*/{marker}")})
