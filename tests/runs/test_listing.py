"""``kitae-marl runs``: what is listed, also of folders that are damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kitae_marl.cli.main import main
from kitae_marl.config.run import Config
from kitae_marl.runs.store import sets
from kitae_marl.runs.store.contents import read_summary
from kitae_marl.runs.store.files import locked
from kitae_marl.runs.store.listing import list_runs

CONFIG = Config(env_id="mpe/simple_spread-v3", seed=4, env_steps=2048)
SUMMARY = {"env_steps": 2048, "agent_steps": 6144, "wall_s": 1.0, "env_steps_per_s": 2048.0}
SUMMARY |= {"agent_steps_per_s": 6144.0, "returns": {"return/mean": -3.5}, "complete": True}


def make_run(path: Path, metrics: str = "", **summary: Any) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(CONFIG.to_json())
    (path / "metrics.csv").write_text(metrics)
    if summary:
        (path / "summary.json").write_text(json.dumps({**SUMMARY, **summary}))
    return path


def only(root: Path) -> dict[str, Any]:
    (row,) = list_runs(root)
    return row


class TestStates:
    def test_complete(self, tmp_path):
        make_run(tmp_path / "a", complete=True)
        assert only(tmp_path) == {
            "name": "a",
            "state": "complete",
            "env_id": "mpe/simple_spread-v3",
            "algo": "ippo",
            "seed": 4,
            "env_steps": 2048,
            "of": 2048,
            "return": -3.5,
            "win_rate": None,
            "holder": "",
        }

    def test_of_a_killed_one_the_metrics_know(self, tmp_path):
        metrics = "step,return/mean,x\n1024,-9.5,1\n2048,-8.0,1\n3072,,1\n4096,-1"
        make_run(tmp_path / "a", metrics)
        row = only(tmp_path)
        assert (row["state"], row["env_steps"], row["return"]) == ("stopped", 3072, -8.0)

    def test_running(self, tmp_path):
        with locked(make_run(tmp_path / "a")):
            row = only(tmp_path)
        assert row["state"] == "running"
        assert f"process {os.getpid()} on host" in row["holder"]
        assert only(tmp_path)["state"] == "stopped"
        (tmp_path / "a" / ".lock").write_text("process 1 on host x")  # its holder was killed
        assert only(tmp_path)["state"] == "stopped"

    def test_nothing_was_logged_yet(self, tmp_path):
        make_run(tmp_path / "a")
        row = only(tmp_path)
        assert (row["state"], row["env_steps"], row["return"]) == ("stopped", 0, None)

    def test_sets(self, tmp_path):
        for seed, value in ((0, -1.0), (1, -2.0)):
            make_run(tmp_path / "s" / f"seed_{seed}", returns={"return/mean": value})
        sets.write_set(tmp_path / "s", [0, 1])
        row = only(tmp_path)
        assert (row["state"], row["seeds"], row["return"]) == ("complete", [0, 1], -1.5)
        assert [run["name"] for run in row["runs"]] == ["seed_0", "seed_1"]
        sets.write_set(tmp_path / "s", [0, 1, 2])
        assert only(tmp_path)["state"] == "stopped"
        with locked(tmp_path / "s"):
            assert only(tmp_path)["state"] == "running"
        (tmp_path / "s" / "seed_1" / "config.json").write_text("{")
        assert only(tmp_path)["state"] == "damaged"

    def test_other_folders_and_files_are_not_listed(self, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "notes.txt").write_text("x")
        assert list_runs(tmp_path) == []
        assert list_runs(tmp_path / "nowhere") == []


def link_outside(path: Path) -> None:
    outside = make_run(path.parent.parent / "outside")
    path.rename(path.parent.parent / "old")
    path.symlink_to(outside)


DAMAGE = {
    "no config": lambda path: (path / "config.json").unlink(),
    "an empty config": lambda path: (path / "config.json").write_text(""),
    "a config of bytes": lambda path: (path / "config.json").write_bytes(bytes(range(256))),
    "a deep config": lambda path: (path / "config.json").write_text("[" * 100_000),
    "a large config": lambda path: (path / "config.json").write_text(" " * 2_000_000),
    "a config that is a folder": lambda path: (
        (path / "config.json").unlink(),
        (path / "config.json").mkdir(),
    ),
    "a config that is a pipe": lambda path: (
        (path / "config.json").unlink(),
        os.mkfifo(path / "config.json"),
    ),
    "unknown keys": lambda path: (path / "config.json").write_text('{"_target_": "os.system"}'),
    "a damaged set": lambda path: (path / "seeds.json").write_text("[1"),
    "a link that leads outside": link_outside,
}


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_runs_are_listed_as_such(tmp_path, damage, capsys):
    root = tmp_path / "runs"
    make_run(root / "good", complete=True)
    damage(make_run(root / "bad"))
    main(["runs", "--runs-dir", str(root), "--json"])
    out = capsys.readouterr().out
    bad, good = json.loads(out.splitlines()[-1])["runs"]
    assert (bad["name"], bad["state"]) == ("bad", "damaged")
    assert bad["reason"]
    assert good["state"] == "complete"
    assert "Traceback" not in out


SPOILED = {
    "a summary of other types": ("summary.json", '{"env_steps": "x", "returns": []}'),
    "a summary that is none": ("summary.json", "[" * 9999),
    "metrics of bytes": ("metrics.csv", "\x00\udcff\n\udcff,\x00\n"),
    "metrics without columns": ("metrics.csv", "\n\n\n"),
    "a very long line": ("metrics.csv", "step," + "x" * 300_000),
    "numbers that are none": ("metrics.csv", "step,return/mean\n1e5,nan\n-3,x\n"),
}


@pytest.mark.faults
@pytest.mark.parametrize(("name", "text"), SPOILED.values(), ids=SPOILED)
def test_a_run_whose_numbers_are_damaged_is_listed_without_them(tmp_path, name, text):
    path = make_run(tmp_path / "a")
    (path / name).write_bytes(text.encode(errors="surrogateescape"))
    row = only(tmp_path)
    assert (row["state"], row["env_steps"], row["return"]) == ("stopped", 0, None)


@pytest.mark.faults
def test_a_name_cannot_steer_the_terminal(tmp_path, capsys):
    make_run(tmp_path / "a\x1b]0;x\x07\u202e\nb")
    main(["runs", "--runs-dir", str(tmp_path)])
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\u202e")
    assert "damaged" in out
    assert len(out.splitlines()) == 1


def test_the_table(tmp_path, capsys):
    make_run(tmp_path / "a", complete=True)
    main(["runs", "--runs-dir", str(tmp_path)])
    line = capsys.readouterr().out
    assert line.split() == [
        "a",
        "complete",
        "mpe/simple_spread-v3",
        "ippo",
        "step",
        "2048/2048",
        "return",
        "-3.50",
    ]
    main(["runs", "--runs-dir", str(tmp_path / "none")])
    assert "no runs in" in capsys.readouterr().out


@pytest.mark.parametrize(
    "part",
    [{"best": {"metric": "x"}}, {"best": 3}, {"win_rates": []}, {"win_rates": {"a": None}},
     {"compile_s": "1"}, {"win_rates_step": None}],
)  # fmt: skip
def test_a_summary_with_a_part_of_another_kind_is_none(tmp_path, part):
    assert read_summary(make_run(tmp_path / "a", **part)) == {}
    best = {"metric": "win_rate/mean", "value": 0.5, "env_step": 64}
    whole = {"best": best, "win_rates": {"a": 0.5}, "compile_s": 1.5}
    assert read_summary(make_run(tmp_path / "b", **whole))["best"] == best
