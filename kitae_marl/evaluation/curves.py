"""This file makes learning curves: a metric of several runs on one grid of environment steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from kitae_marl.evaluation.statistics import iqm, stratified_bootstrap
from kitae_marl.runs.store.metrics import read_column

POINTS = 100
"""Points of a curve; each is the mean of the updates in one part of the steps."""


class Curve(NamedTuple):
    """Runs that differ by their seed alone, as one curve.

    Attributes:
        label: name of the runs.
        step: environment steps, ``[K]``.
        runs: the metric of each run, ``[runs, K]``; NaN where a run says nothing.
        marks: environment steps of checkpoints that are to be marked.
        metric: the column, named where a panel holds several.
        per_point: updates in one point, at most.
    """

    label: str
    step: Float[np.ndarray, " K"]
    runs: Float[np.ndarray, "R K"]
    marks: tuple[int, ...] = ()
    metric: str = ""
    per_point: int = 1

    @property
    def name(self) -> str:
        """Name of the curve: its runs, and its metric where that is not the panel's."""
        return f"{self.label} {self.metric}".strip()

    def at_marks(self) -> Float[np.ndarray, " M"]:
        """Return the curve's height at its marks, between two points on the line between them."""
        return np.interp(self.marks, self.step, self.middle())

    def middle(self) -> Float[np.ndarray, " K"]:
        """IQM over the runs that have a value (the mean, up to three of them)."""
        return np.array([iqm(_known(column)) for column in self.runs.T])

    def band(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest run (``range``), or the 95 % interval of the IQM (``interval``)."""
        columns = [_known(column) for column in self.runs.T]
        if kind == "range":
            ends = [(column.min(), column.max()) for column in columns]
        else:
            ends = [stratified_bootstrap(iqm, [column]) for column in columns]
        low, high = np.array(ends).T
        return low, high


def _known(column: np.ndarray) -> np.ndarray:
    """Values that are not NaN."""
    return column[np.isfinite(column)]


def make_curve(
    label: str,
    run_dirs: Sequence[Path],
    metric: str,
    points: int = POINTS,
    marks: Sequence[int] = (),
    *,
    smooth: int = 1,
    named: bool = False,
) -> Curve:
    """Read some runs and bring them onto one grid.

    Args:
        label: name of the runs.
        run_dirs: folders of the runs.
        metric: column of ``metrics.csv``.
        points: parts into which the steps are cut; fewer where fewer steps have a value.
        marks: environment steps to mark.
        smooth: updates, up to the one at a step, whose mean is drawn there.
        named: whether the curve is called by its metric, too.

    Raises:
        ValueError: as ``read_column``.
    """
    columns = [tuple(map(np.array, read_column(path, metric))) for path in run_dirs]
    edges = _edges(np.unique(np.concatenate([step for step, _ in columns])), points)
    runs = np.stack([_binned(step, _trailing(value, smooth), edges) for step, value in columns])
    some = np.isfinite(runs).any(axis=0)
    per_point = max(int(np.bincount(_parts(step, edges)).max()) for step, _ in columns)
    name = metric if named else ""
    return Curve(label, edges[1:][some], runs[:, some], tuple(sorted({*marks})), name, per_point)


def _edges(steps: np.ndarray, points: int) -> np.ndarray:
    """Return the ends of the parts that the steps are cut into, from 0 on.

    Where there are no more steps with a value than points, each has a part that ends with it.
    """
    if len(steps) <= points:
        return np.concatenate([[0.0], steps.astype(float)])
    return np.linspace(0.0, float(steps[-1]), points + 1)


def _trailing(values: np.ndarray, n: int) -> np.ndarray:
    """Return the mean of the last n values, at the beginning of as many as there are.

    Example:
        >>> _trailing(np.array([2.0, 4.0, 6.0]), 2).tolist()
        [2.0, 3.0, 5.0]
    """
    if n == 1:
        return values
    return np.array([values[max(0, i + 1 - n) : i + 1].mean() for i in range(len(values))])


def _parts(step: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Number of the part ``(edges[i], edges[i + 1]]`` in which each step lies."""
    return np.clip(np.searchsorted(edges, step, "left") - 1, 0, len(edges) - 2)


def _binned(step: np.ndarray, value: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of the values in each part; NaN where there is none."""
    part = _parts(step, edges)
    count = np.bincount(part, minlength=len(edges) - 1)
    total = np.bincount(part, value, minlength=len(edges) - 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
