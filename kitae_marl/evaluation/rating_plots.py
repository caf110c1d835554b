"""This file draws who is how strong and who beats whom: tournaments, and the leagues of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kitae_marl.evaluation.plots import (
    COLORS,
    DASHES,
    check_out,
    draw_intervals,
    new_figure,
    save,
    texts_as_they_are,
)

if TYPE_CHECKING:
    from kitae_marl.evaluation.plots import Axes, AxesImage, Figure

ROOM = 20
"""Rows and columns of a matrix up to which there is room for numbers in it."""
MOST_TICKS = 30
"""Rows or columns up to which each is named."""
ACROSS = 3
"""Matrices side by side."""
GAP = "0.8"
"""Grey of what has not met, which is no colour of a number."""


def plot_tournament(out: Path, result: Mapping[str, Any]) -> None:
    """Draw ratings with their intervals, and the mean score of each player against each other.

    An end of an interval that no game bounds is drawn to the edge of the picture.

    Args:
        out: file to write, ``.png``, ``.pdf`` or ``.svg``.
        result: ``env_id``; ``players``, by name the rating with its ends ``low`` and ``high``, the
            strongest first; ``anchor``; ``payoff``: ``players`` and ``score``, by row and column.

    Raises:
        ValueError, ImportError: as ``check_out``.
    """
    check_out(out)
    with texts_as_they_are():
        rows, payoff = result["players"], result["payoff"]
        places = [payoff["players"].index(name) for name in rows]
        scores = np.array(payoff["score"], float)[np.ix_(places, places)]
        size = 1.5 + 0.45 * len(rows)
        figure = new_figure(6 + size, 1.2 + size)
        left, right = figure.subplots(1, 2, width_ratios=[5, size], sharey=True)
        _draw_ratings(left, list(rows.values()))
        left.set_xlabel(f"rating; {result['anchor'] or 'the mean of all'} is 0; 95 % intervals")
        image = _draw_matrix(right, scores, "RdBu", (0, 1), numbers=True)
        right.set_xticks(range(len(rows)), list(rows), rotation=45, ha="right")
        right.set_xlabel("mean score of the row against the column")
        left.set_yticks(range(len(rows)), list(rows))
        figure.colorbar(image, ax=right)
        figure.suptitle(result["env_id"])
        save(figure, out)


def _draw_ratings(axes: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    """Draw ratings, one below the other, open ends to the edge."""
    ends = np.array([[row["low"], row["rating"], row["high"]] for row in rows])
    finite = ends[np.isfinite(ends)]
    margin = 0.1 * (finite.max() - finite.min()) + 50
    edges = finite.min() - margin, finite.max() + margin
    points = [
        {"estimate": rating, "low": max(low, edges[0]), "high": min(high, edges[1])}
        for low, rating, high in ends
    ]
    draw_intervals(axes, np.arange(len(rows)), points, COLORS[0], None)
    axes.set_xlim(*edges)
    axes.grid(alpha=0.3)


def plot_cross_play(out: Path, result: Mapping[str, Any]) -> None:
    """Draw the mean return of each side, by who plays the first side and who the second.

    Args:
        out: file to write, ``.png``, ``.pdf`` or ``.svg``.
        result: ``env_id``; ``cross_play``: ``players``, and by side ``sides`` and ``returns``, the
            matrices ``[n, n]``.

    Raises:
        ValueError, ImportError: as ``check_out``.
    """
    check_out(out)
    with texts_as_they_are():
        crossed = result["cross_play"]
        names, (first, second) = list(crossed["players"]), crossed["sides"]
        width, height = _size({"rows": names, "columns": names})
        figure = new_figure(2 * (width + 1), height)
        for axes, (side, means) in zip(
            figure.subplots(1, 2), crossed["returns"].items(), strict=True
        ):
            means = np.array(means, float)
            ends = means.min(), means.max()
            image = _draw_matrix(axes, means, "viridis", ends, numbers=len(names) <= ROOM)
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
            axes.set_xlabel(f"who plays {second}")
            axes.set_ylabel(f"who plays {first}")
            axes.set_title(f"mean return of {side}", fontsize="medium")
            figure.colorbar(image, ax=axes, fraction=0.05)
        figure.suptitle(result["env_id"])
        save(figure, out)


def plot_league(out: Path, result: Mapping[str, Any]) -> None:
    """Draw the league of a run.

    Of zero-sum games: ratings with their intervals over environment steps, and the mean scores of
    the learner's periods; of others: for each team the mean returns of these.

    Args:
        out: file to write, ``.png``, ``.pdf`` or ``.svg``.
        result: what the command ``league`` says of it in JSON.

    Raises:
        ValueError, ImportError: as ``check_out``.
    """
    check_out(out)
    with texts_as_they_are():
        zero_sum, returns = result["zero_sum"], result.get("returns", {})
        figure = _draw_zero_sum(result) if zero_sum else _draw_returns(returns)
        figure.suptitle(f"{result['name']}: {result['env_id']}")
        save(figure, out)


def _draw_zero_sum(result: Mapping[str, Any]) -> Figure:
    """Draw ratings over steps beside the matrix of scores."""
    matrix = result["matrix"]
    width, height = _size(matrix)
    figure = new_figure(6.5 + width, max(height, 4.5))
    left, right = figure.subplots(1, 2, width_ratios=[6.5, width])
    _draw_over_steps(left, result["players"])
    left.set_ylabel(f"rating; {result['anchor'] or 'the mean of all'} is 0; 95 % intervals")
    scores = np.array(matrix["score"], float)
    image = _draw_matrix(right, scores, "RdBu", (0, 1), numbers=max(scores.shape) <= ROOM)
    _name_ticks(right, matrix)
    figure.colorbar(image, ax=right, label="mean score of the learner", fraction=0.05)
    return figure


def _draw_returns(returns: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the matrix of returns of each team."""
    across = min(len(returns), ACROSS)
    down = -(-len(returns) // across)
    sizes = [_size(matrix) for matrix in returns.values()]
    width, height = (max(size) for size in zip(*sizes, strict=True))
    figure = new_figure(across * (width + 1), down * height)
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (team, matrix) in zip(grid, returns.items(), strict=False):
        means = np.array(matrix["learner"], float)
        ends = np.nanmin(means), np.nanmax(means)
        numbers = max(means.shape) <= ROOM
        image = _draw_matrix(axes, means, "viridis", ends, numbers=numbers)
        _name_ticks(axes, matrix)
        axes.set_title(f"mean return of the learner as {team}", fontsize="medium")
        figure.colorbar(image, ax=axes, fraction=0.05)
    for axes in grid[len(returns) :]:
        axes.set_axis_off()
    return figure


def _size(matrix: Mapping[str, Any]) -> tuple[float, float]:
    """Return inches in which a matrix is read well."""
    n_rows, n_columns = len(matrix["rows"]), len(matrix["columns"])
    return 2.5 + min(max(0.45 * n_columns, 2), 8), 1.8 + min(max(0.3 * n_rows, 2), 7)


def _draw_matrix(
    axes: Axes, values: np.ndarray, colors: str, ends: tuple[float, float], *, numbers: bool
) -> AxesImage:
    """Draw a matrix in colours from one end to the other, with its numbers or without."""
    image = axes.imshow(values, cmap=colors, vmin=ends[0], vmax=ends[1], aspect="auto")
    axes.set_facecolor(GAP)
    if numbers:
        form = number_format(values)
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                red, green, blue, _ = image.to_rgba(value)
                dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
                text = f"{value:{form}}"
                color = "white" if dark else "black"
                axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    return image


def number_format(values: np.ndarray) -> str:
    """Return how to write numbers of a matrix, all with as many decimals."""
    largest = np.nanmax(np.abs(values), initial=0)
    return ".2f" if largest < 10 else ".1f" if largest < 1000 else ".3g"


def _name_ticks(axes: Axes, matrix: Mapping[str, Any]) -> None:
    """Name the rows and the columns of a matrix."""
    for axis, key, more in (
        (axes.xaxis, "columns", {"rotation": 45, "ha": "right"}),
        (axes.yaxis, "rows", {}),
    ):
        names = matrix[key]
        # Where there are many steps, every other one is named, or every third, and so on.
        steps = [i for i, name in enumerate(names) if _short(name) != name]
        named = [i for i in range(len(names)) if i not in steps]
        named += steps[:: -(-len(names) // MOST_TICKS)]
        axis.set_ticks(named, [_short(names[i]) for i in named], fontsize=8, **more)
    axes.set_xlabel("opponent (snapshots by their environment step); grey: have not met")
    axes.set_ylabel("learner, up to which environment step")


def _short(name: str) -> str:
    """Write the step of a snapshot, or of a period of the learner, alone."""
    step = name.removeprefix("step_").removeprefix("learner@")
    return f"{int(step):,}" if step.isdecimal() else name


def _draw_over_steps(axes: Axes, players: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw ratings over environment steps; an end that no game bounds goes to the edge."""
    rows = [{**row, "name": name} for name, row in players.items() if row["rating"] is not None]
    ends = np.array([[row[key] for key in ("low", "rating", "high")] for row in rows], float)
    finite = ends[np.isfinite(ends)]
    margin = 0.05 * (finite.max() - finite.min()) + 20
    edges = finite.min() - margin, finite.max() + margin
    for row, (low, rating, high) in zip(rows, np.clip(ends, *edges), strict=True):
        row |= {"low": low, "rating": rating, "high": high}
    _draw_fixed(axes, [row for row in rows if row["kind"] == "fixed"])
    _draw_learner(axes, [row for row in rows if row["kind"] == "learner"])
    snapshots = [row for row in rows if row["kind"] == "snapshot"]
    _draw_snapshots(axes, [row for row in snapshots if row["left"] is None], "in", COLORS[0])
    _draw_snapshots(axes, [r for r in snapshots if r["left"] is not None], "that left", "white")
    axes.set_ylim(*edges)
    axes.set_xlabel("environment steps, all environments together")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _draw_fixed(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw players that do not learn as lines with their names."""
    for i, row in enumerate(rows):
        color, dash = COLORS[(2 + i) % len(COLORS)], DASHES[(1 + i) % len(DASHES)]
        label = f"{row['name']} {row['rating']:.0f}"
        axes.axhline(row["rating"], color=color, linestyle=dash, label=label)
        axes.axhspan(row["low"], row["high"], color=color, alpha=0.12, linewidth=0)


def _draw_learner(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the learner's periods as a line with a band."""
    if rows:
        rows = sorted(rows, key=lambda row: row["env_step"])
        steps = [(row["since"] + row["env_step"]) / 2 for row in rows]
        low, rating, high = ([row[key] for row in rows] for key in ("low", "rating", "high"))
        label = "learner, in the middle of each period"
        axes.plot(steps, rating, "-", color=COLORS[1], marker=".", label=label)
        axes.fill_between(steps, low, high, color=COLORS[1], alpha=0.2, linewidth=0)


def _draw_snapshots(axes: Axes, rows: Sequence[Mapping[str, Any]], which: str, filled: str) -> None:
    """Draw snapshots as points with their intervals."""
    if rows:
        low, rating, high = np.array(
            [[r[key] for key in ("low", "rating", "high")] for r in rows]
        ).T
        axes.errorbar(
            [row["env_step"] for row in rows],
            rating,
            yerr=(rating - low, high - rating),
            fmt="o",
            color=COLORS[0],
            markerfacecolor=filled,
            capsize=2,
            label=f"snapshots {which} the pool",
        )
