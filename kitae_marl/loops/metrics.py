"""What the training loops say: returns of finished episodes, and what the updates came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kitae_marl.errors import TrainingDivergedError
from kitae_marl.loops.update import NONFINITE
from kitae_marl.types import GroupSpec, Writer
from kitae_marl.vector.protocol import VecParallelEnv

MAX_SKIPPED = 10
"""Updates in a row that may be skipped because they are not finite."""


def log_episodes(global_step: int, infos: Mapping[str, Any], writer: Writer) -> None:
    """Write the returns and lengths of the finished episodes."""
    episode = infos["episode"]
    returns, lengths = episode["return"], episode["length"]
    members = getattr(returns, "agents_of", {})
    for i in np.flatnonzero(infos["_episode"]):
        by_agent = {agent: float(values[i]) for agent, values in returns.items()}
        length = max(float(values[i]) for values in lengths.values())
        _log_returns(by_agent, length, members, global_step, writer)


def _log_returns(
    by_agent: dict[str, float],
    length: float,
    members: Mapping[str, tuple[str, ...]],
    global_step: int,
    writer: Writer,
    count: int = 1,
) -> None:
    """Write the returns of one episode (or the means of ``count``) under all their definitions."""
    scalars = {f"return/{agent}": value for agent, value in by_agent.items()}
    scalars["return/mean"] = sum(by_agent.values()) / len(by_agent)
    scalars["return/team"] = sum(by_agent.values())
    if len(members) > 1:
        for name, agents in members.items():
            scalars[f"return/group/{name}"] = sum(by_agent[a] for a in agents) / len(agents)
    scalars["episode/length"] = length
    add_mean = getattr(writer, "add_mean", None)
    for tag, value in scalars.items():
        if add_mean is None:
            writer.add_scalar(tag, value, global_step)
        else:
            add_mean(tag, value, count)


def log_compiled(
    metrics: dict[str, Any],
    i: int,
    global_step: int,
    groups: tuple[GroupSpec, ...],
    writer: Writer | None,
) -> dict[str, float]:
    """Write the metrics of update ``i`` of a chunk; return those that learning gave."""
    update = {name: float(x[i]) for name, x in metrics.items() if name.startswith("update/")}
    update = {name.removeprefix("update/"): value for name, value in update.items()}
    if writer is None:
        return update
    episodes = int(metrics["episodes"][i])
    if episodes:
        agents = [agent for group in groups for agent in group.agents]
        returns = {agent: float(metrics[f"return/{agent}"][i]) / episodes for agent in agents}
        length = float(metrics["episode/length"][i]) / episodes
        members = {group.name: group.agents for group in groups}
        _log_returns(returns, length, members, global_step, writer, count=episodes)
    log_update(update, global_step, writer)
    return update


def count_skipped(metrics: Mapping[str, float], skipped: int, global_step: int) -> int:
    """Count the skipped updates in a row, given those before; give up after ``MAX_SKIPPED``."""
    skipped = skipped + 1 if metrics.get(NONFINITE, 0.0) else 0
    if skipped >= MAX_SKIPPED:
        raise TrainingDivergedError(
            f"step {global_step}: {skipped} updates in a row were not finite and were skipped; "
            "lower ppo.learning_rate or ppo.max_grad_norm, and look at the rewards and "
            "observations of the game."
        )
    return skipped


def log_env(env: VecParallelEnv, global_step: int, writer: Writer) -> None:
    """Write what a vector environment counts; many count nothing."""
    for tag, value in env.metrics.items():
        writer.add_scalar(tag, value, global_step)


def log_update(metrics: dict[str, float], global_step: int, writer: Writer) -> None:
    """Write the metrics of one update."""
    for name, value in metrics.items():
        tag = name if name.startswith("faults/") else f"update/{name}"
        writer.add_scalar(tag, value, global_step)
    flush = getattr(writer, "flush_step", None)
    if flush is not None:
        flush(global_step)
