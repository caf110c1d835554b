"""What the training loops say: returns of finished episodes, and what the updates came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kitae_marl.data.stacking import AgentDict
from kitae_marl.errors import TrainingDivergedError
from kitae_marl.loops.update import NONFINITE
from kitae_marl.types import FlushesSteps, GroupSpec, RunWriter, Writer
from kitae_marl.vector.protocol import VecParallelEnv

MAX_SKIPPED = 10
"""Updates in a row that may be skipped because they are not finite."""


def log_episodes(global_step: int, infos: Mapping[str, Any], writer: Writer) -> None:
    """Write the returns and lengths of the finished episodes."""
    episode = infos["episode"]
    returns, lengths = episode["return"], episode["length"]
    members = returns.agents_of if isinstance(returns, AgentDict) else {}
    for i in np.flatnonzero(infos["_episode"]):
        by_agent = {agent: float(values[i]) for agent, values in returns.items()}
        length = max(float(values[i]) for values in lengths.values())
        for tag, value in _returns(by_agent, length, members).items():
            writer.add_scalar(tag, value, global_step)


def _returns(
    by_agent: dict[str, float], length: float, members: Mapping[str, tuple[str, ...]]
) -> dict[str, float]:
    """Name the returns of one episode (or the means of several) by all their definitions."""
    scalars = {f"return/{agent}": value for agent, value in by_agent.items()}
    scalars["return/mean"] = sum(by_agent.values()) / len(by_agent)
    scalars["return/team"] = sum(by_agent.values())
    if len(members) > 1:
        for name, agents in members.items():
            scalars[f"return/group/{name}"] = sum(by_agent[a] for a in agents) / len(agents)
    scalars["episode/length"] = length
    return scalars


def log_compiled(
    metrics: dict[str, Any],
    i: int,
    global_step: int,
    groups: tuple[GroupSpec, ...],
    writer: RunWriter | None,
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
        for tag, value in _returns(returns, length, members).items():
            writer.add_mean(tag, value, episodes)
    log_update(update, global_step, writer)
    return update


def count_skipped(metrics: Mapping[str, float], skipped: int, global_step: int) -> int:
    """Count the skipped updates in a row, given those before; give up after ``MAX_SKIPPED``."""
    skipped = skipped + 1 if metrics.get(NONFINITE, 0.0) else 0
    if skipped >= MAX_SKIPPED:
        raise TrainingDivergedError(
            f"step {global_step}: {skipped} updates in a row were not finite and were skipped; "
            "lower the learning rate or the largest norm of gradients, and look at the rewards and "
            "observations of the game."
        )
    return skipped


def log_env(env: VecParallelEnv, global_step: int, writer: Writer) -> None:
    """Write what a vector environment counts; many count nothing."""
    for tag, value in env.metrics.items():
        writer.add_scalar(tag, value, global_step)


def log_update(metrics: dict[str, float], global_step: int, writer: RunWriter) -> None:
    """Write the metrics of one update, and end the row of this step."""
    for name, value in metrics.items():
        tag = name if name.startswith("faults/") else f"update/{name}"
        writer.add_scalar(tag, value, global_step)
    writer.flush_step(global_step)


class PlainWriter:
    """A writer of a user's, which takes values one by one, as one that puts rows together."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._row: dict[str, float] = {}
        self._means: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Pass one value on."""
        self._writer.add_scalar(tag, scalar_value, global_step)
        self._row[tag] = scalar_value

    def add_mean(self, tag: str, mean: float, count: int) -> None:
        """Keep a mean until the step is known to which it belongs."""
        del count
        self._means[tag] = mean

    def flush_step(self, global_step: int) -> dict[str, float]:
        """Pass the means on."""
        for tag, mean in self._means.items():
            self.add_scalar(tag, mean, global_step)
        row, self._row, self._means = self._row, {}, {}
        if isinstance(self._writer, FlushesSteps):
            self._writer.flush_step(global_step)
        return row

    def tell(self, text: str) -> None:
        """Say nothing: such a writer has no place for words."""


def as_run_writer(writer: Writer | None) -> RunWriter | None:
    """Return a writer that puts rows together: itself, or one around a user's plain writer."""
    if writer is None or isinstance(writer, RunWriter):
        return writer
    return PlainWriter(writer)
