"""This file has the statistics of returns: what a few runs say, and how sure one may be.

Runs or episodes of one game are a *stratum*: they are drawn from one population. Several games are
several strata, which a bootstrap resamples apart from each other (Agarwal et al. 2021, "Deep
reinforcement learning at the edge of the statistical precipice").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Strata = Sequence[Sequence[float] | Float[np.ndarray, " N"]]

N_RESAMPLES = 2_000
"""Resamples of a bootstrap; the ends of a 95 % interval are then known to about 0.5 %."""
_CHUNK = 2_000_000
"""Largest number of values drawn at once, so that memory stays small."""


def iqm(scores: Float[np.ndarray, "*B N"]) -> Float[np.ndarray, "*B"]:
    """Interquartile mean: the mean without the lowest and the highest quarter of the values.

    The number of values cut from each end is a quarter of all, rounded down; so the IQM of up to
    three values is their mean, of five the mean of the middle three.

    Example:
        >>> float(iqm(np.array([0.0, 1.0, 2.0, 3.0, 100.0])))
        2.0
    """
    scores = np.sort(np.asarray(scores, float), axis=-1)
    n = scores.shape[-1]
    cut = n // 4
    return np.mean(scores[..., cut : n - cut], axis=-1)


def stratified_bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    strata: Strata,
    *,
    sizes: Sequence[int] | None = None,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of all values, each stratum resampled by itself.

    With few values the interval is somewhat too narrow: for the IQM of normal values one of 95 %
    covers about 91 % of the time with 5 values, 94 % with 10, 95 % with 20 and more.

    Args:
        statistic: maps ``[B, N]`` to ``[B]``, ``N`` being the number of values drawn of all strata.
        strata: the values of each game, or of each run.
        sizes: how many values to draw of each stratum, where fewer than it has are independent;
            None: as many as it has.
        confidence: share of the resamples that the interval holds, in (0, 1).
        n_resamples: number of resamples.
        seed: of the resampling.

    Returns:
        Low and high end; NaN where no stratum has two values, or two are drawn of none.

    Raises:
        ValueError: without values, or for another ``confidence``.

    Example:
        >>> low, high = stratified_bootstrap(iqm, [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0]])
        >>> 1.0 < low < iqm(np.arange(1.0, 7.0)) < high < 6.0
        True
    """
    _require_confidence(confidence)
    arrays = [np.asarray(stratum, float) for stratum in strata]
    if not arrays or not all(len(array) for array in arrays):
        raise ValueError("expected at least one value in each stratum, got an empty one.")
    sizes = _sizes(arrays, sizes)
    if max(sizes) == 1:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // sum(map(len, arrays)))
    drawn = [*zip(arrays, sizes, strict=True)]
    parts = [
        statistic(np.concatenate([_resample(x, n, count, generator) for x, n in drawn], axis=-1))
        for count in _counts(n_resamples, at_once)
    ]
    return _percentiles(np.concatenate(parts), confidence)


def probability_of_improvement(
    x: Strata,
    y: Strata,
    *,
    x_sizes: Sequence[int] | None = None,
    y_sizes: Sequence[int] | None = None,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Probability that a value of ``x`` is above one of ``y``, with its bootstrap interval.

        P(X > Y) = sum_ij (1[x_i > y_j] + 1[x_i = y_j] / 2) / (N M)

    which is the Mann-Whitney statistic as a share (Agarwal et al. 2021, eq. 1). Both sides are
    resampled, each stratum by itself.

    Args:
        x: strata of the one side, pooled for the comparison.
        y: strata of the other.
        x_sizes: ``sizes`` of ``x``, as for ``stratified_bootstrap``.
        y_sizes: of ``y``.
        confidence: as for ``stratified_bootstrap``, as the rest.
        n_resamples: number of resamples.
        seed: of the resampling.

    Returns:
        The probability, low and high end of the interval.

    Example:
        >>> probability_of_improvement([np.array([1.0, 2.0])], [np.array([0.0, 2.0])])[0]
        0.625
    """
    _require_confidence(confidence)
    xs = [np.asarray(stratum, float) for stratum in x]
    ys = [np.asarray(stratum, float) for stratum in y]
    if not xs or not ys or not all(len(part) for part in [*xs, *ys]):
        raise ValueError("expected at least one value in each stratum, got an empty one.")
    sides = [(xs, _sizes(xs, x_sizes)), (ys, _sizes(ys, y_sizes))]
    estimate = float(_shares_above(xs, ys, *(_weights(*side, None, 1) for side in sides))[0])
    if all(size == 1 for _, sizes in sides for size in sizes):
        return estimate, math.nan, math.nan
    generator = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // sum(map(len, [*xs, *ys])))
    drawn = [
        _shares_above(xs, ys, *(_weights(*side, generator, count) for side in sides))
        for count in _counts(n_resamples, at_once)
    ]
    return estimate, *_percentiles(np.concatenate(drawn), confidence)


def _sizes(strata: list[np.ndarray], sizes: Sequence[int] | None) -> list[int]:
    """Return how many values to draw of each stratum."""
    return [len(stratum) for stratum in strata] if sizes is None else list(sizes)


def _weights(
    strata: list[np.ndarray],
    sizes: list[int],
    generator: np.random.Generator | None,
    count: int,
) -> np.ndarray:
    """How often each value is drawn in each resample, ``[count, N]``; once without a generator.

    Where fewer values are drawn than a stratum has, they count for as many as it has.
    """
    lengths = [len(stratum) for stratum in strata]
    if generator is None:
        return np.ones((count, sum(lengths)))
    drawn = [
        generator.multinomial(size, np.full(n, 1 / n), size=count) * (n / size)
        for n, size in zip(lengths, sizes, strict=True)
    ]
    return np.concatenate(drawn, axis=1)


def _shares_above(
    xs: list[np.ndarray], ys: list[np.ndarray], x_weights: np.ndarray, y_weights: np.ndarray
) -> np.ndarray:
    """Share of pairs in which x is above y, ties counting half, for weights ``[count, N]``.

    With y sorted, the weight below a value is a cumulative sum: no table of all pairs is needed.
    """
    x, y = np.concatenate(xs), np.concatenate(ys)
    order = np.argsort(y)
    below = np.pad(np.cumsum(y_weights[:, order], axis=1), ((0, 0), (1, 0)))
    left, right = (np.searchsorted(y[order], x, side) for side in ("left", "right"))
    wins = (below[:, left] + below[:, right]) / 2
    return np.sum(x_weights * wins, axis=1) / (len(x) * len(y))


def _resample(
    values: np.ndarray, size: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw ``[count, size]`` from ``N`` values, with replacement."""
    return values[generator.integers(len(values), size=(count, size))]


def _counts(total: int, at_once: int) -> list[int]:
    """Cut a number into parts of at most ``at_once``."""
    rest = total % at_once
    return [at_once] * (total // at_once) + ([rest] if rest else [])


def _require_confidence(confidence: float) -> None:
    """Raise a ValueError unless this is a share between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}.")


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Ends of the interval in the middle of the values."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def over_seeds(
    values: Sequence[float], confidence: float = 0.95, *, n_independent: int | None = None
) -> dict[str, float]:
    """Mean of independent values with its Student t interval.

    Args:
        values: one result of each run, for instance the mean return of one seed.
        confidence: probability that the interval is to cover, in (0, 1).
        n_independent: how many of the values count as independent of each other; None: all.

    Returns:
        ``mean``, ``stderr``, ``low``, ``high``; all but the mean are NaN for a single value.

    Raises:
        ValueError: without values, or for another ``confidence``.
        TypeError: for something else than numbers.

    Example:
        >>> {key: round(x, 3) for key, x in over_seeds([1.0, 2.0, 3.0]).items()}
        {'mean': 2.0, 'stderr': 0.577, 'low': -0.484, 'high': 4.484}
    """
    _require_confidence(confidence)
    if np.ndim(values) != 1 or np.asarray(values).dtype.kind not in "biuf":
        raise TypeError(f"expected a list of numbers, got {values!r}.")
    if not len(values):
        raise ValueError("expected the result of at least one run, got none.")
    mean, n = float(np.mean(values)), n_independent or len(values)
    if n == 1:
        return {"mean": mean, "stderr": math.nan, "low": math.nan, "high": math.nan}
    from scipy.stats import t  # comes with JAX; here, because it costs half a second

    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * error
    return {"mean": mean, "stderr": error, "low": mean - half, "high": mean + half}


def mean_and_iqm(
    values: Sequence[float] | np.ndarray, n_independent: int | None = None
) -> dict[str, float]:
    """Return the mean and the IQM of one population, each with its 95 % interval.

    Args:
        values: of the population.
        n_independent: how many of them the intervals count as independent; None: all.

    Returns:
        ``mean``, ``stderr``, ``low``, ``high`` by ``over_seeds``; ``iqm``, ``iqm_low``,
        ``iqm_high`` by ``stratified_bootstrap`` with the one stratum.

    Example:
        >>> row = mean_and_iqm([1.0, 2.0, 3.0, 4.0, 100.0])
        >>> row["mean"], row["iqm"]
        (22.0, 3.0)
    """
    values = np.asarray(values, float)
    sizes = None if n_independent is None else [n_independent]
    low, high = stratified_bootstrap(iqm, [values], sizes=sizes)
    middle = {"iqm": float(iqm(values)), "iqm_low": low, "iqm_high": high}
    return {**over_seeds(values.tolist(), n_independent=n_independent), **middle}


def over_games(scores: Strata) -> dict[str, float]:
    """Sum several games up by the normalised scores of their runs, one stratum each.

    Returns:
        ``mean`` and ``iqm`` of all scores, with 95 % intervals ``low, high, iqm_low, iqm_high`` by
        ``stratified_bootstrap``.

    Example:
        >>> score = over_games([[0.5, 0.7], [0.1, 0.1, 0.1]])
        >>> round(score["mean"], 3), score["low"] < 0.3 < score["high"]
        (0.3, True)
    """
    values = np.concatenate([np.asarray(stratum, float) for stratum in scores])
    low, high = stratified_bootstrap(lambda x: np.mean(x, axis=-1), scores)
    iqm_low, iqm_high = stratified_bootstrap(iqm, scores)
    return {
        "mean": float(np.mean(values)),
        "low": low,
        "high": high,
        "iqm": float(iqm(values)),
        "iqm_low": iqm_low,
        "iqm_high": iqm_high,
    }
