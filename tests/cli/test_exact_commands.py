"""The commands that find what is to be gained against a run, and that solve games."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from kitae_marl import Agent, CompiledVecParallelEnv, Config, PPOConfig, algos, make_vec_env
from kitae_marl.cli.main import main
from kitae_marl.errors import RunExistsError
from kitae_marl.selfplay.exact.answers import exploitability, solve

pytestmark = pytest.mark.usefixtures("quickest_compilation")
KUHN, TICTACTOE, LEDUC = "kitae/kuhn_poker-v0", "classic/tictactoe-v3", "classic/leduc_holdem-v4"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def untrained(name: str, env_id: str, **settings: Any) -> Agent:
    """Keep an agent that has learned nothing as a run."""
    env = CompiledVecParallelEnv(env_id, 1)
    agent = Agent(env, Config(env_id, n_envs=1, ppo=PPOConfig(hidden_sizes=(4,)), **settings))
    agent.save(f"runs/{name}")
    return agent


def result(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[dict[str, Any], str]:
    """Run a command; return its JSON and all that it printed."""
    main([*args, "--json"])
    text = capsys.readouterr().out
    return json.loads(text.splitlines()[-1]), text


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Return what a command says that is refused."""
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_solved_game_is_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    found, text = result(capsys, "solve", KUHN, "--target", "0.002", "--run", "best")
    assert "iterations of CFR+" in text
    assert found["exploitability"] <= 0.002
    assert found["values"]["player_0"] == pytest.approx(-1 / 18, abs=0.005)
    loaded = Agent.load("runs/best")
    assert exploitability(loaded, KUHN).exploitability == pytest.approx(found["exploitability"])
    answer, text = result(capsys, "exploit", "best")
    assert "exact, by all 24 positions" in text
    sampled = answer["as it samples"]
    assert sampled["exploitability"] == pytest.approx(found["exploitability"])
    assert sampled["worst"]["player_0"] == pytest.approx(-1 / 18, abs=0.005)
    assert answer["most probable actions"]["exploitability"] > 0.1
    again = refused(capsys, "solve", KUHN, "--run", "best")
    assert "best" in again
    assert "overwrite" in again


@pytest.mark.long
def test_it_plays_the_original_game_with_its_own_chance(capsys: pytest.CaptureFixture[str]) -> None:
    result(capsys, "solve", TICTACTOE)
    found, _ = result(
        capsys, "tournament", "solved_tictactoe", "random", "--games", "20", "--n-workers", "0"
    )
    assert found["players"]["solved_tictactoe"]["losses"] == 0
    answer, text = result(capsys, "evaluate", "solved_tictactoe", "--episodes", "4")
    assert answer["exact"][0]["most probable actions"]["worst"] == {
        "player_1": 0.0,
        "player_2": 0.0,
    }
    assert "exactly, by all 4520 positions" in text


def test_it_takes_a_seat(capsys: pytest.CaptureFixture[str]) -> None:
    result(capsys, "solve", KUHN, "--target", "0.01")
    seats = json.dumps({"player_1": "frozen:solved_kuhn_poker"})
    small = ["--env-steps", "64", "--n-envs", "4", "--ppo.n-steps", "8", "--run", "other"]
    main(["train", KUHN, "--seats", seats, *small])
    assert "plays all seats" in refused(capsys, "exploit", "other")


def test_a_table_plays_as_it_says() -> None:
    solved = solve(LEDUC, target=0.05, history=True)
    env = make_vec_env(LEDUC, 64, n_workers=0, history=True)
    observations, infos = env.reset(seed=0)
    for _ in range(10):
        found = solved.agent.probabilities(observations, infos)
        actions = solved.agent.select_action(observations, infos, sample=True)
        for agent, active in infos["active"].items():
            rows = np.flatnonzero(active)
            own = found[agent][rows]
            mask = infos["action_mask"][agent][rows]
            assert np.allclose(own.sum(axis=1), 1, atol=1e-5)
            assert not own[mask == 0].any()
            assert (own[np.arange(len(rows)), actions[agent][rows]] > 0).all()
        observations, _, _, _, infos = env.step(actions)
    env.close()


def test_what_an_agent_does_not_see_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "history" in refused(capsys, "solve", LEDUC)
    assert not Path("runs/solved_leduc_holdem").exists()


def test_who_does_not_say_how_probable_it_acts_is_asked_for_its_best(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained("new", TICTACTOE)
    algorithm = algos.ALGORITHMS["ippo"]._replace(probabilities=None)
    monkeypatch.setitem(algos.ALGORITHMS, "ippo", algorithm)
    found, text = result(capsys, "exploit", "new")
    assert "as it samples" not in found
    assert "as it samples" not in text
    assert found["most probable actions"]["exploitability"] > 0
    answer, _ = result(capsys, "evaluate", "new", "--episodes", "2")
    assert answer["exact"][0].keys() == {"positions", "most probable actions"}


def test_an_opponent_is_trained_for_some_time(capsys: pytest.CaptureFixture[str]) -> None:
    untrained("new", TICTACTOE)
    how = ["--budget", "1s", "--games", "20", "--n-envs", "4"]
    found, text = result(capsys, "exploit", "new", *how)
    assert "scores" in text
    assert 0 <= found["score"]["low"] <= found["score"]["mean"] <= found["score"]["high"] <= 1
    assert found["env_steps"] > 0


@pytest.mark.long
def test_where_nobody_wins_each_side_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    untrained("chase", "mpe/simple_tag-v3")
    how = ["--budget", "1s", "--games", "8", "--n-envs", "4"]
    found, _ = result(capsys, "exploit", "chase", *how)
    assert set(found["returns"]) == {"adversary", "agent"}
    for side in found["returns"].values():
        assert np.isfinite([side["opponent"], side["own"]]).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["exploit", "nobody"], "nobody"),
        (["exploit", "four"], "--budget 10m"),
        (["exploit", "four", "--budget", "soon"], "a time such as 90s"),
        (["exploit", "four", "--budget", "0"], "a time such as 90s"),
        (["exploit", "four", "--games", "1"], "at least 2"),
        (["solve", KUHN, "--target", "0"], "target: expected an exploitability above 0"),
        (["solve", KUHN, "--target", "nan"], "target: expected an exploitability above 0"),
        (["solve", KUHN, "--max-iterations", "0"], "at least 1"),
        (["solve", "mpe/simple_spread-v3"], "two alike players"),
        (["solve", "nothing/of-v0"], "nothing/of-v0"),
        (["solve", KUHN, "--run", "../x"], "expected a run name"),
        (["train", KUHN, "--algo", "table", "--env-steps", "64"], "that learns"),
    ],
)
def test_bad_input_is_told(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("kitae_envs.trees.MAX_POSITIONS", 1000)
    monkeypatch.setattr("kitae_envs.trees.game_tree.__defaults__", (1000,))
    if "four" in args:
        untrained("four", "classic/connect_four-v3")
    assert message in refused(capsys, *args)


def test_an_agent_is_saved_once(tmp_path: Path) -> None:
    agent = untrained("kept", KUHN)
    agent.learned(agent.state, 2, ())
    agent.save("runs/kept")  # the other one had learned nothing
    with pytest.raises(RunExistsError):
        agent.save("runs/kept")
    agent.save("runs/kept", overwrite=True)
    loaded = Agent.load("runs/kept")
    first = agent.state["player"].params["actor"]
    other = loaded.state["player"].params["actor"]
    assert all(np.array_equal(a, b) for a, b in zip(_arrays(first), _arrays(other), strict=True))


def _arrays(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)
