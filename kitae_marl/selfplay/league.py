"""This file reads the league of a run: who was in its pool, how strong they were, who beat whom.

Ratings and matrices are computed from the games that the run has on disk, never kept beside them.
The learner changes while it plays. Its games between two snapshots are therefore those of one
player of their own, ``learner@STEP``, with the step of the snapshot that ended them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.league import STEP_NAME, Games, LeagueFile, Recorded
from kitae_marl.runs.store.search import find_run
from kitae_marl.selfplay.davidson import Counts
from kitae_marl.selfplay.ratings import ANCHOR, Estimate, Payoff, Ratings, rate, scores

LEARNER = "learner"
"""Name of the learner since the last snapshot."""


class Row(NamedTuple):
    """What a player of a league has come to against the learner's periods, or these against it.

    Attributes:
        name: ``step_20480`` for a snapshot, ``learner@20480`` for the learner before it.
        env_step: environment step of it; None: it does not learn.
        left: environment step at which it left the pool; None: it is in it, or was never.
        games: games that it played.
    """

    name: str
    env_step: int | None
    left: int | None
    games: int


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
            raise ConfigError(
                f"{self.path}: expected a run that plays against a pool (train --opponents), got "
                f"one without {file.path.relative_to(self.path)}.",
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
            means[team][pair[0], pair[1]] = own / n, others / n, int(n)
        return dict(means)

    def _require_winners(self) -> None:
        """Raise a ConfigError where nothing says who won."""
        if not self.recorded.games:
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
        found.append((LEARNER if end is None else f"{LEARNER}@{end}", games))
    return found


def counts_of(recorded: Recorded) -> tuple[list[str], Counts]:
    """Count games by players; the first player in a pair sat in the first seat."""
    names: dict[str, int] = {}
    table: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(3))
    for period, games in by_period(recorded):
        if not games.games:
            continue
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


def learner_rating(recorded: Recorded) -> tuple[str, Estimate] | None:
    """Return the rating of the learner's last period and who is 0; None where nothing says it.

    Players that the games do not connect with it are left out.
    """
    names, counts = counts_of(recorded)
    last = next((period for period, _ in reversed(by_period(recorded))), None)
    if last not in names:
        return None
    connected = counts.reaches(counts.total + counts.total.T > 0)[names.index(last)]
    kept = np.flatnonzero(connected)
    if len(kept) < 2:
        return None
    names = [names[i] for i in kept]
    zero = anchor_of(names, recorded)
    table = rate(names, Counts(*(part[np.ix_(kept, kept)] for part in counts)), zero)
    row = table.players[last]
    return zero, Estimate(row.rating, row.low, row.high)


def anchor_of(names: Sequence[str], recorded: Recorded) -> str:
    """Return who is 0: the random policy, else the oldest snapshot that played."""
    snapshots = [f"{STEP_NAME}{step}" for step in recorded.members]
    return next((n for n in (ANCHOR, *snapshots) if n in names), names[0])
