"""The command that shows the league of a run, on events written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kitae_marl.cli.main import main
from kitae_marl.config.run import Config
from kitae_marl.runs.store.contents import write_config
from kitae_marl.runs.store.files import LOCK, locked
from kitae_marl.runs.store.league import (
    Games,
    LeagueFile,
    games_event,
    leave_event,
    member_event,
)
from kitae_marl.selfplay import alpha_rank

TICTACTOE = "classic/tictactoe-v3"
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def _without_openspiel(monkeypatch):
    monkeypatch.setattr(alpha_rank, "find_sweep", lambda: None)


def games(step: int, opponent: str, wins: int, n: int = 20, unbalanced: int = 0) -> list[Event]:
    """What came of games of one opponent from both seats."""
    return [
        games_event(
            Games(step, opponent, team, first, n, wins, min(2, n - wins), own, -own, unbalanced)
        )
        for team, first, own in (("player_1", True, 1.0 * wins), ("player_2", False, 2.0 * wins))
    ]


def league_of(periods: int, *, every: int = 1000, unbalanced: int = 0) -> list[Event]:
    """A run that took so many snapshots, and whose learner met all that were left."""
    events, pool = [member_event(0)], [0]
    for step in range(every, (periods + 1) * every, every):
        events += games(step, "random", 12 + min(step // every, 6), unbalanced=unbalanced)
        for member in pool:
            events += games(step, f"step_{member}", 10, unbalanced=unbalanced)
        events.append(member_event(step))
        pool.append(step)
        if len(pool) > 12:
            events.append(leave_event(step, pool.pop(1)))
    for opponent in ("random", f"step_{pool[-1]}"):
        events += games((periods + 1) * every, opponent, 11, unbalanced=unbalanced)
    return events


@pytest.fixture
def call(tmp_path, monkeypatch, capsys) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(events: list[Event], *args: str) -> tuple[str, dict[str, Any]]:
        run = make_run(tmp_path)
        LeagueFile(run).append(events)
        capsys.readouterr()
        main(["league", "run", *args, "--json"])
        out = capsys.readouterr().out
        return out, json.loads(out.strip().splitlines()[-1])

    return call


def make_run(folder: Path) -> Path:
    run = folder / "runs" / "run"
    run.mkdir(parents=True)
    write_config(run, Config(env_id=TICTACTOE))
    return run


def test_players_are_rated_and_the_best_is_held_against_the_latest(call):
    out, result = call(league_of(3))
    assert "run on classic/tictactoe-v3: 4 snapshots in the pool; 440 games" in out
    assert (result["anchor"], result["zero_sum"], result["training"]) == ("random", True, False)
    players = result["players"]
    assert players["random"]["rating"] == 0
    rated = [row["rating"] for row in players.values()]
    assert rated == sorted(rated, reverse=True)
    assert players["step_0"]["games"] == 120
    assert players["step_0"]["wins"] + players["step_0"]["losses"] < 120
    assert {row["kind"] for row in players.values()} == {"snapshot", "learner", "fixed"}
    listed = [line.split()[0] for line in out.splitlines() if " .. " in line]
    assert {"learner", "step_0", "random"} <= set(listed)
    assert "learner@1000" not in listed
    assert result["best"]["latest"] == "learner"
    assert f"best rated snapshot: {result['best']['snapshot']} with " in out
    matrix = result["matrix"]
    assert matrix["rows"] == ["learner@1000", "learner@2000", "learner@3000", "learner"]
    assert matrix["columns"] == ["random", "step_0", "step_1000", "step_2000", "step_3000"]
    assert matrix["score"][0][:3] == [0.7, 0.55, None]
    assert matrix["games"][-1] == [40, 0, 0, 0, 40]


def test_all_lists_the_earlier_periods(call):
    out, _ = call(league_of(3), "--all")
    listed = [line.split()[0] for line in out.splitlines() if " .. " in line]
    assert "learner@1000" in listed
    assert "(--all)" not in out


def test_without_random_the_oldest_snapshot_is_zero(call):
    events = [e for e in league_of(3) if e.get("opponent") != "random"]
    out, result = call(events)
    assert result["anchor"] == "step_0"
    assert "step_0 is 0" in out


def test_another_may_be_zero(call):
    _, result = call(league_of(3), "--anchor", "step_1000")
    assert result["players"]["step_1000"]["rating"] == 0


def test_of_a_large_league_the_last_and_most_met_are_shown(call):
    out, result = call(league_of(30, every=100_000))
    assert "13 snapshots" not in out
    assert "12 snapshots in the pool, 19 that left it" in out
    assert "left at 1,200,000" in out
    assert "shown are the last 12 of 31 periods and, of 32 opponents, the" in out
    start = out.index("mean score")
    table = out[start : out.index("shown are")].splitlines()[1:]
    assert max(map(len, table)) <= 100
    assert len(table) == 13
    assert "random" in table[0].split()
    assert len(result["matrix"]["rows"]) == 31


def test_players_whom_no_games_connect_are_not_rated(call):
    events = [member_event(0), *games(1000, "step_0", 9), member_event(1000)]
    out, result = call([*events, *games(2000, "step_1000", 9)])
    assert result["players"]["step_0"]["rating"] is None
    assert "not rated, since no chain of games connects them" in out
    assert "step_0, learner@1000; random in a share" in out


def test_an_interval_without_an_end_is_drawn_to_the_edge(call, tmp_path):
    events = [member_event(0), *games(1000, "step_0", 9), *games(1000, "random", 20)]
    picture = tmp_path / "league.png"
    out, result = call(events, "--out", str(picture))
    assert result["players"]["random"]["low"] == 0
    assert result["players"]["step_0"]["high"] is None
    assert "is infinite" in out
    with Image.open(picture) as image:
        assert image.width > 500


def test_a_large_league_is_drawn(call, tmp_path):
    call(league_of(30), "--out", str(tmp_path / "league.png"))
    assert (tmp_path / "league.png").stat().st_size > 10_000


def test_where_nobody_wins_returns_are_shown_by_team(call, tmp_path):
    picture = tmp_path / "league.png"
    out, result = call(league_of(3, unbalanced=1), "--out", str(picture))
    assert not result["zero_sum"]
    assert "no ratings: the returns of these games do not sum to zero" in out
    assert "rating" not in result["players"]["random"]
    assert result["players"]["step_3000"]["returns"] == {"player_1": 0.55, "player_2": 1.1}
    assert set(result["returns"]) == {"player_1", "player_2"}
    team = result["returns"]["player_2"]
    assert team["learner"][0][:3] == [1.3, 1.0, None]
    assert team["opponent"][0][:2] == [-1.3, -1.0]
    assert "learner as player_2 got least against random: 1.1 in 20 games" in out
    assert picture.is_file()


def circle(payoffs: list[np.ndarray]) -> np.ndarray:
    assert not np.isnan(payoffs[0]).any()
    return np.full(len(payoffs[0]), 1 / len(payoffs[0]))


def test_alpha_rank_is_a_column_where_all_have_met(call, monkeypatch):
    monkeypatch.setattr(alpha_rank, "find_sweep", lambda: circle)
    out, result = call(league_of(3))
    assert "lost  alpha-rank" in out
    assert result["players"]["step_1000"]["alpha_rank"] == 0.25
    assert "alpha_rank" not in result["players"]["random"]


def test_alpha_rank_says_that_some_have_not_met(call, monkeypatch):
    monkeypatch.setattr(alpha_rank, "find_sweep", lambda: circle)
    events = [e for e in league_of(3) if (e.get("opponent"), e["step"]) != ("step_0", 3000)]
    out, _ = call(events)
    assert "no alpha-rank: the snapshots in the pool are 6 pairs, of which 1 have no games" in out


@pytest.mark.parametrize("error", [ImportError, ValueError])
def test_alpha_rank_that_fails_is_told(error, call, monkeypatch):
    def fail(*_: Any) -> Any:
        raise error("why")

    monkeypatch.setattr(alpha_rank, "find_sweep", fail if error is ImportError else lambda: fail)
    out, result = call(league_of(3))
    assert "no alpha-rank: why" in out
    assert result["notes"][-1] == "no alpha-rank: why"


def test_members_without_games_are_listed(call):
    out, result = call([member_event(0)])
    assert "no game has ended yet" in out
    assert list(result["players"]) == ["step_0"]


def test_a_run_in_training_is_read_beside_its_writer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path)
    LeagueFile(run).append(league_of(2))
    with LeagueFile(run).path.open("a") as file:
        file.write('{"event": "games", "st')
    assert not (run / LOCK).exists()
    torn = r"line 18 is no event of a league \(the last one is torn\) and is left out"
    with locked(run), pytest.warns(UserWarning, match=torn):
        main(["league", "run"])
    out = capsys.readouterr().out
    assert "; the run is being trained" in out
    assert "learner" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected a run that plays against a pool (train --opponents), got one without"),
        ("", "got no event in its league/games.jsonl"),
        pytest.param(
            "nothing\n",
            "got no event in its league/games.jsonl",
            marks=pytest.mark.filterwarnings("ignore:.*line 1 is no event"),
        ),
    ],
)
def test_a_run_without_a_league_is_bad_input(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path)
    if text is not None:
        (run / "league").mkdir()
        (run / "league" / "games.jsonl").write_text(text)
    fails(["run"], message, capsys)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing"], "no run at 'missing'; runs in runs: run"),
        (
            ["run", "--anchor", "me"],
            "anchor: expected one who played and is rated, of learner@1000",
        ),
        (["run", "--out", "x.txt"], "x.txt"),
    ],
)
def test_bad_input_is_told(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    LeagueFile(make_run(tmp_path)).append(league_of(2))
    fails(args, message, capsys)


def test_where_nobody_is_rated_nobody_is_zero(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    LeagueFile(make_run(tmp_path)).append(league_of(2, unbalanced=1))
    fails(["run", "--anchor", "random"], "anchor: expected zero-sum games", capsys)


def test_nothing_to_draw_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    LeagueFile(make_run(tmp_path)).append([member_event(0)])
    fails(["run", "--out", "x.png"], "expected games to draw, got none yet", capsys)
    assert not (tmp_path / "x.png").exists()


def fails(args: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["league", *args])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
