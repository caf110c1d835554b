"""This file has the command that shows the league of a run: its players, and who beats whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kitae_marl.cli.options.league import League as Options
from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.contents import read_config
from kitae_marl.runs.store.files import holder
from kitae_marl.runs.terminal import counted, say

if TYPE_CHECKING:
    from kitae_marl.runs.store.league import Recorded
    from kitae_marl.selfplay.alpha_rank import Sweep
    from kitae_marl.selfplay.league import League, Matrix
    from kitae_marl.selfplay.ratings import Ratings

WIDTH = 100
"""Characters in a line of the terminal."""
ROWS = 12
"""Rows of a matrix that are shown there."""


def league(options: Options) -> dict[str, Any]:
    """Show the league of a run."""
    from kitae_marl.selfplay.league import League, players_of

    if options.out is not None:
        from kitae_marl.evaluation.plots import check_out

        check_out(options.out)
    read = League(options.run, options.runs_dir)
    recorded = read.recorded
    found: dict[str, Any] = {
        "name": read.path.name,
        "path": str(read.path),
        "env_id": read_config(read.path).env_id,
        "training": bool(holder(read.path)),
        "zero_sum": read.zero_sum,
        "players": {row.name: row._asdict() for row in players_of(recorded)},
        "notes": [],
    }
    for row in found["players"].values():
        del row["name"]
    _say_head(found, recorded)
    if not any(games.games for games in recorded.games):
        found["notes"].append("no game has ended yet")
    elif read.zero_sum:
        _add_ratings(found, read, options.anchor)
        _add_alpha_rank(found, read.matrix(), recorded)
        _say_ratings(found, options)
        _say_scores(found)
    elif options.anchor is not None:
        raise ConfigError(
            f"anchor: expected zero-sum games, got those of {found['env_id']}, whose returns do "
            "not sum to zero, so that nobody is rated; leave it out.",
            "anchor",
        )
    else:
        _add_returns(found, read)
        _say_returns(found, options)
    for note in found["notes"]:
        say(note)
    if options.out is not None:
        _draw(found, options.out)
    return found


def _say_head(found: Mapping[str, Any], recorded: Recorded) -> None:
    """Tell which league it is, and how far the run has come."""
    there, n_games = len(recorded.pool), sum(games.games for games in recorded.games)
    gone = f", {len(recorded.left)} that left it" if recorded.left else ""
    say(
        f"{found['name']} on {found['env_id']}: {counted(there, 'snapshot')} in the pool{gone}; "
        f"{n_games:,} games" + ("; the run is being trained" if found["training"] else "")
    )


def _add_ratings(found: dict[str, Any], read: League, anchor: str | None) -> None:
    """Rate all players, or the most whom a chain of games connects."""
    from kitae_marl.selfplay.league import anchor_of, connected_counts
    from kitae_marl.selfplay.ratings import rate

    names, counts = connected_counts(read.recorded, largest=True)
    if anchor is not None and anchor not in names:
        raise ConfigError(
            f"anchor: expected one who played and is rated, of {', '.join(names)}, got {anchor}.",
            "anchor",
        )
    rated = rate(names, counts, anchor or anchor_of(names, read.recorded))
    nobody = dict.fromkeys(("rating", "low", "high", "wins", "draws", "losses"))
    for name, row in found["players"].items():
        row |= rated.players[name]._asdict() if name in names else nobody
    players, matrix = found["players"], read.matrix()
    unrated = [name for name, row in players.items() if row["games"] and name not in names]
    found |= {
        "players": {
            n: players[n] for n in [*rated.players, *(n for n in players if n not in names)]
        },
        "anchor": rated.anchor,
        "first_seat": rated.first_seat._asdict(),
        "draw": rated.draw,
        "matrix": {
            "rows": matrix.rows,
            "columns": matrix.columns,
            "score": matrix.own.tolist(),
            "games": matrix.games.tolist(),
        },
        "best": _best(players, rated, matrix),
    }
    found["notes"] += rated.notes
    if unrated:
        found["notes"].append(
            f"not rated, since no chain of games connects them with the others: "
            f"{', '.join(unrated)}; random in a share of the environments connects all"
        )


def _best(players: Mapping[str, Any], rated: Ratings, matrix: Matrix) -> dict[str, Any] | None:
    """Return the best rated snapshot, and what the learner's last period scored against it."""
    name = next((n for n in rated.players if players[n]["kind"] == "snapshot"), None)
    if name is None:
        return None
    column = matrix.columns.index(name)
    return {
        "snapshot": name,
        "latest": matrix.rows[-1],
        "score": float(matrix.own[-1, column]),
        "games": int(matrix.games[-1, column]),
    }


def _add_alpha_rank(found: dict[str, Any], matrix: Matrix, recorded: Recorded) -> None:
    """Add the mass of each snapshot in the pool, where OpenSpiel is installed."""
    from kitae_marl.selfplay import alpha_rank

    try:
        sweep: Sweep | None = alpha_rank.find_sweep()
    except ImportError as error:
        found["notes"].append(f"no alpha-rank: {error}")
        return
    if sweep is None or not recorded.pool:
        return
    scores = alpha_rank.pool_scores(matrix, recorded.pool)
    gaps = int(np.isnan(scores).sum()) // 2
    if gaps:
        pairs = counted(len(scores) * (len(scores) - 1) // 2, "pair")
        found["notes"].append(
            f"no alpha-rank: the snapshots in the pool are {pairs}, of which {gaps} have no games"
        )
        return
    try:
        masses = alpha_rank.alpha_rank(scores, sweep)
    except (ValueError, RuntimeError) as error:
        found["notes"].append(f"no alpha-rank: {error}")
        return
    for step, mass in zip(recorded.pool, masses, strict=True):
        found["players"][f"step_{step}"]["alpha_rank"] = mass


def _shown(found: Mapping[str, Any], *, every: bool) -> dict[str, dict[str, Any]]:
    """Return the players to list: all, or without the learner's earlier periods."""
    players = found["players"]
    latest = [name for name, row in players.items() if row["kind"] == "learner"]
    latest.sort(key=lambda name: players[name]["env_step"])
    hidden = [] if every else latest[:-1]
    return {name: row for name, row in players.items() if name not in hidden}


def _say_ratings(found: Mapping[str, Any], options: Options) -> None:
    """Show the table of players, the best first."""
    shown = _shown(found, every=options.all)
    masses = any("alpha_rank" in row for row in shown.values())
    width = max(map(len, shown))
    head = f"{'player':{width}}  rating    95 % interval    games     won   drawn    lost"
    say(head + ("  alpha-rank" if masses else ""))
    for name, row in shown.items():
        if row["rating"] is None:
            line = f"{'.':>6}  {'':>15}  {row['games']:7}" + 24 * " "
        else:
            between = f"{row['low']:.0f} .. {row['high']:.0f}"
            line = f"{row['rating']:6.0f}  {between:>15}  {row['games']:7}"
            line += "".join(f" {row[key]:7}" for key in ("wins", "draws", "losses"))
        if masses:
            line += f"  {row['alpha_rank']:10.3f}" if "alpha_rank" in row else 12 * " "
        left = "" if row["left"] is None else f"  left at {row['left']:,}"
        say(f"{name:{width}}  {line}{left}".rstrip())
    value, low, high = found["first_seat"].values()
    seat = (
        ""
        if np.isnan(value)
        else f"; the first seat is worth {value:.0f} ({low:.0f} .. {high:.0f})"
    )
    say(f"{found['anchor'] or 'the mean of all'} is 0{seat}")
    if not options.all:
        say("the learner's earlier periods are left out (--all)")


def _say_scores(found: Mapping[str, Any]) -> None:
    """Show the matrix of scores, and the best snapshot beside the latest learner."""
    say("mean score of the learner in each period, up to a step, against snapshots and others")
    _say_matrix(found["matrix"], "score")
    best = found["best"]
    if best is not None:
        row, latest = found["players"][best["snapshot"]], best["latest"]
        met = (
            f"{latest} has scored {best['score']:.2f} against it in {best['games']:,} games"
            if best["games"]
            else f"{latest} has not met it"
        )
        say(
            f"best rated snapshot: {best['snapshot']} with {row['rating']:.0f} ({row['low']:.0f} "
            f".. {row['high']:.0f}); {met}"
        )


def _say_matrix(matrix: Mapping[str, Any], key: str) -> None:
    """Show a matrix, of a large one the last rows, and the columns that these met most."""
    from kitae_marl.evaluation.rating_plots import number_format

    columns, means = matrix["columns"], np.array(matrix[key], float)[-ROWS:]
    rows, form = matrix["rows"][-ROWS:], number_format(means)
    names = [name.removeprefix("step_") for name in columns]
    cells = [["." if np.isnan(x) else f"{x:{form}}" for x in row] for row in means]
    widths = [max(map(len, texts)) for texts in zip(names, *cells, strict=True)]
    width = max(map(len, rows))
    shown = _that_fit(np.array(matrix["games"])[-ROWS:].sum(0), widths, WIDTH - width)
    say(" " * width + "".join(f"  {names[j]:>{widths[j]}}" for j in shown))
    for name, texts in zip(rows, cells, strict=True):
        say(f"{name:{width}}" + "".join(f"  {texts[j]:>{widths[j]}}" for j in shown))
    if len(rows) < len(matrix["rows"]) or len(shown) < len(columns):
        say(
            f"shown are the last {len(rows)} of {counted(len(matrix['rows']), 'period')} and, of "
            f"{counted(len(columns), 'opponent')}, the {len(shown)} that these met most; --json "
            "has all, --out draws all"
        )


def _that_fit(games: np.ndarray, widths: Sequence[int], room: int) -> list[int]:
    """Return the columns of most games for which there is room, in their order."""
    shown = []
    for j in np.argsort(-games, kind="stable").tolist():
        room -= widths[j] + 2
        if room < 0 and shown:
            break
        shown.append(j)
    return sorted(shown)


def _add_returns(found: dict[str, Any], read: League) -> None:
    """Add mean returns, where nobody wins."""
    found["notes"].append(
        "no ratings: the returns of these games do not sum to zero, so nobody wins or loses"
    )
    found["returns"] = {}
    for team, matrix in read.return_matrices().items():
        found["returns"][team] = {
            "rows": matrix.rows,
            "columns": matrix.columns,
            "learner": matrix.own.tolist(),
            "opponent": matrix.others.tolist(),
            "games": matrix.games.tolist(),
        }
        total = matrix.games.sum(0), matrix.games.sum(1)
        sums = np.nansum(matrix.own * matrix.games, 0), np.nansum(matrix.own * matrix.games, 1)
        for names, n, sum_ in zip((matrix.columns, matrix.rows), total, sums, strict=True):
            for name, mean in zip(names, sum_ / n, strict=True):
                found["players"][name].setdefault("returns", {})[team] = float(mean)


def _say_returns(found: Mapping[str, Any], options: Options) -> None:
    """Show what the learner got against whom, by its team."""
    teams = found["returns"]
    shown = _shown(found, every=options.all)
    width, widths = max(map(len, shown)), [max(10, len(team)) for team in teams]
    say("mean return of the learner as each team: against the player, or in the period, of the row")
    heads = "".join(f"  {team:>{w}}" for team, w in zip(teams, widths, strict=True))
    say(f"{'player':{width}}    games{heads}")
    for name, row in shown.items():
        means = [row.get("returns", {}).get(team) for team in teams]
        texts = ["." if mean is None else f"{mean:.4g}" for mean in means]
        line = "".join(f"  {text:>{w}}" for text, w in zip(texts, widths, strict=True))
        left = "" if row["left"] is None else f"  left at {row['left']:,}"
        say(f"{name:{width}}  {row['games']:7}{line}{left}")
    if not options.all:
        say("the learner's earlier periods are left out (--all)")
    for team, matrix in teams.items():
        say(f"mean return of the learner as {team} in each period, up to a step, against others")
        _say_matrix(matrix, "learner")
        latest = np.array(matrix["learner"][-1], float)
        worst = int(np.nanargmin(latest))
        say(
            f"{matrix['rows'][-1]} as {team} got least against {matrix['columns'][worst]}: "
            f"{latest[worst]:.4g} in {matrix['games'][-1][worst]:,} games"
        )


def _draw(found: dict[str, Any], out: Path) -> None:
    """Draw the league."""
    from kitae_marl.evaluation.rating_plots import plot_league

    if "matrix" not in found and "returns" not in found:
        raise ConfigError(f"out: expected games to draw, got none yet of {found['name']}.", "out")
    plot_league(out, found)
    say(f"drawn into {out}")
    found["out"] = str(out)
