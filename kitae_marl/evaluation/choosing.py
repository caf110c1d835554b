"""This file chooses which logged metrics are drawn together, and says what they mean."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitae_marl.errors import ConfigError
from kitae_marl.loops.clock import COMPILE, PHASES
from kitae_marl.runs.returns import RETURN, WIN_RATE, adds_up_to_zero, by_agent
from kitae_marl.runs.store.metrics import STEP, column_names, read_column

GROUP = f"{RETURN}group/"
"""Start of the names of the returns of groups."""
MEAN = f"{RETURN}mean"
"""Name of the return of all agents together."""
EPISODES = "mean over the episodes of training, actions sampled"
RETURNS = {
    "return/mean": "undiscounted sum of rewards over one episode, averaged over all agents",
    "return/team": "undiscounted sum of rewards over one episode, summed over all agents",
    GROUP: "undiscounted sum of rewards over one episode, averaged over the group",
    RETURN: "undiscounted sum of the agent's rewards over one episode",
    "return": "undiscounted sum of rewards over one episode",
    "episode/length": "joint steps of an episode",
}
"""What a metric of episodes means, by the start of its name; the first that fits."""
OTHERS = {
    WIN_RATE: "share of episodes won against the random policy, most probable actions",
    "evaluation/": "what an evaluation during training came to",
    "speed/": "environment steps per second since training began, without compiling",
    **{f"time/{phase}_s": f"seconds of an update spent on {w}" for phase, w in PHASES.items()},
    "time": "seconds of an update, by what they were spent on",
}
"""What other metrics mean, by the start of their names."""
UPDATES = {
    "policy_loss": "clipped surrogate loss",
    "value_loss": "half the squared error of the values",
    "entropy": "entropy of the policy in nats",
    "approx_kl": "estimated divergence of the new policy from the one before the update",
    "clip_fraction": "share of decisions whose probability ratio was clipped",
    "explained_variance": "share of the variance of the value targets that the critic explains",
    "grad_norm": "norm of the gradient before it is cut",
    "learning_rate": "step size that the update began with",
    "stopped": "share of gradient steps left out because of target_kl",
}
"""What a metric of updates means, by the end of its name."""


class Choice(NamedTuple):
    """Metrics that are drawn into one panel.

    Attributes:
        name: of all of them: what was asked for, or what they have in common.
        columns: their names in ``metrics.csv``, a curve each.
    """

    name: str
    columns: tuple[str, ...]

    @property
    def definition(self) -> str:
        """What the metrics are, in words that fit all of them."""
        words = {metric_definition(column) for column in self.columns}
        return words.pop() if len(words) == 1 else metric_definition(self.columns[0].split("/")[0])


def metric_definition(metric: str) -> str:
    """Say what a logged metric is, in words; returns are those of training, actions sampled.

    Example:
        >>> metric_definition("episode/length")
        'joint steps of an episode; mean over the episodes of training, actions sampled'
        >>> metric_definition("update/agent/entropy")
        'entropy of the policy in nats'
    """
    for start, definition in RETURNS.items():
        if metric.startswith(start):
            return f"{definition}; {EPISODES}"
    for start, definition in OTHERS.items():
        if metric.startswith(start):
            return definition
    last = metric.rpartition("/")[2]
    if metric.startswith("update/") and last in UPDATES:
        return UPDATES[last]
    return "as logged, one value for each update"


def default_metrics(run_dirs: Sequence[Path]) -> list[Choice]:
    """Choose what to draw of runs of one game.

    Returns:
        Of zero-sum games the return of each agent, and before it the win rate against random where
        it was measured; of other games whose groups get different returns the return of each group;
        else ``return/mean``.
    """
    tables = [_means(path) for path in run_dirs]
    if all(adds_up_to_zero(table) for table in tables):
        rate = f"{WIN_RATE}mean"
        rates = [Choice(rate, (rate,))] if any(rate in table for table in tables) else []
        return [*rates, Choice("return", tuple(f"{RETURN}{x}" for x in by_agent(tables[0])))]
    groups = tuple(tag for tag in tables[0] if tag.startswith(GROUP))
    if any(_differ([table[tag] for tag in groups if tag in table]) for table in tables):
        return [Choice("return", groups)]
    return [Choice(MEAN, (MEAN,))]


def _differ(values: Sequence[float]) -> bool:
    """Whether values are not all the same, but for what rounding does."""
    return bool(values) and not np.allclose(values, values[0])


def choose_metrics(names: Sequence[str], run_dirs: Sequence[Path]) -> list[Choice]:
    """Find the metrics that a person names; those of one scale share a panel.

    Args:
        names: columns of ``metrics.csv``; patterns of them, ``update/*/entropy``; the last part of
            their names, ``entropy``, which is that of each group; or the first, ``win_rate``.
            ``return`` is that of each side: of groups, or where there is one group of its agents.
        run_dirs: folders of the runs.

    Raises:
        ConfigError: for a name that no run has logged; the message lists what there is.
    """
    known = [name for path in run_dirs for name in column_names(path) if name != STEP]
    known = list(dict.fromkeys(known))
    choices: list[Choice] = []
    for name in names:
        panels: dict[str, list[str]] = {}
        for column in _columns(name, known):
            panels.setdefault(_scale(column), []).append(column)
        choices += [
            Choice(title if len(panels) > 1 else name, tuple(columns))
            for title, columns in panels.items()
        ]
    return list(dict.fromkeys(choices))


def _columns(name: str, known: Sequence[str]) -> list[str]:
    """Return the columns that a name stands for."""
    if name in known:
        return [name]
    if name == RETURN.rstrip("/"):
        groups = [column for column in known if column.startswith(GROUP)]
        sides = groups or [f"{RETURN}{agent}" for agent in by_agent(dict.fromkeys(known, 0.0))]
        if sides:
            return sides
    part = f"/{name.strip('/')}/"
    found = [x for x in known if fnmatchcase(x, name) or part in f"/{x}/"]
    if found:
        return found
    near = difflib.get_close_matches(name, [*known, *(x.rpartition("/")[2] for x in known)], 3)
    meant = f", did you mean {' or '.join(dict.fromkeys(near))}?" if near else "."
    raise ConfigError(
        f"metric: expected one that was logged, got {name!r}{meant} There are "
        f"{', '.join(known) or 'none yet'}.",
        "metric",
    )


def _scale(column: str) -> str:
    """Return what columns have in common that may share a panel: one quantity, of several sides."""
    first, *rest = column.split("/")
    if column == f"time/{COMPILE}_s":  # once, for longer than all else
        return column
    if first in (RETURN.rstrip("/"), WIN_RATE.rstrip("/"), "time"):
        return first
    if first == "evaluation" and len(rest) > 1:
        return f"{first}/{rest[0]}"
    return rest[-1] if first == "update" and rest else column


def _means(run_dir: Path) -> dict[str, float]:
    """Return the mean over all rows of each return and win rate that a run has logged."""
    means = {}
    for name in column_names(run_dir):
        if name.startswith((RETURN, WIN_RATE)):
            with suppress(ValueError):  # a column without a value yet
                means[name] = float(np.mean(read_column(run_dir, name)[1]))
    return means
