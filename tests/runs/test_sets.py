"""Sets of runs: one name, one ordinary run folder for each seed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import GAME, SMALL, last_json

from kitae_marl.cli.main import main, parse
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, NoCheckpointError, RunExistsError
from kitae_marl.runs.store import contents, folders, search, sets

pytestmark = pytest.mark.usefixtures("quickest_compilation")
SET = ["train", GAME, "--run", "many", "--runs-dir", "here"]


def run_main(folder: Path, capsys: Any, *args: str) -> tuple[dict[str, Any], str]:
    """Run a command in a folder; return its JSON and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*args, "--json"])
    out = capsys.readouterr().out
    return last_json(out), out


def write_run(path: Path, seed: int = 0) -> None:
    path.mkdir(parents=True)
    (path / contents.CONFIG_FILE).write_text(Config(seed=seed).to_json())


class TestLayout:
    def test_find_runs(self, tmp_path):
        (tmp_path / "many").mkdir()
        sets.write_set(tmp_path / "many", [3, 10, 2])
        with pytest.raises(NoCheckpointError, match="got the set 'many'; begun are none"):
            search.find_runs("many", tmp_path)
        for seed in (10, 2):
            write_run(tmp_path / "many" / f"seed_{seed}")
        write_run(tmp_path / "one")
        found = search.find_runs("many", tmp_path)
        assert [path.name for path in found] == ["seed_2", "seed_10"]
        assert found == search.find_runs(tmp_path / "many")
        assert search.find_runs("one", tmp_path) == [(tmp_path / "one").resolve()]
        assert search.find_run("many/seed_2", tmp_path) == found[0]
        with pytest.raises(NoCheckpointError, match=r"many'; begun are many/seed_2, many/seed_10"):
            search.find_run("many", tmp_path)
        with pytest.raises(NoCheckpointError, match=r"runs in .*: many, one"):
            search.find_runs("other", tmp_path)

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"seeds": []}', '{"seeds": ["../x"]}', '{"seeds": [true]}', "\xff"],
    )
    def test_a_damaged_set_is_none(self, tmp_path, text):
        (tmp_path / sets.SET_FILE).write_text(text, encoding="latin-1")
        with pytest.raises(ConfigError):
            sets.read_set(tmp_path)
        with pytest.raises(RunExistsError, match="holds no run"):
            folders.create_run(tmp_path, overwrite=True)

    def test_a_member_that_is_a_link_to_outside_is_refused(self, tmp_path):
        write_run(tmp_path / "outside")
        (tmp_path / "runs" / "many").mkdir(parents=True)
        sets.write_set(tmp_path / "runs" / "many", [0])
        (tmp_path / "runs" / "many" / "seed_0").symlink_to(tmp_path / "outside")
        with pytest.raises(ValueError, match="leads outside"):
            search.find_runs("many", tmp_path / "runs")

    def test_names_of_sets(self):
        assert folders.default_name(Config(seed=2), 3) == "simple_spread-v3-ippo-2-to-4"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sets")


class TestTraining:
    """One story, in order: train, go on, add a seed, replace."""

    def test_each_seed_gets_a_run(self, trained, capsys):
        options = ["--seeds", "2", "--seed", "5", "--env-steps", "32", *SMALL]
        result, out = run_main(trained, capsys, *SET, *options)
        path = trained / "here" / "many"
        assert sorted(p.name for p in path.iterdir()) == ["seed_5", "seed_6", "seeds.json"]
        found = search.find_runs(path)
        assert [contents.read_config(run).seed for run in found] == [5, 6]
        assert sorted(result["seeds"]) == ["5", "6"]
        means = [result["seeds"][seed]["returns"]["mean"] for seed in ("5", "6")]
        assert means[0] != means[1]
        assert result["mean"]["returns"]["mean"] == pytest.approx(sum(means) / 2)
        assert result["seeds"]["6"]["run_dir"] == str(found[1])
        assert "mean over 2 seeds" in out

    def test_a_set_is_not_replaced_by_accident(self, trained, capsys):
        with pytest.raises(SystemExit) as caught:
            run_main(trained, capsys, *SET, "--seeds", "2", *SMALL)
        assert caught.value.code == 2
        assert "already holds a run" in capsys.readouterr().err

    def test_one_of_which_nothing_could_begin_can_be_tried_again(self, tmp_path, capsys):
        args = ["train", GAME, "--run", "x", "--seeds", "2", "--env-steps", "16", *SMALL]
        with pytest.raises(SystemExit):
            run_main(tmp_path, capsys, *args, "--env-kwargs", '{"nope": 1}')
        assert "nope" in capsys.readouterr().err
        result, _ = run_main(tmp_path, capsys, *args)
        assert sorted(result["seeds"]) == ["0", "1"]

    def test_wrong_arguments_of_a_game_with_a_twin_are_no_reason_to_train_in_python(
        self, tmp_path, capsys
    ):
        with pytest.raises(SystemExit):
            run_main(tmp_path, capsys, "train", "mpe/simple-v3", "--env-kwargs", '{"nope": 1}')
        said = capsys.readouterr()
        assert "nope" in said.err
        assert "training in Python" not in said.out
        some = ["--env-kwargs", '{"stock": true}', "--env-steps", "16"]
        _, out = run_main(tmp_path, capsys, "train", "mpe/simple-v3", *some, *SMALL[:2], *SMALL[4:])
        assert "does not take these arguments (" in out

    def test_the_last_seed_too_must_be_one(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as caught:
            run_main(tmp_path, capsys, *SET, "--seeds", "2", "--seed", str(2**31 - 2**20 - 1))
        assert caught.value.code == 2
        assert not list(tmp_path.iterdir())

    def test_resume_goes_on_with_every_seed_and_starts_new_ones(self, trained, capsys):
        before = search.find_runs(trained / "here" / "many")[0] / "checkpoints" / "step_32"
        saved = before.stat().st_mtime_ns
        options = ["--resume", "--seeds", "3", "--env-steps", "48"]
        result, _ = run_main(trained, capsys, *SET, *options)
        assert {seed: r["env_steps"] for seed, r in result["seeds"].items()} == {
            "5": 48,
            "6": 48,
            "7": 48,
        }
        assert before.stat().st_mtime_ns == saved
        again, out = run_main(trained, capsys, *SET, "--resume")  # nothing is left to do
        assert again["seeds"] == {
            seed: {k: v for k, v in r.items() if k != "startup_s"}
            for seed, r in result["seeds"].items()
        }
        assert "resumed from" not in out
        assert out.count("nothing is left to do") == 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--ppo.activation", "relu"], "ppo.activation: the run was trained with 'tanh'"),
            (["--env-steps", "32"], "expected more than the 48 steps already done"),
            (["--resume-step", "32"], "no checkpoint of step 32"),  # of seed 7; the others go back
        ],
    )
    def test_members_that_are_complete_heed_what_is_asked_of_them(
        self, trained, capsys, options, message
    ):
        with pytest.raises(SystemExit) as caught:
            run_main(trained, capsys, *SET, "--resume", *options)
        assert caught.value.code == 2
        said = capsys.readouterr()
        assert message in said.err
        assert said.out.count("resumed from step 32") == 2 * ("--resume-step" in options)

    @pytest.mark.slow
    def test_seeds_need_not_be_consecutive(self, trained, capsys, tmp_path):
        """As those of ``train_many``."""
        path = tmp_path / "here" / "many"
        for old, new in {5: 5, 7: 9}.items():
            shutil.copytree(trained / "here" / "many" / f"seed_{old}", path / f"seed_{new}")
        marker = path / "seed_9" / contents.CONFIG_FILE
        marker.write_text(replace(contents.read_config(marker.parent), seed=9).to_json())
        sets.write_set(path, [9, 5])
        result, _ = run_main(tmp_path, capsys, *SET, "--resume", "--env-steps", "64")
        assert {seed: r["env_steps"] for seed, r in result["seeds"].items()} == {"5": 64, "9": 64}
        assert sets.read_set(path) == [5, 9]
        with pytest.raises(SystemExit) as caught:
            run_main(tmp_path, capsys, *SET, "--resume", "--seeds", "4")
        assert caught.value.code == 2
        assert "none for [9]; leave out --seed" in capsys.readouterr().err

    def test_a_set_cannot_lose_seeds(self, trained, capsys):
        with pytest.raises(SystemExit) as caught:
            run_main(trained, capsys, *SET, "--resume", "--seeds", "2")
        assert caught.value.code == 2
        assert "not fewer" in capsys.readouterr().err

    def test_settings_of_a_set_are_those_of_its_first_run(self, trained, monkeypatch):
        monkeypatch.chdir(trained)
        parsed = parse([*SET, "--resume"])
        assert (parsed.seed, parsed.seeds, parsed.env_steps) == (5, 3, 48)
        assert parsed.ppo.hidden_sizes == (8,)

    def test_overwrite_replaces_the_set(self, trained, capsys):
        options = ["--overwrite", "--env-steps", "16", *SMALL]
        result, out = run_main(trained, capsys, *SET, *options)
        assert "replaces the set many: 3 runs, seeds 5, 6, 7" in out
        assert result["env_steps"] == 16
        path = trained / "here" / "many"
        assert json.loads((path / "config.json").read_text())["seed"] == 0
        assert not (path / "seed_5").exists()
        with pytest.raises(SystemExit) as caught:
            run_main(trained, capsys, *SET, "--resume", "--seeds", "2")
        assert caught.value.code == 2
        assert "is one run" in capsys.readouterr().err
