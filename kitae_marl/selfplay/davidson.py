"""This file fits the model of ``ratings`` to counts of wins, draws and losses, in NumPy.

A point of the fit is a vector ``x [P]``: the strengths of n players, the worth of the first seat
and the logarithm of the draw parameter, ``P = n + 2``. The log-likelihood is concave in it. Many
points are moved at once, ``[B, P]``: one for every end of every interval.

What is held fast is written as linear equations ``A x = b``: that one player or the mean is 0, that
the seat is worth nothing where games cannot tell, and, along the profile of one number, the number.
Newton's step with equations solves

    [ H  A' ] [ step        ]   [ gradient ]
    [ A  0  ] [ multipliers ] = [ 0        ]

and at the top the multiplier of an equation is the slope of the profile likelihood.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

CRITICAL = 1.959963984540054
"""Quantile of the normal distribution for intervals of 95 %."""
FULL, FAINT = 1.0, 0.2
"""Shares of the added games in the two likelihoods whose wider ends are the interval."""
FARTHEST = 25.0
"""Strength from the estimate beyond which an end counts as infinite: over 4,000 points."""
SAFE = 0.05
"""Rise of the log-likelihood that a step may promise and be taken unseen."""
LONGEST = 2.0
"""Largest change of a number in one step of Newton's method."""
CLIMBS, ROOTS, HALVINGS = 60, 40, 12
"""Steps at most: to a maximum, to an end of an interval, and halvings of one step."""
BLOCK = 100_000
"""Pairs of players looked at together, over all points: so many numbers stay in the cache."""
CLOSE = 0.005
"""How far from the critical value the root of the likelihood ratio may be at an end."""


class Counts(NamedTuple):
    """Games by who had the first seat (row) and who the second (column), ``[n, n]``.

    Attributes:
        wins: games that the first won; likewise ``draws`` and ``losses``.
    """

    wins: Float[np.ndarray, "n n"]
    draws: Float[np.ndarray, "n n"]
    losses: Float[np.ndarray, "n n"]

    @property
    def total(self) -> Float[np.ndarray, "n n"]:
        """All games."""
        return self.wins + self.draws + self.losses

    @staticmethod
    def reaches(edges: Bool[np.ndarray, "n n"]) -> Bool[np.ndarray, "n n"]:
        """Whether a chain of edges leads from the row to the column; everyone reaches itself."""
        found = edges | np.eye(len(edges), dtype=bool)
        for _ in range(len(edges).bit_length()):
            found = found.astype(float) @ found.astype(float) > 0
        return found

    def with_pseudo_games(self, share: float) -> Counts:
        """Add half a win for either side of each pair that met, times its leverage and a share.

        The leverage of a pair is the number of its games times the resistance between the two in
        the network whose conductances are the numbers of games; over all pairs the sum is n - 1.
        """
        between = self.total + self.total.T
        np.fill_diagonal(between, 0)
        inverse = np.linalg.pinv(np.diag(between.sum(axis=1)) - between)
        own = np.diag(inverse)
        resistance = own[:, None] + own[None, :] - 2 * inverse
        half = share * self.total * resistance / 2  # seats as often as they were taken
        np.fill_diagonal(half, 0)
        return Counts(self.wins + half, self.draws, self.losses + half)


class Fit(NamedTuple):
    """What was found.

    Attributes:
        strengths: estimate, low and high end of each player, ``[n, 3]``.
        first_seat: the same of what the first seat is worth; NaN where that cannot be told.
        draw: the draw parameter, 0 where there was none.
    """

    strengths: Float[np.ndarray, "n 3"]
    first_seat: tuple[float, float, float]
    draw: float


def fit(counts: Counts, zero: int | None) -> Fit:
    """Fit the model, with intervals of 95 % by profile likelihood.

    Args:
        counts: of players who are connected by games.
        zero: whose strength is 0; None: the mean of all is.
    """
    n = len(counts.wins)
    fixed = _fixed(counts, zero)
    known_seat = not fixed[:, n].any()
    above, below = _unbounded(counts, zero)
    places = [(i, -1) for i in range(n) if i != zero and not below[i]]
    places += [(i, 1) for i in range(n) if i != zero and not above[i]]
    places += [(n, -1), (n, 1)] if known_seat else []
    full, faint = counts.with_pseudo_games(FULL), counts.with_pseudo_games(FAINT)
    top = _climb(full, np.zeros((1, n + 2)), fixed[None])
    best = _climb(faint, top.x, fixed[None])
    found = np.full((n + 2, 3), np.nan)
    found[:n] = top.x[0][:n, None] + np.array([0.0, -math.inf, math.inf])
    if zero is not None:
        found[zero] = 0.0
    if known_seat:
        found[n, 0] = top.x[0, n]
    at_once = max(1, BLOCK // n**2)
    for first in range(0, len(places), at_once):
        place, side = np.array(places[first : first + at_once]).T
        near, points = _ends(full, fixed, place, side, top.x[0], top.value[0], None)
        far, _ = _ends(faint, fixed, place, side, top.x[0], best.value[0], points)
        found[place, np.where(side > 0, 2, 1)] = side * np.maximum(side * near, side * far)
    seat = found[n]
    draw = float(np.exp(top.x[0, n + 1])) if counts.draws.any() else 0.0
    return Fit(found[:n], (float(seat[0]), float(seat[1]), float(seat[2])), draw)


def _fixed(counts: Counts, zero: int | None) -> Float[np.ndarray, "m P"]:
    """Return the rows of A that hold for every point; their b is 0."""
    n = len(counts.wins)
    rows = [np.eye(n + 2)[zero] if zero is not None else np.r_[np.full(n, 1 / n), 0, 0]]
    first, second = np.nonzero(counts.total)
    design = np.zeros((len(first), n + 1))
    games = np.arange(len(first))
    design[games, first] += 1
    design[games, second] -= 1
    strengths = np.linalg.matrix_rank(design)
    design[:, n] = 1
    if np.linalg.matrix_rank(design) == strengths:  # the seat is a matter of who sat there
        rows.append(np.eye(n + 2)[n])
    if not counts.draws.any():
        rows.append(np.eye(n + 2)[n + 1])
    return np.stack(rows)


def _unbounded(
    counts: Counts, zero: int | None
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Say whose strength no game bounds from above, and whose from below.

    A set of players whom nobody outside took a point from may be as strong as one likes.
    """
    scored = (counts.wins + counts.draws > 0) | (counts.losses + counts.draws > 0).T
    reaches = counts.reaches(scored)
    everyone = np.arange(len(reaches)) if zero is None else np.array([zero])
    from_it, to_it = reaches[everyone].all(axis=0), reaches[:, everyone].all(axis=1)
    return np.logical_not(from_it), np.logical_not(to_it)


class _Top(NamedTuple):
    """A maximum under equations, ``[B]`` of them.

    Attributes:
        x: where it is.
        value: log-likelihood there.
        slope: multipliers: how fast the maximum rises with the right side of each equation.
        tangent: how x moves with the right side of the last equation.
        variance: 1 / curvature of the profile of that side.
    """

    x: Float[np.ndarray, "B P"]
    value: Float[np.ndarray, " B"]
    slope: Float[np.ndarray, "B m"]
    tangent: Float[np.ndarray, "B P"]
    variance: Float[np.ndarray, " B"]


def _climb(
    counts: Counts, x: Float[np.ndarray, "B P"], equations: Float[np.ndarray, "B m P"]
) -> _Top:
    """Climb to the maximum from points that fulfil the equations."""
    value, gradient, information = _derivatives(counts, x)
    solution = _solve(information, equations, gradient)
    size = x.shape[1]
    for _ in range(CLIMBS):
        step = solution[:, :size, 0]
        rise = np.sum(step * gradient, axis=1)
        if np.max(rise) < 1e-9:
            break
        longest = np.max(np.abs(step), axis=1, keepdims=True)
        step = step * np.minimum(1.0, LONGEST / np.maximum(longest, 1e-300))
        for _ in range(HALVINGS if np.max(rise) > SAFE else 0):
            worse = _value(counts, x + step) < value - 1e-9
            if not worse.any():
                break
            step = np.where(worse[:, None], step / 2, step)
        x = x + step
        value, gradient, information = _derivatives(counts, x)
        solution = _solve(information, equations, gradient)
    tangent = solution[:, :size, 1]
    # The multiplier answers a unit of the last right side by minus the curvature of the profile.
    curvature = -solution[:, -1, 1]
    variance = 1 / np.maximum(curvature, 1e-12)
    return _Top(x, value, solution[:, size:, 0], tangent, variance)


def _solve(
    information: Float[np.ndarray, "B P P"],
    equations: Float[np.ndarray, "B m P"],
    gradient: Float[np.ndarray, "B P"],
) -> Float[np.ndarray, "B P+m 2"]:
    """Solve for Newton's step and its multipliers, and for a unit of the last right side."""
    n_rows, n_fixed, size = equations.shape
    matrix = np.zeros((n_rows, size + n_fixed, size + n_fixed))
    # So that strengths about which hardly anything is known leave the matrix regular.
    matrix[:, :size, :size] = information + 1e-11 * np.eye(size)
    matrix[:, size:, :size] = equations
    matrix[:, :size, size:] = np.swapaxes(equations, 1, 2)
    right = np.zeros((n_rows, size + n_fixed, 2))
    right[:, :size, 0] = gradient
    right[:, -1, 1] = 1.0
    return np.linalg.solve(matrix, right)


def _weights(
    counts: Counts, x: Float[np.ndarray, "B P"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return half the difference of each pair, the log of the sum of its weights, and of draws."""
    strengths, seat, draw = x[:, :-2], x[:, -2, None, None], x[:, -1, None, None]
    half = (strengths[:, :, None] - strengths[:, None, :] + seat) / 2
    log_sum = np.logaddexp(half, -half)
    if counts.draws.any():
        log_sum = np.logaddexp(log_sum, draw)
    else:
        draw = np.full_like(draw, -np.inf)
    return half, log_sum, draw


def _value(counts: Counts, x: Float[np.ndarray, "B P"]) -> Float[np.ndarray, " B"]:
    """Log-likelihood."""
    half, log_sum, _ = _weights(counts, x)
    won = (counts.wins - counts.losses) * half - counts.total * log_sum
    return won.sum(axis=(1, 2)) + counts.draws.sum() * x[:, -1]


def _derivatives(
    counts: Counts, x: Float[np.ndarray, "B P"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-likelihood ``[B]``, its gradient ``[B, P]`` and minus its Hessian ``[B, P, P]``."""
    half, log_sum, log_draw = _weights(counts, x)
    total = counts.total
    won, lost, drawn = (np.exp(part - log_sum) for part in (half, -half, log_draw))
    value = ((counts.wins - counts.losses) * half - total * log_sum).sum(axis=(1, 2))
    value = value + counts.draws.sum() * x[:, -1]
    difference = won - lost  # twice the mean of the outcome +1/2, 0, -1/2
    by_pair = (counts.wins - counts.losses - total * difference) / 2
    n, rows, columns = len(total), 2, 1
    gradient = np.empty_like(x)
    gradient[:, :n] = by_pair.sum(axis=rows) - by_pair.sum(axis=columns)
    gradient[:, n] = by_pair.sum(axis=(1, 2))
    gradient[:, n + 1] = (counts.draws - total * drawn).sum(axis=(1, 2))

    spread = total * (won + lost - difference**2) / 4  # variance of that outcome, all games
    with_draw = -total * difference * drawn / 2  # its covariance with whether it is a draw
    information = np.empty((len(x), n + 2, n + 2))
    players = np.arange(n)
    information[:, :n, :n] = -(spread + np.swapaxes(spread, 1, 2))
    information[:, players, players] += spread.sum(axis=rows) + spread.sum(axis=columns)
    for place, part in ((n, spread), (n + 1, with_draw)):
        edge = part.sum(axis=rows) - part.sum(axis=columns)
        information[:, :n, place] = information[:, place, :n] = edge
    information[:, n, n] = spread.sum(axis=(1, 2))
    information[:, n, n + 1] = information[:, n + 1, n] = with_draw.sum(axis=(1, 2))
    information[:, n + 1, n + 1] = (total * drawn * (1 - drawn)).sum(axis=(1, 2))
    return value, gradient, information


def _ends(
    counts: Counts,
    fixed: Float[np.ndarray, "m P"],
    place: Int[np.ndarray, " B"],
    side: Int[np.ndarray, " B"],
    top: Float[np.ndarray, " P"],
    highest: float,
    start: Float[np.ndarray, "B P"] | None,
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, "B P"]]:
    """Find ends of the intervals of some numbers of x, all at once.

    The signed root of the likelihood ratio, R(v) = sign(v - top) sqrt(2 (highest - profile(v))),
    rises with v and is nearly a line; an end is where it is the critical value. Its slope is
    -(slope of the profile) / R. Newton's method finds it, kept between values known to be on
    either side.

    Args:
        place: of each number in x.
        side: which end, -1 or 1.
        top: the estimate.
        highest: log-likelihood of the maximum.
        start: points to begin at; None: from the estimate.

    Returns:
        The ends, infinite beyond ``FARTHEST`` from the estimate; the points there.
    """
    n_ends, target = len(place), side * CRITICAL
    rows = np.arange(n_ends)
    last = np.eye(len(top))[place][:, None]
    equations = np.concatenate([np.repeat(fixed[None], n_ends, axis=0), last], axis=1)
    found = _climb(
        counts, np.repeat(top[None], n_ends, axis=0) if start is None else start, equations
    )
    if start is None:
        move = target * np.sqrt(found.variance)
        found = _climb(counts, _moved(found, move), equations)
    centre = top[place]
    low, high = centre - 2 * FARTHEST, centre + 2 * FARTHEST
    for _ in range(ROOTS):
        slope, at = found.slope[:, -1], found.x[rows, place]
        root = -np.sign(slope) * np.sqrt(np.maximum(2 * (highest - found.value), 0.0))
        missing = target - root
        done = (np.abs(missing) < CLOSE) | (np.abs(at - centre) > FARTHEST)
        if done.all():
            break
        low, high = np.where(missing > 0, at, low), np.where(missing > 0, high, at)
        rising = np.maximum(-slope / np.where(root == 0, 1.0, root), 1e-9)
        rising = np.where(root == 0, 1 / np.sqrt(found.variance), rising)
        move = np.clip(missing / rising, -2 * LONGEST, 2 * LONGEST)
        outside = (at + move <= low) | (at + move >= high)
        move = np.where(outside, (low + high) / 2 - at, move)
        found = _climb(counts, _moved(found, np.where(done, 0.0, move)), equations)
    at = found.x[rows, place]
    return np.where(np.abs(at - centre) > FARTHEST, side * math.inf, at), found.x


def _moved(found: _Top, move: Float[np.ndarray, " B"]) -> Float[np.ndarray, "B P"]:
    """Return points on the way that the maximum takes."""
    return found.x + move[:, None] * found.tangent
