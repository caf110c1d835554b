"""This file reads the league of a run: who was in its pool, how strong they were, who beat whom.

Ratings and matrices are computed from the games that the run has on disk, never kept beside them.
The learner changes while it plays. Its games between two snapshots are therefore those of one
player of their own, ``learner@STEP``, with the step of the snapshot that ended them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.league import Games, LeagueFile, Recorded, snapshot_name
from kitae_marl.runs.store.search import find_run
from kitae_marl.selfplay.davidson import Counts
from kitae_marl.selfplay.ratings import ANCHOR, Estimate, Payoff, Ratings, rate, scores

LEARNER = "learner"
"""Name of the learner since the last snapshot."""


class Row(NamedTuple):
    """A player of a league.

    Attributes:
        name: ``step_20480`` for a snapshot, ``learner@20480`` for the learner before it,
            ``learner`` after the last one; who does not learn is called as in the settings.
        kind: ``snapshot``, ``learner`` or ``fixed``.
        since: environment step of the snapshot before, for the learner; else None.
        env_step: environment step of it; None: it does not learn.
        left: environment step at which it left the pool; None: it is in it, or was never.
        games: games that it played.
    """

    name: str
    kind: Literal["snapshot", "learner", "fixed"]
    since: int | None
    env_step: int | None
    left: int | None
    games: int


class Matrix(NamedTuple):
    """What the learner's periods came to against each opponent.

    Attributes:
        rows: the learner's periods, in order.
        columns: who played against them: those that do not learn, then snapshots by their steps.
        own: mean score of the learner (a win is 1, a draw 1/2), or its mean return,
            ``[row, column]``; NaN where they did not meet.
        others: the same of the opponent.
        games: how many games that is the mean of.
    """

    rows: list[str]
    columns: list[str]
    own: np.ndarray
    others: np.ndarray
    games: np.ndarray


class League:
    """The league of a run, as it stands on disk; also while the run is trained.

    Args:
        run: path of a run folder, or name of a run in ``runs_dir``.
        runs_dir: folder that holds the runs.

    Attributes:
        recorded: the events: members, and games by the step at which they were counted.
        zero_sum: whether all games were zero-sum. If not, nobody wins, and there are no ratings.

    Raises:
        NoCheckpointError: if there is no such run.
        ConfigError: if the run has no league.

    Example:
        league = League("connect"); print(league.ratings()); league.payoff().score
    """

    def __init__(self, run: str | Path, runs_dir: str | Path = "runs") -> None:
        self.path = find_run(run, runs_dir)
        file = LeagueFile(self.path)
        self.recorded = file.read()
        if not self.recorded.members and not self.recorded.games:
            name = file.path.relative_to(self.path)
            got = f"no event in its {name}" if file.path.exists() else f"one without {name}"
            raise ConfigError(
                f"{self.path}: expected a run that plays against a pool (train --opponents), got "
                f"{got}.",
                "run",
            )

    @property
    def zero_sum(self) -> bool:
        """Whether the returns of all games summed to zero."""
        return not any(games.unbalanced for games in self.recorded.games)

    def ratings(self, *, anchor: str | None = ANCHOR) -> Ratings:
        """Rate snapshots, other opponents and the learner's periods by all games of the league.

        Args:
            anchor: who is 0. Where it did not play, the mean of all is.

        Raises:
            ConfigError: if the games are not zero-sum, or none was counted yet.
        """
        self._require_winners()
        return rate(*counts_of(self.recorded), anchor)

    def payoff(self) -> Payoff:
        """Return the mean score of each player against each other one.

        Raises:
            ConfigError: as ``ratings``.
        """
        self._require_winners()
        return scores(*counts_of(self.recorded))

    def returns(self) -> dict[str, dict[tuple[str, str], tuple[float, float, int]]]:
        """Return mean returns of the learner's periods against each opponent, by its team.

        Returns:
            ``{team: {(learner's period, opponent): (its return, the opponent's, games)}}``.
        """
        sums: dict[tuple[str, str, str], np.ndarray] = defaultdict(lambda: np.zeros(3))
        for period, games in by_period(self.recorded):
            numbers = games.own, games.others, games.games
            sums[games.team, period, games.opponent] += numbers
        means: dict[str, dict[tuple[str, str], tuple[float, float, int]]] = defaultdict(dict)
        for (team, *pair), (own, others, n) in sums.items():
            means[team][pair[0], pair[1]] = float(own / n), float(others / n), int(n)
        return dict(means)

    def matrix(self) -> Matrix:
        """Return the mean score of each of the learner's periods against each opponent.

        Raises:
            ConfigError: as ``ratings``.
        """
        self._require_winners()
        return _matrix(
            self.recorded,
            [
                (period, games, games.wins + games.draws / 2, games.losses + games.draws / 2)
                for period, games in by_period(self.recorded)
            ],
        )

    def return_matrices(self) -> dict[str, Matrix]:
        """Return ``returns()`` as a matrix for each team of the learner."""
        cells = [(name, g, g.own, g.others) for name, g in by_period(self.recorded)]
        teams = dict.fromkeys(games.team for _, games, _, _ in cells)
        return {
            team: _matrix(self.recorded, [cell for cell in cells if cell[1].team == team])
            for team in teams
        }

    def _require_winners(self) -> None:
        """Raise a ConfigError where nothing says who won."""
        if not by_period(self.recorded):
            raise ConfigError(f"{self.path}: expected games to rate by, got none yet.", "run")
        if not self.zero_sum:
            raise ConfigError(
                f"{self.path}: expected zero-sum games, got some whose returns do not sum to zero, "
                "so that nobody wins; League.returns() tells what each side got.",
                "run",
            )


def by_period(recorded: Recorded) -> list[tuple[str, Games]]:
    """Return the games with the name of the learner's period that played them, in order."""
    ends = iter(recorded.members)
    end = next(ends, None)
    found = []
    for games in recorded.games:
        while end is not None and end < games.step:
            end = next(ends, None)
        if games.games:
            found.append((LEARNER if end is None else f"{LEARNER}@{end}", games))
    return found


def counts_of(recorded: Recorded) -> tuple[list[str], Counts]:
    """Count games by players; the first player in a pair sat in the first seat."""
    names: dict[str, int] = {}
    table: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(3))
    for period, games in by_period(recorded):
        one, other = (names.setdefault(name, len(names)) for name in (period, games.opponent))
        outcome = np.array([games.wins, games.draws, games.losses])
        if games.first:
            table[one, other] += outcome
        else:
            table[other, one] += outcome[::-1]
    numbers = np.zeros((3, len(names), len(names)))
    for (i, j), outcome in table.items():
        numbers[:, i, j] = outcome
    return list(names), Counts(*numbers)


def players_of(recorded: Recorded) -> list[Row]:
    """List all players: snapshots by their steps, others, and the learner's periods in order."""
    played: dict[str, int] = defaultdict(int)
    periods = by_period(recorded)
    for period, games in periods:
        played[period] += games.games
        played[games.opponent] += games.games
    steps = {snapshot_name(step): step for step in recorded.members}
    rows = [
        Row(name, "snapshot", None, step, recorded.left.get(step), played[name])
        for name, step in steps.items()
    ]
    others = dict.fromkeys(games.opponent for _, games in periods)
    rows += [
        Row(name, "fixed", None, None, None, played[name]) for name in others if name not in steps
    ]
    ends = {f"{LEARNER}@{step}": step for step in recorded.members}
    for name, games in dict(periods).items():  # with the last games of each
        end = ends.get(name, games.step)
        since = max((step for step in recorded.members if step < end), default=0)
        rows.append(Row(name, "learner", since, end, None, played[name]))
    return rows


def connected_counts(recorded: Recorded, *, largest: bool = False) -> tuple[list[str], Counts]:
    """Count games as ``counts_of``, of players whom a chain of games connects with each other.

    With matchmaking by ``latest`` alone, for one, each period meets a snapshot that no other meets.

    Args:
        recorded: the league.
        largest: take the players that are most, instead of those around the learner's last period.
    """
    names, counts = counts_of(recorded)
    if not names:
        return names, counts
    reached = counts.reaches(counts.total + counts.total.T > 0)
    one = last = names.index(by_period(recorded)[-1][0])
    if largest and reached[last].sum() < reached.sum(1).max():
        one = int(reached.sum(1).argmax())
    kept = np.flatnonzero(reached[one])
    return [names[i] for i in kept], Counts(*(part[np.ix_(kept, kept)] for part in counts))


def learner_rating(recorded: Recorded) -> tuple[str, Estimate] | None:
    """Return the rating of the learner's last period and who is 0; None where nothing says it.

    Players that the games do not connect with it are left out.
    """
    names, counts = connected_counts(recorded)
    if len(names) < 2:
        return None
    zero = anchor_of(names, recorded)
    row = rate(names, counts, zero).players[by_period(recorded)[-1][0]]
    return zero, Estimate(row.rating, row.low, row.high)


def anchor_of(names: Sequence[str], recorded: Recorded) -> str:
    """Return who is 0: the random policy, else the oldest snapshot that played."""
    snapshots = [snapshot_name(step) for step in recorded.members]
    return next((n for n in (ANCHOR, *snapshots) if n in names), names[0])


def _matrix(recorded: Recorded, cells: Sequence[tuple[str, Games, float, float]]) -> Matrix:
    """Return means over games by period and opponent, from sums for both sides."""
    sums: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(3))
    for period, games, own, others in cells:
        sums[period, games.opponent] += own, others, games.games
    rows = list(dict.fromkeys(period for period, _ in sums))
    snapshots = [snapshot_name(step) for step in recorded.members]
    met = dict.fromkeys(opponent for _, opponent in sums)
    columns = [name for name in met if name not in snapshots]
    columns += [name for name in snapshots if name in met]
    table = np.array([[sums.get((r, c), np.zeros(3)) for c in columns] for r in rows])
    table = table.reshape(len(rows), len(columns), 3)
    n_games = table[..., 2]
    means = np.where(n_games[..., None] > 0, table / np.maximum(n_games, 1)[..., None], np.nan)
    return Matrix(rows, columns, means[..., 0], means[..., 1], n_games.astype(np.int64))
