"""One run from start to end: its folder, its logger and checkpoints, signals, and the training."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitae_marl import runs
from kitae_marl.checkpoint import RunCheckpointer
from kitae_marl.config import Config
from kitae_marl.errors import ConfigError
from kitae_marl.groups import require_spaces
from kitae_marl.locks import locked
from kitae_marl.logger import Logger, say
from kitae_marl.loops.train import check_env, vectorized_train
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


def resume(agent: Agent, env: Any, run_dir: str | Path, *, show: bool) -> dict[str, Any]:
    """Go on with a run; ``Agent.resume`` says what comes in and out."""
    with ExitStack() as stack:
        with _closing_on_error(env):
            path = runs.find_run(run_dir)
            stack.enter_context(locked(path))
            _require_same_rollouts(agent.config, runs.read_config(path))
            agent.load_checkpoint(path)
            _require_steps_left(agent, at_least=0)
            env = _checked(agent, env)
            if show:
                say(f"resumed from step {agent.step * agent.config.n_envs}")
            summary = runs.read_summary(path)
            if agent.step == _n_joint_steps(agent.config) and summary.get("complete"):
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


def _require_same_rollouts(own: Config, stored: Config) -> None:
    """Raise a ConfigError where steps would be counted otherwise than in the stored run."""
    for key, new, old in (
        ("n_envs", own.n_envs, stored.n_envs),
        ("ppo.n_steps", own.ppo.n_steps, stored.ppo.n_steps),
    ):
        if new != old:
            raise ConfigError(
                f"{key}: the run was trained with {old}, got {new}; a run goes on with the "
                "rollouts it began with, so leave it out or start a new run.",
                key,
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
        path / "checkpoints", save_every=config.save_every, num_envs=config.n_envs
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
    finally:
        logger.close()
    summary = _summary(agent, logger, time.perf_counter() - started, start)
    if path is not None:
        runs.write_text(path / "summary.json", runs.json_text(summary, indent=2) + "\n")
    pass_on(agent.stopping)
    return summary


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
