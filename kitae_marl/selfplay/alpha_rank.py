"""This file asks OpenSpiel, where it is installed, which snapshots of a pool would prevail.

Alpha-rank (Omidshafiei et al. 2019, "alpha-Rank: Multi-Agent Evaluation by Evolution", Scientific
Reports 9) lets players replace each other by who beats whom. The share of time that each prevails
says more than a rating where they beat each other in circles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from kitae_marl.runs.store.league import snapshot_name
from kitae_marl.runs.terminal import pip_install
from kitae_marl.selfplay.league import LEARNER, Matrix

Sweep = Callable[[list[np.ndarray]], np.ndarray]
"""From the payoffs of one population, ``[[player, player]]``, to the mass of each player."""


def find_sweep() -> Sweep | None:
    """Return OpenSpiel's alpha-rank, its selection as strong as the ranking needs; None without it.

    Raises:
        ImportError: if OpenSpiel is there, and a package that its alpha-rank needs is not.
    """
    if find_spec("open_spiel") is None:
        return None
    try:
        module = import_module("open_spiel.python.egt.alpharank")
    except ModuleNotFoundError as error:
        if error.name is None:
            raise
        raise ImportError(f"alpha-rank needs {error.name}; {pip_install(error.name)}") from error
    return module.sweep_pi_vs_alpha


def pool_scores(matrix: Matrix, pool: Sequence[int]) -> np.ndarray:
    """Return the mean score of each snapshot of a pool against each other one.

    Of two snapshots the later one has played: its games are those of the learner in the period that
    ended with it.

    Args:
        matrix: mean scores of the learner's periods.
        pool: environment steps of the snapshots, in order.

    Returns:
        Scores, ``[snapshot, snapshot]``; NaN where two have not met.
    """
    scores = np.full((len(pool), len(pool)), np.nan)
    np.fill_diagonal(scores, 0.5)
    for i, later in enumerate(pool):
        for j, earlier in enumerate(pool[:i]):
            row, column = f"{LEARNER}@{later}", snapshot_name(earlier)
            if row in matrix.rows and column in matrix.columns:
                score = matrix.own[matrix.rows.index(row), matrix.columns.index(column)]
                scores[i, j], scores[j, i] = score, 1 - score
    return scores


def alpha_rank(scores: np.ndarray, sweep: Sweep) -> list[float]:
    """Return the stationary mass of each player, from scores without gaps.

    Raises:
        ValueError, RuntimeError: if OpenSpiel finds none.
    """
    # The sweep makes selection stronger until exp overflows, notices that, and takes a step back.
    with np.errstate(over="ignore", invalid="ignore"):
        return [max(0.0, float(mass)) for mass in sweep([scores])]  # an eigenvector's -0.0
