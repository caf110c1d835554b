"""The commands that play with trained agents."""

from __future__ import annotations

import os
from typing import Any

from kitae_marl import runs
from kitae_marl.errors import ConfigError
from kitae_marl.groups import require_spaces
from kitae_marl.logger import say
from kitae_marl.options.playing import Evaluate, Watch


def _load(options: Evaluate | Watch) -> Any:
    """Load the agent of a run and check that its game may be made."""
    from kitae_marl.agent import Agent
    from kitae_marl.vector.ids import imports_code

    agent = Agent.load(runs.find_run(options.run, options.runs_dir))
    env_id = agent.config.env_id
    if imports_code(env_id) and not options.allow_import:
        raise ConfigError(
            f"env_id: the run trains on {env_id}, which is a module to import; add --allow-import "
            "if you trust it.",
            "env_id",
        )
    return agent


def evaluate(options: Evaluate) -> dict[str, Any]:
    """Evaluate a run beside the random policy."""
    from kitae_marl.evaluation import evaluate as play
    from kitae_marl.evaluation import random_policy
    from kitae_marl.vector.make import make_vec_env

    if options.episodes < 1 or options.n_envs < 1:
        raise ConfigError(
            f"expected at least one episode and one environment, got --episodes {options.episodes} "
            f"and --n-envs {options.n_envs}."
        )
    agent = _load(options)
    config = agent.config
    kwargs = {k: value for k, value in config.env_kwargs.items() if k != "render_mode"}
    n_envs = min(options.n_envs, options.episodes)
    env = make_vec_env(config.env_id, n_envs, n_workers=options.n_workers, **kwargs)

    def policy(observations: Any, infos: Any) -> Any:
        return agent.select_action(observations, infos, sample=options.sample)

    try:
        require_spaces(env, agent.possible_agents, agent.groups)
        own = play(policy, env, options.episodes, seed=options.seed).summary()
        chance = random_policy(env, options.seed)
        random = play(chance, env, options.episodes, seed=options.seed).summary()
    finally:
        env.close()
    say(f"return per episode: {own['definition']}")
    say(f"{options.episodes} episodes, mean length {own['length']:.1f}; 95 % intervals")
    for tag, row in own["returns"].items():
        other = random["returns"][tag]
        say(f"  {tag:20s} {_shown(row)}    random {_shown(other)}")
    return {"run_dir": str(runs.find_run(options.run, options.runs_dir)), **own, "random": random}


def _shown(row: dict[str, float]) -> str:
    """A mean with its interval, for people."""
    return f"{row['mean']:9.3f} ({row['low']:.3f} .. {row['high']:.3f})"


def watch(options: Watch) -> dict[str, Any]:
    """Write a film."""
    from kitae_marl.evaluation import play_frames
    from kitae_marl.vector.make import make_vec_env
    from kitae_marl.video import write_video

    agent = _load(options)
    config = agent.config
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
