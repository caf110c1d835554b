"""Keeping a run while it is trained: its description, logs, checkpoints and summary."""

from __future__ import annotations

import dataclasses
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, TrainingDivergedError
from kitae_marl.loops import devices
from kitae_marl.runs.logger import Logger
from kitae_marl.runs.signals import pass_on, stop_on_signal
from kitae_marl.runs.store import folders
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.terminal import say

if TYPE_CHECKING:
    from kitae_marl.runs.agent import Agent


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
    compiled = hasattr(env, "game")
    config = dataclasses.replace(
        agent.config,
        backend="compiled" if compiled else "python",
        n_workers=None if compiled else agent.config.n_workers,
    )
    (path / "summary.json").unlink(missing_ok=True)
    folders.write_groups(path, agent.possible_agents, agent.groups)
    folders.write_text(path / folders.MARKER, config.to_json())


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
        folders.write_text(path / "summary.json", folders.json_text(summary, indent=2) + "\n")
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
