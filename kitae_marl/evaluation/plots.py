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
    from matplotlib.image import AxesImage as AxesImage

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
    new_figure(1, 1)
    return out


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, without pyplot and its global state; sizes in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"drawing needs matplotlib; {pip_install('matplotlib')}") from error
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def texts_as_they_are() -> Iterator[None]:
    """Let no text be taken for a formula: names of agents and of runs may hold any sign."""
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}):
        yield


def save(figure: Figure, out: Path) -> None:
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
    with texts_as_they_are():
        lines = [part for line in caption for part in textwrap.wrap(line, WIDTH)]
        figure = new_figure(7.5, 1 + 4 * len(panels) + 0.16 * len(lines))
        rows = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
        for axes, panel in zip(rows, panels, strict=True):
            _draw_panel(axes, panel, band, smooth)
            axes.tick_params(labelbottom=True)  # which a shared axis has in its last row alone
        figure.suptitle(title)
        if lines:
            figure.supxlabel("\n".join(lines), fontsize="small")
        save(figure, out)


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
    with texts_as_they_are():
        rows = {tag: row for tag, row in result["returns"].items() if tag != "team"}
        figure = new_figure(9, 1.8 + 0.45 * len(rows))
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(rows))
        for side, name, color, shift in zip("ab", names, COLORS, (-0.14, 0.14), strict=False):
            points = [row[f"iqm_{side}"] for row in rows.values()]
            draw_intervals(left, places + shift, points, color, name)
        improvements = [row["probability_of_improvement"] for row in rows.values()]
        draw_intervals(right, places, improvements, "0.2", None)
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
        save(figure, out)


def draw_intervals(
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
