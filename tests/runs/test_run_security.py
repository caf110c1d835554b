"""Run folders from elsewhere, names from anywhere: nothing is executed, nothing written outside."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clock_run import CONFIG, make_env
from command_line import ENVIRONMENT, GAME, SMALL, command

from kitae_marl.cli.main import main
from kitae_marl.errors import ConfigError, KitaeError, UnsafePathError
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store import contents, folders, search, sets
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.listing import list_runs
from kitae_marl.runs.store.metrics import MetricsFile

pytestmark = [
    pytest.mark.faults,
    pytest.mark.usefixtures("quickest_compilation"),
    # tensorstore answers an event loop of Orbax that has given up on a damaged file
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NAMES = ["../evil", "/evil", "a/../../evil", "-rf", "a\nb", "a\u202eb", "x" * 300, "..", ".", ""]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with the one run ``runs/x``."""
    folder = tmp_path_factory.mktemp("trained")
    Agent(make_env(), CONFIG).train(make_env(), folder / "runs" / "x", show=False)
    return folder


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs" / "x"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.target}",)


WATCHED = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


class Watch:
    """Notes what an audit hook sees while it is armed, and imports from one folder."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[tuple[str, Any]] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: Any) -> None:
        if self.folder is None:
            return
        from_there = event in ("exec", "compile", "import") and self.folder in str(arguments)
        if from_there or event in WATCHED:
            self.seen.append((event, arguments))


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def read_everything(path: Path, template: Any) -> None:
    """Read a run as loading, resuming and listing do; only errors of ours may come."""
    keeper = RunCheckpointer(path / "checkpoints", save_every=1, num_envs=1)
    readers = [
        contents.read_config,
        contents.read_groups,
        contents.read_summary,
        lambda p: list_runs(p.parent),
    ]
    readers += [lambda p: MetricsFile(p / "metrics.csv", resume_step=48)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for reader in (*readers, lambda p: keeper.restore(template)):
            with suppress(KitaeError):
                reader(path)


class TestBombs:
    def test_a_run_holds_arrays_and_json_alone(self, trained):
        for path in files(trained):
            data = path.read_bytes()
            assert not data.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
            assert path.suffix not in (".pkl", ".pickle", ".npy", ".npz", ".py", ".so", ".pt")

    @pytest.mark.parametrize("protocol", [0, 5])
    def test_planted_as_any_file_nothing_is_executed(self, copy, watch, protocol):
        target = copy.parent.parent / "exploded"
        bomb = pickle.dumps(Bomb(target), protocol=protocol)
        for name in ("kitae_marl.py", "sitecustomize.py", "__init__.py", "jax.py"):
            (copy / name).write_text(f"import os\nos.system('touch {target}')\n")
        template = Agent(make_env(), CONFIG).run_state()
        read_everything(copy, template)  # imports what it needs
        watch.folder, watch.seen = str(copy), []
        try:
            for path in files(copy):
                whole = path.read_bytes()
                path.write_bytes(bomb)
                read_everything(copy, template)
                path.write_bytes(whole)
        finally:
            watch.folder = None
        assert watch.seen == []
        assert not target.exists()

    def test_the_watch_sees(self, watch, tmp_path):
        """The test above can fail."""
        watch.folder, watch.seen = str(tmp_path), []
        try:
            pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
        finally:
            watch.folder = None
        assert {event for event, _ in watch.seen} >= {"pickle.find_class", "os.system"}
        assert (tmp_path / "exploded").exists()

    def test_resuming_imports_nothing_from_the_folder(self, copy):
        target = copy.parent.parent / "exploded"
        for name in ("kitae_marl.py", "small_games.py", "jax.py"):
            (copy / name).write_text(f"open({str(target)!r}, 'w')")
        args = ["train", GAME, "--resume", "--run", "x", "--env-steps", "128"]
        ran = subprocess.run(
            command(*args), cwd=copy.parent.parent, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        assert not target.exists()


ATTACKS = {
    "an unknown key": {"_target_": "os.system"},
    "a game that imports": {"env_id": "os:system"},
    "another algorithm": {"algo": "os:system"},
    "an object of Python": {"env_kwargs": {"x": "!!python/object/apply:os.system ['id']"}},
    "a deep value": {"env_kwargs": json.loads("[" * 500 + "]" * 500)},
    "an enormous network": {"ppo": {"hidden_sizes": [10**12]}},
    "a negative width": {"ppo": {"hidden_sizes": [-1]}},
    "text for a number": {"n_envs": "16; rm -rf /"},
    "a seat outside": {"seats": {"hand_0": "frozen:../../evil"}},
}


class TestConfig:
    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    def test_a_stored_config_cannot_do_more_than_a_config(self, copy, attack, watch, capsys):
        stored = json.loads((copy / "config.json").read_text())
        for key, value in attack.items():
            stored[key] = {**stored["ppo"], **value} if key == "ppo" else value
        (copy / "config.json").write_text(json.dumps(stored))
        watch.folder, watch.seen = str(copy), []
        args = ["--runs-dir", str(copy.parent), "--run", "x", "--resume"]
        try:
            with pytest.raises(SystemExit) as caught:
                main(["train", GAME, *args])
        finally:
            watch.folder = None
        assert caught.value.code in (1, 2)
        assert capsys.readouterr().err.startswith(("error: ", "warning: "))
        # the functions that make the environments are copied by pickle, in this process
        assert [event for event, _ in watch.seen if event != "pickle.find_class"] == []

    @pytest.mark.parametrize(
        "what",
        [
            {"algo": "antigravity:geohash", "own": {"n_steps": 8}},
            {"ppo": {"network": "antigravity:geohash"}},
        ],
    )
    def test_code_that_a_run_names_is_not_imported_unasked_when_it_goes_on(
        self, copy, what, capsys
    ):
        stored = json.loads((copy / "config.json").read_text())
        if "algo" in what:
            del stored["ppo"]
            stored |= what
        else:
            stored["ppo"] |= what["ppo"]
        (copy / "config.json").write_text(json.dumps(stored))
        with pytest.raises(SystemExit) as caught:
            main(["train", GAME, "--runs-dir", str(copy.parent), "--run", "x", "--resume"])
        assert caught.value.code == 2
        assert "add --allow-import" in capsys.readouterr().err
        assert "antigravity" not in sys.modules

    def test_a_game_that_a_run_names_is_not_imported_unasked(self, copy, capsys):
        (copy / "config.json").write_text(
            (copy / "config.json").read_text().replace(GAME, "antigravity:geohash")
        )
        for name in ("evaluate", "watch"):
            with pytest.raises(SystemExit) as caught:
                main([name, str(copy)])
            assert caught.value.code == 2
        assert "--allow-import" in capsys.readouterr().err
        assert "antigravity" not in sys.modules

    @pytest.mark.parametrize("name", ["config.json", "agents.json", "summary.json", "seeds.json"])
    @pytest.mark.parametrize(
        "text",
        [
            "!!python/object/apply:os.system ['touch exploded']",
            'a: &a ["lol","lol"]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]',
            "[" * 200_000,
            " " * 10_000_000,
            '{"seed": 1' + "0" * 5000 + "}",
            "\x00",
        ],
        ids=["yaml object", "billion laughs", "deep", "10 MB", "long number", "zero byte"],
    )
    def test_other_texts_are_refused_quickly(self, copy, name, text):
        (copy / name).write_text(text)
        started = time.perf_counter()
        if name == "summary.json":
            assert contents.read_summary(copy) == {}
        else:
            reader = sets.read_set if name == "seeds.json" else contents.read_config
            with pytest.raises(ConfigError):
                (contents.read_groups if name == "agents.json" else reader)(copy)
        assert time.perf_counter() - started < 2.0

    def test_a_pipe_is_not_waited_for(self, copy):
        (copy / "config.json").unlink()
        os.mkfifo(copy / "config.json")
        done = threading.Event()

        def read() -> None:
            with pytest.raises(ConfigError):
                contents.read_config(copy)
            done.set()

        threading.Thread(target=read, daemon=True).start()
        assert done.wait(5)


class TestNames:
    @pytest.mark.parametrize("name", NAMES, ids=ascii)
    def test_no_command_writes_outside_the_runs(self, tmp_path, monkeypatch, name, capsys):
        inside = tmp_path / "a" / "b"
        inside.mkdir(parents=True)
        monkeypatch.chdir(inside)
        for more in ([], ["--resume"], ["--overwrite"], ["--seeds", "2"]):
            with pytest.raises(SystemExit) as caught:
                main(["train", GAME, f"--run={name}", *more, *SMALL])
            assert caught.value.code == 2
        assert files(tmp_path) == []
        printed = capsys.readouterr()
        assert "\u202e" not in printed.err + printed.out

    def test_a_link_to_outside_is_not_followed(self, copy, monkeypatch, capsys):
        outside = copy.parent.parent / "outside"
        copy.rename(outside)
        copy.symlink_to(outside)
        before = files(outside)
        for more in (["--resume"], ["--overwrite"]):
            with pytest.raises(SystemExit) as caught:
                main(["train", GAME, "--run", "x", "--runs-dir", str(copy.parent), *more])
            assert caught.value.code == 2
        assert files(outside) == before

    def test_overwriting_does_not_follow_links_in_the_run(self, copy):
        precious = copy.parent.parent / "precious"
        precious.mkdir()
        (precious / "thesis.tex").write_text("years of work")
        (copy / "videos").symlink_to(precious)
        (copy / "notes").symlink_to(precious / "thesis.tex")
        folders.create_run(copy, overwrite=True)
        assert list(copy.iterdir()) == []
        assert (precious / "thesis.tex").read_text() == "years of work"

    def test_names_of_agents_are_no_paths(self, copy):
        """They stand in metrics and JSON; no file is called after them."""
        stored = json.loads((copy / "agents.json").read_text())
        text = json.dumps(stored).replace("hand_0", "../../evil")
        (copy / "agents.json").write_text(text)
        before = files(copy.parent.parent)
        assert "../../evil" in Agent.load(copy).possible_agents
        assert files(copy.parent.parent) == before


class TestSecrets:
    def test_no_file_holds_the_environment_and_none_is_made_elsewhere(self, tmp_path):
        secret = "s3cr3t-4f1c9d"
        (tmp_path / "tmp").mkdir()
        environment = {**ENVIRONMENT, "WANDB_API_KEY": secret, "TMPDIR": str(tmp_path / "tmp")}
        args = ["train", GAME, "--run", "x", "--env-steps", "64", "--json", *SMALL]
        before = {*os.listdir(tempfile.gettempdir())}, {*os.listdir("/dev/shm")}
        ran = subprocess.run(
            command(*args, "--n-workers", "1"),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        assert secret not in ran.stdout + ran.stderr
        assert not [path for path in files(tmp_path) if secret.encode() in path.read_bytes()]
        assert os.listdir(tmp_path / "tmp") == []
        ours = [name for name in {*os.listdir("/dev/shm")} - before[1] if "kitae" in name]
        assert ours == []
        origin = [p for p in files(tmp_path) if p.parent.name == "manifest"]
        assert origin
        assert not any(b"WANDB" in path.read_bytes() for path in origin)


class TestTerminal:
    def test_a_stored_text_cannot_steer_it(self, copy, capsys):
        stored = json.loads((copy / "config.json").read_text())
        stored["env_id"] = "x\x1b]0;evil\x07\u202e"
        (copy / "config.json").write_text(json.dumps(stored))
        with pytest.raises(SystemExit):
            main(["train", GAME, "--run", "x", "--runs-dir", str(copy.parent), "--resume"])
        main(["runs", "--runs-dir", str(copy.parent)])
        printed = capsys.readouterr()
        assert "evil" in printed.err
        assert "evil" in printed.out
        assert not set(printed.err + printed.out) & set("\x1b\x07\u202e")

    @pytest.mark.slow
    def test_neither_can_a_warning(self, copy):
        """A damaged checkpoint is warned of with what its reader says."""
        env = {**ENVIRONMENT, "PYTHONWARNINGS": "default"}
        evil = copy.parent.parent / "e\x1b[2Jvil"
        evil.mkdir()
        shutil.copytree(copy, evil / "x")
        for path in files(evil / "x" / "checkpoints" / "step_96" / "state"):
            os.truncate(path, 1)
        args = ["train", GAME, "--run", "x", "--runs-dir", str(evil), "--resume"]
        ran = subprocess.run(command(*args), cwd=copy, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert "warning: " in ran.stderr
        assert "\\x1b[2Jvil" in ran.stderr
        assert "\x1b" not in ran.stderr + ran.stdout


def test_the_unsafe_is_named(tmp_path):
    with pytest.raises(UnsafePathError, match="expected a run name"):
        search.find_runs(folders.run_path(tmp_path, "../evil"))
