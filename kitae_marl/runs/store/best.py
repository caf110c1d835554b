"""This file keeps which checkpoint of a run was evaluated best, in ``checkpoints/best.json``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.files import write_text
from kitae_marl.runs.store.strict_json import read_json

BEST = "best"
"""What stands for the step of that checkpoint wherever one is named."""
BEST_FILE = "best.json"
"""The file, beside the checkpoints."""


class Best(NamedTuple):
    """The best evaluation of a run so far.

    Attributes:
        env_step: environment step of the checkpoint that was evaluated.
        metric: what was compared.
        value: its value there; larger is better.
    """

    env_step: int
    metric: str
    value: float

    def is_beaten(self, metric: str, value: float) -> bool:
        """Whether an evaluation is at least as good; one by another metric always is.

        Of equal ones the later is the best: it has learned from more.
        """
        return metric != self.metric or value >= self.value


def read_best(folder: Path) -> Best | None:
    """Return the best evaluation that a folder of checkpoints tells of; None without one."""
    try:
        return as_best(read_json(folder / BEST_FILE))
    except ConfigError:
        return None


def as_best(data: Any) -> Best | None:
    """Return the best evaluation that was read as JSON; None where it is none."""
    if not isinstance(data, dict):
        return None
    step, metric, value = data.get("env_step"), data.get("metric"), data.get("value")
    if type(step) is not int or not isinstance(metric, str) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return Best(step, metric, value) if math.isfinite(value) else None


def write_best(folder: Path, best: Best) -> None:
    """Store the best evaluation."""
    write_text(folder / BEST_FILE, json.dumps(best._asdict()) + "\n")


def forget_best(folder: Path) -> None:
    """Remove what was stored, for a run that went back behind it."""
    (folder / BEST_FILE).unlink(missing_ok=True)
