"""This file finds runs and sets of runs by path or by name."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from kitae_marl.config.counts import read_count
from kitae_marl.config.learner import WhichPolicy
from kitae_marl.errors import ConfigError, NoCheckpointError
from kitae_marl.runs.store.contents import CONFIG_FILE
from kitae_marl.runs.store.folders import NAME, member
from kitae_marl.runs.store.sets import SET_FILE, is_set, read_set

LAST: WhichPolicy = "last"
"""The policy that is meant where nothing is said."""


class RunAt(NamedTuple):
    """A run, as of one of its checkpoints.

    Attributes:
        path: folder of the run.
        step: environment step of the checkpoint, or ``"best"``; None: the newest.
        policy: which of its policies plays.
    """

    path: Path
    step: int | Literal["best"] | None
    policy: WhichPolicy = LAST

    @property
    def how(self) -> dict[str, Any]:
        """Step and policy, as ``Agent.load`` takes them beside the path."""
        return {"step": self.step, "policy": self.policy}

    def __str__(self) -> str:
        at = "" if self.step is None else f"@{self.step}"
        return f"{self.path.name}{at}{'' if self.policy == LAST else f'@{self.policy}'}"


class Named(NamedTuple):
    """What ``RUN``, ``RUN@STEP``, ``RUN@average`` or ``RUN@STEP@average`` means.

    Attributes:
        run: the run by path or name.
        step: environment step, or ``"best"``; None where there is none.
        policy: which policy; None where it is not said.
    """

    run: str | Path
    step: int | Literal["best"] | None
    policy: WhichPolicy | None


def run_at(
    run: str | Path,
    runs_dir: str | Path = "runs",
    step: int | Literal["best"] | None = None,
    policy: WhichPolicy | None = None,
) -> RunAt:
    """Return the run, and the checkpoint of it, that ``RUN`` or ``RUN@STEP`` means.

    Args:
        run: path of a folder, or its name in ``runs_dir``, with or without a step behind it, and
            behind that with or without ``@average``.
        runs_dir: folder that holds the runs.
        step: of the checkpoint, where it stands apart; None: what stands behind the name.
        policy: which policy, likewise; the last one where nothing is said.

    Raises:
        ConfigError: if a step or a policy is given twice.
        NoCheckpointError: as ``find_run``.
    """
    run, step, policy = _with_own(run, step, policy)
    return RunAt(find_run(run, runs_dir), step, policy or LAST)


def resumed_at(
    run: str | Path, step: int | Literal["best"] | None = None
) -> tuple[Path, int | Literal["best"] | None]:
    """Return folder and checkpoint of a run that is to go on.

    Args and errors as of ``run_at``.

    Raises:
        ConfigError: for another policy than the last one, with which alone a run can go on.
    """
    path, step, policy = run_at(run, step=step)
    if policy != LAST:
        raise ConfigError(
            f"policy: expected a run to go on with, got {run}: it is its last policy that learns; "
            f"leave @{policy} out, or begin a new run with it (init).",
            "policy",
        )
    return path, step


def runs_at(
    run: str | Path,
    runs_dir: str | Path = "runs",
    step: int | Literal["best"] | None = None,
    policy: WhichPolicy | None = None,
) -> list[RunAt]:
    """Return the checkpoint that is meant, of a set of runs that of each run, by seed.

    Arguments and errors are those of ``run_at``.
    """
    run, step, policy = _with_own(run, step, policy)
    return [RunAt(path, step, policy or LAST) for path in find_runs(run, runs_dir)]


def _with_own(
    run: str | Path, step: int | Literal["best"] | None, policy: WhichPolicy | None
) -> Named:
    """Return the run without what stands behind it, and the one step and policy that were given."""
    if not isinstance(run, str | Path):
        return Named(run, step, policy)  # of which ``find_run`` says what is wrong
    named = split_step(run)
    for what, apart, behind in (("step", step, named.step), ("policy", policy, named.policy)):
        if apart is not None and behind is not None:
            raise ConfigError(
                f"{what}: expected one {what}, got {apart} and {run}; leave one of the two out.",
                what,
            )
    return Named(
        named.run,
        named.step if step is None else step,
        named.policy if policy is None else policy,
    )


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
    named = split_step(run)
    if named.run != run:
        find_run(named.run, runs_dir)  # where there is none, that is said
        behind = str(run).removeprefix(str(named.run))
        what = "policy" if named.step is None else "step"
        raise NoCheckpointError(
            f"expected a run without a {what}, got {str(run)!r}; this is about the run as a whole: "
            f"leave {behind} out.",
            str(run),
        )
    raise NoCheckpointError(_what_is_there(run, runs_dir), str(run))


def split_step(run: str | Path) -> Named:
    """Take ``RUN@STEP`` apart, which names one checkpoint of a run, and ``RUN@average``.

    Returns:
        The run, the environment step or ``"best"`` that stands behind an ``@``, written as after
        ``--step``, and the policy behind the last one, as after ``--policy``. A path of a folder is
        left as it is.

    Example:
        >>> tuple(split_step("crosses@20480")), tuple(split_step("crosses@best@average"))
        (('crosses', 20480, None), ('crosses', 'best', 'average'))
        >>> tuple(split_step("crosses"))
        ('crosses', None, None)
    """
    policy, rest = None, run
    for one in get_args(WhichPolicy):
        name = str(run).removesuffix(f"@{one}")
        if name and name != str(run) and not os.path.isdir(run):
            policy, rest = one, name
    name, _, step = str(rest).rpartition("@")
    if not name or os.path.isdir(rest):
        return Named(rest, None, policy)
    if step == "best":
        return Named(name, "best", policy)
    try:
        return Named(name, read_count(step), policy)
    except ValueError:  # a name with an @ in it, or a slip, of which is said what it lacks
        return Named(rest, None, policy)


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
    return " Behind an @ stands an environment step, such as 204800 or 200k, best or average."


def runs_in(folder: Path) -> list[str]:
    """Return the names of the runs and sets of runs that stand in a folder, none if it is none."""
    if not os.path.isdir(folder):  # which takes a name too long to be one, too
        return []
    markers = (CONFIG_FILE, SET_FILE)
    return sorted({p.parent.name for marker in markers for p in folder.glob(f"*/{marker}")})
