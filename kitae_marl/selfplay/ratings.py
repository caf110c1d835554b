"""This file says who is how strong, from the games they have played against each other.

The model is that of Davidson and Beaver (1977, "On extending the Bradley-Terry model to incorporate
within-pair order effects", Biometrics 33), whose draws are those of Davidson (1970, "On extending
the Bradley-Terry model to accommodate ties in paired comparison experiments", JASA 65). Where i has
the first seat and j the second, and d = strength_i - strength_j + advantage of the first seat,

    P(i wins) : P(draw) : P(j wins)  =  exp(d / 2) : draw : exp(-d / 2)

Without draws that is Elo's P(i wins) = 1 / (1 + exp(-d)). Ratings are strengths times 400 / ln 10:
400 points more are odds of ten to one.

Somebody who never lost is infinitely strong by maximum likelihood, and the usual interval, the
estimate and two standard errors, is of no use there. So

* *estimates* are those of the games played and a few more: of every pair that met, half a win for
  either side times the pair's leverage, where all are equally strong. For two players that is one
  game, the bias reduction of Firth (1993, "Bias reduction of maximum likelihood estimates",
  Biometrika 80); the leverages of n players sum to n - 1 games, whatever they have played.
* *intervals* are those of the profile likelihood (all strengths that a likelihood ratio test does
  not reject; Heinze and Schemper 2002, "A solution to the problem of separation in logistic
  regression", Statistics in Medicine 21), with these games and with a fifth of them, and of two
  ends the farther one counts: where somebody hardly ever lost, the former is too near away from
  the others and the latter too near towards them. For one against another in 100 games that gives
  a coverage of 94 % or more whatever the strengths are, 97 % on average; either alone goes down
  to 84 %. Where no game tells how much stronger somebody may be, that end is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kitae_marl.selfplay.davidson import Counts, fit

ELO = 400 / math.log(10)
"""Rating points of one unit of strength."""
ANCHOR = "random"
"""Whose rating is 0 if nothing else is said and it played."""


class PlayedGame(NamedTuple):
    """One game that has been played, as it may be kept, one after the other.

    ``json.dumps(game._asdict())`` writes it, ``PlayedGame(**json.loads(line))`` reads it.

    Attributes:
        first: who had the first seat: the first agent of the game, or the first group of agents.
        second: who had the other one.
        score: 1 where the first won, 0 where the second did, 0.5 for a draw.
        returns: what both got, if that is known.
        env_step: environment step of the training at which it was played, if it was.
    """

    first: str
    second: str
    score: float
    returns: tuple[float, float] | None = None
    env_step: int | None = None


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Rating(NamedTuple):
    """How strong a player is.

    Attributes:
        rating: on the scale of Elo.
        low: lower end of its 95 % interval; minus infinity where no game bounds it.
        high: upper end; infinity likewise.
        games: games that it played; those against itself say nothing and are left out.
        wins: of them, likewise ``draws`` and ``losses``.
    """

    rating: float
    low: float
    high: float
    games: int
    wins: int
    draws: int
    losses: int


class Ratings(NamedTuple):
    """What the games say of all players together.

    Attributes:
        players: by name, the strongest first.
        anchor: whose rating is 0 by definition; None: the mean of all ratings is.
        first_seat: points that the first seat is worth; NaN where that cannot be told apart from
            who sat there, and counts as 0.
        draw: how likely draws are beside wins: between equals, seats apart, they are draw / (draw +
            2) of the games.
        notes: sentences on what the games do not say.
    """

    players: dict[str, Rating]
    anchor: str | None
    first_seat: Estimate
    draw: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        width = max(6, *map(len, self.players))
        head = f"{'player':{width}}  {'rating':>6}  {'95 % interval':>15}   won drawn  lost"
        lines = [
            f"{name:{width}}  {row.rating:6.0f}  {_between(row):>15}  "
            f"{row.wins:4} {row.draws:5} {row.losses:5}"
            for name, row in self.players.items()
        ]
        zero = "the mean of all" if self.anchor is None else self.anchor
        seat, low, high = self.first_seat
        worth = (
            "what the first seat is worth cannot be told"
            if math.isnan(seat)
            else f"the first seat is worth {seat:.0f} ({low:.0f} .. {high:.0f})"
        )
        return "\n".join([head, *lines, f"{zero} is 0; {worth}", *self.notes])


def _between(row: Rating) -> str:
    """Write an interval."""
    return f"{row.low:.0f} .. {row.high:.0f}"


class Payoff(NamedTuple):
    """Who scored how much against whom, both seats together.

    Attributes:
        players: by name, rows and columns in this order.
        score: mean score of the row against the column, ``[player, player]``: a win is 1, a draw
            1/2; NaN where they never met.
        games: how many games that is the mean of, ``[player, player]``.
    """

    players: tuple[str, ...]
    score: np.ndarray
    games: np.ndarray


def payoff(games: Iterable[PlayedGame | Sequence[Any]]) -> Payoff:
    """Return the mean score of each player against each other one.

    Args:
        games: as for :func:`ratings`; those of a player against itself are left out.

    Raises:
        ValueError: as ``ratings``, but players need not be connected by games.

    Example:
        >>> table = payoff([PlayedGame("a", "b", 1.0), PlayedGame("b", "a", 0.5)])
        >>> table.players, table.score[0, 1].item(), table.games[0, 1].item()
        (('a', 'b'), 0.75, 2)
    """
    return scores(*_count(games))


def scores(names: Sequence[str], counts: Counts) -> Payoff:
    """Return mean scores by counts of games; see :func:`payoff`."""
    won = counts.wins + counts.losses.T + (counts.draws + counts.draws.T) / 2
    n_games = (counts.total + counts.total.T).astype(np.int64)
    np.fill_diagonal(n_games, 0)
    score = np.where(n_games > 0, won / np.maximum(n_games, 1), np.nan)
    return Payoff(tuple(names), score, n_games)


def ratings(games: Iterable[PlayedGame | Sequence[Any]], *, anchor: str | None = ANCHOR) -> Ratings:
    """Rate players by all games they have played, in one fit.

    Args:
        games: records ``(first, second, score, ...)``, such as :class:`PlayedGame`. They are taken
            as independent: a game that deterministic players repeat should be given once.
        anchor: whose rating is 0, so that ratings of several fits can be compared. Without it, or
            where nobody is called ``random``, the mean of all ratings is 0.

    Returns:
        Ratings with 95 % intervals, which hold for each player by itself; see the head of this file
        for the model and for players that never lost. In simulations 95 to 97 % of them hold the
        truth.

    Raises:
        ValueError: for games that are no such records, fewer than two players, an anchor that did
            not play, and players who are connected by no chain of games, so that nothing says how
            strong they are beside each other.
        TypeError: if there are no games to go through.

    Example:
        >>> games = [PlayedGame("strong", "random", 1.0)] * 9
        >>> games += [PlayedGame("random", "strong", 1.0)]
        >>> table = ratings(games)
        >>> row = table.players["strong"]
        >>> table.anchor, row.wins, row.losses, row.low < row.rating < row.high
        ('random', 9, 1, True)
    """
    return rate(*_count(games), anchor)


def rate(names: Sequence[str], counts: Counts, anchor: str | None = ANCHOR) -> Ratings:
    """Rate players by counts of the games they have played; see :func:`ratings`."""
    if len(names) < 2:
        raise ValueError(f"expected games of two players or more, got those of {list(names)}.")
    _require_connected(names, counts)
    zero = _anchor_index(names, anchor)
    fitted = fit(counts, zero)
    rows = {name: _rating(i, fitted.strengths[i], counts) for i, name in enumerate(names)}
    best_first = dict(sorted(rows.items(), key=lambda row: -row[1].rating))
    notes = []
    if math.isnan(fitted.first_seat[0]):
        notes.append(
            "seats were not swapped, so what the first one is worth cannot be told apart from who "
            "sat there; it counts as 0."
        )
    unbounded = [n for n, row in best_first.items() if math.isinf(row.high) or math.isinf(row.low)]
    if unbounded:
        notes.append(
            f"an end of the interval of {', '.join(unbounded)} is infinite: these, or those "
            "between them and the one that is 0, won or lost every game, and no game says by how "
            "much; let them play others of about their strength."
        )
    first_seat = Estimate(*(ELO * value for value in fitted.first_seat))
    name = None if zero is None else names[zero]
    return Ratings(best_first, name, first_seat, fitted.draw, tuple(notes))


def _count(games: Iterable[PlayedGame | Sequence[Any]]) -> tuple[tuple[str, ...], Counts]:
    """Count wins, draws and losses of the first, by who sat first and who second."""
    if not isinstance(games, Iterable):
        raise TypeError(f"expected games, records such as PlayedGame, got {games!r}.")
    indices: dict[str, int] = {}
    outcomes: dict[tuple[int, int], list[int]] = {}
    for number, game in enumerate(games):
        if isinstance(game, str) or not isinstance(game, Sequence) or len(game) < 3:
            raise ValueError(
                f"game {number}: expected a record (first, second, score, ...), such as a "
                f"PlayedGame, got {game!r}."
            )
        first, second, score = game[:3]
        if not isinstance(first, str) or not isinstance(second, str):
            raise ValueError(
                f"game {number}: expected the names of both players, got {first!r} and {second!r}."
            )
        if isinstance(score, str) or score not in (0, 0.5, 1):
            raise ValueError(
                f"game {number}: expected the score of the first, 1 for a win, 0.5 for a draw or "
                f"0 for a loss, got {score!r}."
            )
        pair = tuple(indices.setdefault(name, len(indices)) for name in (first, second))
        outcomes.setdefault((pair[0], pair[1]), [0, 0, 0])[2 - round(2 * score)] += 1
    if not indices:
        raise ValueError("expected at least one game, got none.")
    table = np.zeros((3, len(indices), len(indices)))
    for (i, j), numbers in outcomes.items():
        table[:, i, j] = numbers
    return tuple(indices), Counts(*table)


def _anchor_index(names: Sequence[str], anchor: str | None) -> int | None:
    """Return whose rating is 0; None: the mean is."""
    if anchor in names:
        return names.index(anchor)
    if anchor not in (None, ANCHOR):
        raise ValueError(
            f"anchor: expected one who played, of {list(names)}, or None, got {anchor!r}."
        )
    return None


def _require_connected(names: Sequence[str], counts: Counts) -> None:
    """Raise a ValueError where there are players that no chain of games connects."""
    reached = counts.reaches(counts.total + counts.total.T > 0)
    islands = [[name for name, there in zip(names, row, strict=True) if there] for row in reached]
    if len(islands[0]) < len(names):
        parts = [island for i, island in enumerate(islands) if island[0] == names[i]]
        raise ValueError(
            "expected players that a chain of games connects, got groups of them that never met: "
            f"{' and '.join(map(str, parts))}; let one of each play the other, or rate each "
            "group by itself."
        )


def _rating(i: int, strength: Sequence[float], counts: Counts) -> Rating:
    """Return the rating of player i with what it played."""
    wins, draws, losses = (
        int(as_first[i].sum() + as_second[:, i].sum() - as_first[i, i] - as_second[i, i])
        for as_first, as_second in (
            (counts.wins, counts.losses),
            (counts.draws, counts.draws),
            (counts.losses, counts.wins),
        )
    )
    rating, low, high = (float(ELO * value) for value in strength)
    return Rating(rating, low, high, wins + draws + losses, wins, draws, losses)
