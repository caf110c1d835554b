"""This file has the command that draws learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitae_marl.cli.commands.loading import (
    GameSetup,
    SeedRuns,
    checkpoint_step,
    find_all,
    open_game,
    require_one_game,
    require_trust,
)
from kitae_marl.cli.options.showing import Plot
from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.metrics import read_column
from kitae_marl.runs.terminal import counted, say

if TYPE_CHECKING:
    from kitae_marl.evaluation.choosing import Choice
    from kitae_marl.evaluation.curves import Curve
    from kitae_marl.evaluation.plots import Panel


def plot(options: Plot) -> dict[str, Any]:
    """Draw learning curves."""
    from kitae_marl.evaluation.captions import settings_in_words
    from kitae_marl.evaluation.choosing import choose_metrics, default_metrics
    from kitae_marl.evaluation.plots import check_out, plot_curves

    _require_counts(options)
    gathered = find_all(
        options.run,
        options.runs_dir,
        max_episode_steps=options.max_episode_steps,
        step=options.step,
        apart=False,
    )
    game = require_one_game(gathered)
    check_out(options.out)
    paths = [path for group in gathered for path in group.paths]
    names = [name for text in options.metric for name in text.split(",") if name]
    choices = choose_metrics(names, paths) if names else default_metrics(paths)
    panels = _panels(gathered, choices, game, options)
    caption = settings_in_words({group.name: group.config for group in gathered})
    plot_curves(
        options.out,
        panels,
        title=str(game),
        band=options.band,
        smooth=options.smooth,
        caption=caption,
    )
    _say_curves(panels, options)
    return {
        "out": str(options.out),
        "metric": panels[0].metric,
        "metrics": list(dict.fromkeys(column for choice in choices for column in choice.columns)),
        "definition": panels[0].definition,
        "references": panels[0].references,
        "settings": caption,
        "curves": [
            {
                "name": c.name,
                "step": c.step.tolist(),
                "iqm": c.middle().tolist(),
                "marks": dict(zip(c.marks, c.at_marks().tolist(), strict=True)),
            }
            for panel in panels
            for c in panel.curves
        ],
    }


def _require_counts(options: Plot) -> None:
    """Raise a ConfigError for numbers that are too small."""
    if options.points < 2 or options.measure < 0 or options.smooth < 1:
        raise ConfigError(
            f"expected at least 2 points, 0 episodes and 1 update, got --points {options.points}, "
            f"--measure {options.measure} and --smooth {options.smooth}."
        )


def _panels(
    gathered: list[SeedRuns], choices: Sequence[Choice], game: GameSetup, options: Plot
) -> list[Panel]:
    """Read the curves, a panel for each choice; one metric alone has lines for references."""
    from kitae_marl.evaluation.plots import Panel

    alone = [choice.columns[0] for choice in choices if len(choice.columns) == 1]
    known = _references(game, alone, options)
    panels = []
    for choice in choices:
        name, columns = choice
        first, named = columns[0], len(columns) > 1
        curves = [
            curve for column in columns for curve in _curves(gathered, column, options, named=named)
        ]
        if not curves:
            continue
        tag = first.removeprefix("return/")
        lines = {} if named else {who: row[tag] for who, row in known.items() if tag in row}
        panels.append(Panel(curves, name if named else first, choice.definition, lines))
    if not panels:
        read_column(gathered[0].paths[0], choices[0].columns[0])  # which says what is missing
    return panels


def _curves(gathered: list[SeedRuns], column: str, options: Plot, *, named: bool) -> list[Curve]:
    """Read one metric of all runs; those that have not logged it are left out, and that is said."""
    from kitae_marl.evaluation.curves import make_curve

    curves = []
    for group in gathered:
        paths = [path for path in group.paths if _has_value(path, column)]
        missing = [path.name for path in group.paths if path not in paths]
        if missing:
            say(
                f"{column}: left out {', '.join(missing)} of {group.name}, which has no value of it"
            )
        if paths:
            steps = [checkpoint_step(at) for at in group.at if at.path in paths]
            curve = make_curve(
                group.name,
                paths,
                column,
                options.points,
                [step for step in steps if step is not None],
                smooth=options.smooth,
                named=named,
            )
            curves.append(curve)
    return curves


def _has_value(path: Path, column: str) -> bool:
    """Whether a run has logged a metric."""
    try:
        read_column(path, column)
    except ValueError:
        return False
    return True


def _say_curves(panels: Sequence[Panel], options: Plot) -> None:
    """Say what was drawn, and where each curve ends."""
    n_curves = sum(len(panel.curves) for panel in panels)
    listed = ", ".join(panel.metric for panel in panels)
    say(f"drew {options.out}: {counted(n_curves, 'curve')}, {listed}")
    for panel in panels:
        for curve in panel.curves:
            n_runs, name = counted(len(curve.runs), "run"), curve.name
            name += f" {panel.metric}" if len(panels) > 1 and not curve.metric else ""
            heights = zip(curve.marks, curve.at_marks(), strict=True)
            marked = "".join(f", at step {step} {height:.3f}" for step, height in heights)
            say(f"  {name:24s} {n_runs}, at the end {curve.middle()[-1]:.3f}{marked}")
    smoothed = f", each the mean of the last {options.smooth}" if options.smooth > 1 else ""
    say(
        f"at the end: mean over the updates of a curve's last point (--points){smoothed}; IQM over "
        "runs"
    )
    for name, value in panels[0].references.items():
        say(f"  {name:24s} {value:.3f}")


def _references(
    game: GameSetup, columns: Sequence[str], options: Plot
) -> dict[str, Mapping[str, float]]:
    """Return mean returns of the random policy and the oracle by tag, known or measured now.

    There are none for other metrics than returns; for games with seats or wrappers, as brackets are
    of the whole game as it is; and for zero-sum games, whose brackets play one side after the
    other, as training does not.
    """
    from kitae_marl.evaluation.brackets import known_bracket, measure

    tags = [name.removeprefix("return/") for name in columns if name.startswith("return/")]
    if not tags or not game.is_plain:
        return {}
    limited = game.max_episode_steps is not None
    bracket = None if limited else known_bracket(game.env_id, game.env_kwargs)
    if bracket is not None:
        means: dict[str, Mapping[str, float]] = {
            "random": bracket.random,
            "oracle": bracket.oracle or {},
        }
        comparable = bracket.against is None
        known = {n: row for n, row in means.items() if comparable and any(t in row for t in tags)}
        if known:
            say(f"{' and '.join(known)}: as kitae-marl brackets lists them; evaluate plays anew")
        return known
    if not options.measure:
        say(f"no bracket of {game} is known; --measure 200 measures it")
        return {}
    require_trust(game, options.allow_import)
    env = open_game(
        game,
        min(16, options.measure),
        n_workers=0,
        runs_dir=options.runs_dir,
        allow_import=options.allow_import,
    )
    try:
        entry = measure(env, game.env_id, game.env_kwargs, options.measure, [options.seed])
    finally:
        env.close()
    if entry["against"] is not None:
        return {}
    rows = {name: entry[name]["returns"] for name in ("random", "oracle") if entry[name]}
    return {who: {tag: x["mean"] for tag, x in row.items()} for who, row in rows.items()}
