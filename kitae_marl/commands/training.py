"""The command that trains."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import threading
from pathlib import Path
from typing import Any

import psutil

from kitae_marl import runs
from kitae_marl.config import Config
from kitae_marl.logger import say
from kitae_marl.options.training import Train


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
