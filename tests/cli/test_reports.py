"""The commands that evaluate, compare and draw, on tiny runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kitae_marl.cli.main import main
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.contents import write_config, write_groups
from kitae_marl.runs.store.files import write_text
from kitae_marl.runs.store.folders import create_run
from kitae_marl.runs.store.sets import write_set
from kitae_marl.selfplay.seat_filler import SeatFiller
from kitae_marl.vector.make import make_vec_env

GAME = "mpe/simple_spread-v3"
FEW = ["--episodes", "4", "--n-envs", "2", "--n-workers", "0"]

pytestmark = pytest.mark.usefixtures("quickest_compilation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Run folders: a set ``many`` of two seeds, ``other`` of another setting, ``board``."""
    root = tmp_path_factory.mktemp("reports")
    (root / "many").mkdir()
    write_set(root / "many", [0, 1])
    make_run(root / "many" / "seed_0", GAME, 0)
    make_run(root / "many" / "seed_1", GAME, 1)
    make_run(root / "other", GAME, 2, gamma=0.5)
    make_run(root / "board", "classic/tictactoe-v3", 0)
    make_run(root / "alone", "mpe/simple-v3", 0, steps=(0, 1))
    make_run(root / "short", "mpe/simple-v3", 0, max_episode_steps=3)
    make_run(root / "first", "classic/tictactoe-v3", 0, seats={"player_2": "random"})
    return root


def make_run(
    path: Path, env_id: str, seed: int, gamma: float = 0.9, steps=(0,), **settings: Any
) -> None:
    """Save an agent that has learned nothing, with metrics as if it had, as of some steps."""
    ppo = PPOConfig(hidden_sizes=(4,), gamma=gamma)
    config = Config(env_id=env_id, seed=seed, ppo=ppo, **settings)
    env = SeatFiller(config.seats, path.parent).seat(make_vec_env(env_id, 1, n_workers=0))
    agent = Agent(env, config)
    env.close()
    create_run(path)
    write_groups(path, agent.possible_agents, agent.groups)
    write_config(path, agent.config)
    tags = ["return/mean", *(f"return/{name}" for name in agent.possible_agents)]
    rows = [["step", *tags], *([str(i)] + [f"{seed}.{i}"] * len(tags) for i in range(1, 9))]
    write_text(path / "metrics.csv", "".join(",".join(row) + "\n" for row in rows))
    for step in steps:
        keeper = RunCheckpointer(path / "checkpoints", save_every=1, num_envs=1)
        keeper.write(agent.run_state()._replace(step=np.array(step)))


@pytest.fixture
def call(folder, monkeypatch, capsys):
    """Run a command with ``--json`` in the folder of runs, and return its JSON and its text."""
    monkeypatch.chdir(folder)

    def run(*args: str) -> tuple[dict[str, Any], str]:
        main([*args, "--json", *([] if args[0] == "brackets" else ["--runs-dir", "."])])
        *lines, last = capsys.readouterr().out.strip().splitlines()
        return json.loads(last), "\n".join(lines)

    return run


class TestEvaluate:
    def test_a_set_of_seeds_is_one_result(self, call):
        result, text = call("evaluate", "many", *FEW)
        assert (result["unit"], result["runs"], result["episodes"]) == ("runs", 2, 8)
        names = [Path(one["run_dir"]).name for one in result["each"]]
        assert names == ["seed_0", "seed_1"]
        means = [one["returns"]["mean"]["mean"] for one in result["each"]]
        assert result["returns"]["mean"]["mean"] == pytest.approx(sum(means) / 2)
        low, high = (result[x]["returns"]["mean"]["mean"] for x in ("random", "oracle"))
        score = (result["returns"]["mean"]["mean"] - low) / (high - low)
        assert result["score"]["mean"] == pytest.approx(score)
        assert "shortest assignment" in result["oracle"]["policy"]
        for word in ("undiscounted", "over runs", "IQM", "random", "score", "seed_1"):
            assert word in text

    def test_runs_of_several_games(self, call):
        result, text = call("evaluate", "other", "board", *FEW, "--no-oracle")
        other, board = result["results"]
        assert (other["unit"], other["runs"], other["oracle"]) == ("episodes", 1, None)
        assert result["score"] is None
        assert "no score over all games" in text
        for counts in board["outcomes"].values():
            assert sum(counts.values()) == 4

    def test_scores_over_games(self, call):
        result, _ = call("evaluate", "many", "board", *FEW, "--against", "random")
        assert {"mean", "iqm", "iqm_low", "iqm_high"} <= result["score"].keys()

    def test_seat_by_seat(self, call):
        result, text = call("evaluate", "board", *FEW, "--against", "random")
        assert set(result["returns"]) == {"player_1", "player_2", "mean"}
        assert "one side" in result["definition"]
        assert "won" in text
        assert "4 episodes, most probable actions (--sample" in text
        assert "each side against random" in text
        against_itself, _ = call("evaluate", "board", *FEW, "--against", "board", "--no-oracle")
        assert against_itself["returns"]["mean"]["mean"] == 0  # no chance in it, and zero-sum

    def test_the_seats_of_the_run_are_filled_as_in_training(self, call):
        result, text = call("evaluate", "first", *FEW, "--sample")
        assert "classic/tictactoe-v3 (player_2: random): 1 run" in text
        assert "actions sampled as in training" in text
        assert result["sample"]
        assert set(result["returns"]) == {"player_1", "mean", "team"}
        assert result["seats"] == {"player_2": "random"}
        assert result["oracle"] is None  # it plays all sides

    def test_episodes_are_truncated_as_in_training(self, call):
        result, text = call("evaluate", "short", *FEW, "--no-oracle")
        assert (result["length"], result["max_episode_steps"]) == (3.0, 3)
        assert "episodes of at most 3 steps" in text
        result, _ = call("evaluate", "short", *FEW, "--no-oracle", "--max-episode-steps", "2")
        assert result["length"] == 2.0

    def test_several_seeds_of_the_games(self, call):
        result, _ = call("evaluate", "other", *FEW, "--no-oracle", "--seeds", "1", "2", "3")
        assert result["episodes"] == 12
        one, _ = call("evaluate", "other", *FEW, "--no-oracle", "--seed", "2")
        assert one["episodes"] == 4


class TestCompare:
    def test_two_sides(self, call, folder):
        result, text = call("compare", "many", "other", *FEW, "--out", "c.png")
        assert result["unit"] == "episodes"  # other is a single run
        row = result["returns"]["mean"]["probability_of_improvement"]
        assert 0 <= row["low"] <= row["estimate"] <= row["high"] <= 1
        assert [Path(path).name for path in result["run_b"]] == ["other"]
        assert (folder / "c.png").stat().st_size > 5000
        assert "P " in text
        for line in ("A: many on mpe/simple_spread-v3: 2 runs", "B: other on mpe/simple_spread-v3"):
            assert line in text
        assert "warning" not in text  # episodes are compared, of which there are enough

    def test_few_runs_on_a_side(self, call):
        result, text = call("compare", "many", "many", *FEW)
        assert result["unit"] == "runs"
        assert f"warning: {result['warning']}" in text

    def test_a_run_is_as_good_as_itself(self, call):
        result, _ = call("compare", "other", "other", *FEW)
        row = result["returns"]["mean"]
        assert row["probability_of_improvement"]["estimate"] == 0.5
        assert row["iqm_difference"]["estimate"] == 0


class TestPlot:
    def test_curves_with_references(self, call, folder):
        result, text = call("plot", "many", "other", "--out", "curve.png")
        assert "random and oracle: as kitae-marl brackets lists them" in text
        assert "at the end: mean over" in text
        assert [curve["name"] for curve in result["curves"]] == ["many", "other"]
        assert set(result["references"]) == {"random", "oracle"}
        assert (folder / "curve.png").stat().st_size > 5000

    def test_one_given_by_name_twice_counts_once(self, call):
        result, text = call("plot", "many", "many/seed_1", "--out", "curve.png")
        assert [curve["name"] for curve in result["curves"]] == ["many .. seed_1"]
        assert "2 runs" in text

    def test_several_metrics_smoothed_with_what_differs(self, call):
        what = ("--metric", "return,mean", "--metric", "agent_0", "--smooth", "3")
        result, text = call("plot", *what, "many", "other", "--out", "curve.png")
        agents = [f"return/agent_{i}" for i in range(3)]
        assert result["metrics"] == [*agents, "return/mean"]
        assert [curve["name"] for curve in result["curves"]] == [
            *(f"{name} {agent}" for agent in agents for name in ("many", "other")),
            *("many", "other") * 2,
        ]
        assert result["settings"] == ["many: ppo.gamma 0.9", "other: ppo.gamma 0.5"]
        assert "each the mean of the last 3" in text

    def test_a_run_without_the_metric_is_left_out(self, call, folder):
        table = folder / "other" / "metrics.csv"
        before = table.read_text()
        table.write_text(before.replace("return/mean", "rate"))
        try:
            result, text = call("plot", "other", "many", "--metric", "rate", "--out", "curve.png")
        finally:
            table.write_text(before)
        assert [curve["name"] for curve in result["curves"]] == ["other"]
        assert "rate: left out seed_0, seed_1 of many" in text

    def test_of_a_pattern_metrics_without_a_value_are_left_out(self, call, folder):
        table = folder / "other" / "metrics.csv"
        before = table.read_text()
        table.write_text("step,none,rate\n1,nan,0.5\n")
        try:
            result, text = call("plot", "other", "--metric", "*", "--out", "curve.png")
        finally:
            table.write_text(before)
        assert [curve["iqm"] for curve in result["curves"]] == [[0.5]]
        assert "none: left out other of other" in text

    def test_no_lines_where_training_plays_all_sides(self, call):
        result, _ = call("plot", "board", "--out", "curve.svg", "--metric", "return/player_1")
        assert result["references"] == {}


class TestWatch:
    def test_several_runs_side_by_side(self, call, folder):
        result, _ = call("watch", "many", "board", "--episodes", "1", "--out", "w.gif")
        assert [Path(path).name for path in result["run_dirs"]] == ["seed_0", "seed_1", "board"]
        assert result["frames"] == 25 + 1  # those of the longest; the board game ends before
        with Image.open(folder / "w.gif") as film:
            assert film.n_frames == 26
            assert film.width == 2 * (400 + 2)

    @pytest.mark.parametrize("kind", ["make_blind", "Printed"])
    def test_a_game_whose_render_mode_is_its_own(self, call, folder, kind):
        """One takes no ``render_mode`` and draws all the same, one prints what it shows."""
        if not (folder / kind).exists():
            make_run(folder / kind, f"small_games:{kind}", 0)
        out = f"{kind}.gif"
        result, _ = call(
            "watch", kind, "--episodes", "1", "--out", out, "--plain", "--allow-import"
        )
        assert result["frames"] == 8 + 1
        with Image.open(folder / out) as film:
            assert film.size == ((16, 16) if kind == "make_blind" else (80, 34))
            assert film.n_frames > 1

    def test_a_game_that_cannot_render(self, folder, monkeypatch, capsys):
        game = "gymnasium:CartPole-v1"
        monkeypatch.chdir(folder)
        name = game.split(":")[0]
        if not (folder / name).exists():
            make_run(folder / name, game, 0)
        monkeypatch.setattr("gymnasium.envs.classic_control.CartPoleEnv.render", lambda self: None)
        with pytest.raises(SystemExit) as caught:
            main(["watch", name, "--runs-dir", ".", "--out", "no.gif", "--allow-import"])
        assert caught.value.code == 2
        assert f"{game} cannot be filmed" in capsys.readouterr().err
        assert not (folder / "no.gif").exists()


class TestExport:
    def test_arrays_and_module(self, call, folder):
        result, text = call("export", "other", "--out", "spread.npz")
        assert result["agents"] == ["agent_0", "agent_1", "agent_2"]
        assert (folder / "spread.npz").read_bytes()[:2] == b"PK"
        assert "class Policy" in (folder / "spread.py").read_text()
        assert "from spread import Policy" in text


class TestCheckpoints:
    """``RUN@STEP`` is taken where ``--step`` is."""

    def test_each_step_is_a_result(self, call):
        result, text = call("evaluate", "alone@0", "alone@1", *FEW, "--no-oracle")
        assert [(one["name"], one["step"]) for one in result["results"]] == [
            ("alone@0", 0),
            ("alone@1", 1),
        ]
        assert [one["each"][0]["step"] for one in result["results"]] == [0, 1]
        assert "alone@0 on mpe/simple-v3: 1 run, 4 episodes" in text
        assert "checkpoint 0\n" in text

    def test_a_set_is_as_of_one_step(self, call):
        result, _ = call("evaluate", "many@0", *FEW, "--no-oracle")
        assert (result["name"], result["step"], result["runs"]) == ("many@0", 0, 2)
        assert [one["step"] for one in result["each"]] == [0, 0]

    def test_a_run_is_compared_with_its_past(self, call):
        result, text = call("compare", "alone@0", "alone", *FEW)
        assert (result["step_a"], result["step_b"]) == (0, None)
        assert "A: alone@0 on" in text
        assert "B: alone on" in text

    def test_steps_are_marked_on_one_curve(self, call):
        result, _ = call("plot", "alone@0", "alone@1", "--out", "curve.svg")
        (curve,) = result["curves"]
        assert (curve["name"], list(curve["marks"])) == ("alone", ["0", "1"])

    def test_filmed_and_exported(self, call):
        result, _ = call("watch", "alone@0", "alone", "--episodes", "1", "--out", "past.gif")
        assert result["steps"] == [0, None]
        call("export", "alone@0", "--out", "past.npz")


class TestBrackets:
    def test_measured(self, call):
        result, text = call("brackets", "mpe/simple_spread-v3", *FEW, "--env-kwargs", '{"N": 2}')
        (entry,) = result["brackets"]
        assert (entry["kwargs"], entry["episodes"]) == ({"N": 2}, 4)
        assert (
            entry["oracle"]["returns"]["mean"]["mean"] > entry["random"]["returns"]["mean"]["mean"]
        )
        assert "shortest assignment" in text

    def test_listed(self, call):
        result, text = call("brackets")
        assert len(result["brackets"]) == len(text.splitlines()) > 10


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["evaluate"], "at least one run"),
        (["evaluate", "missing"], "no run at 'missing'"),
        (["evaluate", "alone@2"], "no checkpoint of step 2"),
        (["evaluate", "alone@0", "--step", "0"], "expected one step, got 0 and alone@0"),
        (["export", "alone@0", "--step", "1"], "expected one step, got 1 and alone@0"),
        (["plot", "alone@two"], "Behind an @ stands an environment step"),
        (["league", "alone@0"], "expected a run without a step, got 'alone@0'"),
        (["train", "mpe/simple-v3", "--run", "alone@0", "--resume"], "--resume --resume-step 0"),
        (["evaluate", "other", "--episodes", "0"], "at least one episode"),
        (["evaluate", "other", "--seeds", "-1"], "seeds: expected numbers from 0 on"),
        (["evaluate", "board", "--against", "nobody"], "no run at 'nobody'"),
        (["evaluate", "other", "--against", "board"], "give them a seat (--seats)"),
        (["compare", "other", "board"], "runs of one game"),
        (["compare", "other", "many", "--out", "c.gif"], "ends in .png or"),
        (["plot", "other", "board"], "runs of one game"),
        (["export", "missing"], "no run at 'missing'"),
        (["export", "other", "--out", "policy.zip"], "ends in .npz"),
        (["watch", "other", "--out", "film.png"], "ends in .gif or .mp4"),
        (["watch", "other", "--episodes", "0"], "at least one episode"),
        (["watch", "other", "--fps", "0"], "a positive number of frames a second"),
        (["compare", "first", "board"], "(player_2: random) and classic/tictactoe-v3;"),
        (["evaluate", "alone", "--against", "oracle"], "a game with a scripted oracle"),
        (["evaluate", "first", "--against", "random"], """--seats '{"player_2": "random"}'"""),
        (["evaluate", "first", "--against", "board"], """--seats '{"player_2": "frozen:board"}'"""),
        (["plot", "other", "--metric", "return/x"], "got 'return/x'"),
        (["plot", "other", "--smooth", "0"], "at least 2 points, 0 episodes and 1 update"),
        (["plot", "other", "--points", "1"], "at least 2 points"),
        (["plot", "other", "--out", "nowhere/c.png"], "a folder that exists"),
        (["brackets", "mpe/nothing"], "mpe/nothing"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_input_ends_with_2_and_says_what_was_expected(
    folder, monkeypatch, capsys, args, message
):
    monkeypatch.chdir(folder)
    few = ["--n-workers", "0"] if args[0] in ("evaluate", "compare") else []
    where = [] if args[0] == "brackets" else ["--runs-dir", "."]
    with pytest.raises(SystemExit) as caught:
        main([*args, *few, *where])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
