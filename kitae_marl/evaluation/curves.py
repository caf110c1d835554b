"""This file makes learning curves: a metric of several runs on one grid of environment steps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from kitae_marl.evaluation.statistics import iqm, stratified_bootstrap
from kitae_marl.runs.returns import RETURN, WIN_RATE, adds_up_to_zero, by_agent
from kitae_marl.runs.store.metrics import column_names, read_column

POINTS = 100
"""Points of a curve; each is the mean of the updates in one part of the steps."""
DEFINITIONS = {
    "return/mean": "undiscounted sum of rewards over one episode, averaged over all agents",
    "return/team": "undiscounted sum of rewards over one episode, summed over all agents",
    "return/group/": "undiscounted sum of rewards over one episode, averaged over the group",
    "return/": "undiscounted sum of the agent's rewards over one episode",
    "episode/length": "joint steps of an episode",
}
"""What a metric means, by the start of its name; the first that fits."""


def metric_definition(metric: str) -> str:
    """Say what a logged metric is, in words; returns are those of training, actions sampled.

    Example:
        >>> metric_definition("episode/length")
        'joint steps of an episode; mean over the episodes of training, actions sampled'
    """
    if metric.startswith(WIN_RATE):
        return "share of episodes won against the random policy, most probable actions"
    for start, definition in DEFINITIONS.items():
        if metric.startswith(start):
            return f"{definition}; mean over the episodes of training, actions sampled"
    return "as logged, one value for each update"


def metrics_to_plot(run_dirs: Sequence[Path]) -> list[str]:
    """Choose what to draw of runs of one game.

    Returns:
        ``["return/mean"]``; of zero-sum games, whose mean is zero, the returns of all agents, and
        before them the win rate against random where all runs have it.
    """
    tables = [_means(path) for path in run_dirs]
    if not all(adds_up_to_zero(table) for table in tables):
        return ["return/mean"]
    rates = ["win_rate/mean"] if all("win_rate/mean" in table for table in tables) else []
    return [*rates, *(f"return/{agent}" for agent in by_agent(tables[0]))]


def _means(run_dir: Path) -> dict[str, float]:
    """Return the mean over all rows of each return and win rate that a run has logged."""
    means = {}
    for name in column_names(run_dir):
        if name.startswith((RETURN, WIN_RATE)):
            with suppress(ValueError):  # a column without a value yet
                means[name] = float(np.mean(read_column(run_dir, name)[1]))
    return means


class Curve(NamedTuple):
    """Runs that differ by their seed alone, as one curve.

    Attributes:
        label: its name in the legend.
        step: environment steps, ``[K]``.
        runs: the metric of each run, ``[runs, K]``; NaN where a run says nothing.
        marks: environment steps of checkpoints that are to be marked.
    """

    label: str
    step: Float[np.ndarray, " K"]
    runs: Float[np.ndarray, "R K"]
    marks: tuple[int, ...] = ()

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
) -> Curve:
    """Read some runs and bring them onto one grid.

    Args:
        label: name of the curve.
        run_dirs: folders of the runs.
        metric: column of ``metrics.csv``.
        points: parts into which the steps are cut; fewer where the runs have fewer rows.
        marks: environment steps to mark.

    Raises:
        ValueError: as ``read_column``.
    """
    columns = [tuple(map(np.array, read_column(path, metric))) for path in run_dirs]
    points = min(points, max(len(step) for step, _ in columns))
    end = max(float(step.max()) for step, _ in columns)
    edges = np.linspace(0, end, points + 1)
    runs = np.stack([_binned(step, value, edges) for step, value in columns])
    some = np.isfinite(runs).any(axis=0)
    return Curve(label, edges[1:][some], runs[:, some], tuple(sorted({*marks})))


def _binned(step: np.ndarray, value: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of the values in each part ``(edges[i], edges[i + 1]]``; NaN where there is none."""
    part = np.clip(np.searchsorted(edges, step, "left") - 1, 0, len(edges) - 2)
    count = np.bincount(part, minlength=len(edges) - 1)
    total = np.bincount(part, value, minlength=len(edges) - 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
