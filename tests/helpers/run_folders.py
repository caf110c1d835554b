"""What run folders hold, and whether two of them hold the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from kitae_marl.runs.store.checkpoint import RunCheckpointer

CLOCKED = ("speed/", "env/step_ms")
"""What metrics begin with that a clock has measured."""


def saved(run: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    return RunCheckpointer(run / "checkpoints", save_every=1, num_envs=1).steps()


def digests(run: Path) -> dict[str, Any]:
    """Step and SHA-256 of every leaf of the newest checkpoint, as its manifest has them."""
    newest = run / "checkpoints" / str(saved(run)[-1])
    found = json.loads((newest / "manifest" / "metadata").read_text())
    return {name: part for name, part in found.items() if name in ("state", "game", "step")}


def logged(run: Path) -> list[dict[str, str]]:
    """Everything in ``metrics.csv`` but what a clock has measured."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith(CLOCKED)} for row in rows]


def same_folder(left: Path, right: Path) -> bool:
    return digests(left) == digests(right) and logged(left) == logged(right)
