"""This file trains runs from start to end: folders, signals, logs, checkpoints, summaries."""

from __future__ import annotations

import dataclasses
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from kitae_marl.config.counts import read_keep
from kitae_marl.config.run import Config
from kitae_marl.data.groups import require_spaces
from kitae_marl.errors import CheckpointWriteError, ConfigError, TrainingDivergedError
from kitae_marl.loops import devices
from kitae_marl.loops.chunks import train_in_chunks
from kitae_marl.loops.train import check_env, vectorized_train
from kitae_marl.runs.callbacks import ASKED, AfterUpdate, Hooks
from kitae_marl.runs.logger import Logger
from kitae_marl.runs.resumption import is_complete, load
from kitae_marl.runs.returns import rating_of, win_rates
from kitae_marl.runs.store import contents, folders
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.files import locked, require_folder
from kitae_marl.runs.store.search import resumed_at
from kitae_marl.runs.store.seats import write_copies
from kitae_marl.runs.terminal import (
    UNREAD,
    answering_signals,
    counted,
    pass_on,
    say,
    stop_on_signal,
)
from kitae_marl.types import Closing, Run, opposition_of
from kitae_marl.vector.make import as_vector

NO_HOOKS = Hooks()


def train(
    agents: Sequence[Run],
    env: Any,
    paths: Sequence[Path | None],
    *,
    goes_on: bool = False,
    overwrite: bool = False,
    show: bool = True,
    hooks: Hooks = NO_HOOKS,
) -> list[dict[str, Any]]:
    """Train one run; or several on compiled games in one program. The environment is closed.

    Args:
        agents: one for each run, all at the same step. Their configs may differ in the seed and in
            traced settings.
        env: the environments; where there are several runs, a vector of compiled games.
        paths: a folder for each run; None keeps nothing.
        goes_on: the folders hold the runs that the agents were loaded from; else they are made.
        overwrite: replace the runs that the folders hold.
        show: whether to print the progress of the first run.
        hooks: what is called meanwhile.

    Returns:
        The summary of each run, as it is written to its folder.
    """
    with ExitStack() as held:
        with closing_on_error(env):
            for agent, path in zip(agents, paths, strict=True):
                require_opposition(agent.config, env)
                _require_one_keeper(path)
                agent.count_anew()
                _require_steps_left(agent, at_least=0 if goes_on else 1)
            env = _checked(agents, env)
            held.enter_context(_stopping_on_signal(agents))
            for agent, path in zip(agents, paths, strict=True):
                if path is not None:
                    _take_folder(held, path, goes_on=goes_on, overwrite=overwrite)
                    held.enter_context(_leaving_no_failed_start(path))
                    _describe(agent, path, env)
                    write_copies(path, hooks.opponents)
                    if agent.origin is not None:
                        contents.write_init(path, agent.origin)
            session = Session(agents, env, paths, show=show, hooks=hooks)
        return session.run()


def resume(
    agent: Run,
    env: Any,
    run_dir: str | Path,
    *,
    step: int | Literal["best"] | None,
    exact: bool,
    show: bool,
    hooks: Hooks = NO_HOOKS,
) -> dict[str, Any]:
    """Go on with a run; ``Agent.resume`` says what comes in and out."""
    with ExitStack() as held:
        with closing_on_error(env):
            require_opposition(agent.config, env)
            path, step = resumed_at(run_dir, step)
            require_folder(path)
            _require_one_keeper(path)
            held.enter_context(locked(path))  # before it is read: nobody shall write meanwhile
            load(agent, path, step=step, exact=exact, show=show)
            _require_steps_left(agent, at_least=0)
            env = _checked([agent], env)
            if show:
                say(f"resumed from step {agent.env_steps}")
            summary = contents.read_summary(path)
            if is_complete(agent, summary):
                env.close()
                if show:
                    say_complete(agent.config)
                return summary
            held.enter_context(_stopping_on_signal([agent]))
            _describe(agent, path, env)
            write_copies(path, hooks.opponents)
            session = Session([agent], env, [path], show=show, hooks=hooks, exact=exact)
        return session.run()[0]


def save(agent: Run, path: Path, *, overwrite: bool) -> None:
    """Keep an agent as it is in a new run folder; ``Agent.save`` says what comes in."""
    with ExitStack() as held:
        _take_folder(held, path, goes_on=False, overwrite=overwrite)
        held.enter_context(_leaving_no_failed_start(path))
        contents.write_groups(path, agent.possible_agents, agent.groups)
        contents.write_config(path, agent.config)
        if agent.origin is not None:
            contents.write_init(path, agent.origin)
        logger = Logger(None, total_steps=agent.env_steps, show=False)
        try:
            _checkpointer(agent, path, logger).write(agent.run_state())
            _write_summary(path, _summary(agent, logger, 0.0, agent.learned_step))
        finally:
            logger.close()


def say_complete(config: Config) -> None:
    """Say that a run has nothing left to do, and how it is trained further."""
    done = config.n_updates * config.rollout_size
    say(
        f"the run is complete with {done} steps, nothing is left to do; to train it further, give "
        f"more of them: --resume --env-steps {2 * done}"
    )


def headline(agent: Run, where: str) -> str:
    """Say in one line what is trained on what, and where the games run."""
    config = agent.config
    agents = f"{counted(len(agent.possible_agents), 'agent')} in "
    agents += counted(len(agent.groups), "group")
    if agent.config.learner.share_params is True:
        apart = [group.name for group in agent.groups if not group.share_params]
        agents += f" ({', '.join(apart)}: a network each, --groups lets them share)" * bool(apart)
    envs = counted(config.n_envs, "environment")
    return f"{config.algo} on {config.env_id} ({where}): {agents}, {envs}"


class Session:
    """The training of runs whose folders are taken: their logs, checkpoints and summaries.

    Args:
        agents: one for each run, all at the same step.
        env: the environments, checked.
        paths: the folders; None keeps nothing.
        show: whether to print the progress of the first run.
        hooks: what is called meanwhile.
        exact: refuse what the last bit could suffer from.
    """

    def __init__(
        self,
        agents: Sequence[Run],
        env: Any,
        paths: Sequence[Path | None],
        *,
        show: bool,
        hooks: Hooks = NO_HOOKS,
        exact: bool = False,
    ) -> None:
        self._agents, self._env, self._paths, self._show = agents, env, paths, show
        self._start = agents[0].learned_step
        self._loggers = [
            self._logger(agents[number], path, show and number == 0)
            for number, path in enumerate(paths)
        ]
        self._followers = [
            AfterUpdate(agent, hooks, logger, path and _checkpointer(agent, path, logger))
            for agent, path, logger in zip(agents, paths, self._loggers, strict=True)
        ]
        if opposition := opposition_of(env):
            keeper, logger = self._followers[0].checkpointer, self._loggers[0]
            opposition.keep(paths[0], keeper, logger, exact=exact)

    def run(self) -> list[dict[str, Any]]:
        """Train to the end, save, and return the summary of each run."""
        for agent in self._agents:
            agent.step = self._start  # what was explored and not learned is played again
        started = time.perf_counter()
        try:
            with closing_on_error(self._env):
                for agent, follower in zip(self._agents, self._followers, strict=True):
                    follower.tell_start(self._env, agent)
            self._learn()
            for agent, follower in zip(self._agents, self._followers, strict=True):
                follower.end(agent)
        except Exception as error:
            if not isinstance(error, TrainingDivergedError):
                self._keep_after(error)
                raise
            self._keep_sound_runs(error, time.perf_counter() - started)
            raise self._with_last_good(error) from error
        finally:
            for logger in self._loggers:
                logger.close()
        summaries = self._summaries(time.perf_counter() - started)
        for agent, follower in zip(self._agents, self._followers, strict=True):
            follower.tell_end(agent)
        stopping = next((agent.stopping for agent in self._agents if agent.stopping), 0)
        if self._show:
            _say_stopped(stopping, summaries[0] if self._paths[0] else None)
        pass_on(max(stopping, 0))
        return summaries

    def _keep_after(self, error: Exception) -> None:
        """Save the last whole update of each run after an error, and say how to go on.

        What a game or a callback raises after hours has nothing to do with what was learned before.
        """
        if isinstance(error, CheckpointWriteError):
            return  # the disk refuses
        kept = []
        for agent, path, follower in zip(self._agents, self._paths, self._followers, strict=True):
            keeper = follower.checkpointer
            if path is None or keeper is None or agent.learned_step == self._start:
                continue
            try:
                keeper.write(agent.run_state())
            except Exception as second:  # the first error is the one to raise
                warnings.warn(f"the run could not be saved after an error: {second}", stacklevel=2)
                return
            kept.append(path.name)
        if kept and self._show:
            done = self._agents[0].env_steps
            with suppress(BrokenPipeError):
                say(f"after an error: saved at step {done}; --resume goes on from there")

    def _keep_sound_runs(self, error: TrainingDivergedError, wall: float) -> None:
        """Save the runs that were trained beside those that diverged, as if these were not."""
        if len(self._agents) > 1:
            sound = [k for k in range(len(self._agents)) if k not in error.runs]
            for k in sound:
                self._followers[k].end(self._agents[k])
            self._summaries(wall, sound)

    def _with_last_good(self, error: TrainingDivergedError) -> TrainingDivergedError:
        """Return the error with the last good checkpoints of the runs that diverged."""
        keepers = [self._followers[k].checkpointer for k in error.runs]
        found = [str(keeper.latest_path()) for keeper in keepers if keeper is not None]
        text = f"{error} Last good checkpoint: {', '.join(found) or 'none'}."
        return TrainingDivergedError(text, found[0] if found else "", error.runs)

    def _learn(self) -> None:
        """Train by the loop that fits: that of the host, or chunks of the compiled one."""
        agents, first = self._agents, self._agents[0]
        last, start = first.config.n_joint_steps, self._start + 1
        if len(agents) > 1:
            seeds = [agent.config.seed for agent in agents]
            try:
                train_in_chunks(
                    seeds, agents, self._env, last, start, self._followers, self._loggers
                )
            finally:
                self._env.close()
            return
        vectorized_train(
            first.config.seed,
            first,
            self._env,
            last,
            first.algorithm.algo_type,
            start_step=start,
            checkpointer=self._followers[0],
            writer=self._loggers[0],
        )

    def _logger(self, agent: Run, path: Path | None, show: bool) -> Logger:
        """Make the logger of a run."""
        config = _with_place(agent.config, self._env)
        return Logger(
            path,
            total_steps=config.n_joint_steps * config.n_envs,
            resume_step=self._start * config.n_envs,
            show=show,
            on_unread=self._stop_unread,
            config=config,
        )

    def _stop_unread(self) -> None:
        """End the training, as by SIGPIPE: nobody reads the progress any more."""
        for agent in self._agents:
            agent.stopping = agent.stopping or UNREAD

    def _summaries(self, wall: float, runs: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Put the summaries of all runs, or of some, together; write them into the folders."""
        summaries = []
        for k in range(len(self._agents)) if runs is None else runs:
            path = self._paths[k]
            summary = _summary(self._agents[k], self._loggers[k], wall, self._start)
            follower = self._followers[k]
            if follower.measured is not None:
                summary["win_rates_step"] = follower.measured
            best = follower.checkpointer and follower.checkpointer.best()
            summaries.append(summary if best is None else {**summary, "best": best._asdict()})
            if path is not None:
                _write_summary(path, summaries[-1])
        return summaries


@contextmanager
def closing_on_error(env: Any) -> Iterator[None]:
    """Close the environment if the block raises."""
    try:
        yield
    except BaseException:
        if isinstance(env, Closing):
            env.close()
        raise


def _require_one_keeper(path: Path | None) -> None:
    """Raise a ConfigError if one of several processes would keep a run that is not process 0."""
    if path is not None and devices.process_index():
        raise ConfigError(
            f"run_dir: expected None in process {devices.process_index()}, got {path}; process 0 "
            "keeps the run of all (to go on, the others call load_checkpoint and train).",
            "run_dir",
        )


def require_opposition(config: Config, env: Any) -> None:
    """Raise a ConfigError where a config names opponents who do not play in the environments."""
    if config.opponents and opposition_of(env) is None:
        raise ConfigError(
            f"opponents: expected environments in which they play, got {config.opponents} and none "
            "of them; kitae_marl.train(config) and kitae-marl train make them, and so does "
            "Agent.train(kitae_marl.oppose(env, agent), ...).",
            "opponents",
        )


def _require_steps_left(agent: Run, at_least: int) -> None:
    """Raise a ConfigError where the run is already at its end, or beyond it."""
    if agent.learned_step + at_least > agent.config.n_joint_steps:
        done = agent.env_steps
        raise ConfigError(
            f"env_steps: expected more than the {done} steps already done, got "
            f"{agent.config.env_steps}; give a larger number to train for longer.",
            "env_steps",
        )


def _checked(agents: Sequence[Run], env: Any) -> Any:
    """Return a compatible vector, sure to have the agents and spaces that the agents know."""
    env = check_env(env)
    for agent in agents:
        require_spaces(env, agent.possible_agents, agent.groups)
    env = as_vector(env, with_state=agents[0].groups[0].state_space is not None)
    if env.game is None and agents[0].config.needs_compiled:
        raise ConfigError(
            f"backend: expected compiled games for {agents[0].config.algo}, which searches and "
            "learns inside XLA, got games in Python, in which it only plays; leave out what games "
            "in Python need (workers, wrappers, a limit of steps).",
            "backend",
        )
    return env


def _take_folder(held: ExitStack, path: Path, *, goes_on: bool, overwrite: bool) -> None:
    """Lock a run folder until the end; make it, unless it holds the run that goes on."""
    if not goes_on:
        folders.require_free(path, overwrite=overwrite)
    held.enter_context(locked(path))
    if not goes_on:
        folders.create_run(path, overwrite=overwrite)


@contextmanager
def _leaving_no_failed_start(path: Path) -> Iterator[None]:
    """Remove the folder of a run that an error ends before its first update: it blocks no name."""
    try:
        yield
    except Exception:
        folders.remove_nothing(path)
        raise


def _describe(agent: Run, path: Path, env: Any) -> None:
    """Write the agents, and the config with the place where the games run.

    The summary of an earlier end goes: from here on it may be untrue.
    """
    (path / "summary.json").unlink(missing_ok=True)
    contents.write_groups(path, agent.possible_agents, agent.groups)
    contents.write_config(path, _with_place(agent.config, env))


def _with_place(config: Config, env: Any) -> Config:
    """Return a config that says where the games run."""
    compiled = env.game is not None
    return dataclasses.replace(
        config,
        backend="compiled" if compiled else "python",
        n_workers=None if compiled else config.n_workers,
    )


@contextmanager
def _stopping_on_signal(agents: Sequence[Run]) -> Iterator[None]:
    """Let a signal end the training of these agents between two steps, from here on."""

    def stop(number: int) -> None:
        for agent in agents:
            agent.stopping = number

    for agent in agents:
        agent.stopping = 0
    with stop_on_signal(stop), answering_signals("training ends after this update"):
        yield


def _checkpointer(agent: Run, path: Path, logger: Logger) -> RunCheckpointer:
    """Make what saves a run."""
    return RunCheckpointer(
        path / "checkpoints",
        save_every=agent.config.save_every,
        num_envs=agent.config.n_envs,
        keep=read_keep(agent.config.keep),
        on_failure=lambda count: logger.add_scalar("faults/checkpoint_failures", count, 0),
    )


def _say_stopped(number: int, kept: dict[str, Any] | None) -> None:
    """Say what ended the training early, if anything did, and what is kept, by its summary."""
    if number in (0, UNREAD):
        return
    more = ""
    if kept is not None:
        goes_on = f"--resume goes on from step {kept['env_steps']}"
        more = f"; {'the run is complete' if kept['complete'] else goes_on}"
    by = "a callback" if number == ASKED else signal.Signals(number).name
    with suppress(BrokenPipeError):  # the signal may have ended the reader, too
        say(f"stopped by {by}{more}")


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``; the checkpoint is safe, so a disk that refuses costs a warning."""
    try:
        contents.write_summary(path, summary)
    except OSError as error:
        warnings.warn(f"{path / 'summary.json'} could not be written: {error}.", stacklevel=2)


def _summary(agent: Run, logger: Logger, wall: float, start: int) -> dict[str, Any]:
    """What a run comes to; wall clock and rates since it was started or resumed.

    ``compile_s`` seconds of it were spent on compiling, and are left out of the rates.
    ``agent_steps`` counts every agent that learns at every step, also while it waits or is gone.
    """
    n_envs, n_agents = agent.config.n_envs, len(agent.possible_agents)
    env_steps = (agent.learned_step - start) * n_envs
    seconds = max(wall - logger.left_out, 1e-9)
    return {
        "env_steps": agent.env_steps,
        "agent_steps": agent.env_steps * n_agents,
        "wall_s": wall,
        "compile_s": logger.left_out,
        "env_steps_per_s": env_steps / seconds,
        "agent_steps_per_s": env_steps * n_agents / seconds,
        "returns": logger.means(),
        **({"win_rates": rates} if (rates := win_rates(logger.newest)) else {}),
        **({"rating": rating} if (rating := rating_of(logger.newest)) else {}),
        "complete": agent.learned_step == agent.config.n_joint_steps,
    }
