"""Seats that a config names: trained opponents are part of the run, as they were when it began."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from kitae_marl.cli.main import main
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.contents import read_config
from kitae_marl.runs.store.seats import read_copies, state_digest
from kitae_marl.selfplay.seat_filler import SeatFiller
from kitae_marl.training import Task, seat_filler_of
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")
TICTACTOE = "classic/tictactoe-v3"
SMALL = ["--n-envs", "4", "--ppo.n-steps", "8", "--ppo.hidden-sizes", "8", "--json"]
SMALL += ["--ppo.n-minibatches", "2", "--ppo.n-epochs", "1"]
SEATS = ["--seats", '{"player_1": "frozen:both"}']
PLAY = ["--episodes", "16", "--n-envs", "4", "--n-workers", "0", "--sample", "--json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a run of both sides, and one of noughts against it as it was."""
    folder = tmp_path_factory.mktemp("opponents")
    runs = ["--runs-dir", str(folder / "runs")]
    main(["train", TICTACTOE, "--run", "both", *SMALL, *runs, "--env-steps", "64"])
    main(["train", TICTACTOE, "--run", "one", *SEATS, *SMALL, *runs, "--env-steps", "64"])
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def result(capsys: Any, *args: str) -> dict[str, Any]:
    capsys.readouterr()
    main([*args])
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def let_both_go_on() -> None:
    """Leave a later checkpoint of the opponent's own run, in which it plays otherwise."""
    agent = Agent.load("both")
    state = jax.tree.map(lambda x: -1000 * x if x.dtype == np.float32 else x, agent.state)
    agent.learned(state, 2 * agent.learned_step, ())
    keeper = RunCheckpointer(Path("runs/both/checkpoints"), save_every=1, num_envs=4)
    keeper.write(agent.run_state())


def test_a_run_keeps_a_copy_of_its_opponent_with_its_digest(folder):
    copy = read_copies(folder / "one")["frozen:both"]
    both, kept = Agent.load(folder / "both"), Agent.load(copy.path)
    assert (copy.env_step, copy.path) == (64, folder / "one" / "seats" / "0")
    assert copy.sha256 == state_digest(both.run_state()) == state_digest(kept.run_state())
    assert read_copies(folder / "both") == {}


def test_what_is_measured_stays_when_the_opponent_learns_or_goes(folder, capsys):
    before = result(capsys, "evaluate", "one", *PLAY)
    assert list(before["copies"]) == ["player_1"]
    let_both_go_on()
    newest = result(capsys, "evaluate", "one", *SEATS, *PLAY)  # asked for: both as it is now
    assert newest["copies"] == {}
    assert newest["returns"] != before["returns"]
    assert result(capsys, "evaluate", "one", *PLAY) == before
    shutil.rmtree(folder / "both")
    assert result(capsys, "evaluate", "one", *PLAY) == before
    assert result(capsys, "watch", "one", "--episodes", "1", "--json")["frames"] > 1


def test_a_run_goes_on_against_its_copy(folder):
    more = [*SMALL, "--env-steps", "128", "--resume"]
    shutil.copytree(folder / "one", folder / "same")
    main(["train", TICTACTOE, "--run", "same", *SEATS, *more])
    let_both_go_on()
    copies = read_copies(folder / "one")
    main(["train", TICTACTOE, "--run", "one", *SEATS, *more])
    assert read_copies(folder / "one") == copies
    learned = [state_digest(Agent.load(folder / name).run_state()) for name in ("same", "one")]
    assert learned[0] == learned[1]


def test_a_copy_and_the_run_that_it_is_of_are_two_players(folder):
    let_both_go_on()
    copies = {"player_1": read_copies(folder / "one")["frozen:both"]}
    seats = {"player_2": "frozen:both", "player_1": "frozen:both"}
    opponents = SeatFiller(seats, folder, copies=copies)
    played = {pattern: opponents._load(pattern, text).env_steps for pattern, text in seats.items()}
    assert played == {"player_2": 128, "player_1": 64}


def test_an_old_run_plays_the_newest_and_says_so(folder, capsys):
    (folder / "one" / "seats.json").unlink()
    with pytest.warns(UserWarning, match="keeps no copy of frozen:both, as runs of earlier"):
        assert result(capsys, "evaluate", "one", *PLAY)["copies"] == {"player_1": None}
    more = [*SEATS, *SMALL, "--env-steps", "128", "--resume"]
    with pytest.warns(UserWarning, match="keeps no copy of frozen:both"):
        main(["train", TICTACTOE, "--run", "one", *more])
    assert list(read_copies(folder / "one")) == ["frozen:both"]  # from here on


def test_another_opponent_than_the_copied_one_is_refused(folder, capsys):
    let_both_go_on()
    shutil.rmtree(folder / "one" / "seats" / "0")
    shutil.copytree(folder / "both", folder / "one" / "seats" / "0")
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "one", *PLAY])
    assert caught.value.code == 1
    assert "expected the copy of frozen:both that was made when" in capsys.readouterr().err


def test_a_seat_may_name_a_checkpoint(folder, capsys):
    """Which is how two runs take turns: each goes on against the other as it is by now."""
    first = Agent.load("both")
    let_both_go_on()
    for seat, step in ("both@64", 64), ("both@128", 128):
        told = ["--seats", json.dumps({"player_1": f"frozen:{seat}"})]
        main(["train", TICTACTOE, "--run", "one", "--resume", *told, "--env-steps", f"{step + 64}"])
        copy = read_copies(folder / "one")[f"frozen:{seat}"]
        assert copy.env_step == step
    assert state_digest(Agent.load("both@64").run_state()) == state_digest(first.run_state())
    assert len(read_copies(folder / "one")) == 3
    earlier = result(capsys, "evaluate", "both", "--against", "both@64", *PLAY)
    assert earlier["against"] == "both@64"
    main(["train", TICTACTOE, "--run", "tuned", "--init", "both@64", *SMALL, "--env-steps", "32"])
    assert json.loads((folder / "tuned" / "init.json").read_text())["env_step"] == 64


def test_a_copy_is_met_again_under_whatever_pattern(folder):
    """What a text meant at first it means to the end of the run; RUN@STEP names another."""
    let_both_go_on()
    before = read_copies(folder / "one")["frozen:both"].sha256
    task = Task(runs_dir=folder, resume=True)
    config = dataclasses.replace(read_config(folder / "one"), seats={"player_[1]": "frozen:both"})
    opponents = seat_filler_of(config, [folder / "one"], task)
    assert opponents is not None
    opponents.seat(CompiledVecParallelEnv(TICTACTOE, 1)).close()
    assert state_digest(opponents.loaded["frozen:both"].run_state()) == before


@pytest.mark.parametrize("seat", ["both@65", "both@", "bo@th"])
def test_a_checkpoint_that_is_not_there_is_named(folder, capsys, seat):
    told = ["--seats", json.dumps({"player_1": f"frozen:{seat}"})]
    with pytest.raises(SystemExit) as ended:
        main(["train", TICTACTOE, "--run", "two", *SMALL, *told, "--env-steps", "32"])
    assert ended.value.code == 2
    error = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["error"]
    assert ("65" if seat == "both@65" else "Behind an @ stands an environment step") in error


def test_a_step_is_given_once(folder):
    with pytest.raises(ValueError, match="expected one step, got 64 and both@64"):
        Agent.load("both@64", step=64)


@pytest.mark.parametrize("text", ["[]", '{"seats": [{"seat": "frozen:both"}]}', "{"])
def test_a_damaged_list_of_copies_is_named(folder, capsys, text):
    (folder / "one" / "seats.json").write_text(text)
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "one", *PLAY])
    assert caught.value.code == 2
    assert "seats.json: expected" in capsys.readouterr().err


def test_a_copy_that_is_a_link_leads_nowhere(folder, capsys):
    shutil.move(folder / "one" / "seats" / "0", folder / "elsewhere")
    (folder / "one" / "seats" / "0").symlink_to(folder / "elsewhere")
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "one", *PLAY])
    assert caught.value.code == 2
    assert "leads outside" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["compiled", pytest.param("python", marks=pytest.mark.slow)])
def test_the_runs_of_a_set_meet_one_opponent(folder, backend, capsys):
    """Also the one that joins the set after the opponent's own run went on."""
    steps = [*SEATS, *SMALL, "--backend", backend, "--env-steps", "64", "--run", "set"]
    main(["train", TICTACTOE, *steps, "--seeds", "2"])
    let_both_go_on()
    main(["train", TICTACTOE, *steps, "--seeds", "3", "--resume"])
    copies = [read_copies(folder / "set" / f"seed_{k}")["frozen:both"] for k in range(3)]
    assert copies[0] == copies[1] == copies[2] == read_copies(folder / "one")["frozen:both"]
    played = result(capsys, "evaluate", "set", *PLAY)
    assert np.isfinite(played["returns"]["mean"]["mean"])
    assert played["runs"] == 3
