"""The commands that write films, curves and exports."""

from __future__ import annotations

import os
from typing import Any

from kitae_marl import runs
from kitae_marl.commands.loading import Game, find_all, open_game, require_one_game, require_trust
from kitae_marl.errors import ConfigError
from kitae_marl.groups import require_spaces
from kitae_marl.logger import say
from kitae_marl.options.showing import Plot, Watch


def watch(options: Watch) -> dict[str, Any]:
    """Write a film."""
    from kitae_marl.agent import Agent
    from kitae_marl.evaluation import play_frames
    from kitae_marl.vector.make import make_vec_env
    from kitae_marl.video import write_video

    agent = Agent.load(runs.find_run(options.run, options.runs_dir))
    config = agent.config
    require_trust(config.env_id, options.allow_import)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    kwargs = {**config.env_kwargs, "render_mode": "rgb_array"}
    env = make_vec_env(config.env_id, 1, n_workers=0, **kwargs)

    def policy(observations: Any, infos: Any) -> Any:
        return agent.select_action(observations, infos, sample=options.sample)

    try:
        require_spaces(env, agent.possible_agents, agent.groups)
        frames = play_frames(policy, env, n_episodes=options.episodes, seed=options.seed)
        fps = float(getattr(env, "metadata", {}).get("render_fps", 10))
        n_frames = write_video(options.out, (frame for frame, _ in frames), fps=fps)
    finally:
        env.close()
    say(f"wrote {options.out}: {n_frames} frames, {fps:g} a second")
    return {"out": str(options.out), "frames": n_frames, "fps": fps}


def plot(options: Plot) -> dict[str, Any]:
    """Draw learning curves."""
    from kitae_marl.evaluation.curves import make_curve, metric_definition
    from kitae_marl.evaluation.plots import check_out, plot_curves

    if options.points < 2 or options.measure < 0:
        raise ConfigError(
            f"expected at least 2 points and 0 episodes, got --points {options.points} and "
            f"--measure {options.measure}."
        )
    gathered = find_all(options.run, options.runs_dir)
    game = require_one_game(gathered)
    check_out(options.out)
    curves = [
        make_curve(group.name, group.paths, options.metric, options.points) for group in gathered
    ]
    references = _references(game, options)
    plot_curves(
        options.out,
        curves,
        title=str(game),
        metric=options.metric,
        definition=metric_definition(options.metric),
        references=references,
        band=options.band,
    )
    say(f"drew {options.out}: {len(curves)} curve(s), {options.metric}")
    for curve in curves:
        say(f"  {curve.label:24s} {len(curve.runs)} run(s), at the end {curve.middle()[-1]:.3f}")
    for name, value in references.items():
        say(f"  {name:24s} {value:.3f}")
    return {
        "out": str(options.out),
        "metric": options.metric,
        "definition": metric_definition(options.metric),
        "references": references,
        "curves": [
            {"name": c.label, "step": c.step.tolist(), "iqm": c.middle().tolist()} for c in curves
        ],
    }


def _references(game: Game, options: Plot) -> dict[str, float]:
    """Mean returns of the random policy and the oracle, from the table or measured now."""
    from kitae_marl.evaluation.brackets import known_bracket, measure

    tag = options.metric.removeprefix("return/")
    if tag == options.metric:
        return {}
    if game.seats:  # the brackets are of the whole game
        return {}
    bracket = known_bracket(*game[:2])
    if bracket is not None:
        sides = {"random": bracket.random, "oracle": bracket.oracle}
        same = bracket.against is None  # training plays all sides at once
        return {name: side[tag] for name, side in sides.items() if same and side and tag in side}
    if not options.measure:
        say(f"no bracket of {game} is known; --measure 200 measures it")
        return {}
    require_trust(game[0], options.allow_import)
    env = open_game(game, min(16, options.measure), n_workers=0, runs_dir=options.runs_dir)
    try:
        entry = measure(env, *game[:2], options.measure, [options.seed])
    finally:
        env.close()
    rows = {name: entry[name]["returns"] for name in ("random", "oracle") if entry[name]}
    if entry["against"] is not None:
        return {}
    return {name: side[tag]["mean"] for name, side in rows.items() if tag in side}
