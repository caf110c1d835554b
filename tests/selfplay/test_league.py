"""What is read from the league of a run: players, matrices, and alpha-rank."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.contents import write_config
from kitae_marl.runs.store.league import (
    Games,
    LeagueFile,
    games_event,
    leave_event,
    member_event,
)
from kitae_marl.selfplay import alpha_rank
from kitae_marl.selfplay.league import League, Matrix, connected_counts, players_of


def games(
    step: int, opponent: str, n: int, wins: int, *, first: bool = True, unbalanced: int = 0
) -> dict[str, Any]:
    team, own = ("a", 2.0 * wins - n) if first else ("b", 1.0 * n)
    return games_event(Games(step, opponent, team, first, n, wins, 0, own, -own, unbalanced))


EVENTS = [
    member_event(0),
    games(100, "step_0", 10, 6),
    games(100, "random", 4, 3),
    member_event(100),
    leave_event(100, 0),
    games(200, "step_100", 8, 4, first=False),
    games(200, "random", 4, 2),
    games(200, "random", 4, 4, first=False),
    member_event(200),
    games(250, "step_100", 2, 1),
]


def league_of(tmp_path: Path, events: list[dict[str, Any]]) -> League:
    run = tmp_path / "run"
    run.mkdir()
    write_config(run, Config(env_id="classic/tictactoe-v3"))
    LeagueFile(run).append(events)
    return League(run)


def test_players_are_listed_with_what_they_are(tmp_path):
    rows = {row.name: row for row in players_of(league_of(tmp_path, EVENTS).recorded)}
    assert [tuple(row) for row in rows.values()] == [
        ("step_0", "snapshot", None, 0, 100, 10),
        ("step_100", "snapshot", None, 100, None, 10),
        ("step_200", "snapshot", None, 200, None, 0),
        ("random", "fixed", None, None, None, 12),
        ("learner@100", "learner", 0, 100, None, 14),
        ("learner@200", "learner", 100, 200, None, 16),
        ("learner", "learner", 200, 250, None, 2),
    ]


def test_the_matrix_has_the_scores_of_both_seats(tmp_path):
    matrix = league_of(tmp_path, EVENTS).matrix()
    assert matrix.rows == ["learner@100", "learner@200", "learner"]
    assert matrix.columns == ["random", "step_0", "step_100"]
    gap = np.nan
    scores = [[0.75, 0.6, gap], [0.75, gap, 0.5], [gap, gap, 0.5]]
    np.testing.assert_allclose(matrix.own, scores)
    np.testing.assert_allclose(matrix.others, 1 - np.array(scores))
    assert matrix.games.tolist() == [[4, 10, 0], [8, 0, 8], [0, 0, 2]]


def test_returns_stand_by_team(tmp_path):
    league = league_of(tmp_path, [*EVENTS, games(250, "random", 3, 0, unbalanced=3)])
    assert not league.zero_sum
    with pytest.raises(ConfigError, match="nobody wins"):
        league.matrix()
    matrices = league.return_matrices()
    assert list(matrices) == ["a", "b"]
    assert matrices["a"].own[-1].tolist()[0] == -1.0
    assert matrices["b"].rows == ["learner@200"]
    assert matrices["b"].own.tolist() == [[1.0, 1.0]]
    assert matrices["b"].others.tolist() == [[-1.0, -1.0]]


def test_rated_are_those_whom_games_connect_with_the_latest(tmp_path):
    apart = [member_event(0), games(100, "step_0", 10, 6), member_event(100)]
    apart.append(games(200, "step_100", 10, 5))
    recorded = league_of(tmp_path, apart).recorded
    for largest in (True, False):
        names, counts = connected_counts(recorded, largest=largest)
        assert names == ["learner", "step_100"]
        assert counts.total.sum() == 10


def test_or_the_most(tmp_path):
    recorded = league_of(tmp_path, [*EVENTS[:-1], games(250, "step_200", 10, 5)]).recorded
    assert connected_counts(recorded)[0] == ["learner", "step_200"]
    names, counts = connected_counts(recorded, largest=True)
    assert set(names) == {"learner@100", "step_0", "random", "learner@200", "step_100"}
    assert counts.total.sum() == 30


def test_a_file_without_events_is_told_from_none(tmp_path):
    with pytest.raises(ConfigError, match=r"got no event in its league/games.jsonl"):
        league_of(tmp_path, [])
    (tmp_path / "run" / "league" / "games.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"got one without league/games.jsonl"):
        League(tmp_path / "run")


class TestAlphaRank:
    def test_the_later_of_two_snapshots_has_played(self):
        rows, columns = ["learner@10", "learner@20", "learner"], ["random", "step_0", "step_10"]
        own = np.array([[0.9, 0.7, np.nan], [0.9, 0.8, 0.6], [0.9, 0.8, 0.5]])
        matrix = Matrix(rows, columns, own, 1 - own, np.ones((3, 3), np.int64))
        scores = alpha_rank.pool_scores(matrix, [0, 10, 20])
        expected = [[0.5, 0.3, 0.2], [0.7, 0.5, 0.4], [0.8, 0.6, 0.5]]
        np.testing.assert_allclose(scores, expected)
        assert np.isnan(alpha_rank.pool_scores(matrix, [0, 30])[0, 1])

    def test_masses_are_what_openspiel_finds(self):
        def sweep(payoffs: list[np.ndarray]) -> np.ndarray:
            (scores,) = payoffs
            np.exp(np.array([1e4]))  # as strong selection overflows, without a warning
            return np.array([-0.0, *scores[0, 1:]])

        assert alpha_rank.alpha_rank(np.array([[0.5, 1.0], [0.0, 0.5]]), sweep) == [0.0, 1.0]

    def test_without_openspiel_there_is_none(self, monkeypatch):
        monkeypatch.setattr(alpha_rank, "find_spec", lambda name: None)
        assert alpha_rank.find_sweep() is None

    def test_a_package_that_openspiel_lacks_is_named(self, monkeypatch):
        def fail(name: str) -> None:
            raise ModuleNotFoundError("no", name="networkx")

        monkeypatch.setattr(alpha_rank, "find_spec", lambda name: name)
        monkeypatch.setattr(alpha_rank, "import_module", fail)
        with pytest.raises(ImportError, match=r"alpha-rank needs networkx; .* install networkx"):
            alpha_rank.find_sweep()

    def test_it_is_the_sweep_over_alpha(self, monkeypatch):
        module = ModuleType("alpharank")
        monkeypatch.setattr(module, "sweep_pi_vs_alpha", len, raising=False)
        monkeypatch.setattr(alpha_rank, "find_spec", lambda name: name)
        monkeypatch.setitem(sys.modules, "open_spiel.python.egt.alpharank", module)
        monkeypatch.setattr(alpha_rank, "import_module", lambda name: sys.modules[name])
        assert alpha_rank.find_sweep() is len

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what it imports
    def test_openspiel_itself_says_that_circles_are_even(self):
        pytest.importorskip("open_spiel.python.egt.alpharank", exc_type=ImportError)
        circle = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
        sweep = alpha_rank.find_sweep()
        assert sweep is not None
        np.testing.assert_allclose(alpha_rank.alpha_rank(circle, sweep), 1 / 3)
