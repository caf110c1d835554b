"""What the commands of the command line do; each takes its parsed options, returns its JSON."""

from __future__ import annotations

import dataclasses
import importlib
import os
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from kitae_marl import runs
from kitae_marl.cli import Bench, Doctor, Evaluate, List, Train, Verify, Watch
from kitae_marl.config import Config
from kitae_marl.errors import ConfigError
from kitae_marl.groups import require_spaces
from kitae_marl.logger import say


def train(options: Train) -> dict[str, Any]:
    """Train a new run or resume one."""
    config = options.config()
    path = _run_folder(options, config)
    if not options.resume:
        runs.require_free(path, overwrite=options.overwrite)
    # JAX takes seconds to import; meanwhile the workers start.
    threading.Thread(target=importlib.import_module, args=("kitae_marl.agent",)).start()
    config, env = _make_env(config)
    try:
        from kitae_marl.agent import Agent

        agent = Agent(env, config)
        agents = f"{len(agent.possible_agents)} agents in {len(agent.groups)} group(s)"
        where = "compiled" if config.backend == "compiled" else "in Python"
        say(f"{config.algo} on {config.env_id} ({where}): {agents}, {config.n_envs} environments")
    except BaseException:
        env.close()
        raise
    if options.resume:
        summary = agent.resume(env, path)
    else:
        summary = agent.train(env, path, overwrite=options.overwrite)
    _say_where_to_look(options, path, summary)
    started = psutil.Process().create_time()
    return {
        **{key: summary[key] for key in ("env_steps", "agent_steps", "wall_s")},
        "startup_s": agent.first_update_at - started if agent.first_update_at else None,
        **{key: summary[key] for key in ("env_steps_per_s", "agent_steps_per_s")},
        "returns": {tag.removeprefix("return/"): x for tag, x in summary["returns"].items()},
        "run_dir": str(path),
    }


def _make_env(config: Config) -> tuple[Config, Any]:
    """Make the environments where they shall run; the config says which place was taken."""
    if config.backend == "compiled" or (config.backend == "auto" and _twin_serves(config)):
        from kitae_marl.vector.compiled import CompiledVecParallelEnv

        env = CompiledVecParallelEnv(config.env_id, config.n_envs, **config.env_kwargs)
        return dataclasses.replace(config, backend="compiled"), env
    from kitae_marl.vector.make import make_vec_env

    env = make_vec_env(
        config.env_id, config.n_envs, n_workers=config.n_workers, **config.env_kwargs
    )
    return dataclasses.replace(config, backend="python"), env


def _twin_serves(config: Config) -> bool:
    """Whether the game has a compiled twin that takes its arguments, and no workers are asked."""
    import kitae_envs

    if config.n_workers is not None or kitae_envs.resolve(config.env_id) is None:
        return False
    try:
        kitae_envs.make(config.env_id, **config.env_kwargs)
    except (TypeError, ValueError) as error:
        say(f"the compiled twin does not take these arguments ({error}); training in Python")
        return False
    return True


def _run_folder(options: Train, config: Config) -> Path:
    """Choose the folder: the one named, or for a new unnamed run the first name that is free."""
    name = runs.default_name(config) if options.run is None else options.run
    path = runs.run_path(options.runs_dir, name)
    number = 2
    new = options.run is None and not (options.resume or options.overwrite)
    while new and path.exists():
        path = runs.run_path(options.runs_dir, f"{name}-{number}")
        number += 1
    return path


def _say_where_to_look(options: Train, path: Path, summary: dict[str, Any]) -> None:
    """Tell what came out and what to do next."""
    shown = {tag.removeprefix("return/"): f"{x:.2f}" for tag, x in summary["returns"].items()}
    say(f"done: {summary['env_steps']} steps, {summary['env_steps_per_s']:.0f} env steps/s")
    say(f"return per episode, last {runs.WINDOW} episodes: {shown or 'no episode ended yet'}")
    where = (
        ""
        if options.runs_dir == Path("runs")
        else f" --runs-dir {shlex.quote(str(options.runs_dir))}"
    )
    say(f"the run is in {path}")
    say(f"  kitae-marl evaluate {path.name}{where}")
    say(f"  kitae-marl watch {path.name}{where} --out {path.name}.gif")
    say(f"  tensorboard --logdir {shlex.quote(str(path / 'logs'))}")


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


def list_games(options: List) -> dict[str, Any]:
    """List the ids."""
    from kitae_marl.vector.catalogue import catalogue

    rows = [row for row in catalogue() if options.match in row.id]
    for row in rows:
        say(f"{row.id:42s} {'ready' if row.runs_here else row.install}")
    if not rows:
        say(f"no id contains {options.match!r}")
    return {"games": [row._asdict() for row in rows]}


def doctor(options: Doctor) -> dict[str, Any]:
    """Check a game by playing it."""
    from kitae_marl.vector.doctor import check_parallel_env

    report = check_parallel_env(
        options.env_id, episodes=options.episodes, seed=options.seed, **options.env_kwargs
    )
    for line in report.lines():
        say(line)
    return report.to_json()


def verify(options: Verify) -> dict[str, Any]:
    """Compare a compiled game with its original; the command exits with 1 where they differ."""
    from kitae_envs.verify import verify as compare

    report = compare(
        options.env_id,
        episodes=options.episodes,
        exhaustive=options.exhaustive,
        seed=options.seed,
        **options.env_kwargs,
    )
    say(str(report))
    return {
        "id": report.id,
        "ok": report.ok,
        "episodes": report.episodes,
        "moves": report.moves,
        "largest_difference": report.largest,
        "distributions": report.distributions,
    }


def bench(options: Bench) -> dict[str, Any]:
    """Measure speed."""
    from kitae_marl.bench import bench_compiled, bench_train, bench_vector

    started = time.perf_counter()
    benches: dict[str, Callable[[Any], dict[str, Any]]] = {
        "vector": bench_vector,
        "train": bench_train,
        "compiled": bench_compiled,
    }
    if options.what == "compiled" and (options.stock or options.n_workers is not None):
        raise ConfigError("stock, n_workers: expected without bench compiled: it has no workers.")
    if options.train and options.what != "compiled":
        raise ConfigError(f"train: expected with bench compiled only, got bench {options.what}.")
    result = benches[options.what](options)
    for name, value in result.items():
        say(f"  {name:32s} {value}")
    say(f"measured for {time.perf_counter() - started:.0f} s")
    return result


RUN: dict[type, Callable[[Any], dict[str, Any]]] = {
    Train: train,
    Evaluate: evaluate,
    Watch: watch,
    List: list_games,
    Doctor: doctor,
    Verify: verify,
    Bench: bench,
}
