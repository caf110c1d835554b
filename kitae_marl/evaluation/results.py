"""This file holds the returns of whole episodes, and reports on one run, several, or two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kitae_marl.evaluation.statistics import (
    iqm,
    mean_and_iqm,
    probability_of_improvement,
    stratified_bootstrap,
)

DEFINITION = (
    "undiscounted sum of an agent's rewards over one whole episode; mean: averaged over agents; "
    "group/NAME: averaged over the agents of a group; team: summed over agents"
)
SIDES = (
    "the policy plays one side (a group, or an agent where there is one group), the opponent the "
    "others; an agent's return is that of the episodes in which the policy played it"
)
SPREAD = {
    "episodes": "over the episodes of this one run; other seeds may differ by more",
    "runs": "over runs, each standing for its mean over episodes",
}
"""What the intervals are over, by unit: the independent values that a report counts."""
FEW_RUNS = 5
"""Runs of a side below which a comparison warns that its intervals say too little."""
TOO_NARROW = (
    f"fewer than {FEW_RUNS} runs on a side: the intervals are too narrow (one of 95 %, of normal "
    "values, covers about 60 % of the time with 2 runs a side, 80 % with 3); train more seeds "
    "before you conclude anything"
)


@dataclass(frozen=True)
class Evaluation:
    """Returns of whole episodes.

    Attributes:
        returns: ``{agent: [episodes]}``, undiscounted sums of rewards.
        lengths: steps of each episode, of all sides.
        groups: agents by group.
        zero_sum: whether the returns of all agents added up to zero in every episode.
        joint: whether the policy played all agents at once; else it played each side in episodes
            of its own, and the agents of a side have their returns from these.
        marks: ``{agent: [episodes]}``, numbers that are equal where episodes are equal from their
            first observation to their last reward; None: every episode is another one.
    """

    returns: dict[str, np.ndarray]
    lengths: np.ndarray
    groups: dict[str, tuple[str, ...]]
    zero_sum: bool = False
    joint: bool = True
    marks: dict[str, np.ndarray] | None = None

    def __repr__(self) -> str:
        if not self.returns or not self.n_episodes:
            return "Evaluation(0 episodes)"
        values = {tag: float(np.mean(of_episode)) for tag, of_episode in self.values().items()}
        told = ", ".join(f"{tag} {value:.2f}" for tag, value in values.items())
        return f"Evaluation({self.n_episodes} episodes; mean returns: {told})"

    @property
    def n_episodes(self) -> int:
        """Number of episodes of each agent."""
        return len(next(iter(self.returns.values())))

    @property
    def definition(self) -> str:
        """What the returns are, in words."""
        return DEFINITION if self.joint else f"{DEFINITION}; {SIDES}"

    def mean_over_agents(self) -> np.ndarray:
        """Return of each episode, averaged over all agents."""
        return np.mean(list(self.returns.values()), axis=0)

    def values(self) -> dict[str, np.ndarray]:
        """Return what is reported of each episode: ``{tag: [episodes]}``.

        Tags are the agents, ``mean``, ``team`` (where they played together), and ``group/NAME``
        where there are several.
        """
        rows = dict(self.returns)
        rows["mean"] = self.mean_over_agents()
        if self.joint:
            rows["team"] = np.sum(list(self.returns.values()), axis=0)
        if len(self.groups) > 1:
            for name, agents in self.groups.items():
                rows[f"group/{name}"] = np.mean([self.returns[a] for a in agents], axis=0)
        return rows

    def distinct(self) -> dict[str, int]:
        """Count the different episodes behind each of ``values``: ``{tag: number}``."""
        every = tuple(self.returns)
        played_by = {agent: (agent,) for agent in every} | {"mean": every, "team": every}
        played_by |= {f"group/{name}": agents for name, agents in self.groups.items()}
        return {tag: self._count(played_by[tag]) for tag in self.values()}

    def _count(self, agents: tuple[str, ...]) -> int:
        """Count the different episodes of some agents together."""
        if self.marks is None:
            return self.n_episodes
        return len(np.unique(np.stack([self.marks[a] for a in agents], axis=1), axis=0))

    def outcomes(self) -> dict[str, dict[str, int]] | None:
        """Count wins, draws and losses of each agent; None unless every episode was zero-sum.

        An agent has won an episode with a positive return and lost it with a negative one.
        """
        if not self.zero_sum:
            return None
        return {
            agent: {
                "win": int(np.sum(values > 0)),
                "draw": int(np.sum(values == 0)),
                "loss": int(np.sum(values < 0)),
            }
            for agent, values in self.returns.items()
        }

    def summary(self) -> dict[str, Any]:
        """Return means, IQMs and 95 % intervals over the episodes, as plain numbers."""
        return summarize([self])


def pooled(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Put the episodes of several evaluations of one game together, as if they were one."""
    first = evaluations[0]
    return Evaluation(
        {a: np.concatenate([e.returns[a] for e in evaluations]) for a in first.returns},
        np.concatenate([e.lengths for e in evaluations]),
        first.groups,
        all(e.zero_sum for e in evaluations),
        first.joint,
        _put_together([e.marks for e in evaluations]),
    )


def _put_together(parts: Sequence[dict[str, np.ndarray] | None]) -> dict[str, np.ndarray] | None:
    """Put the marks of several evaluations together, if all have them."""
    marks = [part for part in parts if part is not None]
    if len(marks) < len(parts):
        return None
    return {agent: np.concatenate([part[agent] for part in marks]) for agent in marks[0]}


def joined(sides: Mapping[tuple[str, ...], Evaluation]) -> Evaluation:
    """Take from each evaluation the returns of the side that the policy played in it.

    Args:
        sides: by the agents of a side, as many episodes each; together all agents.
    """
    parts = list(sides.values())
    returns = {agent: part.returns[agent] for side, part in sides.items() for agent in side}
    marks = {a: part.marks[a] for side, part in sides.items() if part.marks for a in side}
    return Evaluation(
        {agent: returns[agent] for agent in parts[0].returns},
        np.concatenate([part.lengths for part in parts]),
        parts[0].groups,
        all(part.zero_sum for part in parts),
        joint=False,
        marks=marks if len(marks) == len(returns) else None,
    )


def is_zero_sum(returns: Mapping[str, np.ndarray]) -> bool:
    """Whether the returns of two or more agents add up to zero in every episode."""
    table = np.stack(list(returns.values()))
    return len(table) > 1 and bool(np.any(table)) and bool(np.all(np.abs(table.sum(0)) < 1e-6))


def summarize(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Summarize one run by its episodes, or several runs of one game by their means.

    Args:
        evaluations: one of each run.

    Returns:
        ``definition`` of the returns and ``spread``, what the intervals are over, in words;
        ``runs`` and ``episodes`` (of all of them), of which ``distinct_episodes`` differ (of the
        agent with the fewest), mean ``length``; ``returns``, by tag, as ``mean_and_iqm`` says, the
        intervals over episodes counting those that differ; ``outcomes`` of all episodes where they
        are zero-sum.

    Raises:
        ValueError: without evaluations, or where they are of other agents.
        TypeError: for something else.

    Example:
        >>> runs = [Evaluation({"a": np.array([x, x + 2])}, np.array([9, 9]), {"a": ("a",)})
        ...         for x in (1.0, 2.0, 6.0)]
        >>> summary = summarize(runs)
        >>> summary["unit"], summary["episodes"], summary["returns"]["mean"]["mean"]
        ('runs', 6, 4.0)
    """
    if not evaluations:
        raise ValueError("expected the evaluation of at least one run, got none.")
    _require_evaluations(evaluations)
    together, independent = pooled(evaluations), _independent_values(evaluations)
    unit = "runs" if len(evaluations) > 1 else "episodes"
    distinct = together.distinct()
    counted = distinct if unit == "episodes" else {}
    summary = {
        "definition": together.definition,
        "unit": unit,
        "spread": SPREAD[unit],
        "runs": len(evaluations),
        "episodes": together.n_episodes,
        "distinct_episodes": min(distinct[agent] for agent in together.returns),
        "length": float(np.mean(together.lengths)),
        "returns": {
            tag: mean_and_iqm(values, counted.get(tag)) for tag, values in independent.items()
        },
    }
    outcomes = together.outcomes()
    return summary if outcomes is None else {**summary, "outcomes": outcomes}


def _require_evaluations(evaluations: Sequence[Evaluation]) -> None:
    """Raise unless these are evaluations of the same agents."""
    for one in evaluations:
        if not isinstance(one, Evaluation):
            raise TypeError(
                f"expected evaluations, as evaluate returns them, got {type(one).__name__}."
            )
        agents, first = list(one.returns), list(evaluations[0].returns)
        if agents != first:
            raise ValueError(
                f"expected evaluations of the same agents, got {first} and {agents}; put runs of "
                "one game together."
            )


def _independent_values(evaluations: Sequence[Evaluation]) -> dict[str, np.ndarray]:
    """Return the independent values of each tag: episodes of one run, else the means of runs."""
    values = [evaluation.values() for evaluation in evaluations]
    if len(values) == 1:
        return values[0]
    return {tag: np.array([np.mean(run[tag]) for run in values]) for tag in values[0]}


def normalized_score(row: Mapping[str, float], random: float, oracle: float) -> dict[str, float]:
    """Map what ``mean_and_iqm`` says of returns to 0 for the random policy and 1 for the oracle.

    The mean returns of both are taken as exact.

    Raises:
        ValueError: if both are the same.

    Example:
        >>> normalized_score({"mean": -10.0, "stderr": 1.0}, random=-26.0, oracle=-8.0)["stderr"]
        0.05555555555555555
    """
    if random == oracle:
        raise ValueError(f"expected a random policy worse than the oracle, got {random} for both.")
    scale = oracle - random
    return {
        name: value / abs(scale) if name == "stderr" else (value - random) / scale
        for name, value in row.items()
    }


def compare(a: Sequence[Evaluation], b: Sequence[Evaluation]) -> dict[str, Any]:
    """Compare two sides on one game: is ``a`` better than ``b``, and by how much?

    With two runs or more on both sides, a value is the mean of a run; else it is an episode, and
    the episodes of each run are resampled by themselves, as many as differ.

    Args:
        a: evaluations of the one side, one of each run.
        b: evaluations of the other.

    Returns:
        ``unit`` and ``spread`` as in ``summarize``; ``warning``, None unless runs are compared and
        a side has too few of them for its intervals; ``returns`` by tag, each with
        ``probability_of_improvement`` (that a value of ``a`` is above one of ``b``), ``iqm_a``,
        ``iqm_b`` and ``iqm_difference`` (of ``a`` less ``b``), all ``{estimate, low, high}``.

    Raises:
        ValueError: if a side is empty or the sides have other agents.
        TypeError: for something else than evaluations.

    Example:
        >>> a, b = ([Evaluation({"a": np.array([x])}, np.array([9]), {"a": ("a",)}) for x in side]
        ...         for side in ((1.0, 2.0, 3.0), (0.0, 2.0)))
        >>> compare(a, b)["returns"]["mean"]["probability_of_improvement"]["estimate"]
        0.75
    """
    for side in (a, b):
        if not isinstance(side, Sequence):
            raise TypeError(f"expected lists of evaluations, got {type(side).__name__}.")
    if not a or not b:
        raise ValueError("expected at least one run on each side, got none.")
    _require_evaluations([*a, *b])
    over_runs = len(a) > 1 and len(b) > 1
    rows = {
        tag: _compared(*_strata(tag, a, b, over_runs), *_sizes(tag, a, b, over_runs))
        for tag in a[0].values()
    }
    unit = "runs" if over_runs else "episodes"
    alone = "over episodes of these very runs; other seeds may differ by more"
    return {
        "definition": a[0].definition,
        "unit": unit,
        "spread": SPREAD["runs"] if over_runs else alone,
        "warning": TOO_NARROW if over_runs and min(len(a), len(b)) < FEW_RUNS else None,
        "returns": rows,
    }


def _strata(
    tag: str, a: Sequence[Evaluation], b: Sequence[Evaluation], over_runs: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values of both sides: one stratum of run means, or a stratum of episodes for each run."""
    sides = [[evaluation.values()[tag] for evaluation in side] for side in (a, b)]
    if over_runs:
        sides = [[np.array([np.mean(run) for run in side])] for side in sides]
    return sides[0], sides[1]


def _sizes(
    tag: str, a: Sequence[Evaluation], b: Sequence[Evaluation], over_runs: bool
) -> tuple[list[int], list[int]]:
    """Independent values in each of the ``_strata``: runs, or episodes that differ."""
    if over_runs:
        return [len(a)], [len(b)]
    x, y = ([evaluation.distinct()[tag] for evaluation in side] for side in (a, b))
    return x, y


def _compared(
    x: list[np.ndarray], y: list[np.ndarray], x_sizes: list[int], y_sizes: list[int]
) -> dict[str, dict[str, float]]:
    """Probability of improvement, both IQMs and their difference, with intervals."""
    n, (iqm_a, iqm_b) = sum(x_sizes), (float(iqm(np.concatenate(side))) for side in (x, y))

    def difference(values: np.ndarray) -> np.ndarray:
        return iqm(values[..., :n]) - iqm(values[..., n:])

    estimates = {
        "probability_of_improvement": probability_of_improvement(
            x, y, x_sizes=x_sizes, y_sizes=y_sizes
        ),
        "iqm_a": (iqm_a, *stratified_bootstrap(iqm, x, sizes=x_sizes)),
        "iqm_b": (iqm_b, *stratified_bootstrap(iqm, y, sizes=y_sizes)),
        "iqm_difference": (
            iqm_a - iqm_b,
            *stratified_bootstrap(difference, [*x, *y], sizes=[*x_sizes, *y_sizes]),
        ),
    }
    return {
        name: dict(zip(("estimate", "low", "high"), values, strict=True))
        for name, values in estimates.items()
    }
