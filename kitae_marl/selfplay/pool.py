"""This file keeps the pool of a run while it is trained: snapshots, games, and who plays next.

Everything is decided between two updates, every ``rematch_every`` of them: games since the last
time are counted, a snapshot is taken if that is due, and members are drawn for the slots. What is
decided follows from the games on disk, the step and the seed alone, so a run that goes on decides
as it would have. A snapshot is a checkpoint of the run that stays as long as it is in the pool.
"""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kitae_marl.config.opponents import LATEST, POOL, Opponents
from kitae_marl.errors import CheckpointError, CheckpointIncompatibleError, CheckpointWriteError
from kitae_marl.runs.logger import Logger
from kitae_marl.runs.returns import RATING
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.league import (
    Games,
    LeagueFile,
    Recorded,
    back,
    games_event,
    is_snapshot,
    leave_event,
    member_event,
    seats_event,
    snapshot_name,
)
from kitae_marl.selfplay.league import learner_rating
from kitae_marl.selfplay.matchmaking import Matchmaking, Scores, chances, draw, leaving
from kitae_marl.types import Result, Run, Seating, Table

MATCHES = 5
"""Beside the seed and the number of the draw: what the chance of matchmaking is derived from."""
SNAPSHOTS = 32
"""Snapshots of a run where nothing else is said."""
SHARE = 0.03
"""Share of the time that ratings may take while the run is trained."""
GONE = (
    "the opponents in the games of the checkpoint are not there any more (the league or a snapshot "
    "is gone or damaged, or there is another number of devices)"
)
"""Why games cannot go on."""


class Places(NamedTuple):
    """Which environments belong to whom.

    Attributes:
        rows: environments of each opponent in the part of one device, ``latest`` first.
        n_parts: such parts.
        n_slots: slots of the pool in a part, each with as many environments.
        teams: agents that one player plays, by name of the team.
    """

    rows: dict[str, int]
    n_parts: int
    n_slots: int
    teams: dict[str, tuple[str, ...]]

    def names(self, slots: Sequence[str]) -> list[str]:
        """Return who plays in each environment, with these members in the slots."""
        names: list[str] = []
        for opponent, n in self.rows.items():
            if opponent == POOL:
                names += [member for member in slots for _ in range(n // self.n_slots)]
            else:
                names += ["" if opponent == LATEST else opponent] * n
        return names * self.n_parts

    def team(self, rematch: int) -> np.ndarray:
        """Return the learner's team in each environment; they change with each draw."""
        numbers = np.arange(sum(self.rows.values()))
        team = (numbers + rematch) % len(self.teams)
        team[: self.rows.get(LATEST, 0)] = -1
        return np.tile(team, self.n_parts).astype(np.int32)


class Pool:
    """The pool of one run.

    Args:
        settings: who plays, and how the pool is kept.
        places: which environments belong to whom.
        matchmaking: how members are chosen.
        n_steps: joint steps of one update.
        cuts: games that are running where members are drawn end there, as compiled ones do.
        env_steps: environment steps of the whole run.
        seed: of the run.
    """

    def __init__(
        self,
        settings: Opponents,
        places: Places,
        matchmaking: Matchmaking,
        *,
        n_steps: int,
        cuts: bool,
        env_steps: int,
        seed: int,
    ) -> None:
        self._settings, self._places, self._matchmaking = settings, places, matchmaking
        self._every = settings.rematch_every * n_steps
        self._snapshot_every = settings.snapshot_every
        if self._snapshot_every is None and settings.snapshot_win_rate is None:
            self._snapshot_every = max(1, env_steps // SNAPSHOTS)
        self._seed, self._cuts = seed, cuts
        self._drawn = 0  # the joint step at which members were drawn last
        self._has_pool = POOL in places.rows
        self._recorded = Recorded([], {}, [], [])
        self._states: dict[int, Any] = {}
        self._scores = Scores()
        self._file: LeagueFile | None = None
        self._unwritten: list[dict[str, Any]] = []
        self._checkpointer: RunCheckpointer | None = None
        self._logger: Logger | None = None
        self._exact = False
        self._rated, self._began = 0.0, time.monotonic()

    def keep(
        self,
        path: Path | None,
        checkpointer: RunCheckpointer | None,
        logger: Logger,
        *,
        exact: bool = False,
    ) -> None:
        """Say where games and snapshots are kept (None: nowhere), and who is told of them.

        With ``exact`` the run goes on to the last bit, or not at all.
        """
        self._file = None if path is None else LeagueFile(path)
        self._checkpointer, self._logger, self._exact = checkpointer, logger, exact

    def begin(self, step: int, agent: Run, table: Table) -> None:
        """Take over what the run has on disk, and seat opponents.

        Raises:
            CheckpointIncompatibleError: if it is to go on exactly and cannot; nothing is written.
        """
        now = step * agent.config.n_envs
        again = table.goes_on or not step  # nothing was played before the first step
        if self._file is not None:  # what it will say once training has begun
            self._recorded = back(self._file.read(), now if again else now + 1)
        lost = self._load(agent)
        for games in _by_step(self._recorded.games):
            self._scores.add(games)
        fits = table.goes_on and self._sits(step, agent, table)
        if self._exact and (lost or (table.goes_on and not fits)):
            raise CheckpointIncompatibleError(
                f"the league cannot go on exactly: {'; '.join(lost.values()) or GONE}; leave out "
                "--exact to go on."
            )
        if self._file is not None:
            self._file.begin(now, again=again)
        self._leave(lost, now)
        if fits:  # where the checkpoint is older than what was decided at this step, decide again
            self.after(step, agent, table)
        else:
            if table.goes_on:
                self._count(now, table)
                warnings.warn(
                    f"{GONE}: these games begin anew, and the run will end otherwise than without "
                    "interruption.",
                    stacklevel=2,
                )
            if self._has_pool and not self._states:
                self._take_snapshot(now, agent)
            self._rematch(step, now, table)

    def _sits(self, step: int, agent: Run, table: Table) -> bool:
        """Say who sits where in the games of a checkpoint; whether they can go on."""
        if not self._recorded.seats:
            return False
        since, slots = self._recorded.seats[-1]
        self._drawn = since // agent.config.n_envs
        if len(slots) != self._places.n_slots * self._has_pool:
            return False
        members = self._members
        missing = any(name not in members for name in slots)
        if missing and self.until_due(step) > 0:
            return False
        # Where others are drawn now, who played so far need not be there any more.
        states = [] if missing else [members[name] for name in slots]
        return table.sit(self._seating(self._drawn // self._every, slots, states))

    @property
    def _members(self) -> dict[str, Any]:
        """Acting states of the members of the pool, by name."""
        return {snapshot_name(step): state for step, state in self._states.items()}

    def _load(self, agent: Run) -> dict[int, str]:
        """Load the members of the pool; return what is wrong with those that cannot be read."""
        lost = {}
        for member in self._recorded.pool:
            try:
                if self._checkpointer is None:
                    raise CheckpointError(f"nothing keeps the snapshot of step {member}.")
                state = self._checkpointer.restore_state(agent, member)
            except CheckpointError as error:
                lost[member] = str(error)
                continue
            self._states[member] = _acting(agent, state)
        return lost

    def _leave(self, lost: Mapping[int, str], now: int) -> None:
        """Let members leave the pool that cannot be read, each with a warning."""
        for member, why in lost.items():
            warnings.warn(f"the snapshot of step {member} leaves the pool: {why}", stacklevel=3)
            self._recorded.left[member] = now
        self._write([leave_event(now, member) for member in lost])
        self._pin()

    def until_due(self, step: int) -> int:
        """Return the joint steps until members are drawn again; 0 or less: that is due."""
        # Not the rest of a division: a run may go on with updates of another size.
        return (self._drawn // self._every + 1) * self._every - step

    def after(self, step: int, agent: Run, table: Table) -> None:
        """Count, take a snapshot and draw, where that is due after the joint step ``step``."""
        if self.until_due(step) > 0:
            return
        now = step * agent.config.n_envs
        self._count(now, table)
        self._tell_of_cut_games()
        if self._has_pool and self._is_snapshot_due(now):
            self._take_snapshot(now, agent)
            self._rate(now)
        self._rematch(step, now, table)

    def end(self, step: int, agent: Run, table: Table) -> None:
        """Count the last games and rate the learner."""
        now = step * agent.config.n_envs
        self._count(now, table)
        self._rate(now, last=True)
        if self._unwritten and self._file is not None:
            self._file.append(self._unwritten)  # or say that the disk still refuses

    def _count(self, now: int, table: Table) -> None:
        """Write what came of the games since the last draw, and log it."""
        games = _added_up(now, table.results(), list(self._places.teams))
        self._write(map(games_event, games))
        self._recorded.games.extend(games)
        if games:
            self._scores.add(games)
        if self._logger is not None and games:
            self._logger.add_row(now, _metrics(games))

    def _tell_of_cut_games(self) -> None:
        """Warn once where no game came to its end before the next draw."""
        if not self._cuts or self._recorded.games or not set(self._places.rows) - {LATEST}:
            return
        self._cuts = False  # told
        warnings.warn(
            f"no game against opponents ended within {self._every} steps, after which games begin "
            f"anew against others: their ends are never learned from, and nothing is rated; give "
            f"opponents a rematch_every of more than {self._settings.rematch_every} updates, or "
            "longer ones (n_steps).",
            stacklevel=2,
        )

    def _is_snapshot_due(self, now: int) -> bool:
        """Whether so many steps have passed, or so many games were won, since the last snapshot."""
        last = self._recorded.members[-1] if self._recorded.members else 0
        every, rate = self._snapshot_every, self._settings.snapshot_win_rate
        if now <= last:
            return False
        if every is not None and now // every > last // every:
            return True
        if rate is None:
            return False
        games = [g for g in self._recorded.games if g.step > last and is_snapshot(g.opponent)]
        n = sum(g.games for g in games)
        won = sum(g.wins + g.draws / 2 for g in games)
        return n >= self._settings.min_games and won >= rate * n

    def _take_snapshot(self, now: int, agent: Run) -> None:
        """Let the learner as it is now come into the pool; one leaves it where it is full.

        Where the disk refuses the snapshot there is none, and the next draw tries again.
        """
        gone, pool = [], [*self._recorded.pool, now]
        pinned = self._pinned(now)
        while len(pool) > self._settings.pool_size:
            records = self._scores.records(pool)
            one = leaving(self._settings.eviction, records, pinned)
            if one is None:
                warnings.warn(
                    f"the pool holds {len(pool)} pinned snapshots, more than its size of "
                    f"{self._settings.pool_size}.",
                    stacklevel=2,
                )
                break
            pool.remove(one.env_step)
            gone.append(one.env_step)
        self._recorded.left.update(dict.fromkeys(gone, now))
        self._recorded.members.append(now)
        self._pin()  # before it is saved: what has left may go only once this one is there
        if not self._is_saved(agent):
            self._recorded.members.remove(now)
            for step in gone:
                del self._recorded.left[step]
            self._pin()
            return
        for step in gone:
            del self._states[step]
        self._states[now] = _acting(agent, agent.state)
        self._write([*(leave_event(now, step) for step in gone), member_event(now)])

    def _is_saved(self, agent: Run) -> bool:
        """Save the learner as it is now, where anything is kept; False: the disk refuses.

        Raises:
            CheckpointWriteError: if it does, and there is nobody else to play.
        """
        if self._checkpointer is None:
            return True
        if not self._states:
            self._checkpointer.write(agent.run_state())
            return True
        return self._checkpointer.try_to_write(agent) is not None

    def _pinned(self, now: int) -> set[int]:
        """Return the snapshots that never leave: the first at or after each step of the settings.

        ``now`` is the step of one that comes.
        """
        taken = [*self._recorded.members, now]
        first = (min((m for m in taken if m >= s), default=None) for s in self._settings.pinned)
        return {step for step in first if step is not None}

    def _pin(self) -> None:
        """Let the checkpoints stay that a run may need which goes on from one of the newest."""
        if self._checkpointer is None:
            return
        recorded, oldest = self._recorded, self._checkpointer.oldest_of_newest()
        gone = {member for member, at in recorded.left.items() if at <= oldest}
        self._checkpointer.pinned = set(recorded.members) - gone

    def _rematch(self, step: int, now: int, table: Table) -> None:
        """Draw who plays in the slots, and seat them."""
        self._drawn = step
        number, slots = step // self._every, []
        if self._has_pool:
            records = self._scores.records(self._recorded.pool)
            chance = chances(self._matchmaking, records)
            generator = np.random.default_rng((self._seed, MATCHES, number))
            n_slots = self._places.n_slots
            slots = [records[i].name for i in draw(chance, n_slots, generator)]
        self._write([seats_event(now, slots)])
        self._recorded.seats.append((now, slots))
        members = self._members
        table.seat(self._seating(number, slots, [members[name] for name in slots]))

    def _seating(self, rematch: int, slots: list[str], states: list[Any]) -> Seating:
        """Return who sits where after a draw."""
        return Seating(self._places.names(slots), self._places.team(rematch), states)

    def _rate(self, now: int, *, last: bool = False) -> None:
        """Log the learner's rating, where the games say it and it does not take too long."""
        took = self._rated > SHARE * (time.monotonic() - self._began)
        unbalanced = any(games.unbalanced for games in self._recorded.games)
        if self._logger is None or unbalanced or (took and not last):
            return
        started = time.monotonic()
        rated = learner_rating(self._recorded)
        self._rated += time.monotonic() - started
        if rated is not None:
            zero, (value, low, high) = rated
            row = {RATING: value, f"{RATING}_low": low, f"{RATING}_high": high}
            self._logger.add_row(now, row)
            if last:
                self._logger.tell(
                    f"rated {value:.0f} ({low:.0f} .. {high:.0f}) by the games of its league, "
                    f"where {zero} is 0"
                )

    def _write(self, events: Any) -> None:
        """Keep events, where anything is kept; those that the disk refuses, until it takes them."""
        if self._file is None:
            return
        self._unwritten += events
        try:
            self._file.append(self._unwritten)
        except CheckpointWriteError as error:
            text = f"{error} Training goes on; they are written with the next ones."
            warnings.warn(text, stacklevel=2)
        else:
            self._unwritten = []


def _acting(agent: Run, state: Any) -> Any:
    """Return copies of what acting reads of a state, as NumPy arrays."""
    return jax.tree.map(np.array, agent.algorithm.acting(state))


def _by_step(games: Sequence[Games]) -> list[list[Games]]:
    """Part games by the step at which they were counted."""
    parts: dict[int, list[Games]] = defaultdict(list)
    for one in games:
        parts[one.step].append(one)
    return list(parts.values())


def _added_up(now: int, results: Sequence[Result], teams: Sequence[str]) -> list[Games]:
    """Add up what came of the games, by opponent and team; those of nobody are left out."""
    sums: dict[tuple[str, int], np.ndarray] = defaultdict(lambda: np.zeros(6))
    for result in results:
        if result.tally.games and result.opponent:
            sums[result.opponent, result.team] += result.tally
    found = []
    for (opponent, team), (games, wins, draws, own, others, unbalanced) in sorted(sums.items()):
        played, own, others = round(games), float(own), float(others)
        counts = round(wins), round(draws), own, others, round(unbalanced)
        found.append(Games(now, opponent, teams[team], team == 0, played, *counts))
    return found


def _metrics(games: Sequence[Games]) -> dict[str, float]:
    """Say what came of the games against the pool and against each other opponent."""
    parts: dict[str, list[Games]] = defaultdict(list)
    for one in games:
        parts[POOL if is_snapshot(one.opponent) else one.opponent].append(one)
    metrics = {}
    for name, part in parts.items():
        n = sum(one.games for one in part)
        if not any(one.unbalanced for one in part):
            metrics[f"league/win_rate/{name}"] = sum(one.wins for one in part) / n
            metrics[f"league/draws/{name}"] = sum(one.draws for one in part) / n
        for team in {one.team for one in part}:
            of = [one for one in part if one.team == team]
            mean = sum(one.own for one in of) / sum(one.games for one in of)
            metrics[f"league/return/{team}/{name}"] = mean
    return dict(sorted(metrics.items()))
