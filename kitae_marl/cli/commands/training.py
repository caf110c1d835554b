"""This file trains runs and sets of runs for the command line, and lists them."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import threading
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import psutil

from kitae_marl.cli.options.training import Runs, Train
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, NoCheckpointError
from kitae_marl.runs.advice import say_where_to_look
from kitae_marl.runs.returns import adds_up_to_zero, in_words
from kitae_marl.runs.store import contents, folders, sets
from kitae_marl.runs.store.files import locked
from kitae_marl.runs.store.listing import folders_of_runs, list_runs
from kitae_marl.runs.store.search import run_at
from kitae_marl.runs.terminal import counted, say
from kitae_marl.training import (
    EVALUATION_EPISODES,
    Task,
    hooks_of,
    is_compiled,
    make_env,
    say_result,
    seat_filler_of,
    train_run,
)

if TYPE_CHECKING:
    from kitae_marl.selfplay.seat_filler import SeatFiller


def train(options: Train) -> dict[str, Any]:
    """Train a new run or a set of runs, or resume one."""
    options = _with_own_code(options)
    _find_callbacks(options)  # before a folder is made or replaced
    if options.init is not None:
        run_at(options.init, options.runs_dir)
    path = _run_folder(options)
    if not options.resumes:
        folders.require_free(path, overwrite=options.overwrite)
        _say_replaced(path)
    # JAX takes seconds to import; meanwhile the workers start.
    threading.Thread(target=_import_early, daemon=True).start()
    if options.seeds > 1 or (options.resumes and sets.is_set(path)):
        return train_set(options, path)
    config, task = options.config(), _task(options)
    seats = seat_filler_of(config, [path], task)
    result = _train_run(config, path, seats, _with_callbacks(task, options))
    film = result.pop("film", True)
    _say_where_to_look(options, path, _tagged(result["returns"]), film=film)
    return result


def _say_replaced(path: Path) -> None:
    """Say what a new run takes the place of, if that is anything."""
    if folders.is_unused(path):
        return
    if sets.is_set(path):
        seeds = sets.read_set(path)
        say(f"replaces the set {path.name}: {counted(len(seeds), 'run')}, seeds {_listed(seeds)}")
    elif contents.is_run(path):
        config, summary = contents.read_config(path), contents.read_summary(path)
        done = f", {summary['env_steps']} steps" if summary else ""
        say(f"replaces the run {path.name}: {config.algo} on {config.env_id}{done}")


def _listed(numbers: list[int]) -> str:
    """Write numbers one after another."""
    return ", ".join(map(str, numbers))


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


def _import_early() -> None:
    """Import what training needs; what fails, fails again and is told where it is needed."""
    with suppress(Exception):
        importlib.import_module("kitae_marl.runs.agent")


def _task(options: Train) -> Task:
    """Return what the options ask for beside the settings, without callbacks."""
    return Task(
        runs_dir=options.runs_dir,
        resume=options.resumes,
        step=options.resume_step,
        exact=options.exact,
        overwrite=options.overwrite,
        init=options.init,
        allow_import=options.allow_import,
        evaluate_every=options.eval_every,
        evaluate_episodes=options.eval_episodes or EVALUATION_EPISODES,
    )


def _with_callbacks(task: Task, options: Train) -> Task:
    """Make the callbacks of one run: objects of its own, where the options name classes."""
    from kitae_marl.runs.callbacks import import_callback

    made = [import_callback(text) for text in options.callback]
    return dataclasses.replace(task, callbacks=made)


def _train_run(config: Config, path: Path, seats: SeatFiller | None, task: Task) -> dict[str, Any]:
    """Train one run, or go on with it; return the JSON of its result."""
    (agent, summary, _), film = train_run(config, path, seats, task)
    started = psutil.Process().create_time()
    startup = agent.first_update_at - started if agent.first_update_at else None
    return _result(summary, path, startup_s=startup, film=film)


def _say_where_to_look(
    options: Train, path: Path, returns: dict[str, float], *, film: bool
) -> None:
    """Tell what to do next with a run, or with a set of runs."""
    say_where_to_look(
        options.config(),
        path,
        options.runs_dir,
        allow_import=options.allow_import,
        zero_sum=adds_up_to_zero(returns),
        film=film,
    )


def _result(summary: dict[str, Any], path: Path, **more: Any) -> dict[str, Any]:
    """Say what a run came to, and return the JSON that says so."""
    say_result(summary)
    returns = {tag.removeprefix("return/"): x for tag, x in summary["returns"].items()}
    kept = {key: summary[key] for key in (*contents.COUNTS, "compile_s") if key in summary}
    more |= {key: summary[key] for key in ("best", "rating") if key in summary}
    if rates := summary.get("win_rates"):
        more["win_rates"], more["win_rates_step"] = rates, summary.get("win_rates_step")
    return {**kept, **more, "returns": returns, "run_dir": str(path)}


def _tagged(returns: dict[str, float]) -> dict[str, float]:
    """Return the returns of a result under their names in the logs, as they are in a summary."""
    return {tag if tag == "episode/length" else f"return/{tag}": x for tag, x in returns.items()}


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
        config, task = options.config(), _task(options)
        opponents = seat_filler_of(config, [folders.member(path, seed) for seed in seeds], task)
        together = is_compiled(config) and not config.opponents  # which each run has its own of
        train_all = in_one_program if together else one_after_another
        results = train_all(options, path, seeds, opponents)
    tags = {tag for result in results.values() for tag in result["returns"]}
    returns = {
        tag: fmean(r["returns"][tag] for r in results.values() if tag in r["returns"])
        for tag in sorted(tags)
    }
    tagged = _tagged(returns)
    say(f"mean over {len(results)} seeds: {in_words(tagged)}")
    films = [result.pop("film", True) for result in results.values()]
    _say_where_to_look(options, path, tagged, film=all(films))
    return {
        "run_dir": str(path),
        "seeds": {str(seed): result for seed, result in results.items()},
        "mean": {
            "returns": returns,
            "env_steps": fmean(result["env_steps"] for result in results.values()),
            "wall_s": fmean(result["wall_s"] for result in results.values()),
        },
    }


def in_one_program(
    options: Train, path: Path, seeds: list[int], seats: SeatFiller | None
) -> dict[int, dict[str, Any]]:
    """Train the runs of a set in one compiled program; return the result of each by its seed."""
    from kitae_marl.runs.many import train_runs

    members = [folders.member(path, seed) for seed in seeds]
    say(f"seeds {_listed(seeds)} in {path}")
    config, env = make_env(options.config())
    game: Any = (seats.seat(env) if seats else env).game
    configs = [dataclasses.replace(config, seed=seed) for seed in seeds]
    step, exact = _common_step(options, path), options.exact
    task = _with_callbacks(_task(options), options)
    with hooks_of(options.config(), seats, task) as hooks:
        hooks = hooks._replace(opponents=seats.loaded) if seats else hooks
        trained = train_runs(game, configs, members, step=step, exact=exact, hooks=hooks)
    results = {}
    for seed, member, run in zip(seeds, members, trained, strict=True):
        say(f"seed {seed}:")
        results[seed] = _result(run.summary, member)
    return results


def one_after_another(
    options: Train, path: Path, seeds: list[int], seats: SeatFiller | None
) -> dict[int, dict[str, Any]]:
    """Train the runs of a set in turn; return the result of each by its seed."""
    from kitae_marl.runs import session

    results, step = {}, _common_step(options, path)
    for seed in seeds:
        own, config = folders.member(path, seed), options.config(seed)
        begun = contents.has_checkpoints(own)
        if step is not None and not begun:
            raise NoCheckpointError(
                f"expected a checkpoint of step {step} in every run of the set, "
                f"{own} has none; --resume goes on with each from its newest."
            )
        say(f"seed {seed}: {'goes on' if begun else 'begins'} in {own}")
        if begun and step is None and _is_over(own, config):
            session.say_complete(config)
            results[seed] = _result(contents.read_summary(own), own)
        else:
            # What a run of a set holds that has no checkpoint yet may go.
            over = options.overwrite or options.resumes
            task = dataclasses.replace(_task(options), resume=begun, overwrite=over)
            results[seed] = _train_run(config, own, seats, _with_callbacks(task, options))
    return results


def _is_over(path: Path, config: Config) -> bool:
    """Whether a run has come to its end with these settings, so that nothing is left to do."""
    stored = dataclasses.replace(contents.read_config(path), backend=config.backend)
    return stored == config and bool(contents.read_summary(path).get("complete"))


def _common_step(options: Train, path: Path) -> int | None:
    """Return the step from which all runs of a set are to go on; None: each from its newest.

    Raises:
        ConfigError: if the best is asked for.
    """
    if options.resume_step == "best":
        raise ConfigError(
            f"resume_step: expected an environment step, for the best of the runs of {path} are of "
            "different ones; go on with one of them (--runs-dir, --run seed_0).",
            "resume_step",
        )
    return options.resume_step


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


def _run_folder(options: Train) -> Path:
    """Choose the folder: the one named, or for a new unnamed run the first name that is free."""
    name = options.run
    if name is None:
        name = folders.default_name(options.config(), options.seeds)
    path = options.path(name)
    number = 2
    new = options.run is None and not (options.resumes or options.overwrite)
    while new and not folders.is_unused(path):
        path = options.path(f"{name}-{number}")
        number += 1
    return path


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
    if row.get("win_rate") is not None:
        value = f"wins {row['win_rate']:.0%} against random"
    if "env_id" in row:
        text = f"{row['env_id']}  {row['algo']}  step {row['env_steps']}/{row['of']}  {value}"
        text += f"  ({row['holder']})" if row["holder"] else ""
    elif "runs" in row:
        text = f"{len(row['seeds'])} seeds  {value}"
    else:
        text = row["reason"]
    name = row["name"].encode("unicode_escape").decode()  # one line, whatever a folder is called
    say(f"{name:{width}s} {row['state']:9s} {text}")
