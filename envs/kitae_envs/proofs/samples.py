"""Whether two samples come from one distribution."""

from __future__ import annotations

import itertools

import numpy as np

KS_LIMIT = 2.4
"""Bound on :func:`gap`, exceeded by chance in two of 100,000 comparisons."""
PAIR_LIMIT = 6.0
"""Bound on :func:`pair_gap`, exceeded by chance in one of a billion pairs."""
_BINS = 4
"""Into how many parts of equal weight the values of a column are cut, to count pairs."""


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the scaled two-sample Kolmogorov-Smirnov statistic of ``[n]`` and ``[m]`` values.

    It is ``D * sqrt(n m / (n + m))``.
    """
    a, b = (np.sort(np.round(x.astype(np.float64), 5)) for x in (a, b))
    grid = np.concatenate([a, b])
    apart = np.searchsorted(a, grid, "right") / len(a) - np.searchsorted(b, grid, "right") / len(b)
    return float(np.abs(apart).max() * np.sqrt(len(a) * len(b) / (len(a) + len(b))))


def pair_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Return how differently any two columns of ``[n, C]`` and ``[m, C]`` go together.

    For each pair of columns a chi-squared statistic of how often their values meet, brought to a
    standard normal (Wilson and Hilferty 1931); the largest of all. Columns that never vary are left
    out; without any two others it is 0.
    """
    columns = [
        _binned(x, y)
        for x, y in zip(a.T.astype(np.float64), b.T.astype(np.float64), strict=True)
        if np.ptp(np.concatenate([x, y])) > 0
    ]
    pairs = itertools.combinations(columns, 2)
    return max((_meeting(first, second, len(a)) for first, second in pairs), default=0.0)


def _binned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the bins ``[n + m]`` of both samples of a column; few different values are bins."""
    both = np.round(np.concatenate([x, y]), 5)
    values = np.unique(both)
    if len(values) > 2 * _BINS:
        values = np.quantile(both, np.arange(1, _BINS) / _BINS)
    return np.searchsorted(values, both)


def _meeting(first: np.ndarray, second: np.ndarray, n: int) -> float:
    """Compare how often bins of two columns meet in the first ``n`` rows and in the others."""
    code = first * (second.max() + 1) + second
    theirs, ours = (np.bincount(part, minlength=code.max() + 1) for part in (code[:n], code[n:]))
    seen = theirs + ours > 0
    theirs, ours, m = theirs[seen], ours[seen], len(code) - n
    ratio = np.sqrt(m / n)
    statistic = np.sum((theirs * ratio - ours / ratio) ** 2 / (theirs + ours))
    spread = 2 / (9 * max(len(theirs) - 1, 1))
    cube = np.cbrt(statistic / max(len(theirs) - 1, 1))
    return float((cube - (1 - spread)) / np.sqrt(spread))
