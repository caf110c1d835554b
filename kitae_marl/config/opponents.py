"""Settings of self-play: who plays the other seats while a run learns."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kitae_marl.config.checks import is_grouping, require, require_count, require_number
from kitae_marl.config.counts import whole
from kitae_marl.config.described import described
from kitae_marl.errors import ConfigError

LATEST, POOL, RANDOM = "latest", "pool", "random"
"""Names of the learner itself, of its pool of earlier selves, and of the random policy."""
BOT = "bot:"
"""What stands before the name of a scripted player."""
FROZEN = "frozen:"
"""What a seat of a trained agent begins with, before the name of its run."""
MATCHMAKING = ("uniform", "latest", "pfsp", "pfsp_hard")
"""Ways to choose members of the pool: all alike; the newest; those of about the learner's strength,
by x (1 - x) of its win rate x; and those that it loses to, by (1 - x)^2."""
EVICTION = ("stride", "oldest", "weakest")
"""Which snapshot leaves a full pool: the one whose neighbours are nearest in time, so that the rest
is spread over the run; the oldest; or the one that the learner wins most against."""
NOT_STORED = ("shares", "players")


@described
@dataclass(frozen=True)
class Opponents:
    """Who plays the other seats while a run learns: the share of its environments for each.

    In the environments of ``latest`` the learner plays all seats. In those of an opponent it plays
    one team, and the opponent all others. Give it to ``train``, or as a dict to ``Config``:

        train("classic/connect_four-v3", opponents=Opponents({"latest": 0.5, "pool": 0.5}))

    Raises:
        ConfigError: for shares that are none, or a setting out of range; the message names it.

    Example:
        >>> settings = Opponents({"latest": 0.5, "pool": 0.5}, matchmaking="pfsp")
        >>> Opponents.of(settings.to_dict()) == settings
        True
    """

    shares: dict[str, float]
    """Share of the environments by opponent; they sum to 1: ``latest``, ``pool``, ``random``,
    ``frozen:RUN`` (or ``frozen:RUN@STEP``), ``bot:NAME``, a function as module:name, or a name of
    ``players``."""
    teams: dict[str, Any] = field(default_factory=dict)
    """Agents that one player plays, by name of the team: names and patterns, as for ``groups``.
    None given: each group of the game, or each agent where there are two or only one group."""
    matchmaking: str | Callable[..., Any] = "uniform"
    """How members of the pool are chosen: uniform, latest, pfsp (about equal ones), pfsp_hard
    (those that win); or a function from a list of ``MemberRecord`` to weights, in settings as
    module:name."""
    pool_size: int = 16
    """Snapshots that the pool holds; beyond it one leaves by ``eviction``."""
    eviction: str = "stride"
    """Which snapshot leaves: stride, oldest or weakest."""
    pinned: tuple[int, ...] = ()
    """Environment steps whose snapshots never leave, of each the first at or after it; 0 is the one
    before all learning."""
    slots: int = 16
    """Members that play side by side in compiled games, each in as many environments."""
    snapshot_every: int | None = None
    """Environment steps between two snapshots; None: a 32nd of the run, unless win rates say."""
    snapshot_win_rate: float | None = None
    """Take a snapshot where the learner scored that much in the games since the last one."""
    min_games: int = 200
    """Games that must be played before a win rate says so."""
    rematch_every: int = 4
    """Updates between two draws of opponents."""
    players: dict[str, Any] = field(default_factory=dict, compare=False)
    """Opponents by the names they have in ``shares``, in Python alone: functions ``(observations,
    infos) -> actions``, agents, ``frozen(...)``. Not stored with the run."""

    def __post_init__(self) -> None:
        self._check_shares()
        named = isinstance(self.matchmaking, str) and (
            self.matchmaking in MATCHMAKING or ":" in self.matchmaking
        )
        expected = f"one of {MATCHMAKING}, a function, or module:name"
        require(
            named or callable(self.matchmaking), _key("matchmaking"), expected, self.matchmaking
        )
        require(self.eviction in EVICTION, _key("eviction"), f"one of {EVICTION}", self.eviction)
        for name in ("pool_size", "slots", "min_games", "rematch_every"):
            object.__setattr__(self, name, whole(getattr(self, name)))
            require_count(_key(name), getattr(self, name))
        if self.snapshot_every is not None:
            object.__setattr__(self, "snapshot_every", whole(self.snapshot_every))
            require_count(_key("snapshot_every"), self.snapshot_every)
        if self.snapshot_win_rate is not None:
            require_number(_key("snapshot_win_rate"), self.snapshot_win_rate, 0, 1, above=True)
        is_list = isinstance(self.pinned, list | tuple)
        require(is_list, _key("pinned"), "environment steps, a list", self.pinned)
        object.__setattr__(self, "pinned", tuple(whole(step) for step in self.pinned))
        for step in self.pinned:
            require_count(_key("pinned"), step, 0)
        expected = "a list of names or patterns by name of the team"
        require(is_grouping(self.teams), _key("teams"), expected, self.teams)
        require(isinstance(self.players, dict), _key("players"), "a dict by name", self.players)
        unused = sorted(set(self.players) - set(self.shares))
        require(not unused, _key("players"), f"names of {list(self.shares)}", unused)

    def _check_shares(self) -> None:
        """Raise unless the shares are some of one whole."""
        key, shares = "opponents", self.shares
        require(
            isinstance(shares, dict) and bool(shares), key, "shares by opponent, a dict", shares
        )
        for name, share in shares.items():
            require(isinstance(name, str) and bool(name), key, "names of opponents", name)
            near = difflib.get_close_matches(name, SETTINGS, 1)
            shown = f"{name} (did you mean {near[0]}?)" if near else name
            require_number(f"{key}.{shown}", share, 0, 1, above=True)
            require(name not in (BOT, FROZEN), key, "the name of a bot or run behind it", name)
        total = math.fsum(shares.values())
        if abs(total - 1) > 1e-6:
            raise ConfigError(
                f"opponents: expected shares that sum to 1, got {total:g} of {shares}; what is "
                f"left over could go to {LATEST}, the learner itself.",
                key,
            )

    def to_dict(self) -> dict[str, Any]:
        """Return shares and settings in one dict, as in JSON; settings at their defaults left out.

        A function is written as module:name, and ``players`` by their names alone.
        """
        given: dict[str, Any] = dict(self.shares)
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            factory = one.default_factory
            default = one.default if factory is dataclasses.MISSING else factory()
            if one.name not in NOT_STORED and value != default:
                given[one.name] = list(value) if isinstance(value, tuple) else value
        if callable(self.matchmaking):
            way = self.matchmaking
            given["matchmaking"] = f"{way.__module__}:{way.__qualname__}"
        return given

    @classmethod
    def of(cls, given: Opponents | Mapping[str, Any] | None) -> Opponents | None:
        """Read ``to_dict`` back; None where nobody is named."""
        if given is None or isinstance(given, Opponents):
            return given
        require(isinstance(given, Mapping), "opponents", "shares by opponent, a dict", given)
        if not given:
            return None
        own = {name: given[name] for name in given if name in SETTINGS}
        shares = {name: share for name, share in given.items() if name not in SETTINGS}
        return cls(shares, **own)


SETTINGS = tuple(f.name for f in dataclasses.fields(Opponents) if f.name not in NOT_STORED)
"""Names of the settings, which are no names of opponents."""


def imports_opponents(given: Mapping[str, Any]) -> list[str]:
    """Return what stored settings name as module:name, code to import."""
    own = ("players", *SETTINGS)
    named = [name for name in given if name not in own and not name.startswith((BOT, FROZEN))]
    return [text for text in [*named, str(given.get("matchmaking", ""))] if ":" in text]


def _key(name: str) -> str:
    """Return how a setting is called in messages."""
    return f"opponents.{name}"


def rows_of(shares: Mapping[str, float], n_envs: int, slots: int) -> dict[str, int]:
    """Return how many of ``n_envs`` environments each opponent gets, ``latest`` included.

    Shares are rounded so that they fill the environments, the largest fractions up. The pool gets
    as many for each of its slots, of which there are at most ``slots``; what is left over is the
    learner's, or else the first opponent's.

    Raises:
        ConfigError: if somebody would get none.

    Example:
        >>> rows_of({"latest": 0.5, "pool": 0.4, "random": 0.1}, 16, 4)
        {'latest': 10, 'pool': 4, 'random': 2}
    """
    exact = {name: share * n_envs for name, share in shares.items()}
    rows = {name: math.floor(x + 1e-9) for name, x in exact.items()}
    by_fraction = sorted(rows, key=lambda name: rows[name] - exact[name])
    for name in by_fraction[: n_envs - sum(rows.values())]:
        rows[name] += 1
    for name, n in rows.items():
        if not n:
            needed = math.ceil(1 / shares[name])
            raise ConfigError(
                f"opponents: expected at least one environment for {name}, got {shares[name]:g} of "
                f"{n_envs}; give {needed} environments (n_envs), or a larger share.",
                "opponents",
            )
    spare = rows.get(POOL, 0) % min(slots, rows.get(POOL, 1))
    others = [name for name in rows if name != POOL]
    if spare and others:
        rows[POOL] -= spare
        rows[LATEST if LATEST in rows else others[0]] += spare
    return rows
