"""Runs that play, and train on, with other numbers of agents than they were trained with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import SMALL

from kitae_marl.cli.main import main
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store.seats import state_digest

pytestmark = pytest.mark.usefixtures("quickest_compilation")


def ids(n: int) -> list[str]:
    """Options for so many agents."""
    return ["--env-kwargs", json.dumps({"ids": [f"a_{i}" for i in range(n)]})]


def train(*more: str) -> None:
    main(["train", "numbered_games:Numbered", "--env-steps", "16", *SMALL, *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the run ``two`` of two agents that share a network."""
    root = tmp_path_factory.mktemp("transfer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        train("--run", "two", *ids(2))
    return root


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)


def test_a_run_plays_for_more_agents_and_trains_on_with_them(capsys: Any) -> None:
    few = ["--allow-import", "--episodes", "2", "--n-envs", "2", "--n-workers", "0", "--json"]
    main(["evaluate", "two", *ids(4), *few])
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {"a_0", "a_3"} < set(result["returns"])
    train("--init", "two", "--run", "four", *ids(4))
    assert "begins with the networks of" in capsys.readouterr().out
    two = Agent.load("runs/two")
    assert json.loads(Path("runs/four/init.json").read_text()) == {
        "run": str(Path("runs/two").resolve()),
        "env_id": "numbered_games:Numbered",
        "env_kwargs": {"ids": ["a_0", "a_1"]},
        "env_step": 16,
        "sha256": state_digest(two.run_state()),
    }


WRONG = {
    "no such run": (["--init", "three"], "no run at 'three'; runs in runs: "),
    "beside --resume": (
        ["--init", "two", "--resume", "--run", "two"],
        "init: expected one new run, got --resume",
    ),
    "another network": (["--init", "two", "--ppo.hidden-sizes", "4"], "init: expected a network"),
    "a network each": (
        ["--init", "two", "--ppo.share-params", "false", *ids(4)],
        "init: expected the agents ['a_0', 'a_1'] of the run, got",
    ),
    "a central critic": (
        ["--init", "two", "--algo", "mappo", *ids(4)],
        "It was made for 2 agents and is to serve 4",
    ),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_cannot_says_why_and_leaves_nothing(why: str, capsys: Any) -> None:
    options, text = WRONG[why]
    before = sorted(Path("runs").iterdir())
    with pytest.raises(SystemExit) as stop:
        train("--run", "wrong", *options)
    assert stop.value.code == 2
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert text in told
    assert sorted(Path("runs").iterdir()) == before


def test_other_spaces_are_named(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "small_games:make_clock", *SMALL, "--init", "two", "--run", "wrong"])
    assert stop.value.code == 2
    text = "(2,), float32) -> Discrete(3)), got the agents of 'hand' with Box(-10.0, 10.0, (2,), "
    assert text in " ".join(capsys.readouterr().err.split())
    assert not Path("runs/wrong").exists()
