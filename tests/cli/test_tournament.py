"""The command that lets players meet, on tiny runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from kitae_marl.cli.main import main
from kitae_marl.config.alphazero import AlphaZeroConfig
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.contents import write_config, write_groups
from kitae_marl.runs.store.folders import create_run
from kitae_marl.runs.store.sets import write_set
from kitae_marl.selfplay.seat_filler import SeatFiller
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv
from kitae_marl.vector.make import make_vec_env

pytestmark = pytest.mark.usefixtures("quickest_compilation")
TICTACTOE, RPS = "classic/tictactoe-v3", "classic/rps-v2"
FEW = ["--games", "8", "--n-workers", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with runs of tic-tac-toe, of one seat of it, and of another game."""
    folder = tmp_path_factory.mktemp("tournament")
    make_run(folder / "runs" / "a", TICTACTOE)
    make_run(folder / "runs" / "one", TICTACTOE, seats={"player_1": "random"})
    make_run(folder / "runs" / "rps", RPS)
    return folder


def make_run(path: Path, env_id: str, **settings: Any) -> None:
    """Save an agent that has learned nothing, and another one 32 steps later."""
    config = Config(env_id=env_id, n_envs=1, ppo=PPOConfig(hidden_sizes=(4,)), **settings)
    env = SeatFiller(config.seats, path.parent).seat(make_vec_env(env_id, 1, n_workers=0))
    agent = Agent(env, config)
    env.close()
    create_run(path)
    write_groups(path, agent.possible_agents, agent.groups)
    write_config(path, agent.config)
    keeper = RunCheckpointer(path / "checkpoints", save_every=1, num_envs=1)
    keeper.write(agent.run_state())
    agent.learned(jax.tree.map(lambda x: -x if x.dtype == np.float32 else x, agent.state), 32, ())
    keeper.write(agent.run_state())


@pytest.fixture
def call(folder, monkeypatch, capsys) -> Any:
    monkeypatch.chdir(folder)

    def call(*args: str) -> tuple[str, dict[str, Any]]:
        capsys.readouterr()
        main(["tournament", *args, *FEW, "--json"])
        out = capsys.readouterr().out
        return out, json.loads(out.strip().splitlines()[-1])

    return call


def test_all_play_all(call, tmp_path):
    picture = tmp_path / "ratings.png"
    players = ["a", "a@0", "random", "bot:one_ply"]
    out, result = call(*players, "--out", str(picture))
    assert set(result["players"]) == set(players)
    assert (result["env_id"], result["anchor"], result["compared"]) == (TICTACTOE, "random", "wins")
    assert result["players"]["random"]["rating"] == 0.0
    assert set(result["payoff"]["players"]) == set(players)
    assert out.count(" against ") >= 6
    assert "mean score of the row against the column" in out
    assert ["a", "a@0"] in result["repeated"]
    assert "--sample lets the runs' actions vary" in out
    with Image.open(picture) as image:
        assert image.width > 500


def test_runs_may_sample(call):
    out, result = call("a", "bot:first", "random", "--sample")
    assert result["sample"]
    assert result["repeated"] == []
    assert "sampled as in training" in out


def test_a_set_of_seeds_is_as_many_players(call, folder):
    for seed in (0, 1):
        shutil.copytree(folder / "runs" / "a", folder / "runs" / "set" / f"seed_{seed}")
    write_set(folder / "runs" / "set", [0, 1])
    _, result = call("set@32", "random")
    shutil.rmtree(folder / "runs" / "set")
    assert set(result["players"]) == {"set/seed_0@32", "set/seed_1@32", "random"}


def test_without_a_run_the_game_is_named(call):
    out, result = call("random", "bot:first", "--game", RPS)
    assert result["env_id"] == RPS
    assert "random is 0" in out


def test_where_nobody_wins_the_returns_of_each_side_are_told(call, folder, capsys):
    make_run(folder / "runs" / "tag", "mpe/simple_tag-v3")
    out, result = call("tag@0", "tag", "random", "--max-episode-steps", "5", "--out", "tag.png")
    with pytest.raises(SystemExit):
        call("tag", "random", "--max-episode-steps", "5", "--anchor", "tag")
    assert "anchor: expected a game that somebody wins, got --anchor tag" in capsys.readouterr().err
    shutil.rmtree(folder / "runs" / "tag")
    assert "no ratings: nobody wins or loses in this game" in out
    assert "the player of the row plays adversary, that of the column agent" in out
    crossed = result["cross_play"]
    assert crossed["players"] == ["tag@0", "tag", "random"]
    assert crossed["sides"]["agent"] == ["agent_0"]
    assert [np.shape(crossed["returns"][side]) for side in crossed["sides"]] == [(3, 3)] * 2
    assert result["compared"] is None
    with Image.open(folder / "tag.png") as image:
        assert image.width > 500


@pytest.fixture
def searching(folder) -> str:
    """A run that searches, and has learned nothing."""
    path = folder / "runs" / "seeker"
    if not path.exists():
        settings = AlphaZeroConfig(n_steps=2, channels=0, width=4, simulations=2)
        config = Config(TICTACTOE, algo="alphazero", n_envs=1, env_steps=2, alphazero=settings)
        env = CompiledVecParallelEnv(TICTACTOE, 1)
        Agent(env, config).train(env, path, show=False)
    return path.name


def test_a_run_that_searches_enters_once_for_each_number_of_simulations(call, searching):
    _, result = call(searching, "random", "a", "--simulations", "0,8")
    named = {f"{searching} (0 simulations)", f"{searching} (8 simulations)", "random", "a"}
    assert set(result["players"]) == named
    rating = {name: row["rating"] for name, row in result["players"].items()}
    assert rating[f"{searching} (8 simulations)"] > rating["random"]


def test_evaluate_with_simulations(searching, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    few = ["--episodes", "4", "--n-workers", "0", "--json"]
    main(["evaluate", searching, "--against", "random", "--simulations", "8", *few])
    out = capsys.readouterr().out
    assert "8 simulations before each" in out
    assert json.loads(out.strip().splitlines()[-1])["simulations"] == 8
    with pytest.raises(SystemExit):
        main(["evaluate", "a", "--simulations", "8", *few])
    assert "expected an algorithm that searches, such as alphazero" in capsys.readouterr().err


def test_play_says_what_the_search_thinks(searching, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    told = ["play", TICTACTOE, searching, "--simulations", "8", "--moves", "4,?,q"]
    main(told)
    assert "it expects" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["play", TICTACTOE, "random", "--simulations", "8", "--moves", "q"])
    assert "simulations: expected a run that searches, got random" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a", "random", "--simulations", "0,64"], "expected a run that searches, of alphazero"),
        (["a"], "expected two players or more, each once, got a"),
        (["a", "a"], "expected two players or more, each once"),
        (["a", "missing"], "no run at 'missing'; runs in runs: a, one, rps"),
        (["a", "a@17"], "17"),
        (["a", "rps"], f"expected runs of one game, got a on {TICTACTOE} and rps on {RPS}"),
        (["a", "random", "--game", RPS], f"got --game on {RPS} and a on {TICTACTOE}"),
        (["random", "bot:first"], "expected a run, or the game by --game ID"),
        (["a", "bot:minimax"], "there are bot:first"),
        (["a", "one"], "expected players for both seats, got one"),
        (["a", "random", "--anchor", "b"], "anchor: expected one of a, random"),
        (["a", "random", "--games", "1"], "games: expected at least 2"),
        (["a", "random", "--out", "x.txt"], "x.txt"),
    ],
)
def test_bad_input_is_told_before_anything_is_played(args, message, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        main(["tournament", *FEW, *args])
    told = capsys.readouterr()
    assert caught.value.code == 2
    assert message in told.err
    assert " against " not in told.out
