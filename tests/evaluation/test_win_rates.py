"""Win rates against random while a zero-sum game is trained, and episodes that repeat."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from kitae_marl import Agent, Config, PPOConfig, evaluate, evaluate_sides, make_vec_env, summarize
from kitae_marl.cli.main import main
from kitae_marl.evaluation import Evaluation, compare, win_rates
from kitae_marl.evaluation.choosing import default_metrics
from kitae_marl.evaluation.win_rates import WinRates
from kitae_marl.players.policies import FirstLegal, random_policy
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

TICTACTOE = "classic/tictactoe-v3"


@pytest.fixture(scope="module")
def board():
    env = make_vec_env(TICTACTOE, 4, n_workers=0)
    yield env
    env.close()


class TestRepeatedEpisodes:
    def test_one_game_played_fifty_times_is_one_episode(self, board):
        summary = evaluate(FirstLegal(board), board, 50).summary()
        assert (summary["episodes"], summary["distinct_episodes"]) == (50, 1)
        row = summary["returns"]["player_1"]
        assert row["mean"] == 1.0
        assert all(math.isnan(row[key]) for key in ("stderr", "low", "high", "iqm_low", "iqm_high"))

    def test_each_side_is_counted_by_itself(self, board):
        played = evaluate_sides(FirstLegal(board), FirstLegal(board), board, 6)
        assert played.distinct() == {"player_1": 1, "player_2": 1, "mean": 1}

    def test_chance_makes_episodes_differ(self, board):
        one = evaluate(random_policy(board, 0), board, 40)
        assert one.distinct()["player_1"] > 35
        spread = make_vec_env("mpe/simple_spread-v3", 2, n_workers=0)
        assert evaluate(FirstLegal(spread), spread, 6).distinct()["mean"] == 6
        spread.close()

    def test_the_interval_is_that_of_as_many_values_as_differ(self):
        """Ten values of which two differ: as unsure as of two values of the same spread."""
        values = np.tile([0.0, 1.0], 5)
        marks = {"a": np.tile([7, 8], 5)}
        repeated = Evaluation({"a": values}, values, {"a": ("a",)}, marks=marks)
        row = repeated.summary()["returns"]["a"]
        assert row["mean"] == 0.5
        assert row["stderr"] == pytest.approx(np.std(values, ddof=1) / math.sqrt(2))
        assert (row["iqm_low"], row["iqm_high"]) == (0.0, 1.0)
        whole = Evaluation({"a": values}, values, {"a": ("a",)})
        own = compare([repeated], [whole])["returns"]["a"]["iqm_difference"]
        sure = compare([whole], [whole])["returns"]["a"]["iqm_difference"]
        assert own["estimate"] == sure["estimate"] == 0.0
        assert own["high"] - own["low"] > sure["high"] - sure["low"]

    def test_runs_stay_independent(self):
        values, marks = np.ones(4), {"a": np.zeros(4)}
        runs = [Evaluation({"a": values + k}, values, {"a": ("a",)}, marks=marks) for k in range(2)]
        summary = summarize(runs)
        assert (summary["unit"], summary["distinct_episodes"]) == ("runs", 1)
        assert np.isfinite(summary["returns"]["a"]["stderr"])


class TestWinRates:
    def test_shares_of_episodes_won_by_seat(self, monkeypatch):
        monkeypatch.setattr(win_rates, "FIRST", 0.0)
        monkeypatch.setattr(win_rates, "SHARE", 1e9)
        env = CompiledVecParallelEnv(TICTACTOE, 4)
        ppo = PPOConfig(n_steps=8, n_minibatches=2, hidden_sizes=(8,))
        agent = Agent(env, Config(env_id=TICTACTOE, n_envs=4, env_steps=640, ppo=ppo))
        made = []
        rates = WinRates(lambda: made.append(env) or env)
        first = rates(agent, 32)
        assert list(first) == ["win_rate/player_1", "win_rate/player_2", "win_rate/mean"]
        assert all(0.0 <= value <= 1.0 for value in first.values())
        assert rates(agent, 33) == {}  # not yet another part of the run
        assert rates(agent, 33, last=True) == first  # nothing was learned, and the games are equal
        assert rates(agent, 33, last=True) == {}
        assert made == [env]
        rates.close()
        assert env.closed

    def test_they_take_a_small_share_of_the_time(self):
        rates = WinRates(lambda: pytest.fail("was to be played too early"))
        env = CompiledVecParallelEnv(TICTACTOE, 4)
        agent = Agent(env, Config(env_id=TICTACTOE, n_envs=4, env_steps=64))
        assert rates(agent, 64, last=True) == {}

    @pytest.mark.usefixtures("quickest_compilation")
    def test_commands_show_them(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(win_rates, "FIRST", 0.0)
        monkeypatch.setattr(win_rates, "SHARE", 1e9)
        small = ["--n-envs", "8", "--ppo.n-steps", "16", "--ppo.hidden-sizes", "8"]
        small += ["--ppo.n-minibatches", "2", "--ppo.n-epochs", "1", "--env-steps", "512"]
        main(["train", TICTACTOE, "--run", "x", *small, "--json"])
        out = capsys.readouterr().out
        assert "won against the random policy, most probable actions: player_1 " in out
        assert "evaluate x --against random" in out
        assert "mean 0.00" not in out
        result = json.loads(out.splitlines()[-1])
        assert list(result["win_rates"]) == ["player_1", "player_2", "mean"]
        with (tmp_path / "runs" / "x" / "metrics.csv").open(newline="") as file:
            rows = [*csv.DictReader(file)]
        assert sum(row["win_rate/mean"] != "" for row in rows) >= 2
        timed = [{k for k in row if k.startswith("time/") and row[k]} for row in rows[:2]]
        assert timed[0] == {"time/compile_s", "time/program_s", "time/rest_s"}
        assert timed[1] in (set(), {"time/program_s", "time/rest_s"})  # one may be of win rates
        main(["runs"])
        assert "against random" in capsys.readouterr().out
        metrics = ["win_rate/mean", "return/player_1", "return/player_2"]
        chosen = default_metrics([tmp_path / "runs" / "x"])
        assert [column for choice in chosen for column in choice.columns] == metrics
        main(["plot", "x", "--json"])
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"] == metrics
        main(["evaluate", "x", "--episodes", "20", "--n-workers", "0"])
        out = capsys.readouterr().out
        assert "all 20 episodes are one and the same" in out
        assert "(no interval)" in out
        assert "--sample lets" in out
        assert "player_1              " in out
        assert "  mean   " not in out
