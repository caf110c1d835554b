"""One run from start to end: its folder, its logger and checkpoints, signals, and the training."""

from __future__ import annotations

import dataclasses
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitae_marl import runs
from kitae_marl.checkpoint import RunCheckpointer
from kitae_marl.config import Config, differences
from kitae_marl.errors import CheckpointIncompatibleError, ConfigError, TrainingDivergedError
from kitae_marl.groups import require_spaces
from kitae_marl.locks import locked
from kitae_marl.logger import Logger, say
from kitae_marl.loops.train import check_env, vectorized_train
from kitae_marl.manifest import origin_differences
from kitae_marl.signals import pass_on, stop_on_signal

if TYPE_CHECKING:
    from kitae_marl.agent import Agent


def train(
    agent: Agent, env: Any, run_dir: str | Path | None, *, overwrite: bool, show: bool
) -> dict[str, Any]:
    """Train for ``config.env_steps``; ``Agent.train`` says what comes in and out."""
    path = Path(run_dir).resolve() if run_dir is not None else None
    with ExitStack() as stack:
        with _closing_on_error(env):
            _require_steps_left(agent, at_least=1)
            env = _checked(agent, env)
            if path is not None:
                runs.require_free(path, overwrite=overwrite)
                stack.enter_context(locked(path))
                runs.create_run(path, overwrite=overwrite)
                _describe(agent, path, env)
        return _run(agent, env, path, show)


def resume(
    agent: Agent, env: Any, run_dir: str | Path, *, step: int | None, exact: bool, show: bool
) -> dict[str, Any]:
    """Go on with a run; ``Agent.resume`` says what comes in and out."""
    with ExitStack() as stack:
        with _closing_on_error(env):
            path = runs.find_run(run_dir)
            stack.enter_context(locked(path))
            runs.require_plain(path)
            _compare(agent.config, runs.read_config(path), show)
            _compare_origin(agent.load_checkpoint(path, step), path, exact)
            _require_steps_left(agent, at_least=0)
            env = _checked(agent, env)
            if show:
                say(f"resumed from step {agent.step * agent.config.n_envs}")
            summary = runs.read_summary(path)
            done = agent.step == _n_joint_steps(agent.config) and summary.get("complete")
            if done and summary["env_steps"] == agent.step * agent.config.n_envs:
                env.close()
                return summary
            _describe(agent, path, env)
        return _run(agent, env, path, show)


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


def _n_joint_steps(config: Config) -> int:
    """Joint steps of the whole run."""
    return config.n_updates * config.ppo.n_steps


def _require_steps_left(agent: Agent, at_least: int) -> None:
    """Raise a ConfigError where the run is already at its end, or beyond it."""
    if agent.learned_step + at_least > _n_joint_steps(agent.config):
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
    return env


def _describe(agent: Agent, path: Path, env: Any) -> None:
    """Write what a run is: its agents, and its config with the place where the games run."""
    compiled = hasattr(env, "game")
    config = dataclasses.replace(
        agent.config,
        backend="compiled" if compiled else "python",
        n_workers=None if compiled else agent.config.n_workers,
    )
    runs.write_groups(path, agent.possible_agents, agent.groups)
    runs.write_text(path / runs.MARKER, config.to_json())


def _run(agent: Agent, env: Any, path: Path | None, show: bool) -> dict[str, Any]:
    """Train from the last update on, saving and logging into ``path``."""
    config, start = agent.config, agent.learned_step
    agent.step = start  # what was explored and not learned from is played again
    n_joint_steps = _n_joint_steps(config)
    logger = Logger(
        path,
        total_steps=n_joint_steps * config.n_envs,
        resume_step=start * config.n_envs,
        show=show,
    )
    checkpoints = path and RunCheckpointer(
        path / "checkpoints",
        save_every=config.save_every,
        num_envs=config.n_envs,
        on_failure=lambda count: logger.add_scalar("faults/checkpoint_failures", count, 0),
    )
    agent.stopping = 0
    started = time.perf_counter()
    try:
        with stop_on_signal(lambda number: setattr(agent, "stopping", number)):
            vectorized_train(
                config.seed,
                agent,
                env,
                n_joint_steps,
                agent.algorithm.algo_type,
                start_step=start + 1,
                checkpointer=checkpoints,
                writer=logger,
            )
            if checkpoints:
                checkpoints.write(agent.run_state())
    except TrainingDivergedError as error:
        place = checkpoints.latest_path() if checkpoints else ""
        text = f"{error} Last good checkpoint: {place or 'none'}."
        raise TrainingDivergedError(text, place) from error
    finally:
        logger.close()
    summary = _summary(agent, logger, time.perf_counter() - started, start)
    if path is not None:
        _write_summary(path, summary)
    if show and agent.stopping:
        saved = f"; --resume goes on from step {summary['env_steps']}" if path else ""
        say(f"stopped by {signal.Signals(agent.stopping).name}{saved}")
    pass_on(agent.stopping)
    return summary


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``; the checkpoint is safe, so a disk that refuses costs a warning."""
    try:
        runs.write_text(path / "summary.json", runs.json_text(summary, indent=2) + "\n")
    except OSError as error:
        warnings.warn(f"{path / 'summary.json'} could not be written: {error}.", stacklevel=2)


def _summary(agent: Agent, logger: Logger, wall: float, start: int) -> dict[str, Any]:
    """What a run comes to; wall clock and rates since it was started or resumed."""
    n_envs, n_agents = agent.config.n_envs, len(agent.possible_agents)
    env_steps = (agent.learned_step - start) * n_envs
    return {
        "env_steps": agent.learned_step * n_envs,
        "agent_steps": agent.learned_step * n_envs * n_agents,
        "wall_s": wall,
        "env_steps_per_s": env_steps / max(wall, 1e-9),
        "agent_steps_per_s": env_steps * n_agents / max(wall, 1e-9),
        "returns": logger.means(),
        "complete": not agent.stopping,
    }
