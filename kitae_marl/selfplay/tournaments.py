"""This file lets all players meet all others, and rates them by that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from kitae_marl.errors import ConfigError
from kitae_marl.selfplay.matches import COMPARED, Arena, Compared, Match
from kitae_marl.selfplay.ratings import ANCHOR, Payoff, Ratings, payoff, ratings
from kitae_marl.selfplay.seat_takers import NamedGame, SomePlayer
from kitae_marl.vector.protocol import VecParallelEnv


class Tournament(NamedTuple):
    """Games of all players against all others.

    Attributes:
        matches: of each pair.
        ratings: by the games that are independent of each other.
        payoff: likewise.
        compared: what the scores say: ``wins`` or ``returns``.
    """

    matches: list[Match]
    ratings: Ratings
    payoff: Payoff
    compared: Compared

    @property
    def repeated(self) -> list[tuple[str, str]]:
        """Who met with all games from one seat the same: who sat first, and who second."""
        found: list[tuple[str, str]] = []
        for match in self.matches:
            a, b = match.players
            if len(match.games) > 3:
                pairs = zip(((a, b), (b, a)), match.distinct, strict=True)
                found += [pair for pair, distinct in pairs if distinct == 1]
        return found

    def __str__(self) -> str:
        return f"{self.ratings}\ncompared are {COMPARED[self.compared]}"


def tournament(
    players: Sequence[SomePlayer] | Mapping[str, SomePlayer],
    game: str | VecParallelEnv | NamedGame,
    games: int = 400,
    *,
    seed: int = 0,
    sample: bool = False,
    anchor: str | None = ANCHOR,
    n_workers: int | None = 0,
    runs_dir: str | Path = "runs",
    report: Callable[[Match], None] = lambda match: None,
    **env_kwargs: Any,
) -> Tournament:
    """Let all players meet all others, and rate them.

    Args:
        players: as for :func:`play_match`; by name where they are no texts. Two or more.
        game: as for ``play_match``, or a vector with its id, for bots; likewise ``seed``,
            ``sample``, ``n_workers``, ``runs_dir`` and ``env_kwargs``.
        games: games of each pair, half of them from each seat; at least 2.
        anchor: who is rated 0, as for :func:`ratings`.
        report: called with each match when it has been played.

    Raises:
        NoWinnerError: for a game in which a win means nothing; :func:`cross_play` takes it.
        ConfigError, NoCheckpointError, ValueError: as ``play_match``, before anything is played
            where that can be known; and for fewer than two players, or two of one name.

    Example:
        >>> bots = ["bot:one_ply", "bot:first", "random"]
        >>> result = tournament(bots, "classic/tictactoe-v3", games=20)
        >>> next(iter(result.ratings.players)), result.ratings.anchor, len(result.matches)
        ('bot:one_ply', 'random', 3)
    """
    named = by_name(players)
    if not isinstance(games, int) or games < 2:
        raise ValueError(f"games: expected a whole number, at least 2, got {games!r}.")
    if anchor not in (None, ANCHOR, *named):
        raise ValueError(f"anchor: expected one of {list(named)} or None, got {anchor!r}.")
    arena = Arena(game, games, seed, sample, n_workers, runs_dir, env_kwargs)
    matches: list[Match] = []
    try:
        takers = [arena.seat_taker(name, player) for name, player in named.items()]
        for pair in combinations(takers, 2):
            matches.append(arena.play(*pair))
            report(matches[-1])
    finally:
        arena.close()
    counted = [played for match in matches for played in match.independent()]
    compared: Compared = "wins" if all(m.compared == "wins" for m in matches) else "returns"
    return Tournament(matches, ratings(counted, anchor=anchor), payoff(counted), compared)


def by_name(
    players: Sequence[SomePlayer] | Mapping[str, SomePlayer],
) -> dict[str, SomePlayer]:
    """Return players by name.

    Raises:
        TypeError: for something else than players.
        ConfigError: for fewer than two, players without a name, or two of one name.
    """
    if isinstance(players, str) or not isinstance(players, Sequence | Mapping):
        raise TypeError(f"players: expected a list or a dict by name, got {players!r}.")
    if isinstance(players, Mapping):
        named = dict(players)
    else:
        nameless = [player for player in players if not isinstance(player, str | Path)]
        if nameless:
            raise ConfigError(
                f"players: expected names for {nameless}, such as {{'mine': agent}}, got a list; "
                "only texts name themselves.",
                "players",
            )
        named = {str(player): player for player in players}
    if len(named) < max(2, len(players)):
        raise ConfigError(
            f"players: expected two or more, each once, got {list(players)}; beside a run one may "
            "name random, bot:NAME or RUN@STEP.",
            "players",
        )
    return named
