"""This file trains runs and sets of runs for the command line, and lists them."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

from kitae_marl.cli.commands.loading import GameSetup, open_game, truster
from kitae_marl.cli.options.training import Runs, Train
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, NoCheckpointError
from kitae_marl.runs.logger import WINDOW
from kitae_marl.runs.store import contents, folders, sets
from kitae_marl.runs.store.files import locked
from kitae_marl.runs.store.listing import folders_of_runs, list_runs
from kitae_marl.runs.terminal import say

EVALUATION_EPISODES = 32
"""Whole episodes of an evaluation during training, where no other number is given."""
EVALUATION_ENVS = 16
"""Environments in which episodes of evaluations during training are played, at most."""


def train(options: Train) -> dict[str, Any]:
    """Train a new run or a set of runs, or resume one."""
    options = _with_own_code(options)
    _find_callbacks(options)  # before a folder is made or replaced
    path = _run_folder(options)
    if not options.resumes:
        folders.require_free(path, overwrite=options.overwrite)
    # JAX takes seconds to import; meanwhile the workers start.
    threading.Thread(target=_import_early, daemon=True).start()
    if options.seeds > 1 or (options.resumes and sets.is_set(path)):
        return train_set(options, path)
    result = _train_run(options, options.config(), path, resume=options.resumes)
    _say_where_to_look(options, path)
    return result


def _with_own_code(options: Train) -> Train:
    """Import the algorithm and the network that are named as module:name; check their settings."""
    if not options.modules:
        return options
    from kitae_marl.algos import import_registered

    import_registered(options)
    return dataclasses.replace(options)  # checked anew, now that the settings have a class


def _find_callbacks(options: Train) -> None:
    """Raise what is wrong with the names of callbacks."""
    if options.callback:
        from kitae_marl.runs.callbacks import find_callback

        for text in options.callback:
            find_callback(text)


@contextmanager
def _hooks(options: Train) -> Iterator[dict[str, Any]]:
    """Yield what ``Agent.train`` is to call meanwhile; environments to evaluate in close after."""
    from kitae_marl.runs.callbacks import import_callback

    callbacks = [import_callback(text) for text in options.callback]
    if options.eval_every is None:
        yield {"callbacks": callbacks}
        return
    from kitae_marl.evaluation import evaluation_of

    limit = options.max_episode_steps
    game = GameSetup(options.env_id, options.env_kwargs, options.seats, limit)
    n_episodes = options.eval_episodes or EVALUATION_EPISODES
    n_envs, trust = min(n_episodes, EVALUATION_ENVS), options.allow_import
    env = open_game(game, n_envs, n_workers=0, runs_dir=options.runs_dir, allow_import=trust)
    try:
        evaluate = evaluation_of(env, n_episodes)
        yield {
            "callbacks": callbacks,
            "evaluate": evaluate,
            "evaluate_every": options.eval_every,
        }
    finally:
        env.close()


def _import_early() -> None:
    """Import what training needs; what fails, fails again and is told where it is needed."""
    with suppress(Exception):
        importlib.import_module("kitae_marl.runs.agent")


def _train_run(options: Train, config: Config, path: Path, *, resume: bool) -> dict[str, Any]:
    """Train one run, or go on with it."""
    with _hooks(options) as hooks:
        config, env = _make_env(config)
        try:
            from kitae_marl.runs.agent import Agent
            from kitae_marl.runs.session import headline

            env = _seated(options, env)
            agent = Agent(env, config)
            say(headline(agent, "compiled" if config.backend == "compiled" else "in Python"))
        except BaseException:
            env.close()
            raise
        if resume:
            step, exact = options.resume_step, options.exact
            summary = agent.resume(env, path, step=step, exact=exact, **hooks)
        else:  # what a run of a set holds that has no checkpoint yet may go
            overwrite = options.overwrite or options.resumes
            summary = agent.train(env, path, overwrite=overwrite, **hooks)
    started = psutil.Process().create_time()
    startup = agent.first_update_at - started if agent.first_update_at else None
    return _result(summary, path, startup_s=startup)


def _seated(options: Train, env: Any) -> Any:
    """Let others play the seats that the options give away."""
    if not options.seats:
        return env
    from kitae_marl.selfplay.seats import seated_as_told

    played = ", ".join(f"{pattern}: {seat}" for pattern, seat in options.seats.items())
    say(f"seats, played by others and not trained: {played}")
    trust = truster(options.allow_import)
    return seated_as_told(env, options.seats, options.runs_dir, trust=trust)


def _result(summary: dict[str, Any], path: Path, **more: Any) -> dict[str, Any]:
    """Say what a run came to, and return the JSON that says so."""
    returns = {tag.removeprefix("return/"): x for tag, x in summary["returns"].items()}
    say(f"done: {summary['env_steps']} steps, {summary['env_steps_per_s']:.0f} env steps/s")
    say(f"return per episode, last {WINDOW} episodes: {_in_words(returns)}")
    kept = {key: summary[key] for key in contents.COUNTS}
    return {**kept, **more, "returns": returns, "run_dir": str(path)}


def _in_words(returns: dict[str, float]) -> str:
    """Show returns by name in one line."""
    shown = ", ".join(f"{name} {value:.2f}" for name, value in returns.items())
    return shown or "none: no episode has ended (--max-episode-steps N truncates episodes)"


def train_set(options: Train, path: Path) -> dict[str, Any]:
    """Train the runs of a set, or go on with them where they stopped.

    Returns:
        The result of every run by its seed, and the means over the runs.
    """
    with locked(path):
        if options.resumes:
            seeds = _seeds_to_go_on(options, path)
        else:
            seeds = options.all_seeds()
            folders.create_run(path, overwrite=options.overwrite)
        sets.write_set(path, seeds)
        compiled = _is_compiled(options.config())
        results = (in_one_program if compiled else one_after_another)(options, path, seeds)
    tags = {tag for result in results.values() for tag in result["returns"]}
    returns = {
        tag: fmean(r["returns"][tag] for r in results.values() if tag in r["returns"])
        for tag in sorted(tags)
    }
    say(f"mean over {len(results)} seeds: {_in_words(returns)}")
    _say_where_to_look(options, path)
    return {
        "run_dir": str(path),
        "seeds": {str(seed): result for seed, result in results.items()},
        "mean": {
            "returns": returns,
            "env_steps": fmean(result["env_steps"] for result in results.values()),
            "wall_s": fmean(result["wall_s"] for result in results.values()),
        },
    }


def in_one_program(options: Train, path: Path, seeds: list[int]) -> dict[int, dict[str, Any]]:
    """Train the runs of a set in one compiled program; return the result of each by its seed."""
    from kitae_marl.runs.callbacks import make_hooks
    from kitae_marl.runs.many import train_runs

    members = [folders.member(path, seed) for seed in seeds]
    say(f"seeds {', '.join(map(str, seeds))} in {path}")
    config, env = _make_env(options.config())
    game = _seated(options, env).game
    configs = [dataclasses.replace(config, seed=seed) for seed in seeds]
    step, exact = options.resume_step, options.exact
    with _hooks(options) as given:
        hooks = make_hooks(**{"evaluate": None, "evaluate_every": None, **given})
        trained = train_runs(game, configs, members, step=step, exact=exact, hooks=hooks)
    results = {}
    for seed, member, run in zip(seeds, members, trained, strict=True):
        say(f"seed {seed}:")
        results[seed] = _result(run.summary, member)
    return results


def one_after_another(options: Train, path: Path, seeds: list[int]) -> dict[int, dict[str, Any]]:
    """Train the runs of a set in turn; return the result of each by its seed."""
    results = {}
    for seed in seeds:
        own, config = folders.member(path, seed), options.config(seed)
        begun = contents.has_checkpoints(own)
        if options.resume_step is not None and not begun:
            raise NoCheckpointError(
                f"expected a checkpoint of step {options.resume_step} in every run of the set, "
                f"{own} has none; --resume goes on with each from its newest."
            )
        say(f"seed {seed}: {'goes on' if begun else 'begins'} in {own}")
        if begun and options.resume_step is None and _is_over(own, config):
            results[seed] = _result(contents.read_summary(own), own)
        else:
            results[seed] = _train_run(options, config, own, resume=begun)
    return results


def _is_over(path: Path, config: Config) -> bool:
    """Whether a run has come to its end with these settings, so that nothing is left to do."""
    stored = dataclasses.replace(contents.read_config(path), backend=config.backend)
    return stored == config and bool(contents.read_summary(path).get("complete"))


def _seeds_to_go_on(options: Train, path: Path) -> list[int]:
    """Return the seeds of a set, which need not be consecutive, or more where more are given.

    Raises:
        ConfigError: if the folder is no set, or a seed of it is left out.
    """
    if not sets.is_set(path):
        raise ConfigError(
            f"seeds: {path} is one run, got --seeds {options.seeds}; leave it out, or start a set "
            "under another name (--run).",
            "seeds",
        )
    stored, given = sets.read_set(path), options.all_seeds()
    if (given[0], len(given)) == (stored[0], len(stored)):  # as parsed if no others are given
        return stored
    missing = sorted({*stored} - {*given})
    if missing:
        raise ConfigError(
            f"seeds: expected all seeds of the set {path}, got none for {missing}; leave out "
            "--seed and --seeds to go on with those it has; it can be given more, not fewer.",
            "seeds",
        )
    return given


def _make_env(config: Config) -> tuple[Config, Any]:
    """Make the environments where they shall run; the config says which place was taken."""
    refused: list[str] = []
    if _is_compiled(config, refused.append):
        from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

        env = CompiledVecParallelEnv(config.env_id, config.n_envs, **config.env_kwargs)
        return dataclasses.replace(config, backend="compiled"), env
    from kitae_marl.vector.make import make_vec_env

    env = make_vec_env(
        config.env_id,
        config.n_envs,
        n_workers=config.n_workers,
        vector_options=config.vector_options(),
        **config.env_kwargs,
    )
    for why in refused:  # told only now: arguments that are wrong are refused by the original, too
        say(f"the compiled twin does not take these arguments ({why}); training in Python")
    return dataclasses.replace(config, backend="python"), env


def _is_compiled(config: Config, refused: Callable[[str], None] = lambda why: None) -> bool:
    """Whether the games shall run inside XLA: if nothing is said, wherever they can."""
    if config.backend != "auto":
        return config.backend == "compiled"
    from kitae_marl.vector.adapters.compiled_games import twin_serves

    return not config.needs_python and twin_serves(config.env_id, config.env_kwargs, refused)


def _run_folder(options: Train) -> Path:
    """Choose the folder: the one named, or for a new unnamed run the first name that is free."""
    name = options.run
    if name is None:
        name = folders.default_name(options.config(), options.seeds)
    path = options.path(name)
    number = 2
    new = options.run is None and not (options.resumes or options.overwrite)
    while new and path.exists():
        path = options.path(f"{name}-{number}")
        number += 1
    return path


def _say_where_to_look(options: Train, path: Path) -> None:
    """Tell what to do next, as commands that can be copied."""
    from kitae_marl.vector.ids import imports_code

    program = program_as_called()
    where = (
        ""
        if options.runs_dir == Path("runs")
        else f" --runs-dir {shlex.quote(str(options.runs_dir))}"
    )
    trust = " --allow-import" if imports_code(options.env_id) or options.modules else ""
    needed = "" if find_spec("matplotlib") else "  # pip install matplotlib"
    say(f"the run is in {path}")
    say(f"  {program} evaluate {path.name}{where}{trust}")
    say(f"  {program} watch {path.name}{where}{trust} --out {path.name}.gif")
    say(f"  {program} plot {path.name}{where} --out {path.name}.png{needed}")


def program_as_called() -> str:
    """The command as it was called, where the shell does not find it by its name alone."""
    name, called = "kitae-marl", Path(sys.argv[0])
    found = shutil.which(name)
    if called.name != name or not called.exists() or (found and called.samefile(found)):
        return name
    return shlex.quote(str(called))


def show_runs(options: Runs) -> dict[str, Any]:
    """List the runs of a folder."""
    rows = list_runs(options.runs_dir)
    others = folders_of_runs(options.runs_dir)
    shown = [part for row in rows for part in (row, *row.get("runs", ()))]
    names = [*(row["name"] for row in shown), *(path.name for path in others)]
    width = max(map(len, names), default=0) + 2
    for row in rows:
        _say_run(row, width)
        for part in row.get("runs", ()):
            _say_run({**part, "name": f"  {part['name']}"}, width)
    for path in others:
        say(f"{path.name:{width}s} {'folder':9s} of runs: --runs-dir {shlex.quote(str(path))}")
    if not rows and not others:
        say(f"no runs in {options.runs_dir}")
    return {"runs": rows}


def _say_run(row: dict[str, Any], width: int) -> None:
    """Show a run, or a set of runs, as one line."""
    value = "" if row.get("return") is None else f"return {row['return']:.2f}"
    if "env_id" in row:
        text = f"{row['env_id']}  {row['algo']}  step {row['env_steps']}/{row['of']}  {value}"
        text += f"  ({row['holder']})" if row["holder"] else ""
    elif "runs" in row:
        text = f"{len(row['seeds'])} seeds  {value}"
    else:
        text = row["reason"]
    name = row["name"].encode("unicode_escape").decode()  # one line, whatever a folder is called
    say(f"{name:{width}s} {row['state']:9s} {text}")
