"""This file owns ``league/games.jsonl`` of a run: who was in the pool, who played, what came of it.

The file only grows. Each line is an event in JSON, with the environment step at which it happened:

* ``begin``: training begins, or goes on from ``step``. What earlier lines say of that step (where
  ``again`` is true: the games of the checkpoint are played on, and counted again) and of later ones
  holds no more: the run went back, and comes there anew.
* ``member``: a snapshot has come into the pool; ``leave``: it has left it.
* ``seats``: who plays in the slots from here on.
* ``games``: what came of the games against one opponent since the last draw.

Events are on the disk before they count. A killed process may leave a torn last line, which is left
out with a warning, as is any other line that is no event.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kitae_marl.errors import CheckpointWriteError, ConfigError

LEAGUE = "league"
"""The folder of a run that plays against a pool."""
GAMES_FILE = "games.jsonl"
"""The file of events in it."""
_STEP = "step_"


def snapshot_name(step: int) -> str:
    """Return the name of the snapshot that was taken at an environment step: ``step_20480``."""
    return f"{_STEP}{step}"


def is_snapshot(opponent: str) -> bool:
    """Whether an opponent is a snapshot of the run, by its name."""
    return opponent.startswith(_STEP)


class Games(NamedTuple):
    """What came of games of the learner against one opponent.

    Attributes:
        step: environment step at which they were counted.
        opponent: its name: that of a snapshot, or as the settings call it.
        team: name of the learner's team.
        first: whether that is the first team of the game.
        games: how many games.
        wins: those that the learner won.
        draws: those that nobody won.
        own: sum of the learner's returns, the mean over its agents.
        others: sum of the opponent's returns.
        unbalanced: games whose returns do not sum to zero.
    """

    step: int
    opponent: str
    team: str
    first: bool
    games: int
    wins: int
    draws: int
    own: float
    others: float
    unbalanced: int

    @property
    def losses(self) -> int:
        """Games that the opponent won."""
        return self.games - self.wins - self.draws


class Recorded(NamedTuple):
    """What the file says, of the run as it is now.

    Attributes:
        members: environment steps of all snapshots that were ever in the pool, in order.
        left: of those that have left it, the environment step at which they did.
        seats: who played in the slots from which step on, in order.
        games: of all opponents, in the order in which they were counted.
    """

    members: list[int]
    left: dict[int, int]
    seats: list[tuple[int, list[str]]]
    games: list[Games]

    @property
    def pool(self) -> list[int]:
        """Environment steps of the snapshots that are in the pool."""
        return [step for step in self.members if step not in self.left]


def member_event(step: int) -> dict[str, Any]:
    """Return the event that a snapshot has come into the pool."""
    return {"event": "member", "step": step}


def leave_event(step: int, member: int) -> dict[str, Any]:
    """Return the event that the snapshot of step ``member`` has left the pool."""
    return {"event": "leave", "step": step, "member": member}


def seats_event(step: int, slots: Sequence[str]) -> dict[str, Any]:
    """Return the event that these play in the slots from now on."""
    return {"event": "seats", "step": step, "slots": list(slots)}


def games_event(games: Games) -> dict[str, Any]:
    """Return the event that games have been counted."""
    return {"event": "games", **games._asdict()}


class LeagueFile:
    """The file of one run; one process at a time may write.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / LEAGUE / GAMES_FILE

    def begin(self, step: int, *, again: bool) -> None:
        """Say that training begins, or goes on from the checkpoint of a step; see the head."""
        self.append([{"event": "begin", "step": step, "again": again}])

    def append(self, events: Iterable[dict[str, Any]]) -> None:
        """Write events; they are on the disk when this returns, and none is where it raises.

        Raises:
            CheckpointWriteError: if the disk refuses.
        """
        text = "".join(json.dumps(event, allow_nan=False) + "\n" for event in events)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
                if size and not self._ends_whole():
                    text = "\n" + text  # behind a torn line, which stays as it is
                try:
                    _write_whole(file, text.encode())
                except OSError:
                    file.truncate(size)  # a part would count twice where all is written again
                    raise
        except OSError as error:
            raise CheckpointWriteError(
                f"{self.path}: the games of the league could not be written: {error.strerror}.",
                str(self.path),
            ) from error

    def _ends_whole(self) -> bool:
        """Whether the last line has its end."""
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def read(self) -> Recorded:
        """Return what holds of the run as it is now; nothing where there is no file.

        Raises:
            ConfigError: if the file cannot be read.
        """
        recorded = Recorded([], {}, [], [])
        if not self.path.parent.exists():
            return recorded
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return recorded
        except OSError as error:
            raise ConfigError(f"{self.path}: expected a file of events: {error}") from None
        damaged = []
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                recorded = _after(recorded, json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError):
                damaged.append(number)
        if damaged:
            torn = " (the last one is torn)" if damaged[-1] == len(lines) else ""
            warnings.warn(
                f"{self.path}: line {', '.join(map(str, damaged[:9]))} is no event of a league"
                f"{torn} and is left out.",
                stacklevel=2,
            )
        return recorded


def _write_whole(file: io.FileIO, data: bytes) -> None:
    """Write bytes onto the disk; of a file without a buffer, one call may write a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _after(recorded: Recorded, event: dict[str, Any]) -> Recorded:
    """Return what holds after one more event.

    Raises:
        KeyError, TypeError, ValueError: for what is no event.
    """
    kind, step = event["event"], _step(event["step"])
    if kind == "begin":
        return back(recorded, step if event["again"] else step + 1)
    if kind == "member":
        recorded.members.append(step)
    elif kind == "leave":
        recorded.left[_step(event["member"])] = step
    elif kind == "seats":
        slots = event["slots"]
        if not isinstance(slots, list) or not all(isinstance(name, str) for name in slots):
            raise ValueError
        recorded.seats.append((step, slots))
    elif kind == "games":
        recorded.games.append(_games({name: event[name] for name in Games._fields}))
    else:
        raise ValueError
    return recorded


def back(recorded: Recorded, step: int) -> Recorded:
    """Return what held before this step: what happened at it or later is forgotten."""
    return Recorded(
        [member for member in recorded.members if member < step],
        {member: at for member, at in recorded.left.items() if at < step},
        [(at, slots) for at, slots in recorded.seats if at < step],
        [games for games in recorded.games if games.step < step],
    )


def _step(value: Any) -> int:
    """Return an environment step."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError
    return value


def _games(values: dict[str, Any]) -> Games:
    """Return the record of games, its values sure to be of their kinds."""
    kinds = {"opponent": str, "team": str, "first": bool, "own": float, "others": float}
    for name, value in values.items():
        if name in kinds and not isinstance(value, kinds[name]):
            raise ValueError
        if name not in kinds:
            _step(value)
    games = Games(**values)
    if games.losses < 0:
        raise ValueError
    return games
