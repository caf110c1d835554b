"""This file draws results by matplotlib (the extra ``kitae-marl[plot]``, imported on use)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kitae_marl.evaluation.curves import Curve
from kitae_marl.runs.store.files import replacing, require_output
from kitae_marl.runs.terminal import pip_install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".pdf", ".svg")
BANDS = {
    "range": "line: IQM over runs; band: lowest to highest run",
    "interval": "line: IQM over runs; band: its 95 % bootstrap interval",
}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by colour-blind people too (Okabe and Ito 2008)."""
DASHES = ("-", "--", "-.", ":")
"""Kinds of lines, where colours say something else or have come to an end."""
WIDTH = 95
"""Characters in a line of a caption."""
FEW = 25
"""Points below which each is marked: a single one makes no line."""


def check_out(out: Path) -> Path:
    """Make sure that a picture can be drawn into a file.

    Raises:
        ValueError: as ``require_output``.
        ImportError: without matplotlib.
    """
    require_output(out, ENDINGS)
    _new_figure(1, 1)
    return out


def _new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, without pyplot and its global state; sizes in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"drawing needs matplotlib; {pip_install('matplotlib')}") from error
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def _texts_as_they_are() -> Iterator[None]:
    """Let no text be taken for a formula: names of agents and of runs may hold any sign."""
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}):
        yield


def _save(figure: Figure, out: Path) -> None:
    """Write a figure, whole or not at all."""
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=150)


class Panel(NamedTuple):
    """One pair of axes with curves of one metric, or of metrics on one scale.

    Attributes:
        curves: one line each, banded where it has several runs.
        metric: name of the metric, or of what several have in common.
        definition: what it means, in words.
        references: horizontal lines by name, for instance of the random policy.
    """

    curves: Sequence[Curve]
    metric: str
    definition: str
    references: Mapping[str, float]


def plot_curves(
    out: Path,
    panels: Sequence[Panel],
    *,
    title: str,
    band: str = "range",
    smooth: int = 1,
    caption: Sequence[str] = (),
) -> None:
    """Draw learning curves.

    Args:
        out: file to write, ``.png``, ``.pdf`` or ``.svg``.
        panels: one below the other.
        title: what was trained on.
        band: ``range`` or ``interval``, as ``Curve.band`` says.
        smooth: updates whose mean each value is, as ``make_curve`` was told.
        caption: lines below the picture.

    Raises:
        ValueError, ImportError: as ``check_out``.
    """
    check_out(out)
    with _texts_as_they_are():
        lines = [part for line in caption for part in textwrap.wrap(line, WIDTH)]
        figure = _new_figure(7.5, 1 + 4 * len(panels) + 0.16 * len(lines))
        rows = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
        for axes, panel in zip(rows, panels, strict=True):
            _draw_panel(axes, panel, band, smooth)
            axes.tick_params(labelbottom=True)  # which a shared axis has in its last row alone
        figure.suptitle(title)
        if lines:
            figure.supxlabel("\n".join(lines), fontsize="small")
        _save(figure, out)


def _draw_panel(axes: Axes, panel: Panel, band: str, smooth: int) -> None:
    """Draw the curves of one panel."""
    curves, metric, definition, references = panel
    for curve, (color, dash) in zip(curves, _looks(curves), strict=True):
        n_runs = len(curve.runs)
        label = f"{curve.name} ({n_runs} runs)" if n_runs > 1 else curve.name
        marker = "." if len(curve.step) < FEW else None
        axes.plot(curve.step, curve.middle(), dash, color=color, label=label, marker=marker)
        if n_runs > 1:
            axes.fill_between(curve.step, *curve.band(band), color=color, alpha=0.25, linewidth=0)
        if curve.marks:
            axes.plot(curve.marks, curve.at_marks(), "o", color=color, label=_steps(curve.marks))
    for (name, value), style in zip(references.items(), ("--", ":", "-."), strict=False):
        axes.axhline(value, color="0.3", linestyle=style, linewidth=1, label=f"{name} {value:.1f}")
    axes.set_ylabel(metric)
    note = "; ".join([f"{metric}: {definition}", *_notes(curves, band, smooth)])
    axes.set_xlabel(
        "environment steps, all environments together\n" + textwrap.fill(note, WIDTH),
        fontsize="small",
    )
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=1 + len(curves) // 8)


def _notes(curves: Sequence[Curve], band: str, smooth: int) -> list[str]:
    """Say what the points, the lines and the bands of some curves are."""
    most = max(curve.per_point for curve in curves)
    notes = [f"smoothed: mean of the last {smooth} updates"] if smooth > 1 else []
    notes += [f"a point: mean of up to {most} updates"] if most > 1 else []
    return notes + ([BANDS[band]] if any(len(curve.runs) > 1 for curve in curves) else [])


def _looks(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """Return a colour and a kind of line for each curve.

    Where there are several runs and several metrics, colours tell the runs and lines the metrics;
    else colours tell the curves, as long as there are some.
    """
    labels = list(dict.fromkeys(c.label for c in curves))
    metrics = list(dict.fromkeys(c.metric for c in curves))
    if len(labels) > 1 and len(metrics) > 1:
        places = [(labels.index(c.label), metrics.index(c.metric)) for c in curves]
    else:
        places = [(i, i // len(COLORS)) for i in range(len(curves))]
    return [(COLORS[i % len(COLORS)], DASHES[k % len(DASHES)]) for i, k in places]


def _steps(marks: Sequence[int]) -> str:
    """Name marked steps in a legend."""
    return f"step {marks[0]:,}" if len(marks) == 1 else f"steps {marks[0]:,} .. {marks[-1]:,}"


def plot_comparison(out: Path, names: Sequence[str], result: Mapping[str, Any]) -> None:
    """Draw a comparison: returns of both sides, and the probability of improvement.

    The team's return is left out: it is the mean's, on another scale.

    Args:
        out: file to write, ``.png``, ``.pdf`` or ``.svg``.
        names: of both sides.
        result: what ``compare`` says of them, and ``env_id``.

    Raises:
        ValueError, ImportError: as ``check_out``.
    """
    check_out(out)
    with _texts_as_they_are():
        rows = {tag: row for tag, row in result["returns"].items() if tag != "team"}
        figure = _new_figure(9, 1.8 + 0.45 * len(rows))
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(rows))
        for side, name, color, shift in zip("ab", names, COLORS, (-0.14, 0.14), strict=False):
            points = [row[f"iqm_{side}"] for row in rows.values()]
            _draw_intervals(left, places + shift, points, color, name)
        improvements = [row["probability_of_improvement"] for row in rows.values()]
        _draw_intervals(right, places, improvements, "0.2", None)
        right.axvline(0.5, color="0.5", linestyle="--", linewidth=1)
        right.set_xlim(-0.03, 1.03)
        right.set_xlabel(f"P({names[0]} > {names[1]})")
        left.set_xlabel("IQM of the return per episode")
        left.set_yticks(places, list(rows))
        left.invert_yaxis()
        left.legend(fontsize="small")
        for axes in (left, right):
            axes.grid(alpha=0.3)
        words = f"{result['definition']}; 95 % intervals {result['spread']}"
        if result.get("warning"):
            words += f"; {result['warning']}"
        figure.suptitle(result["env_id"])
        figure.supxlabel(textwrap.fill(words, 110), fontsize="small")
        _save(figure, out)


def _draw_intervals(
    axes: Axes,
    places: np.ndarray,
    points: Sequence[Mapping[str, float]],
    color: str,
    label: str | None,
) -> None:
    """Draw estimates with their intervals, one below the other; without one where it is NaN."""
    estimate, low, high = (
        np.array([p[key] for p in points]) for key in ("estimate", "low", "high")
    )
    reach = np.nan_to_num(np.abs(np.stack([estimate - low, high - estimate])))
    axes.errorbar(estimate, places, xerr=reach, fmt="o", color=color, capsize=3, label=label)


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
    with _texts_as_they_are():
        rows, payoff = result["players"], result["payoff"]
        places = [payoff["players"].index(name) for name in rows]
        scores = np.array(payoff["score"], float)[np.ix_(places, places)]
        size = 1.5 + 0.45 * len(rows)
        figure = _new_figure(6 + size, 1.2 + size)
        left, right = figure.subplots(1, 2, width_ratios=[5, size], sharey=True)
        _draw_ratings(left, list(rows.values()))
        left.set_xlabel(f"rating; {result['anchor'] or 'the mean of all'} is 0; 95 % intervals")
        image = right.imshow(scores, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
        for (i, j), score in np.ndenumerate(scores):
            if not np.isnan(score):
                dark = abs(score - 0.5) > 0.35
                color = "white" if dark else "black"
                right.text(j, i, f"{score:.2f}", ha="center", va="center", color=color, fontsize=8)
        right.set_xticks(range(len(rows)), list(rows), rotation=45, ha="right")
        right.set_xlabel("mean score of the row against the column")
        left.set_yticks(range(len(rows)), list(rows))
        figure.colorbar(image, ax=right)
        figure.suptitle(result["env_id"])
        _save(figure, out)


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
    _draw_intervals(axes, np.arange(len(rows)), points, COLORS[0], None)
    axes.set_xlim(*edges)
    axes.grid(alpha=0.3)
