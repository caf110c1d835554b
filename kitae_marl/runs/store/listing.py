"""This file lists the runs of a folder: what each trains on, how far it is, who is at work."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kitae_marl.errors import ConfigError, UnsafePathError
from kitae_marl.runs.store import contents, sets
from kitae_marl.runs.store.files import holder
from kitae_marl.runs.store.folders import run_path
from kitae_marl.runs.store.metrics import METRICS_FILE, last_values
from kitae_marl.runs.store.search import runs_in

RUN_PARTS = (
    contents.CONFIG_FILE,
    sets.SET_FILE,
    contents.AGENTS_FILE,
    contents.CHECKPOINTS,
    METRICS_FILE,
)
"""Any of these makes a folder a run or a set to list, if only a damaged one."""
RETURN = "return/mean"
"""The metric whose last value is listed."""
WIN_RATE = "win_rate/mean"
"""The metric that is listed instead where there is one: in zero-sum games the return is zero."""


def list_runs(runs_dir: str | Path) -> list[dict[str, Any]]:
    """Describe every run and every set of runs in a folder, by name.

    Returns:
        For each its ``name`` and ``state``: ``running``, ``complete``, ``stopped`` or ``damaged``
        (then with a ``reason``). For runs also ``env_id``, ``algo``, ``seed``, ``env_steps`` done
        and ``of``, ``return`` (mean over agents and the last episodes, None where none ended),
        ``win_rate`` against random of a zero-sum game (None where none was measured), and
        ``holder``, the process that trains it. For sets also ``runs``, a list of the same, and the
        mean ``return``.

    Raises:
        ConfigError: if ``runs_dir`` is a file.
    """
    root = Path(runs_dir)
    if not root.exists():
        return []
    if not root.is_dir():
        raise ConfigError(f"runs_dir: expected a folder, got the file {root}.", "runs_dir")
    return [_entry(root, path) for path in sorted(root.iterdir()) if _is_listed(path)]


def folders_of_runs(runs_dir: str | Path) -> list[Path]:
    """Return the folders in a folder that hold runs or sets, as ``train_many`` leaves them."""
    root = Path(runs_dir)
    parts = sorted(root.iterdir()) if root.is_dir() else []
    return [path for path in parts if not _is_listed(path) and runs_in(path)]


def _is_listed(path: Path) -> bool:
    """Whether a folder holds something of a run."""
    try:
        return path.is_dir() and any((path / name).exists() for name in RUN_PARTS)
    except OSError:  # a folder that may not be entered
        return True


def _entry(root: Path, path: Path) -> dict[str, Any]:
    """Describe one folder; whatever is wrong with it is its description."""
    try:
        run_path(root, path.name)
        return _set(path) if (path / sets.SET_FILE).exists() else _run(path)
    except (ConfigError, UnsafePathError, OSError) as error:
        return {"name": path.name, "state": "damaged", "reason": str(error)}


def _run(path: Path) -> dict[str, Any]:
    """Describe one run."""
    config, summary = contents.read_config(path), contents.read_summary(path)
    steps, value = last_values(path / METRICS_FILE, RETURN)
    if summary:  # else it is at work, or was killed
        steps, value = summary["env_steps"], summary["returns"].get(RETURN)
    process = holder(path)
    done = bool(summary) and summary["complete"]
    _, rate = last_values(path / METRICS_FILE, WIN_RATE)
    return {
        "name": path.name,
        "state": "running" if process else "complete" if done else "stopped",
        "env_id": config.env_id,
        "algo": config.algo,
        "seed": config.seed,
        "env_steps": steps,
        "of": config.n_updates * config.rollout_size,
        "return": value,
        "win_rate": rate,
        "holder": process,
    }


def _set(path: Path) -> dict[str, Any]:
    """Describe a set of runs."""
    seeds = sets.read_set(path)
    members = [path / sets.member_name(seed) for seed in seeds]
    rows = [_entry(path, part) for part in members if part.exists()]
    states = [row["state"] for row in rows]
    if holder(path) or "running" in states:
        state = "running"
    elif "damaged" in states:
        state = "damaged"
    else:
        complete = len(rows) == len(seeds) and set(states) == {"complete"}
        state = "complete" if complete else "stopped"
    values = [row["return"] for row in rows if row.get("return") is not None]
    mean = math.fsum(values) / len(values) if values else None
    return {"name": path.name, "state": state, "seeds": seeds, "return": mean, "runs": rows}
