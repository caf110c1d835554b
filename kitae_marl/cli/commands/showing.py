"""This file has the commands that write films, learning curves and exported policies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kitae_marl.cli.commands.loading import (
    GameSetup,
    SeedRuns,
    checkpoint_step,
    find_all,
    load_policy,
    open_game,
    require_one_game,
    require_trust,
)
from kitae_marl.cli.options.showing import Export, Plot, Watch
from kitae_marl.errors import ConfigError, EnvError, RenderError
from kitae_marl.runs.own_code import trust_own_code
from kitae_marl.runs.store.files import require_output
from kitae_marl.runs.store.search import find_run
from kitae_marl.runs.terminal import counted, say
from kitae_marl.vector.protocol import VecParallelEnv

if TYPE_CHECKING:
    from kitae_marl.evaluation.curves import Curve
    from kitae_marl.evaluation.plots import Panel

WIDTHS = 800, 400
"""Largest width of a picture in pixels: of one film, and of one of several side by side."""


def watch(options: Watch) -> dict[str, Any]:
    """Write a film."""
    from kitae_marl.evaluation.films import ENDINGS, side_by_side, write_video

    gathered = find_all(
        options.run, options.runs_dir, options.seats, options.max_episode_steps, options.env_kwargs
    )
    require_output(options.out, ENDINGS)
    if options.episodes < 1 or (options.fps is not None and not 0 < options.fps <= 1000):
        raise ConfigError(
            f"expected at least one episode and a positive number of frames a second "
            f"(1000 at most), got --episodes {options.episodes} and --fps {options.fps}."
        )
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    with ExitStack() as stack:
        scenes = [(group.game, path) for group in gathered for path in group.paths]
        envs = [stack.enter_context(_opened_to_film(game, options)) for game, _ in scenes]
        width = WIDTHS[len(scenes) > 1]
        films = [
            _film(env, *scene, options, width) for env, scene in zip(envs, scenes, strict=True)
        ]
        fps = options.fps or float(envs[0].metadata.get("render_fps", 10))
        n_frames = write_video(options.out, side_by_side(films), fps=fps)
    n_runs = counted(len(scenes), "run")
    say(f"wrote {options.out}: {counted(n_frames, 'frame')}, {fps:g} a second, of {n_runs}")
    return {
        "out": str(options.out),
        "frames": n_frames,
        "fps": fps,
        "run_dirs": [str(path) for _, path in scenes],
    }


@contextmanager
def _opened_to_film(game: GameSetup, options: Watch) -> Iterator[VecParallelEnv]:
    """Open one game that renders, and close it afterwards."""
    require_trust(game, options.allow_import)
    env = _rendering(game, options)
    try:
        yield env
    finally:
        env.close()


def _rendering(game: GameSetup, options: Watch) -> VecParallelEnv:
    """Open one game with the ``render_mode`` that it has; with none where it takes none.

    A game whose mode is fixed by its constructor, or set by its arguments, may draw all the same.
    """
    modes: tuple[dict[str, Any], ...] = ({"render_mode": "rgb_array"}, {"render_mode": "ansi"}, {})
    failed: list[Exception] = []
    for mode in modes:
        try:
            env = open_game(
                game,
                1,
                n_workers=0,
                runs_dir=options.runs_dir,
                allow_import=options.allow_import,
                **mode,
            )
        except (EnvError, ConfigError, TypeError) as error:
            failed.append(error)
            continue
        told = env.metadata.get("render_modes")
        if mode is not modes[0] or not told or "rgb_array" in told or "ansi" not in told:
            return env
        env.close()
    raise failed[0]


def _film(
    env: VecParallelEnv, game: GameSetup, path: Path, options: Watch, width: int
) -> Iterator[np.ndarray]:
    """Play with the agent of a run and draw each step."""
    from kitae_marl.evaluation import play_frames
    from kitae_marl.evaluation.films import captioned, shrunk

    policy = load_policy(
        path, env, step=options.step, sample=options.sample, allow_import=options.allow_import
    )
    try:
        for shot in play_frames(policy, env, n_episodes=options.episodes, seed=options.seed):
            title = f"{path.name}  episode {shot.episode + 1}  step {shot.step}"
            frame = shrunk(shot.frame, width)
            yield frame if options.plain else captioned(frame, title, shot.returns)
    except RenderError as error:
        raise RenderError(f"{game} cannot be filmed: {error}") from error


def plot(options: Plot) -> dict[str, Any]:
    """Draw learning curves."""
    from kitae_marl.evaluation.curves import metrics_to_plot
    from kitae_marl.evaluation.plots import check_out, plot_curves

    if options.points < 2 or options.measure < 0:
        raise ConfigError(
            f"expected at least 2 points and 0 episodes, got --points {options.points} and "
            f"--measure {options.measure}."
        )
    gathered = find_all(options.run, options.runs_dir, None, options.max_episode_steps)
    game = require_one_game(gathered)
    check_out(options.out)
    metrics = [options.metric] if options.metric else None
    metrics = metrics or metrics_to_plot([path for group in gathered for path in group.paths])
    panels = _panels(gathered, metrics, game, options)
    plot_curves(options.out, panels, title=str(game), band=options.band)
    drawn = [curve for panel in panels for curve in panel.curves]
    say(f"drew {options.out}: {counted(len(drawn), 'curve')}, {', '.join(metrics)}")
    for panel in panels:
        for curve in panel.curves:
            n_runs, name = counted(len(curve.runs), "run"), curve.label
            name += f" {panel.metric}" if len(panels) > 1 and panel.metric not in name else ""
            heights = zip(curve.marks, curve.at_marks(), strict=True)
            marked = "".join(f", at step {step} {height:.3f}" for step, height in heights)
            say(f"  {name:24s} {n_runs}, at the end {curve.middle()[-1]:.3f}{marked}")
    say("at the end: mean over the updates of a curve's last point (--points); IQM over runs")
    for name, value in panels[0].references.items():
        say(f"  {name:24s} {value:.3f}")
    return {
        "out": str(options.out),
        "metric": panels[0].metric,
        "metrics": metrics,
        "definition": panels[0].definition,
        "references": panels[0].references,
        "curves": [
            {
                "name": c.label,
                "step": c.step.tolist(),
                "iqm": c.middle().tolist(),
                "marks": dict(zip(c.marks, c.at_marks().tolist(), strict=True)),
            }
            for c in drawn
        ],
    }


def _panels(
    gathered: list[SeedRuns], metrics: list[str], game: GameSetup, options: Plot
) -> list[Panel]:
    """Read the curves: a panel for each kind of metric; agents' returns share one."""
    from kitae_marl.evaluation.curves import make_curve, metric_definition
    from kitae_marl.evaluation.plots import Panel

    chosen = [[checkpoint_step(path, options.step) for path in g.paths] for g in gathered]
    marks = [[step for step in steps if step is not None] for steps in chosen]

    def curves(metric: str, named: bool) -> list[Curve]:
        return [
            make_curve(
                f"{g.name} {metric}" if named else g.name, g.paths, metric, options.points, marked
            )
            for g, marked in zip(gathered, marks, strict=True)
        ]

    if len(metrics) == 1:
        references = _references(game, metrics[0], options)
        return [
            Panel(curves(metrics[0], False), metrics[0], metric_definition(metrics[0]), references)
        ]
    rates = [m for m in metrics if not m.startswith("return/")]
    returns = [m for m in metrics if m.startswith("return/")]
    by_side = [curve for metric in returns for curve in curves(metric, True)]
    panels = [Panel(curves(m, False), m, metric_definition(m), {}) for m in rates]
    return [*panels, Panel(by_side, "return", metric_definition(returns[0]), {})]


def _references(game: GameSetup, metric: str, options: Plot) -> dict[str, float]:
    """Return mean returns of the random policy and the oracle, known or measured now.

    There are none for other metrics than returns; for games with seats or wrappers, as brackets are
    of the whole game as it is; and for zero-sum games, whose brackets play one side after the
    other, as training does not.
    """
    from kitae_marl.evaluation.brackets import known_bracket, measure

    tag = metric.removeprefix("return/")
    if tag == metric or not game.is_plain:
        return {}
    limited = game.max_episode_steps is not None
    bracket = None if limited else known_bracket(game.env_id, game.env_kwargs)
    if bracket is not None:
        means = {"random": bracket.random, "oracle": bracket.oracle or {}}
        comparable = bracket.against is None
        known = {name: row[tag] for name, row in means.items() if comparable and tag in row}
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
    return {name: row[tag]["mean"] for name, row in rows.items() if tag in row}


def export(options: Export) -> dict[str, Any]:
    """Write policies that need nothing but NumPy."""
    from kitae_marl.evaluation.export import export_policy, require_outputs
    from kitae_marl.runs.agent import Agent

    path = find_run(options.run, options.runs_dir)
    require_outputs(options.out)
    trust_own_code(path, options.allow_import)
    agent = Agent.load(path, step=options.step)
    arrays, module = export_policy(agent, options.out)
    say(f"wrote {arrays} ({arrays.stat().st_size} bytes) and {module}")
    say(f"  from {module.stem} import Policy; Policy({str(arrays)!r}).act(agent, observation)")
    return {
        "run_dir": str(path),
        "out": str(arrays),
        "module": str(module),
        "agents": agent.possible_agents,
    }
