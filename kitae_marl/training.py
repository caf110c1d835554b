"""This file trains one run from its settings alone, for the command line and for Python.

The games run inside XLA where they have a twin, critics of MAPPO get the game's state, seats are
filled, evaluations and win rates are measured meanwhile, and the end says what came of it and
where to look.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kitae_marl.config.learner import DECLARED, LearnerConfig
from kitae_marl.config.opponents import FROZEN, Opponents, imports_opponents
from kitae_marl.config.run import Config
from kitae_marl.config.wrapping import imports_wrappers
from kitae_marl.errors import ConfigError
from kitae_marl.loops.xla import set_up_xla
from kitae_marl.runs.advice import say_where_to_look
from kitae_marl.runs.logger import WINDOW
from kitae_marl.runs.own_code import require_allowed, truster
from kitae_marl.runs.returns import adds_up_to_zero, in_words
from kitae_marl.runs.store import contents, folders
from kitae_marl.runs.store.search import resumed_at, run_at
from kitae_marl.runs.store.seats import seat_copies
from kitae_marl.runs.terminal import say

if TYPE_CHECKING:  # JAX takes seconds to import: it is, while the workers start
    from kitae_marl.runs.agent import Agent
    from kitae_marl.runs.callbacks import Callback, Hooks
    from kitae_marl.runs.many import Trained
    from kitae_marl.runs.store.seats import SeatCopy
    from kitae_marl.selfplay.seat_filler import SeatFiller
    from kitae_marl.vector.protocol import VecParallelEnv

EVALUATION_EPISODES = 32
"""Whole episodes of an evaluation during training, where no other number is given."""
EVALUATION_ENVS = 16
"""Environments in which episodes of evaluations during training are played, at most."""


@dataclass(frozen=True)
class Task:
    """What is to be done with settings, beside what the config says of them."""

    runs_dir: Path = Path("runs")
    """Folder in which the runs of frozen seats and of ``init`` are looked for."""
    resume: bool = False
    """Go on with the run that the folder holds."""
    step: int | Literal["best"] | None = None
    """Go on from the checkpoint of this environment step; None: the newest."""
    exact: bool = False
    """Go on only where the run will end as if it had never stopped, to the last bit."""
    overwrite: bool = False
    """Replace the run that the folder holds."""
    init: str | Path | Agent | None = None
    """Begin with the networks of a run, or of a trained agent."""
    allow_import: bool = False
    """Import what the runs that play seats, or are begun with, name as module:name."""
    callbacks: Sequence[Callback] = ()
    """Called while the run is trained."""
    evaluate: Callable[[Agent], Mapping[str, float]] | None = None
    """``evaluate(agent) -> metrics``; None: the most probable actions are played in whole episodes
    of the original game."""
    evaluate_every: int | None = None
    """Environment steps between two evaluations; None: never."""
    evaluate_episodes: int = EVALUATION_EPISODES
    """Whole episodes of one evaluation that is not ``evaluate``."""
    opponents: Opponents | None = None
    """Who plays the other seats, functions included, which a config cannot hold; None: those of
    the config."""
    show: bool = True
    """Whether to print progress and what came of it."""

    def say(self, text: str) -> None:
        """Print a line, where anything is to be shown."""
        if self.show:
            say(text)


def train(
    config_or_id: Config | str,
    run_dir: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    init: str | Path | Agent | None = None,
    allow_import: bool = False,
    show: bool = True,
    callbacks: Sequence[Callback] = (),
    evaluate: Callable[[Agent], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
    **settings: object,
) -> Trained:
    """Train one run as ``kitae-marl train`` does: ``train("mpe/simple_spread-v3").agent``.

    The games run inside XLA where they have a twin, else in worker processes: a script that may
    start these calls this below ``if __name__ == "__main__":``. Where JAX has not been imported
    yet, XLA is set up as by the command line, so that the run ends with the same parameters.

    Args:
        config_or_id: all settings, or the id of a game and otherwise the defaults.
        run_dir: folder of the run, new or empty; None: nothing is kept.
        overwrite: replace the run that ``run_dir`` holds.
        resume: go on with the run that ``run_dir`` holds (``RUN@STEP``: from that step); where an
            id is given, with the settings of the run, those of ``settings`` excepted.
        init: begin with the networks of a run, by path or name (``RUN@STEP``: as of a checkpoint),
            or of a trained agent.
        allow_import: import what runs to go on with, or those of seats, name as ``module:name``.
        show: whether to print progress, and at the end what came of it and where to look.
        callbacks: as for ``Agent.train``.
        evaluate: as for ``Agent.train``; None: the most probable actions are played in 32 whole
            episodes of the original game.
        evaluate_every: environment steps between two evaluations; None: never.
        **settings: over those of the config, by name: fields of ``Config``, and those of its
            algorithm, as in ``train("mpe/simple_spread-v3", env_steps=10**6, gamma=0.95)``.

    Returns:
        The run: its ``agent``, ``summary`` and ``run_dir``.

    Raises:
        ConfigError: for a setting that is unknown or out of range; the message names it.
        RunExistsError: if ``run_dir`` is not empty.
        TypeError: for anything that is neither a Config nor an id.
        KeyboardInterrupt, SystemExit: as of ``Agent.train``.
    """
    if "jax" not in sys.modules:
        set_up_xla()
    path = None if run_dir is None else Path(run_dir)
    step = None
    if path is not None and resume and not contents.is_run(path):
        path, step = resumed_at(path)  # by its name, as wherever a run is loaded
    live = Opponents.of(settings["opponents"]) if settings.get("opponents") else None  # pyright: ignore[reportArgumentType] - checked there
    task = Task(
        opponents=live,
        runs_dir=Path("runs") if path is None else path.parent,
        resume=resume,
        step=step,
        overwrite=overwrite,
        init=init,
        allow_import=allow_import,
        callbacks=callbacks,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        show=show,
    )
    config = _config_of(config_or_id, settings, path, task)
    if path is not None and not resume:
        folders.require_free(path, overwrite=overwrite)
    trained, film = train_run(config, path, seat_filler_of(config, [path], task), task)
    if show:
        say_result(trained.summary)
        if path is not None:
            say_where_to_look(
                config,
                path,
                task.runs_dir,
                allow_import=allow_import,
                zero_sum=adds_up_to_zero(trained.summary["returns"]),
                film=film,
            )
    return trained


def _config_of(
    config_or_id: Config | str, settings: Mapping[str, object], path: Path | None, task: Task
) -> Config:
    """Return the settings to train with, own algorithms and networks that they name imported."""
    if not isinstance(config_or_id, Config | str):
        raise TypeError(
            f"expected a kitae_marl.Config or the id of a game, got {type(config_or_id).__name__}; "
            "on environments that you have made, train by Agent(env, config).train(env)."
        )
    if task.resume and (path is None or task.overwrite):
        given = "overwrite=True" if task.overwrite else "run_dir=None"
        raise ConfigError(f"resume: expected the folder of a run to keep, got {given}.", "resume")
    if task.resume and task.init is not None:
        raise ConfigError("init: expected one new run, got resume=True beside it.", "init")
    if isinstance(config_or_id, Config):
        config = config_or_id
    elif task.resume and path is not None:
        truster(task.allow_import)(path)
        config = contents.read_config(path)
        stored = {
            "wrap": imports_wrappers(() if "wrap" in settings else config.wrap),
            "opponents": imports_opponents({} if "opponents" in settings else config.opponents),
        }
        require_allowed(stored, task.allow_import, f"the run {path}")
        if config.env_id != config_or_id:
            raise ConfigError(
                f"env_id: the run {path} trains on {config.env_id}, got {config_or_id}; give its "
                "own id, or another folder.",
                "env_id",
            )
    else:
        config = Config(env_id=config_or_id)
    config = with_settings(config, settings)
    if config.modules:
        from kitae_marl.algos import import_registered

        import_registered(config)
        config = dataclasses.replace(config)  # checked anew: the settings have a class by now
    return config


def with_settings(config: Config, settings: Mapping[str, object]) -> Config:
    """Return a config with other values of its own fields, or of those of its algorithm.

    Example:
        >>> config = with_settings(Config(), {"seed": 3, "gamma": 0.9})
        >>> config.seed, config.learner.gamma
        (3, 0.9)
    """
    fields = {field.name for field in dataclasses.fields(Config)}
    own: dict[str, Any] = {k: v for k, v in settings.items() if k in fields}
    rest = {k: v for k, v in settings.items() if k not in fields}
    algo = own.get("algo", config.algo)
    if not isinstance(algo, str) or algo not in DECLARED:
        # Of a module that is still to be imported, and then checks its own; or no name at all.
        if rest:
            own["own"] = {**(own.get("own", config.own) or {}), **rest}
        return dataclasses.replace(config, **own)
    section = DECLARED[algo].settings.SECTION
    known = {field.name for field in dataclasses.fields(DECLARED[algo].settings)}
    given = own.get(section)
    named = rest.keys() | (given.keys() if isinstance(given, Mapping) else ())
    for name in named - known:
        near = difflib.get_close_matches(str(name), sorted(fields | known), 1)
        hint = f"did you mean {near[0]}?" if near else "help(kitae_marl.Config) lists them."
        raise ConfigError(
            f"{name}: expected a setting of the run or of {algo}, got none; {hint}", name
        )
    base = getattr(config, section)
    if isinstance(given, Mapping):
        rest = {**given, **rest}
    elif given is not None:
        base = given
    if rest or isinstance(given, Mapping):
        is_settings = isinstance(base, LearnerConfig)
        own[section] = (
            dataclasses.replace(base, **rest) if is_settings else {**(base or {}), **rest}
        )
    return dataclasses.replace(config, **own)


def train_run(
    config: Config, path: Path | None, seats: SeatFiller | None, task: Task
) -> tuple[Trained, bool]:
    """Train one run, or go on with it.

    Args:
        config: its settings.
        path: its folder; None: nothing is kept.
        seats: who plays the seats that the config gives away; None where there are none.
        task: what else is asked.

    Returns:
        The run, and whether its game says that it can draw itself.
    """
    with hooks_of(config, seats, task) as hooks:
        config, env = make_env(config, task.say)
        try:
            from kitae_marl.runs import session
            from kitae_marl.runs.agent import Agent
            from kitae_marl.runs.many import Trained

            if seats:
                env = seats.seat(env)
            agent = Agent(env, config)
            if config.opponents:
                env = _opposed(env, agent, seats, task)
            if seats:
                hooks = hooks._replace(opponents=seats.loaded)
            if task.init is not None:
                _begin_with(agent, task.init, task)
            place = "in Python" if env.game is None else "compiled"
            task.say(session.headline(agent, place))
        except BaseException:
            env.close()
            raise
        if task.resume and path is not None:
            step, exact, show = task.step, task.exact, task.show
            summary = session.resume(
                agent, env, path, step=step, exact=exact, show=show, hooks=hooks
            )
        else:
            summary = session.train(
                [agent],
                env,
                [path and path.resolve()],
                overwrite=task.overwrite,
                show=task.show,
                hooks=hooks,
            )[0]
    modes = env.metadata.get("render_modes") or ()
    return Trained(agent, summary, path), "rgb_array" in modes or "ansi" in modes


def _opposed(
    env: VecParallelEnv, agent: Agent, seats: SeatFiller | None, task: Task
) -> VecParallelEnv:
    """Let opponents play in some environments of a run."""
    from kitae_marl.selfplay.opposing import oppose

    settings = task.opponents or agent.config.others
    assert settings is not None  # the config names some
    env = oppose(env, agent, settings, seats=seats)
    shown = ", ".join(f"{name} {share:g}" for name, share in settings.shares.items())
    task.say(f"opponents, by share of the environments: {shown}")
    return env


@contextmanager
def hooks_of(config: Config, seats: SeatFiller | None, task: Task) -> Iterator[Hooks]:
    """Yield what is called meanwhile; environments to evaluate in are closed after it."""
    from kitae_marl.evaluation.win_rates import WinRates
    from kitae_marl.runs.callbacks import make_hooks

    rates = WinRates(lambda: _spare_env(config))
    evaluate, env = task.evaluate, None
    if task.evaluate_every is not None and evaluate is None:
        from kitae_marl.evaluation import evaluation_of

        n_episodes = task.evaluate_episodes
        env = _in_python(config, min(n_episodes, EVALUATION_ENVS))
        env = seats.seat(env) if seats else env
        evaluate = evaluation_of(env, n_episodes)
    try:
        hooks = make_hooks(task.callbacks, evaluate, task.evaluate_every)
        yield hooks if config.seats else hooks._replace(win_rates=rates)
    finally:
        rates.close()
        if env is not None:
            env.close()


def _spare_env(config: Config) -> VecParallelEnv:
    """Make environments to measure in: of the twin, where training runs there."""
    if is_compiled(config):
        from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

        return CompiledVecParallelEnv(config.env_id, EVALUATION_ENVS, **config.env_kwargs)
    return _in_python(config, EVALUATION_ENVS)


def _in_python(config: Config, n_envs: int) -> VecParallelEnv:
    """Make environments of the original game in this process, all seats free."""
    from kitae_marl.vector.make import make_vec_env

    options = {"max_episode_steps": config.max_episode_steps}
    return make_vec_env(
        config.env_id,
        n_envs,
        n_workers=0,
        wrap=config.wrap,
        vector_options=options,
        **config.env_kwargs,
    )


def make_env(config: Config, say: Callable[[str], None] = say) -> tuple[Config, VecParallelEnv]:
    """Make the environments where they shall run; the config says which place was taken.

    Args:
        config: settings of the run.
        say: told why a twin was not taken, and how pictures are made small.
    """
    refused: list[str] = []
    if is_compiled(config, refused.append):
        from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

        env = CompiledVecParallelEnv(config.env_id, config.n_envs, **config.env_kwargs)
        if env.game.unseen:
            say(env.game.unseen)
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
    _advise_on_pictures(config, env, say)
    return dataclasses.replace(config, backend="python"), env


def _advise_on_pictures(config: Config, env: VecParallelEnv, say: Callable[[str], None]) -> None:
    """Say how to make pictures small, where the games show them as they are."""
    if config.wrap or config.env_id.startswith("envpool:"):
        return
    spaces = [group.observation_space for group in env.groups]
    from kitae_marl.vector.adapters.pictures import wrappers_for

    for text in wrappers_for(spaces):
        shape = " x ".join(map(str, spaces[0].shape or ()))
        say(
            f"agents see pictures of {shape}; --wrap {text} makes them small and grey, with their "
            "past, which is faster (smaller still: pictures:42,42; in Python wrap=[...])"
        )


def is_compiled(config: Config, refused: Callable[[str], None] = lambda why: None) -> bool:
    """Whether the games shall run inside XLA: if nothing is said, wherever they can."""
    if config.backend != "auto":
        return config.backend == "compiled"
    from kitae_marl.vector.adapters.compiled_games import twin_serves

    return not config.needs_python and twin_serves(config.env_id, config.env_kwargs, refused)


def seat_filler_of(config: Config, paths: Sequence[Path | None], task: Task) -> SeatFiller | None:
    """Say who plays the seats that a config gives away; None where there are none.

    Runs that go on meet the copies that they keep, and so do runs that join their set.

    Args:
        config: settings of the runs.
        paths: folders of the runs.
        task: what else is asked.
    """
    frozen = [name for name in config.opponents if name.startswith(FROZEN)]
    if not config.seats and not frozen:
        return None
    from kitae_marl.selfplay.seat_filler import SeatFiller

    if config.seats:
        played = ", ".join(f"{pattern}: {seat}" for pattern, seat in config.seats.items())
        task.say(f"seats, played by others and not trained: {played}")
    named = {**config.seats, **{name: name for name in frozen}}
    copies: dict[str, SeatCopy | None] = {}
    for path in reversed(paths if task.resume else []):
        if path is not None and contents.is_run(path):
            own = contents.read_config(path).seats.values()
            for pattern, copy in seat_copies(path, named).items():
                # Runs of earlier versions keep no copies: their opponents play as they are now.
                if copy or (named[pattern] in own and pattern not in copies):
                    copies[pattern] = copy
    trust = truster(task.allow_import)
    return SeatFiller(config.seats, task.runs_dir, others=frozen, copies=copies, trust=trust)


def _begin_with(agent: Agent, init: str | Path | Agent, task: Task) -> None:
    """Let an agent begin with the networks of a run, or of another agent."""
    from kitae_marl.runs.agent import Agent

    path, trained = None, init
    if not isinstance(trained, Agent):
        at = run_at(trained, task.runs_dir)
        path = at.path
        truster(task.allow_import)(path)
        trained = Agent.load(path, **at.how)
    try:
        agent.begin_with(trained, path)
    except ConfigError as error:
        raise ConfigError(f"init: {error}", "init") from None
    whose = "another agent" if path is None else path
    task.say(f"begins with the networks of {whose}, after its {trained.env_steps} steps")


def say_result(summary: Mapping[str, Any]) -> None:
    """Say what a run came to."""
    compiling = summary.get("compile_s", 0.0)
    apart = f", apart from {compiling:.0f} s of compiling" if compiling > 1 else ""
    say(f"done: {summary['env_steps']} steps, {summary['env_steps_per_s']:.0f} env steps/s{apart}")
    say(f"return per episode, last {WINDOW} episodes: {in_words(summary['returns'])}")
    if best := summary.get("best"):
        say(
            f"best evaluation: {best['metric']} {best['value']:.2f} at step {best['env_step']} "
            "(--step best plays it)"
        )
    if rates := summary.get("win_rates"):
        shown = ", ".join(f"{name} {rate:.0%}" for name, rate in rates.items() if name != "mean")
        step = summary.get("win_rates_step", summary["env_steps"])
        then = "" if step == summary["env_steps"] else f", at step {step}"
        say(f"won against the random policy, most probable actions{then}: {shown}")
