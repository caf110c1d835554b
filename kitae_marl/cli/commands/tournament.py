"""This file has the command that lets players meet in the original game, and rates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kitae_marl.cli.commands.loading import GameSetup, open_game, require_trust
from kitae_marl.cli.options.tournament import Tournament
from kitae_marl.errors import ConfigError, NoWinnerError
from kitae_marl.runs.own_code import trust_own_code
from kitae_marl.runs.store.contents import read_config
from kitae_marl.runs.store.search import RunAt, runs_at, split_step
from kitae_marl.runs.terminal import counted, say

if TYPE_CHECKING:
    from kitae_marl.selfplay.cross_play import CrossPlay
    from kitae_marl.selfplay.matches import Match
    from kitae_marl.selfplay.seat_takers import SomePlayer
    from kitae_marl.selfplay.tournaments import Tournament as Result

NO_RATINGS = (
    "no ratings: nobody wins or loses in this game, for its sides are unlike and their returns do "
    "not sum to zero, or both got the same in every game of a match"
)
"""Why there is only a matrix of returns."""


class Entrant(NamedTuple):
    """A run that takes part.

    Attributes:
        at: the run, and its checkpoint.
        simulations: positions that it looks at before each move; None: as it says itself.
    """

    at: RunAt
    simulations: int | None = None


def tournament(options: Tournament) -> dict[str, Any]:
    """Let all players meet all others."""
    from kitae_marl.selfplay.cross_play import cross_play
    from kitae_marl.selfplay.matches import COMPARED, N_ENVS
    from kitae_marl.selfplay.seat_takers import NamedGame
    from kitae_marl.selfplay.tournaments import tournament as play

    players = _players(options)
    game = _game(options, players)
    _check(options, players, game)
    n_envs = max(1, min(N_ENVS, (options.games + 1) // 2))
    env = open_game(
        game,
        n_envs,
        n_workers=options.n_workers,
        runs_dir=options.runs_dir,
        allow_import=options.allow_import,
    )
    try:
        loaded = {name: _loaded(one) for name, one in players.items()}
        acting = "actions sampled as in training" if options.sample else "most probable actions"
        say(
            f"{counted(len(loaded), 'player')} on {game}: {options.games} games of each pair, half "
            f"from each seat; {acting}" + ("" if options.sample else " (--sample: as in training)")
        )
        named = NamedGame(env, game.env_id, game.env_kwargs)
        how: dict[str, Any] = {"seed": options.seed, "sample": options.sample}
        try:
            result = play(
                loaded, named, options.games, anchor=options.anchor, report=_say_match, **how
            )
        except NoWinnerError as error:
            _require_no_anchor(options, error)
            say(NO_RATINGS)
            crossed = cross_play(loaded, named, options.games, **how)
            return _crossed_as_json(crossed, game, options)
    finally:
        env.close()
    say(f"compared are {COMPARED[result.compared]}")
    _say_result(result, options)
    return _as_json(result, game, options)


def _players(options: Tournament) -> dict[str, str | Entrant]:
    """Find all players by name; those of a set of seeds are called ``SET/seed_0``."""
    from kitae_marl.players.scripted.bots import BOT

    found: dict[str, str | Entrant] = {}
    given = 0
    for text in options.players:
        if text == "random" or text.startswith(BOT):
            named: dict[str, str | Entrant] = {text: text}
        else:
            runs = runs_at(text, options.runs_dir, policy=options.policy)
            of_set = split_step(text).run
            named = {}
            for at in runs:
                named |= _entrants(text if len(runs) == 1 else f"{of_set}/{at}", at, options)
        given += len(named)
        found |= named
    if len(found) < 2 or len(found) < given:
        raise ConfigError(
            "players: expected two players or more, each once, got "
            f"{' '.join(options.players) or 'none'}; beside a run there may be random, bot:NAME, "
            "RUN@STEP or RUN@average.",
            "players",
        )
    entrants = [one for one in found.values() if isinstance(one, Entrant)]
    if options.simulations and all(one.simulations is None for one in entrants):
        raise ConfigError(
            f"simulations: expected a run that searches, of alphazero, got {' '.join(found)}; "
            "leave simulations out.",
            "simulations",
        )
    return found


def _entrants(name: str, at: RunAt, options: Tournament) -> dict[str, str | Entrant]:
    """Let a run take part: if it searches, with each number of simulations that was given."""
    config = read_config(at.path)
    if not options.simulations or not config.learner.SIMULATIONS:
        return {name: Entrant(at)}
    for number in options.simulations:
        config.with_simulations(number)  # a wrong one is said before anything is played
    return {
        f"{name} ({counted(number, 'simulation')})": Entrant(at, number)
        for number in options.simulations
    }


def _game(options: Tournament, players: dict[str, str | Entrant]) -> GameSetup:
    """Return the game that all runs were trained on, or the one that was named.

    Raises:
        ConfigError: if there is none, or there are several.
    """
    games: dict[str, GameSetup] = {}
    for name, player in players.items():
        if isinstance(player, Entrant):
            config = read_config(player.at.path)
            kwargs = {k: v for k, v in config.env_kwargs.items() if k != "render_mode"}
            limit = options.max_episode_steps or config.max_episode_steps
            kwargs |= options.env_kwargs
            games[name] = GameSetup(config.env_id, kwargs, {}, limit, wrap=config.wrap)
    if options.game is not None and all(g.env_id != options.game for g in games.values()):
        named = GameSetup(options.game, options.env_kwargs, {}, options.max_episode_steps)
        games = {"--game": named, **games}
    if not games:
        raise ConfigError(
            f"game: expected a run, or the game by --game ID, got {' '.join(players)}.", "game"
        )
    (first, game), *rest = games.items()
    for name, other in rest:
        if other != game:
            raise ConfigError(
                f"players: expected runs of one game, got {first} on {game} and {name} on {other}.",
                "players",
            )
    return game


def _check(options: Tournament, players: dict[str, str | Entrant], game: GameSetup) -> None:
    """Raise for what would fail after the games had been played, or opened."""
    from kitae_marl.players.scripted.bots import BOT, bot_named

    if options.games < 2:
        raise ConfigError(f"games: expected at least 2, got {options.games}.", "games")
    if options.seed < 0:
        raise ConfigError(f"seed: expected a number from 0 on, got {options.seed}.", "seed")
    if options.anchor not in ("random", *players):
        raise ConfigError(
            f"anchor: expected one of {', '.join(players)}, got {options.anchor}.", "anchor"
        )
    if options.out is not None:
        from kitae_marl.evaluation.plots import check_out

        check_out(options.out)
    require_trust(game, options.allow_import)
    for name, player in players.items():
        if isinstance(player, Entrant):
            trust_own_code(player.at.path, options.allow_import)
        elif player.startswith(BOT):
            bot_named(player, game.env_id, game.env_kwargs)
            if game.wrap:
                raise ConfigError(
                    f"players: {name} plays the game as it is, and the runs see it through "
                    f"{', '.join(game.wrap)}; leave one out.",
                    "players",
                )


def _loaded(player: str | Entrant) -> SomePlayer:
    """Load a run; all others are known by their names."""
    from kitae_marl.runs.agent import Agent

    if not isinstance(player, Entrant):
        return player
    return Agent.load(player.at.path, **player.at.how, simulations=player.simulations)


def _say_match(match: Match) -> None:
    """Tell what came of a match, as soon as it has been played."""
    a, b = match.players
    scores = [g.score if g.first == a else 1 - g.score for g in match.games]
    won, drawn, lost = (scores.count(score) for score in (1.0, 0.5, 0.0))
    say(f"  {a} against {b}: {won} won, {drawn} drawn, {lost} lost")


def _say_result(result: Result, options: Tournament) -> None:
    """Show ratings and mean scores."""
    for line in str(result.ratings).splitlines():
        say(line)
    say("mean score of the row against the column: a win is 1, a draw 1/2")
    table, order = result.payoff, list(result.ratings.players)
    places = [table.players.index(name) for name in order]
    scores = table.score[np.ix_(places, places)]
    width = max(6, *map(len, order))
    columns = [max(6, len(name)) for name in order]
    head = "  ".join(f"{name:>{w}}" for name, w in zip(order, columns, strict=True))
    say(f"{'':{width}}  {head}")
    for name, row in zip(order, scores, strict=True):
        cells = ["." if np.isnan(x) else f"{x:.3f}" for x in row]
        said = "  ".join(f"{cell:>{w}}" for cell, w in zip(cells, columns, strict=True))
        say(f"{name:{width}}  {said}")
    if result.repeated:
        pairs = ", ".join(f"{first} against {second}" for first, second in result.repeated)
        varied = "" if options.sample else "; --sample lets the runs' actions vary"
        say(
            f"one and the same game each time, and counted once (first seat first): {pairs}{varied}"
        )


def _as_json(result: Result, game: GameSetup, options: Tournament) -> dict[str, Any]:
    """Return the result as JSON, after it was drawn where that was asked for."""
    rated, table = result.ratings, result.payoff
    found = {
        **game.as_json(),
        "games_of_each_pair": options.games,
        "sample": options.sample,
        "compared": result.compared,
        "players": {name: row._asdict() for name, row in rated.players.items()},
        "anchor": rated.anchor,
        "first_seat": rated.first_seat._asdict(),
        "draw": rated.draw,
        "notes": rated.notes,
        "payoff": {
            "players": table.players,
            "score": table.score.tolist(),
            "games": table.games.tolist(),
        },
        "repeated": result.repeated,
    }
    if options.out is not None:
        from kitae_marl.evaluation.rating_plots import plot_tournament

        plot_tournament(options.out, found)
        say(f"drawn into {options.out}")
        found["out"] = str(options.out)
    return found


def _require_no_anchor(options: Tournament, error: NoWinnerError) -> None:
    """Raise a ConfigError where somebody is to be rated 0 in a game that rates nobody."""
    if options.anchor != "random":
        raise ConfigError(
            f"anchor: expected a game that somebody wins, got --anchor {options.anchor}; leave it "
            "out.",
            "anchor",
        ) from error


def _crossed_as_json(result: CrossPlay, game: GameSetup, options: Tournament) -> dict[str, Any]:
    """Show what each side got against whom, and return it as JSON, drawn if that was asked for."""
    first, second = result.sides
    say(
        f"mean returns of {result.games} games: the player of the row plays {first}, that of the "
        f"column {second}"
    )
    for side, means in result.returns.items():
        say(f"mean return of {side}")
        _say_means(result.players, means)
    found = {
        **game.as_json(),
        "games_of_each_pair": result.games,
        "sample": options.sample,
        "compared": None,
        "players": dict.fromkeys(result.players),
        "notes": [NO_RATINGS],
        "cross_play": {
            "players": result.players,
            "sides": result.sides,
            "returns": {side: means.tolist() for side, means in result.returns.items()},
        },
    }
    if options.out is not None:
        from kitae_marl.evaluation.rating_plots import plot_cross_play

        plot_cross_play(options.out, found)
        say(f"drawn into {options.out}")
        found["out"] = str(options.out)
    return found


def _say_means(names: Sequence[str], means: np.ndarray) -> None:
    """Show a matrix of means, with the names of its rows and columns."""
    from kitae_marl.evaluation.rating_plots import number_format

    form, width = number_format(means), max(map(len, names))
    cells = [[f"{mean:{form}}" for mean in row] for row in means]
    widths = [max(map(len, texts)) for texts in zip(names, *cells, strict=True)]
    for name, texts in [("", names), *zip(names, cells, strict=True)]:
        said = "  ".join(f"{text:>{w}}" for text, w in zip(texts, widths, strict=True))
        say(f"{name:{width}}  {said}")
