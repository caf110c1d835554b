"""Run folders: safe names, safe overwriting, whole files."""

import json
import os
import re

import gymnasium as gym
import pytest

from kitae_marl.cli.options.training import Train
from kitae_marl.config.run import Config
from kitae_marl.data.groups import group_specs
from kitae_marl.errors import ConfigError, NoCheckpointError, RunExistsError, UnsafePathError
from kitae_marl.runs.store import contents, files, folders, search, sets, strict_json


@pytest.mark.parametrize("name", ["a", "Spread-3_x.y", "0", "x" * 100, "a..b"])
def test_good_names(tmp_path, name):
    assert folders.run_path(tmp_path, name) == (tmp_path / name).resolve()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../evil",
        "/evil",
        "a/../../evil",
        "a/b",
        "a\\b",
        "-rf",
        ".hidden",
        "a\n",
        "a b",
        "a\u202eb",
        "ä",
        "x" * 101,
        "x" * 300,
        "a\x00",
        "$(id)",
        None,
        3,
    ],
)
def test_bad_names(tmp_path, name):
    with pytest.raises(UnsafePathError, match="expected a run name of"):
        folders.run_path(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("set/seed_0", "--runs-dir runs/set --run seed_0."),
        ("runs/set/seed_0", "--runs-dir runs/set --run seed_0."),
        ("new/x", "--runs-dir runs/new --run x."),
        ("runs/x/", "--runs-dir runs --run x."),
    ],
)
def test_a_path_is_refused_with_the_options_that_name_it(tmp_path, monkeypatch, name, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "set" / "seed_0").mkdir(parents=True)
    with pytest.raises(UnsafePathError, match=re.escape(options)):
        Train().path(name)
    with pytest.raises(UnsafePathError, match="expected a run name of"):
        Train().path(f"../{name}")


def test_a_link_that_leads_outside_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "outside").mkdir()
    os.symlink(tmp_path / "outside", tmp_path / "runs" / "x")
    with pytest.raises(UnsafePathError, match="leads outside"):
        folders.run_path(tmp_path / "runs", "x")


def test_the_runs_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "runs")
    assert folders.run_path(tmp_path / "runs", "x") == (tmp_path / "real" / "x").resolve()


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("mpe/simple_spread-v3", "simple_spread-v3-ippo-4"),
        ("gymnasium:CartPole-v1", "gymnasium_CartPole-v1-ippo-4"),
        ("my.games:make", "my.games_make-ippo-4"),
        ("../..", "run-ippo-4"),
        ("x" * 500, "x" * 80 + "-ippo-4"),
    ],
)
def test_default_names_are_good_names(tmp_path, env_id, name):
    assert folders.default_name(Config(env_id=env_id, seed=4)) == name
    folders.run_path(tmp_path, name)


def test_create_makes_an_empty_folder_even_twice(tmp_path):
    path = tmp_path / "deep" / "run"
    folders.create_run(path)
    folders.create_run(path)
    assert list(path.iterdir()) == []


def test_a_run_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "run"
    folders.create_run(path)
    (path / contents.CONFIG_FILE).write_text("{}")
    (path / "checkpoints" / "step_8").mkdir(parents=True)
    with pytest.raises(RunExistsError, match=r"--resume.*--overwrite"):
        folders.create_run(path)
    assert (path / "checkpoints").exists()
    folders.create_run(path, overwrite=True)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("traces", [(), ("checkpoints/step_0", "league"), ("logs", "seats")])
def test_a_run_that_learned_nothing_blocks_no_name(tmp_path, traces):
    path = tmp_path / "run"
    folders.create_run(path)
    contents.write_config(path, Config())
    (path / "metrics.csv").write_text("step\n")
    for trace in traces:
        (path / trace).mkdir(parents=True)
    assert folders.is_unused(path)
    with files.locked(path):
        assert not folders.is_unused(path)
    folders.create_run(path)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("trace", ["checkpoints/step_8", "checkpoints/8", "notes", "metrics"])
def test_what_has_learned_something_does(tmp_path, trace):
    path = tmp_path / "run"
    folders.create_run(path)
    contents.write_config(path, Config())
    if trace == "metrics":
        (path / "metrics.csv").write_text("step,return/mean\n16,0.5\n")
    else:
        (path / trace).mkdir(parents=True)
    assert not folders.is_unused(path)
    folders.remove_nothing(path)
    with pytest.raises(RunExistsError):
        folders.create_run(path)


def test_a_folder_that_is_no_run_is_never_deleted(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunExistsError, match="holds no run"):
        folders.create_run(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    path = tmp_path / "run"
    path.write_text("a file")
    for overwrite in (False, True):
        with pytest.raises(RunExistsError, match="run"):
            folders.create_run(path, overwrite=overwrite)
    assert path.read_text() == "a file"


def test_find_by_path_and_by_name(tmp_path):
    path = tmp_path / "x"
    folders.create_run(path)
    contents.write_config(path, Config())
    assert search.find_run(path) == path.resolve()
    assert search.find_run("x", tmp_path) == path.resolve()
    with pytest.raises(NoCheckpointError, match=r"no run at '?y'?; runs in .*: x"):
        search.find_run("y", tmp_path)
    with pytest.raises(NoCheckpointError, match="none"):
        search.find_run("x", tmp_path / "nowhere")
    with pytest.raises(NoCheckpointError):
        search.find_run("../x", tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "run", "step"),
    [
        ("x@64", "x", 64),
        ("x@50k", "x", 50_000),
        ("x@1e5", "x", 100_000),
        ("x@best", "x", "best"),
        ("x@y@best", "x@y", "best"),
        ("x@" + "9" * 5000, None, None),
        ("x@1.5", None, None),
        ("x@newest", None, None),
        ("x@", None, None),
        ("@64", None, None),
    ],
)
def test_a_checkpoint_is_named_as_after_step(tmp_path, text, run, step):
    assert search.split_step(text) == (run or text, step, None)
    assert search.split_step(f"{text}@average") == (run or text, step, "average")
    if run is None:
        with pytest.raises(NoCheckpointError, match="Behind an @ stands an environment step, such"):
            search.find_run(text, tmp_path)


def test_a_run_is_named_with_its_checkpoint(tmp_path):
    for name in ("x", "many/seed_0", "many/seed_1"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        contents.write_config(folder, Config(env_id="mpe/simple-v3"))
    sets.write_set(tmp_path / "many", [0, 1])
    x, (first, second) = tmp_path / "x", [tmp_path / "many" / f"seed_{i}" for i in range(2)]
    assert search.run_at("x@2k", tmp_path) == (x, 2000, "last")
    assert search.run_at("x@average", tmp_path) == (x, None, "average")
    assert search.run_at("x", tmp_path, policy="average") == (x, None, "average")
    assert search.run_at("x", tmp_path, "best") == (x, "best", "last")
    assert search.runs_at("many@best", tmp_path) == [
        (path, "best", "last") for path in (first, second)
    ]
    assert [str(at) for at in search.runs_at("many@64", tmp_path)] == ["seed_0@64", "seed_1@64"]
    with pytest.raises(ConfigError, match="expected one step, got 64 and x@64; leave one"):
        search.run_at("x@64", tmp_path, 64)
    with pytest.raises(NoCheckpointError, match="expected one run, got the set 'many'"):
        search.run_at("many@64", tmp_path)
    with pytest.raises(NoCheckpointError, match=r"without a step, got 'x@64'; .* leave @64 out"):
        search.find_run("x@64", tmp_path)
    with pytest.raises(NoCheckpointError, match="no run at 'y'"):
        search.find_run("y@64", tmp_path)
    with pytest.raises(TypeError, match="expected a run as a path or a name, got int"):
        search.run_at(3, tmp_path)  # pyright: ignore[reportArgumentType]


def test_write_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "summary.json"
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_config_and_groups_there_and_back(tmp_path):
    config = Config(seed=3)
    box = gym.spaces.Box(-1, 1, (3,))
    groups = group_specs(
        ["b_0", "a_0", "b_1"],
        lambda a: box,
        lambda a: gym.spaces.Discrete(2),
        {"a*": False, "*": True},
    )
    contents.write_config(tmp_path, config)
    contents.write_groups(tmp_path, ["b_0", "a_0", "b_1"], groups)
    assert contents.read_config(tmp_path) == config
    assert contents.read_groups(tmp_path) == (["b_0", "a_0", "b_1"], groups)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"groups": 3}', '{"groups": [3]}', '{"groups": [], "x": 1}', "null"],
)
def test_broken_agents_files_are_config_errors(tmp_path, text):
    (tmp_path / "agents.json").write_text(text)
    with pytest.raises(ConfigError, match=r"agents\.json"):
        contents.read_groups(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', "\udcff", '{"seed": NaN}'])
def test_broken_configs_are_config_errors(tmp_path, text):
    (tmp_path / contents.CONFIG_FILE).write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigError):
        contents.read_config(tmp_path)


def test_files_over_a_megabyte_are_not_read(tmp_path):
    (tmp_path / contents.CONFIG_FILE).write_text(json.dumps({"x": "y" * 1_000_001}))
    with pytest.raises(ConfigError, match="at most 1000000 bytes"):
        contents.read_config(tmp_path)
    with pytest.raises(ConfigError, match=r"missing\.json: expected a file, got none"):
        strict_json.read_json(tmp_path / "missing.json")
