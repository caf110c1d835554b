"""Runs from start to end: what must hold before they begin or go on, and the training."""

from __future__ import annotations

import dataclasses
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitae_marl.config.run import Config, differences
from kitae_marl.data.groups import require_spaces
from kitae_marl.errors import CheckpointIncompatibleError, ConfigError, TrainingDivergedError
from kitae_marl.loops import devices
from kitae_marl.loops.chunks import train_in_chunks
from kitae_marl.loops.train import check_env, vectorized_train
from kitae_marl.runs.logger import Logger
from kitae_marl.runs.store import contents, folders
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.files import locked, require_folder
from kitae_marl.runs.store.manifest import origin_differences
from kitae_marl.runs.store.search import find_run
from kitae_marl.runs.terminal import counted, pass_on, say, stop_on_signal
from kitae_marl.vector.adapters.as_parallel import as_vector

if TYPE_CHECKING:
    from kitae_marl.runs.agent import Agent


def train(
    agent: Agent, env: Any, run_dir: str | Path | None, *, overwrite: bool, show: bool
) -> dict[str, Any]:
    """Train for ``config.env_steps``; ``Agent.train`` says what comes in and out."""
    path = Path(run_dir).resolve() if run_dir is not None else None
    with ExitStack() as stack:
        with _closing_on_error(env):
            require_one_keeper(path)
            _require_steps_left(agent, at_least=1)
            env = _checked(agent, env)
            stack.enter_context(stopping_on_signal([agent]))
            if path is not None:
                folders.require_free(path, overwrite=overwrite)
                stack.enter_context(locked(path))
                folders.create_run(path, overwrite=overwrite)
                describe(agent, path, env)
        return _run(agent, env, path, show)


def headline(agent: Agent, where: str) -> str:
    """Say in one line what is trained on what, and where the games run."""
    config = agent.config
    agents = f"{counted(len(agent.possible_agents), 'agent')} in "
    agents += counted(len(agent.groups), "group")
    envs = counted(config.n_envs, "environment")
    return f"{config.algo} on {config.env_id} ({where}): {agents}, {envs}"


def resume(
    agent: Agent, env: Any, run_dir: str | Path, *, step: int | None, exact: bool, show: bool
) -> dict[str, Any]:
    """Go on with a run; ``Agent.resume`` says what comes in and out."""
    with ExitStack() as stack:
        with _closing_on_error(env):
            path = find_run(run_dir)
            require_folder(path)
            require_one_keeper(path)
            stack.enter_context(locked(path))
            load(agent, path, step=step, exact=exact, show=show)
            _require_steps_left(agent, at_least=0)
            env = _checked(agent, env)
            if show:
                say(f"resumed from step {agent.step * agent.config.n_envs}")
            summary = contents.read_summary(path)
            if is_complete(agent, summary):
                env.close()
                return summary
            stack.enter_context(stopping_on_signal([agent]))
            describe(agent, path, env)
        return _run(agent, env, path, show)


def load(agent: Agent, path: Path, *, step: int | None, exact: bool, show: bool) -> None:
    """Let an agent stand where a run stands, in order to go on with it."""
    contents.require_plain(path)
    _compare(agent.config, contents.read_config(path), show)
    _compare_origin(agent.load_checkpoint(path, step), path, exact)


@contextmanager
def _closing_on_error(env: Any) -> Iterator[None]:
    """Close the environment if the block raises."""
    try:
        yield
    except BaseException:
        close = getattr(env, "close", None)
        if close is not None:
            close()
        raise


def _require_steps_left(agent: Agent, at_least: int) -> None:
    """Raise a ConfigError where the run is already at its end, or beyond it."""
    if agent.learned_step + at_least > n_joint_steps(agent.config):
        done = agent.learned_step * agent.config.n_envs
        raise ConfigError(
            f"env_steps: expected more than the {done} steps already done, got "
            f"{agent.config.env_steps}; give a larger number to train for longer.",
            "env_steps",
        )


FIXED = {"env_id", "env_kwargs", "algo", "seed", "n_envs"}
FIXED |= {f"ppo.{name}" for name in ("n_steps", "hidden_sizes", "activation", "share_params")}
"""Settings that a run keeps: they say what its parameters mean, or how its steps are counted."""


def _compare(own: Config, stored: Config, show: bool) -> None:
    """Say how the settings differ from those of the stored run.

    Raises:
        ConfigError: if one of them may not change.
    """
    changed = differences(stored, own)
    changed.pop("backend", None)  # the place where the games run is chosen for each part of a run
    fixed = sorted(FIXED & changed.keys())
    lines = {key: f"{key}: the run was trained with {old!r}" for key, (old, _) in changed.items()}
    if fixed:
        listed = "; ".join(f"{lines[key]}, got {changed[key][1]!r}" for key in fixed)
        raise ConfigError(
            f"{listed}; a run goes on with these as it began: leave them out or start a new run.",
            fixed[0],
        )
    for key, (_, new) in changed.items():
        if show:
            say(f"{lines[key]}, goes on with {new!r}")


def _compare_origin(manifest: dict[str, Any], path: Path, exact: bool) -> None:
    """Warn where a continuation will not be what an uninterrupted run would have been.

    Raises:
        CheckpointIncompatibleError: with ``exact``, instead of the warning, and where the games of
            the run were not saved.
    """
    found = origin_differences(manifest)
    if exact and not manifest["exact_resume"]:
        found.append("its games run in Python and begin new episodes")
    if found and exact:
        raise CheckpointIncompatibleError(
            f"{path} cannot go on exactly: {'; '.join(found)}; leave out --exact to go on.",
            str(path),
        )
    if found:
        warnings.warn(
            f"{path} was saved elsewhere: {'; '.join(found)}. It goes on, with numbers that may "
            "differ from those of a run without interruption.",
            stacklevel=2,
        )


def _checked(agent: Agent, env: Any) -> Any:
    """Return a compatible environment, sure to have the agents and spaces that the agent knows."""
    env = check_env(env)
    require_spaces(env, agent.possible_agents, agent.groups)
    return as_vector(env, with_state=agent.groups[0].state_space is not None)


def _run(agent: Agent, env: Any, path: Path | None, show: bool) -> dict[str, Any]:
    """Train from the last update on, saving and logging into ``path``."""

    def learn(checkpointers: list[Any], loggers: list[Logger]) -> None:
        vectorized_train(
            agent.config.seed,
            agent,
            env,
            n_joint_steps(agent.config),
            agent.algorithm.algo_type,
            start_step=agent.learned_step + 1,
            checkpointer=checkpointers[0],
            writer=loggers[0],
        )

    return keep([agent], [path], learn, show)[0]


def train_together(
    agents: Sequence[Agent], env: Any, paths: Sequence[Path | None], *, show: bool
) -> list[dict[str, Any]]:
    """Train several agents on compiled games in one program; the environment is closed.

    Args:
        agents: their configs may differ in the seed and in ``config.TRACED``. New ones, or ones
            that go on with their runs, all at the same step.
        env: a vector of compiled games.
        paths: their run folders, free ones for new runs; None keeps nothing.
        show: whether to print the progress of the first.

    Returns:
        The summary of each run.
    """

    def learn(checkpointers: list[Any], loggers: list[Logger]) -> None:
        seeds = [agent.config.seed for agent in agents]
        last, start = n_joint_steps(agents[0].config), agents[0].learned_step + 1
        train_in_chunks(seeds, agents, env, last, start, checkpointers, loggers)

    with ExitStack() as stack:
        stack.callback(env.close)
        stack.enter_context(stopping_on_signal(agents))
        for agent, path in zip(agents, paths, strict=True):
            require_one_keeper(path)
            _require_steps_left(agent, at_least=0)
            _checked(agent, env)
            if path is not None:
                stack.enter_context(locked(path))
                if not agent.learned_step:
                    folders.create_run(path, overwrite=True)
                describe(agent, path, env)
        return keep(agents, paths, learn, show)


def n_joint_steps(config: Config) -> int:
    """Joint steps of the whole run."""
    return config.n_updates * config.ppo.n_steps


def is_complete(agent: Agent, summary: dict[str, Any]) -> bool:
    """Whether a loaded agent has done all steps, and its run was ended in order."""
    done = agent.learned_step == n_joint_steps(agent.config) and bool(summary.get("complete"))
    return done and summary["env_steps"] == agent.learned_step * agent.config.n_envs


def require_one_keeper(path: Path | None) -> None:
    """Raise a ConfigError if one of several processes would keep a run that is not process 0."""
    if path is not None and devices.process_index():
        raise ConfigError(
            f"run_dir: expected None in process {devices.process_index()}, got {path}; process 0 "
            "keeps the run of all (to go on, the others call load_checkpoint and train).",
            "run_dir",
        )


def describe(agent: Agent, path: Path, env: Any) -> None:
    """Write what a run is that begins or goes on: agents, and config with the place of the games.

    The summary of an earlier end goes: from here on it may be untrue.
    """
    compiled = env.game is not None
    config = dataclasses.replace(
        agent.config,
        backend="compiled" if compiled else "python",
        n_workers=None if compiled else agent.config.n_workers,
    )
    (path / "summary.json").unlink(missing_ok=True)
    contents.write_groups(path, agent.possible_agents, agent.groups)
    contents.write_config(path, config)


@contextmanager
def stopping_on_signal(agents: Sequence[Agent]) -> Iterator[None]:
    """Let a signal end the training of these agents between two steps, from here on."""

    def stop(number: int) -> None:
        for agent in agents:
            agent.stopping = number

    for agent in agents:
        agent.stopping = 0
    with stop_on_signal(stop):
        yield


def keep(
    agents: Sequence[Agent],
    paths: Sequence[Path | None],
    learn: Callable[[list[Any], list[Logger]], None],
    show: bool,
) -> list[dict[str, Any]]:
    """Call ``learn(checkpointers, loggers)`` for runs that all stand at one step.

    Args:
        agents: one for each run.
        paths: their folders, None keeps nothing.
        learn: trains; the lists have an entry for each run.
        show: whether to print the progress of the first run.

    Returns:
        The summary of each run, as it is written to its folder.
    """
    start = agents[0].learned_step

    def stop() -> None:
        for agent in agents:
            agent.stopping = agent.stopping or signal.SIGPIPE

    loggers = [_logger(agents[0], path, show and i == 0, stop) for i, path in enumerate(paths)]
    checkpointers = [
        path and _checkpointer(agent, path, logger)
        for agent, path, logger in zip(agents, paths, loggers, strict=True)
    ]
    for agent in agents:
        agent.step = start  # what was explored and not learned is played again
    started = time.perf_counter()
    try:
        learn(checkpointers, loggers)
        for agent, checkpointer in zip(agents, checkpointers, strict=True):
            if checkpointer:
                checkpointer.write(agent.run_state())
    except TrainingDivergedError as error:
        found = [c.latest_path() for c in checkpointers if c]
        text = f"{error} Last good checkpoint: {', '.join(map(str, found)) or 'none'}."
        raise TrainingDivergedError(text, found[0] if found else "") from error
    finally:
        for logger in loggers:
            logger.close()
    wall, summaries = time.perf_counter() - started, []
    for agent, path, logger in zip(agents, paths, loggers, strict=True):
        summaries.append(_summary(agent, logger, wall, start))
        if path is not None:
            _write_summary(path, summaries[-1])
    if show:
        _say_stopped(agents[0].stopping, summaries[0] if paths[0] else None)
    pass_on(agents[0].stopping)
    return summaries


def _say_stopped(number: int, kept: dict[str, Any] | None) -> None:
    """Say which signal ended the training, if one did, and what is kept, as the summary has it."""
    if number in (0, signal.SIGPIPE):
        return
    more = ""
    if kept is not None:
        goes_on = f"--resume goes on from step {kept['env_steps']}"
        more = f"; {'the run is complete' if kept['complete'] else goes_on}"
    with suppress(BrokenPipeError):  # the signal may have ended the reader, too
        say(f"stopped by {signal.Signals(number).name}{more}")


def _logger(agent: Agent, path: Path | None, show: bool, on_unread: Callable[[], None]) -> Logger:
    """Make the logger of a run."""
    n_envs = agent.config.n_envs
    total, done = n_joint_steps(agent.config) * n_envs, agent.learned_step * n_envs
    return Logger(path, total_steps=total, resume_step=done, show=show, on_unread=on_unread)


def _checkpointer(agent: Agent, path: Path, logger: Logger) -> RunCheckpointer:
    """Make what saves a run."""
    return RunCheckpointer(
        path / "checkpoints",
        save_every=agent.config.save_every,
        num_envs=agent.config.n_envs,
        on_failure=lambda count: logger.add_scalar("faults/checkpoint_failures", count, 0),
    )


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``; the checkpoint is safe, so a disk that refuses costs a warning."""
    try:
        contents.write_summary(path, summary)
    except OSError as error:
        warnings.warn(f"{path / 'summary.json'} could not be written: {error}.", stacklevel=2)


def _summary(agent: Agent, logger: Logger, wall: float, start: int) -> dict[str, Any]:
    """What a run comes to; wall clock and rates since it was started or resumed.

    ``agent_steps`` counts every agent that learns at every step, also while it waits or is gone.
    """
    n_envs, n_agents = agent.config.n_envs, len(agent.possible_agents)
    env_steps = (agent.learned_step - start) * n_envs
    return {
        "env_steps": agent.learned_step * n_envs,
        "agent_steps": agent.learned_step * n_envs * n_agents,
        "wall_s": wall,
        "env_steps_per_s": env_steps / max(wall, 1e-9),
        "agent_steps_per_s": env_steps * n_agents / max(wall, 1e-9),
        "returns": logger.means(),
        "complete": agent.learned_step == n_joint_steps(agent.config),
    }
