"""What run folders hold, and whether two of them hold the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store import contents
from kitae_marl.runs.store.checkpoint import RunCheckpointer

CLOCKED = ("win_rate/", "speed/", "time/", "env/step_ms")
"""What metrics begin with that a clock has measured."""


def keeper_of(run: Path) -> RunCheckpointer:
    """What reads the checkpoints of a run folder; before there is a config, those of new names."""
    num_envs = contents.read_config(run).n_envs if contents.is_run(run) else 1
    return RunCheckpointer(run / "checkpoints", save_every=1, num_envs=num_envs)


def write_run(run: Path, agent: Agent) -> None:
    """Leave a run folder with an agent as it is, without the cost of training."""
    run.mkdir(parents=True)
    contents.write_config(run, agent.config)
    contents.write_groups(run, agent.possible_agents, agent.groups)
    keeper_of(run).write(agent.run_state())


def saved(run: Path) -> list[int]:
    """Environment steps of the complete checkpoints."""
    return keeper_of(run).steps()


def checkpoint(run: Path, step: int) -> Path:
    """The folder of a checkpoint, named as new ones are."""
    return run / "checkpoints" / f"step_{step}"


def make_old(run: Path) -> None:
    """Name the checkpoints by joint steps, as the first versions did."""
    num_envs = contents.read_config(run).n_envs
    for path in (run / "checkpoints").iterdir():
        path.rename(path.parent / str(int(path.name.removeprefix("step_")) // num_envs))


def digests(run: Path) -> dict[str, Any]:
    """Step and SHA-256 of every leaf of the newest checkpoint, as its manifest has them."""
    newest = keeper_of(run).latest_path()
    found = json.loads((Path(newest) / "manifest" / "metadata").read_text())
    return {name: part for name, part in found.items() if name in ("state", "game", "step")}


def logged(run: Path) -> list[dict[str, str]]:
    """Everything in ``metrics.csv`` but what a clock has measured."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [{k: v for k, v in row.items() if not k.startswith(CLOCKED)} for row in rows]
    # Where win rates are measured a clock says: their rows, which hold nothing else, are left out.
    return [row for row in kept if any(text for name, text in row.items() if name != "step")]


def same_folder(left: Path, right: Path) -> bool:
    return digests(left) == digests(right) and logged(left) == logged(right)
