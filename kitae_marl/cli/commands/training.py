"""This file trains runs and sets of runs for the command line, and lists them."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import psutil

from kitae_marl.cli.commands.advice import say_where_to_look
from kitae_marl.cli.commands.loading import GameSetup, open_game, seat_copies, truster
from kitae_marl.cli.options.training import Runs, Train
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, NoCheckpointError
from kitae_marl.runs.logger import WINDOW
from kitae_marl.runs.returns import adds_up_to_zero, in_words
from kitae_marl.runs.store import contents, folders, sets
from kitae_marl.runs.store.files import locked
from kitae_marl.runs.store.listing import folders_of_runs, list_runs
from kitae_marl.runs.store.search import find_run
from kitae_marl.runs.terminal import counted, say

if TYPE_CHECKING:
    from kitae_marl.runs.callbacks import Hooks
    from kitae_marl.runs.store.seats import SeatCopy
    from kitae_marl.selfplay.opponents import Opponents
    from kitae_marl.vector.protocol import VecParallelEnv

EVALUATION_EPISODES = 32
"""Whole episodes of an evaluation during training, where no other number is given."""
EVALUATION_ENVS = 16
"""Environments in which episodes of evaluations during training are played, at most."""


def train(options: Train) -> dict[str, Any]:
    """Train a new run or a set of runs, or resume one."""
    options = _with_own_code(options)
    _find_callbacks(options)  # before a folder is made or replaced
    if options.init is not None:
        find_run(options.init, options.runs_dir)
    path = _run_folder(options)
    if not options.resumes:
        folders.require_free(path, overwrite=options.overwrite)
        _say_replaced(path)
    # JAX takes seconds to import; meanwhile the workers start.
    threading.Thread(target=_import_early, daemon=True).start()
    if options.seeds > 1 or (options.resumes and sets.is_set(path)):
        return train_set(options, path)
    seats = _opponents(options, [path])
    result = _train_run(options, options.config(), path, seats, resume=options.resumes)
    film = result.pop("film", True)
    zero_sum = adds_up_to_zero(_tagged(result["returns"]))
    say_where_to_look(options, path, zero_sum=zero_sum, film=film)
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


@contextmanager
def _hooks(options: Train, seats: Opponents | None) -> Iterator[Hooks]:
    """Yield what is called meanwhile; environments to evaluate in are closed after it."""
    from kitae_marl.evaluation.win_rates import WinRates
    from kitae_marl.runs.callbacks import import_callback, make_hooks

    callbacks = [import_callback(text) for text in options.callback]
    rates = WinRates(lambda: _spare_env(options))
    n_episodes = options.eval_episodes or EVALUATION_EPISODES
    evaluate = env = None
    if options.eval_every is not None:
        from kitae_marl.evaluation import evaluation_of

        env = _in_python(options, min(n_episodes, EVALUATION_ENVS))
        env = seats.seat(env) if seats else env
        evaluate = evaluation_of(env, n_episodes)
    try:
        hooks = make_hooks(callbacks, evaluate, options.eval_every)
        yield hooks if seats else hooks._replace(win_rates=rates)
    finally:
        rates.close()
        if env is not None:
            env.close()


def _spare_env(options: Train) -> VecParallelEnv:
    """Make environments to measure in: of the twin, where training runs there."""
    if _is_compiled(options.config()):
        from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

        return CompiledVecParallelEnv(options.env_id, EVALUATION_ENVS, **options.env_kwargs)
    return _in_python(options, EVALUATION_ENVS)


def _in_python(options: Train, n_envs: int) -> VecParallelEnv:
    """Make environments of the original game in this process, all seats free."""
    game = GameSetup(
        options.env_id, options.env_kwargs, {}, options.max_episode_steps, wrap=options.wrap
    )
    return open_game(game, n_envs, n_workers=0, runs_dir=options.runs_dir, allow_import=False)


def _import_early() -> None:
    """Import what training needs; what fails, fails again and is told where it is needed."""
    with suppress(Exception):
        importlib.import_module("kitae_marl.runs.agent")


def _train_run(
    options: Train, config: Config, path: Path, seats: Opponents | None, *, resume: bool
) -> dict[str, Any]:
    """Train one run, or go on with it."""
    with _hooks(options, seats) as hooks:
        config, env = _make_env(config)
        try:
            from kitae_marl.runs import session
            from kitae_marl.runs.agent import Agent

            if seats:
                env = seats.seat(env)
                hooks = hooks._replace(opponents=seats.loaded)
            agent = Agent(env, config)
            if options.init is not None:
                _begin_with(options, agent)
            place = "compiled" if config.backend == "compiled" else "in Python"
            say(session.headline(agent, place))
        except BaseException:
            env.close()
            raise
        if resume:
            step, exact = options.resume_step, options.exact
            summary = session.resume(
                agent, env, path, step=step, exact=exact, show=True, hooks=hooks
            )
        else:  # what a run of a set holds that has no checkpoint yet may go
            overwrite = options.overwrite or options.resumes
            summary = session.train(
                [agent], env, [path.resolve()], overwrite=overwrite, hooks=hooks
            )[0]
    started = psutil.Process().create_time()
    startup = agent.first_update_at - started if agent.first_update_at else None
    modes = env.metadata.get("render_modes") or ()
    film = "rgb_array" in modes or "ansi" in modes
    return _result(summary, path, startup_s=startup, film=film)


def _begin_with(options: Train, agent: Any) -> None:
    """Let an agent begin with the networks of the run that the options name."""
    from kitae_marl.runs.agent import Agent

    path = find_run(str(options.init), options.runs_dir)
    truster(options.allow_import)(path)
    trained = Agent.load(path)
    try:
        agent.begin_with(trained, path)
    except ConfigError as error:
        raise ConfigError(f"init: {error}", "init") from None
    say(f"begins with the networks of {path}, after its {trained.env_steps} steps")


def _opponents(options: Train, paths: list[Path]) -> Opponents | None:
    """Say who plays the seats that the options give away; None where there are none.

    Runs that go on meet the copies that they keep, and so do runs that join their set.
    """
    if not options.seats:
        return None
    from kitae_marl.selfplay.opponents import Opponents

    played = ", ".join(f"{pattern}: {seat}" for pattern, seat in options.seats.items())
    say(f"seats, played by others and not trained: {played}")
    copies: dict[str, SeatCopy | None] = {}
    for path in reversed(paths if options.resumes else []):
        if contents.is_run(path):
            own = contents.read_config(path).seats.items() & options.seats.items()
            found = seat_copies(path, dict(own))
            copies |= {p: copy for p, copy in found.items() if copy or p not in copies}
    trust = truster(options.allow_import)
    return Opponents(options.seats, options.runs_dir, copies=copies, trust=trust)


def _result(summary: dict[str, Any], path: Path, **more: Any) -> dict[str, Any]:
    """Say what a run came to, and return the JSON that says so."""
    returns = {tag.removeprefix("return/"): x for tag, x in summary["returns"].items()}
    compiling = summary.get("compile_s", 0.0)
    apart = f", apart from {compiling:.0f} s of compiling" if compiling > 1 else ""
    say(f"done: {summary['env_steps']} steps, {summary['env_steps_per_s']:.0f} env steps/s{apart}")
    say(f"return per episode, last {WINDOW} episodes: {in_words(summary['returns'])}")
    kept = {key: summary[key] for key in (*contents.COUNTS, "compile_s") if key in summary}
    if best := summary.get("best"):
        more["best"] = best
        say(
            f"best evaluation: {best['metric']} {best['value']:.2f} at step {best['env_step']} "
            "(--step best plays it)"
        )
    rates = summary.get("win_rates")
    if rates:
        shown = ", ".join(f"{name} {rate:.0%}" for name, rate in rates.items() if name != "mean")
        say(f"won against the random policy, most probable actions: {shown}")
        more["win_rates"] = rates
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
        opponents = _opponents(options, [folders.member(path, seed) for seed in seeds])
        train_all = in_one_program if _is_compiled(options.config()) else one_after_another
        results = train_all(options, path, seeds, opponents)
    tags = {tag for result in results.values() for tag in result["returns"]}
    returns = {
        tag: fmean(r["returns"][tag] for r in results.values() if tag in r["returns"])
        for tag in sorted(tags)
    }
    tagged = _tagged(returns)
    say(f"mean over {len(results)} seeds: {in_words(tagged)}")
    films = [result.pop("film", True) for result in results.values()]
    say_where_to_look(options, path, zero_sum=adds_up_to_zero(tagged), film=all(films))
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
    options: Train, path: Path, seeds: list[int], seats: Opponents | None
) -> dict[int, dict[str, Any]]:
    """Train the runs of a set in one compiled program; return the result of each by its seed."""
    from kitae_marl.runs.many import train_runs

    members = [folders.member(path, seed) for seed in seeds]
    say(f"seeds {_listed(seeds)} in {path}")
    config, env = _make_env(options.config())
    game = (seats.seat(env) if seats else env).game
    configs = [dataclasses.replace(config, seed=seed) for seed in seeds]
    step, exact = options.resume_step, options.exact
    with _hooks(options, seats) as hooks:
        hooks = hooks._replace(opponents=seats.loaded) if seats else hooks
        trained = train_runs(game, configs, members, step=step, exact=exact, hooks=hooks)
    results = {}
    for seed, member, run in zip(seeds, members, trained, strict=True):
        say(f"seed {seed}:")
        results[seed] = _result(run.summary, member)
    return results


def one_after_another(
    options: Train, path: Path, seeds: list[int], seats: Opponents | None
) -> dict[int, dict[str, Any]]:
    """Train the runs of a set in turn; return the result of each by its seed."""
    from kitae_marl.runs import session

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
            session.say_complete(config)
            results[seed] = _result(contents.read_summary(own), own)
        else:
            results[seed] = _train_run(options, config, own, seats, resume=begun)
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
        wrap=config.wrap,
        vector_options=config.vector_options(),
        **config.env_kwargs,
    )
    for why in refused:  # told only now: arguments that are wrong are refused by the original, too
        say(f"the compiled twin does not take these arguments ({why}); training in Python")
    _advise_on_pictures(config, env)
    return dataclasses.replace(config, backend="python"), env


def _advise_on_pictures(config: Config, env: VecParallelEnv) -> None:
    """Say how to make pictures small, where the games show them as they are."""
    spaces = [group.observation_space for group in env.groups]
    if config.wrap or config.env_id.startswith("envpool:"):
        return
    from kitae_marl.vector.adapters.pictures import wrappers_for

    for text in wrappers_for(spaces):
        shape = " x ".join(map(str, spaces[0].shape or ()))
        say(
            f"agents see pictures of {shape}; --wrap {text} makes them small and grey, with their "
            "past, which is faster and easier to learn (smaller still: pictures:42,42)"
        )


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
