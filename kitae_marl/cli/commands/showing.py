"""This file has the commands that write films and exported policies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from kitae_marl.cli.commands.loading import (
    GameSetup,
    find_all,
    load_policy,
    open_game,
    require_trust,
)
from kitae_marl.cli.options.showing import Export, Watch
from kitae_marl.errors import ConfigError, EnvError, RenderError
from kitae_marl.runs.own_code import trust_own_code
from kitae_marl.runs.store.files import require_output
from kitae_marl.runs.store.search import RunAt, run_at
from kitae_marl.runs.terminal import counted, say
from kitae_marl.vector.protocol import VecParallelEnv

WIDTHS = 800, 400
"""Largest width of a picture in pixels: of one film, and of one of several side by side."""


def watch(options: Watch) -> dict[str, Any]:
    """Write a film."""
    from kitae_marl.evaluation.films import ENDINGS, side_by_side, write_video

    how = options.seats, options.max_episode_steps, options.env_kwargs
    which = {"step": options.step, "policy": options.policy}
    gathered = find_all(options.run, options.runs_dir, *how, **which)
    require_output(options.out, ENDINGS)
    if options.episodes < 1 or (options.fps is not None and not 0 < options.fps <= 1000):
        raise ConfigError(
            f"expected at least one episode and a positive number of frames a second "
            f"(1000 at most), got --episodes {options.episodes} and --fps {options.fps}."
        )
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    with ExitStack() as stack:
        scenes = [(group.game, at) for group in gathered for at in group.at]
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
        "run_dirs": [str(at.path) for _, at in scenes],
        "steps": [at.step for _, at in scenes],
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
    env: VecParallelEnv, game: GameSetup, at: RunAt, options: Watch, width: int
) -> Iterator[np.ndarray]:
    """Play with the agent of a run and draw each step."""
    from kitae_marl.evaluation import play_frames
    from kitae_marl.evaluation.films import captioned, shrunk

    policy = load_policy(
        at,
        env,
        sample=options.sample,
        simulations=options.simulations,
        allow_import=options.allow_import,
    )
    try:
        for shot in play_frames(policy, env, n_episodes=options.episodes, seed=options.seed):
            title = f"{at}  episode {shot.episode + 1}  step {shot.step}"
            frame = shrunk(shot.frame, width)
            yield frame if options.plain else captioned(frame, title, shot.returns)
    except RenderError as error:
        raise RenderError(f"{game} cannot be filmed: {error}") from error


def export(options: Export) -> dict[str, Any]:
    """Write policies that need nothing but NumPy."""
    from kitae_marl.evaluation.export import export_policy, require_outputs
    from kitae_marl.runs.agent import Agent

    at = run_at(options.run, options.runs_dir, options.step, options.policy)
    require_outputs(options.out)
    trust_own_code(at.path, options.allow_import)
    agent = Agent.load(at.path, **at.how)
    arrays, module = export_policy(agent, options.out)
    say(f"wrote {arrays} ({arrays.stat().st_size} bytes) and {module}")
    say(f"  from {module.stem} import Policy; Policy({str(arrays)!r}).act(agent, observation)")
    return {
        "run_dir": str(at.path),
        "policy": at.policy,
        "out": str(arrays),
        "module": str(module),
        "agents": agent.possible_agents,
    }
