"""This file trains many runs in one compiled program, over seeds and over settings."""

from __future__ import annotations

import dataclasses
import itertools
import operator
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kitae_marl.config.learner import LearnerConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import CheckpointError, ConfigError
from kitae_marl.runs import session
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.callbacks import Callback, Hooks, make_hooks
from kitae_marl.runs.resumption import is_complete, load
from kitae_marl.runs.store import contents, folders
from kitae_marl.runs.store.sets import write_set
from kitae_marl.runs.terminal import counted, say
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

if TYPE_CHECKING:
    from kitae_envs.core import Game


class Trained(NamedTuple):
    """One of many runs.

    Attributes:
        agent: the agent; ``agent.config`` says seed and settings.
        summary: what a single run returns.
        run_dir: its folder, None where nothing is kept.
    """

    agent: Agent
    summary: dict[str, Any]
    run_dir: Path | None


def train_many(
    game: Game | str,
    config: Config,
    seeds: Iterable[int],
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
    run_dir: str | Path | None = None,
    *,
    overwrite: bool = False,
    show: bool = True,
    callbacks: Sequence[Callback] = (),
    evaluate: Callable[[Agent], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
) -> list[Trained]:
    """Train every combination of settings with every seed: one program, one compilation.

    Each run draws the random numbers that it would draw by itself. On a CPU they take turns, and
    runs that differ by seed alone end as they would by themselves, to the last bit. Other devices
    work on all at once (``jax.vmap``), so that matrix products may be rounded in another way.

    Args:
        game: a compiled game, or the id of one.
        config: settings of all runs.
        seeds: their seeds.
        hyperparameters: values to try by name, of ``config.learner.TRACED``:
            ``{"learning_rate": [1e-3, 3e-3], "gamma": [0.9, 0.99]}`` are four combinations.
        run_dir: folder that gets an ordinary run folder ``seed_<seed>`` for each seed; with
            hyperparameters a folder of these for each combination, ``learning_rate-0.001``. None:
            nothing is kept.
        overwrite: replace what ``run_dir`` holds.
        show: whether to print the progress of the first run.
        callbacks: called as by ``Agent.train``, for the agent of each run.
        evaluate: as for ``Agent.train``, for the agent of each run.
        evaluate_every: environment steps of each run between two evaluations.

    Returns:
        The runs, all seeds of the first combination first.

    Raises:
        ConfigError: for settings that cannot be traced or are out of range, for no or equal seeds,
            and where the program does not fit into memory.
        RunExistsError: if a folder is not free.
    """
    # All that can be refused is refused before a folder is replaced.
    hooks = make_hooks(callbacks, evaluate, evaluate_every)
    if not isinstance(config, Config):
        raise TypeError(f"expected a kitae_marl.Config, got {type(config).__name__}.")
    session.require_opposition(config, None)  # runs of one program have none
    own_seeds = _seeds(seeds)
    combinations = _combinations(config, hyperparameters or {})
    configs = [
        dataclasses.replace(config.with_learner(learner), seed=seed)
        for _, learner in combinations
        for seed in own_seeds
    ]
    paths: list[Path | None] = []
    for name, _ in combinations:
        folder = None if run_dir is None else Path(run_dir).resolve() / name
        if folder is not None:
            folders.create_run(folder, overwrite=overwrite)
            write_set(folder, own_seeds)
        paths += [None if folder is None else folders.member(folder, seed) for seed in own_seeds]
    trained = train_runs(game, configs, paths, show=show, hooks=hooks)
    if show and run_dir is not None:
        place = Path(run_dir) if hyperparameters else Path(run_dir).parent
        say(f"the runs are in {run_dir}; kitae-marl runs --runs-dir {shlex.quote(str(place))}")
    return trained


def _seeds(seeds: Any) -> list[int]:
    """Return seeds as numbers of Python; raise a ConfigError unless they are some and differ."""
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise ConfigError(f"seeds: expected a list of different seeds, got {seeds!r}.", "seeds")
    return numbers


def _combinations(
    config: Config, hyperparameters: Mapping[str, Sequence[float]]
) -> list[tuple[str, LearnerConfig]]:
    """Return every combination of settings: the name of its folder, and the learner's settings."""
    traced = config.learner.TRACED
    if not isinstance(hyperparameters, Mapping):
        raise ConfigError(
            f"hyperparameters: expected lists of values by name, got {hyperparameters!r}.",
            "hyperparameters",
        )
    tried = {name: _values(name, values, traced) for name, values in hyperparameters.items()}
    combinations = []
    for values in itertools.product(*tried.values()):
        chosen = dict(zip(tried, values, strict=True))
        label = "_".join(f"{name}-{_label(value)}" for name, value in chosen.items())
        combinations.append((label, dataclasses.replace(config.learner, **chosen)))
    return combinations


def _label(value: float) -> str:
    """Return a number as part of a folder's name: short where that is exact."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _values(name: str, values: Any, traced: tuple[str, ...]) -> list[float]:
    """Return the values to try for one setting, made sure to be a list of numbers."""
    if name not in traced:
        raise ConfigError(
            f"hyperparameters: expected values for some of {', '.join(traced)}, got "
            f"{name!r}; train runs that differ otherwise by themselves.",
            name,
        )
    try:
        numbers = [] if isinstance(values, str) else [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if not numbers:
        raise ConfigError(
            f"hyperparameters: expected a list of values for {name!r}, such as [1e-3, 3e-3], got "
            f"{values!r}.",
            name,
        )
    return numbers


def train_runs(
    game: Game | str,
    configs: Sequence[Config],
    paths: Sequence[Path | None],
    *,
    step: int | None = None,
    exact: bool = False,
    show: bool = True,
    hooks: Hooks = session.NO_HOOKS,
) -> list[Trained]:
    """Train runs that differ in seed and traced settings; those with checkpoints go on.

    Runs that stand at different steps are trained in one program for each step.

    Args:
        game: a compiled game, or the id of one.
        configs: settings of the runs.
        paths: their folders; None keeps nothing.
        step: go on from this environment step; None: from the newest that all have.
        exact: as for ``Agent.resume``.
        show: whether to print the progress of the first run.
        hooks: what is called meanwhile.
    """
    if isinstance(game, str):  # what is kept says what was trained on
        configs = [dataclasses.replace(config, env_id=game) for config in configs]
    config = configs[0]
    kwargs = config.env_kwargs if isinstance(game, str) else {}
    env = CompiledVecParallelEnv(game, config.n_envs, **kwargs)
    agents = [Agent(env, own) for own in configs]
    if show:
        say(session.headline(agents[0], "compiled"))
    begun = [k for k, path in enumerate(paths) if path and contents.has_checkpoints(path)]
    for k in begun:
        first = k == begun[0]  # all go on with the same settings, which need be said but once
        load(agents[k], _path(paths[k]), step=step, exact=exact, show=show and first)
    newest = min((agents[k].learned_step for k in begun), default=0)
    trained: dict[int, Trained] = {}
    at_step: dict[int, list[int]] = {}
    for k, (agent, path) in enumerate(zip(agents, paths, strict=True)):
        summary = contents.read_summary(path) if path and k in begun else {}
        if is_complete(agent, summary):
            trained[k] = Trained(agent, summary, path)
        else:
            start = _go_back(agent, _path(path), newest) if k in begun else 0
            at_step.setdefault(start, []).append(k)
    if show and not at_step:
        session.say_complete(config)
    for start, members in at_step.items():
        if show:
            where = f"go on at step {start * config.n_envs}" if start else "begin"
            n_runs = counted(len(members), "run")
            say(f"{n_runs} {where} in one program; progress is that of the first")
        summaries = session.train(
            [agents[k] for k in members],
            CompiledVecParallelEnv(env.game, config.n_envs),
            [paths[k] for k in members],
            goes_on=start > 0,
            overwrite=True,  # a run without a checkpoint holds nothing that could be gone on with
            show=show,
            hooks=hooks,
        )
        for k, summary in zip(members, summaries, strict=True):
            trained[k] = Trained(agents[k], summary, paths[k])
    return [trained[k] for k in range(len(agents))]


def _path(path: Path | None) -> Path:
    """Return a path that is known to be there."""
    if path is None:
        raise ValueError("expected the folder of a run, got None.")
    return path


def _go_back(agent: Agent, path: Path, step: int) -> int:
    """Load the checkpoint of an earlier joint step, if there is one; return where the run stands.

    Runs trained together save one after another, so one that was killed may be ahead of others.
    """
    if agent.learned_step != step:
        try:
            agent.load_checkpoint(path, step * agent.config.n_envs)
        except CheckpointError:
            return agent.learned_step
    return step
