"""The command line: in this process where that will do, as a program where it must."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import without_posix
from command_line import ENVIRONMENT, GAME, SMALL, last_json, program, start, wait_until

from kitae_marl.cli.main import COMMANDS, load_function, main, parse
from kitae_marl.cli.options.hints import ELSEWHERE, option_names
from kitae_marl.cli.options.training import Train
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.runs.advice import program_as_called, python_path, say_where_to_look
from kitae_marl.runs.store import contents


def steps(run: Path) -> list[int]:
    names = [p.name for p in (run / "checkpoints").iterdir()]
    assert all(name.startswith("step_") for name in names)
    return sorted(int(name.removeprefix("step_")) for name in names)


class TestParsing:
    def test_every_setting_is_an_option(self):
        parsed = parse(
            [
                *[
                    "train",
                    GAME,
                    "--seed",
                    "3",
                    "--env-kwargs",
                    '{"length": 5}',
                    "--run",
                    "x",
                    "--json",
                ],
                *["--ppo.gamma", "0.5", "--ppo.no-anneal", "--save-every", "7", *SMALL],
            ]
        )
        assert isinstance(parsed, Train)
        config = parsed.config()
        assert (config.env_id, config.seed, config.env_kwargs) == (GAME, 3, {"length": 5})
        assert (config.ppo.gamma, config.ppo.anneal, config.save_every) == (0.5, False, 7)
        assert config.ppo.hidden_sizes == (8,)
        assert (parsed.run, parsed.json) == ("x", True)

    @pytest.mark.parametrize(
        "args",
        [
            ["nonsense"],
            ["train", GAME, "--n-envs", "many"],
            ["train", GAME, "--env-kwargs", "[1]"],
            ["train", GAME, "--env-kwargs", "{"],
            ["train", GAME, "--n-envs", "0"],
            ["train", GAME, "--ppo.gamma", "2"],
            ["train", GAME, "--ppo.n-minibatches", "3"],
            ["train", GAME, "--unknown", "1"],
            ["train", GAME, "--run", "../evil"],
            ["train", GAME, "--run", "/evil"],
            ["train", "mpe/simple_spred-v3", *SMALL],
            ["train", GAME, "--resume", "--run", "missing"],
            ["evaluate", "missing"],
            ["watch", "missing"],
            ["bench", "nothing", GAME],
        ],
        ids=" ".join,
    )
    def test_bad_input_ends_with_2_and_a_reason(self, args, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as caught:
            main([*args, "--json"])
        assert caught.value.code == 2
        printed = capsys.readouterr()
        assert printed.err.strip()
        assert last_json(printed.out)["exit_code"] == 2
        assert "Traceback" not in printed.err

    def test_resume_keeps_the_settings_of_an_algorithm_of_ones_own(self, tmp_path):
        (tmp_path / "x").mkdir()
        config = Config(env_id=GAME, algo="mine:learner", own={"n_steps": 8, "rate": 0.5})
        contents.write_config(tmp_path / "x", config)
        args = ["train", GAME, "--run", "x", "--runs-dir", str(tmp_path), "--resume"]
        with pytest.raises(ConfigError, match=r"trained with mine:learner, .* --allow-import"):
            parse(args)
        assert parse([*args, "--allow-import"]).config() == config
        assert parse([*args, "--algo", "mine:learner"]).config() == config
        args += ["--allow-import", "--own", '{"n_steps": 4}']
        assert parse(args).config().own == {
            "n_steps": 4,
            "rate": 0.5,
        }  # those given over stored ones

    def test_settings_are_checked_with_those_of_the_run_that_goes_on(self, tmp_path, capsys):
        (tmp_path / "x").mkdir()
        ppo = PPOConfig(n_steps=10, n_minibatches=2)
        contents.write_config(tmp_path / "x", Config(env_id=GAME, n_envs=1, ppo=ppo))
        args = ["train", GAME, "--run", "x", "--runs-dir", str(tmp_path), "--resume"]
        assert parse([*args, "--ppo.n-minibatches", "5"]).ppo.n_minibatches == 5
        with pytest.raises(SystemExit):
            parse([*args, "--ppo.n-minibatches", "3"])
        assert "expected a divisor of ppo.n_steps" in capsys.readouterr().err

    def test_episodes_of_evaluations_without_evaluations_are_refused(self, capsys):
        with pytest.raises(SystemExit):
            parse(["train", GAME, "--eval-episodes", "4"])
        assert "eval_episodes: expected with --eval-every" in capsys.readouterr().err

    @pytest.mark.parametrize("env_id", ["nowhere:make", f"{GAME}_not"])
    def test_a_module_or_function_that_is_not_there(self, env_id, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as caught:
            main(["train", env_id, *SMALL])
        assert caught.value.code == 2
        assert env_id in capsys.readouterr().err

    @pytest.mark.parametrize("env_id", [GAME, "mpe/simple_spread-v3"])
    def test_arguments_that_the_game_does_not_take(self, env_id, tmp_path, monkeypatch, capsys):
        """One line, though each of the environments was to be made with them."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as caught:
            main(["train", env_id, "--env-kwargs", '{"nope": 1}', "--backend", "python", *SMALL])
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: env_kwargs: expected arguments that {env_id} takes, got")
        assert "nope=1" in line

    def test_near_ids_are_named(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit):
            main(["train", "mpe/simple_spred-v3", *SMALL])
        assert "mpe/simple_spread-v3" in capsys.readouterr().err


class TestNumbersAndFiles:
    def test_whole_numbers_may_be_short(self):
        args = ["train", GAME, "--env-steps", "1e6", "--save-every", "20k", "--eval-every", "0.5M"]
        parsed = parse([*args, "--keep", "every:100k", "--ppo.n-steps", "1k"])
        assert (parsed.env_steps, parsed.save_every, parsed.eval_every) == (10**6, 20_000, 500_000)
        assert (parsed.keep, parsed.ppo.n_steps) == ("every:100k", 1000)
        assert parse(["evaluate", "x", "--step", "2k"]).step == 2000
        assert parse(["plot", "x", "--step", "best"]).step == "best"

    def test_a_file_of_settings_and_options_beside_it_that_win(self, tmp_path):
        ppo = PPOConfig(n_steps=10, n_minibatches=2, gamma=0.5)
        config = Config(env_id="mpe/simple_tag-v3", n_envs=1, env_kwargs={"num_good": 2}, ppo=ppo)
        contents.write_config(tmp_path, config)
        for file in (tmp_path / "config.json", tmp_path):
            assert parse(["train", "--config", str(file)]).config() == config
        parsed = parse(
            ["train", GAME, f"--config={tmp_path}", "--ppo.gamma", "0.9", "--seeds", "2"]
        )
        wanted = dataclasses.replace(config, env_id=GAME)
        wanted = dataclasses.replace(wanted, ppo=dataclasses.replace(ppo, gamma=0.9))
        assert (parsed.config(), parsed.seeds) == (wanted, 2)
        contents.write_config(tmp_path, dataclasses.replace(config, backend="compiled"))
        assert parse(["train", GAME, "--config", str(tmp_path)]).backend == "auto"
        with pytest.raises(ConfigError, match=r"config: expected without --resume"):
            parse(["train", "--config", str(tmp_path), "--resume"])
        (tmp_path / "config.json").write_text('{"ppo": {"lr": 1}}')
        with pytest.raises(ConfigError, match=r"config\.json: ppo\.lr: unknown key"):
            parse(["train", "--config", str(tmp_path)])

    def test_a_file_imports_no_code_that_nobody_asked_for(self, tmp_path):
        contents.write_config(tmp_path, Config(env_id="os:system"))
        args = ["train", "--config", str(tmp_path)]
        with pytest.raises(ConfigError, match=r"env_id: .* os:system, .* --allow-import"):
            parse(args)
        assert parse([*args, "--allow-import"]).env_id == "os:system"
        assert parse([*args[:1], "os:system", *args[1:]]).env_id == "os:system"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", GAME, "--ppo.lr", "1"], r"--ppo\.lr \(did you mean --ppo\.learning-rate\?\)"),
        (["train", GAME, "--total-timesteps=1"], r"did you mean --env-steps\?"),
        (["train", GAME, "--gamma", "1"], r"did you mean --ppo\.gamma\?"),
        (["train", "--env", GAME], r"did you mean ID alone, without"),
        (["train", GAME, "more"], r"expected nothing more, got 'more'"),
        (["watch", "x", "--episode", "1"], r"--episodes\?\); `kitae-marl watch --help`"),
        (["plot", "x", "--unheard-of", "1"], r"got --unheard-of; `kitae-marl plot --help`"),
    ],
)
def test_an_unknown_option_is_hinted_at(args, words):
    with pytest.raises(ConfigError, match=words):
        parse(args)


def test_the_names_in_hints_are_options():
    known = {name for command in COMMANDS.values() for name in option_names(command.options)}
    named = {text.partition(" ")[0] for text in ELSEWHERE.values()} - {"ID"}
    assert named <= {name.rpartition(".")[2] for name in known}


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("kitae-marl ")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_function_and_options_that_say_what_it_does(name):
    options = COMMANDS[name].options
    assert callable(load_function(options))
    assert options.__doc__
    assert "json" in {field.name for field in dataclasses.fields(options)}


class TestBench:
    """Figures of both loops; what they are depends on the machine."""

    QUICK = ("--n-envs", "2", "--repeats", "2", "--seconds", "0.02", "--json")

    @pytest.mark.parametrize("what", ["vector", "train"])
    def test_beside_the_loop_of_the_game(self, what, capsys):
        main(["bench", what, "mpe/simple-v3", "--n-workers", "0", *self.QUICK])
        result = last_json(capsys.readouterr().out)
        low, high = result["ratio_spread"]
        assert 0 < low <= high
        low, high = result["env_steps_per_s_spread"]
        assert 0 < low <= result["env_steps_per_s"] <= high

    def test_of_a_compiled_game(self, capsys):
        main(["bench", "compiled", "mpe/simple_spread-v3", *self.QUICK])
        result = last_json(capsys.readouterr().out)
        low, high = result["env_steps_per_s_spread"]
        assert 0 < low <= result["env_steps_per_s"] <= high


def test_list(capsys):
    main(["list", "mpe/simple_sp", "--json"])
    out = capsys.readouterr().out
    ids = [game["id"] for game in last_json(out)["games"]]
    assert {"mpe/simple_spread-v3", "mpe/simple_speaker_listener-v4"} <= set(ids)
    assert all("mpe/simple_sp" in id for id in ids)
    main(["list", "no such game at all"])
    assert "no id contains" in capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The runs folder with the run ``small`` of 96 steps."""
    folder = tmp_path_factory.mktemp("cli")
    ran = program(
        *["train", GAME, "--run", "small", "--runs-dir", "here", "--env-steps", "96", "--json"],
        *["--save-every", "32", "--seed", "1", *SMALL],
        cwd=folder,
    )
    assert ran.returncode == 0, ran.stderr
    (folder / "train.out").write_text(ran.stdout)
    return folder


class TestTrain:
    def test_the_last_line_is_json(self, trained):
        out = (trained / "train.out").read_text()
        result = last_json(out)
        assert set(result) >= {
            "env_steps",
            "agent_steps",
            "wall_s",
            "startup_s",
            "env_steps_per_s",
            "agent_steps_per_s",
            "returns",
            "run_dir",
        }
        assert (result["env_steps"], result["agent_steps"]) == (96, 288)
        assert 0 < result["startup_s"] < 120
        assert {"mean", "team", "hand_0", "bell_0"} <= set(result["returns"])
        assert Path(result["run_dir"]) == trained / "here" / "small"
        assert "step 96/96" in out
        assert "kitae_marl evaluate small --runs-dir here --allow-import\n" in out
        assert "kitae_marl watch small --runs-dir here --allow-import --out small.gif\n" in out
        assert "kitae_marl plot small --runs-dir here --out small.png" in out

    @pytest.mark.parametrize(("on_path", "said"), [(True, "kitae-marl"), (False, None)])
    def test_what_it_says_to_call_can_be_called(self, tmp_path, monkeypatch, on_path, said):
        program = tmp_path / "kitae-marl"
        program.write_text("")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "argv", [str(program), "train"])
        monkeypatch.setenv("PATH", str(tmp_path) if on_path else os.devnull)
        assert program_as_called() == (said or str(program))

    def test_what_it_says_to_do_finds_code_of_ones_own(self, tmp_path, monkeypatch):
        (tmp_path / "mine.py").write_text("def make():\n    pass\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.syspath_prepend(str(tmp_path))
        assert python_path(Config(env_id="mine:make")) == f"PYTHONPATH={tmp_path} "
        assert python_path(Config(env_id=GAME)) == ""  # found elsewhere
        assert python_path(Config()) == ""
        assert python_path(Config(env_id="__main__:make")) == ""

    def test_called_as_a_module_it_says_so(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["/somewhere/kitae_marl/__main__.py", "train"])
        monkeypatch.setenv("PATH", os.devnull)
        assert program_as_called() == f"{sys.executable} -m kitae_marl"

    @pytest.mark.parametrize("film", [True, False])
    def test_a_film_is_offered_where_the_game_can_draw(self, film, capsys, tmp_path):
        path = tmp_path / "x"
        say_where_to_look(
            Config(), path, Path("runs"), allow_import=False, zero_sum=False, film=film
        )
        out = capsys.readouterr().out
        assert (" watch x --out x.gif" in out) == film
        assert " evaluate x\n" in out

    def test_the_run_folder(self, trained):
        run = trained / "here" / "small"
        assert steps(run) == [32, 64, 96]
        assert contents.read_config(run).seed == 1
        assert json.loads((run / "summary.json").read_text())["complete"] is True

    def test_an_existing_run_is_not_replaced_by_accident(self, trained, monkeypatch, capsys):
        monkeypatch.chdir(trained)
        with pytest.raises(SystemExit) as caught:
            main(["train", GAME, "--run", "small", "--runs-dir", "here", *SMALL])
        assert caught.value.code == 2
        assert "--resume" in capsys.readouterr().err

    def test_resume_takes_the_settings_of_the_run(self, trained, monkeypatch):
        monkeypatch.chdir(trained)
        where = ["--run", "small", "--runs-dir", "here"]
        parsed = parse(["train", GAME, *where, "--resume", "--env-steps", "128"])
        assert parsed.config().env_steps == 128
        assert parsed.config().ppo.hidden_sizes == (8,)
        assert parsed.config().seed == 1
        with pytest.raises(ConfigError, match=r"trains on small_games:make_clock, got mpe/x"):
            parse(["train", "mpe/x", *where, "--resume"])

    def test_resume_of_a_complete_run_says_that_nothing_is_left_to_do(
        self, trained, monkeypatch, capsys
    ):
        monkeypatch.chdir(trained)
        monkeypatch.setenv("XLA_FLAGS", ENVIRONMENT["XLA_FLAGS"])  # as it was trained
        main(["train", "--run", "small", "--runs-dir", "here", "--resume", "--allow-import"])
        said = capsys.readouterr().out
        assert "complete with 96 steps, nothing is left to do" in said
        assert "--resume --env-steps 192" in said

    def test_resume_goes_on(self, trained):
        ran = program(
            *["train", GAME, "--run", "small", "--runs-dir", "here", "--resume"],
            *["--env-steps", "128", "--json"],
            cwd=trained,
        )
        assert ran.returncode == 0, ran.stderr
        assert "resumed from step 96" in ran.stdout.splitlines()
        assert last_json(ran.stdout)["env_steps"] == 128
        assert steps(trained / "here" / "small")[-1] == 128


class TestPlaying:
    def test_evaluate(self, trained, monkeypatch, capsys):
        monkeypatch.chdir(trained)
        main(
            [
                *["evaluate", "small", "--runs-dir", "here", "--episodes", "5", "--n-workers", "0"],
                *["--n-envs", "2", "--allow-import", "--json"],
            ]
        )
        result = last_json(capsys.readouterr().out)
        assert result["episodes"] == 5
        assert result["length"] == 8.0
        own, random = result["returns"]["mean"], result["random"]["returns"]["mean"]
        assert result["distinct_episodes"] == 1  # the likeliest action, no chance
        assert (own["low"], own["stderr"], own["high"]) == (None, None, None)
        assert own["mean"] <= 2 * 8
        assert 0 < random["mean"] < 2 * 8

    def test_a_run_does_not_import_code_unasked(self, trained, monkeypatch, capsys):
        monkeypatch.chdir(trained)
        with pytest.raises(SystemExit) as caught:
            main(["watch", "small", "--runs-dir", "here"])
        assert caught.value.code == 2
        assert "--allow-import" in capsys.readouterr().err

    def test_watch(self, trained, monkeypatch, capsys):
        monkeypatch.chdir(trained)
        main(
            [
                *["watch", "small", "--runs-dir", "here", "--out", "film.gif", "--episodes", "2"],
                *["--allow-import", "--json"],
            ]
        )
        result = last_json(capsys.readouterr().out)
        assert result["frames"] == 2 * (8 + 1)  # one before each step, one with the returns
        assert (trained / "film.gif").read_bytes()[:3] == b"GIF"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_saves_and_ends_with_its_code(tmp_path, number, code):
    args = ["train", GAME, "--run", "x", "--env-steps", "1000000", "--save-every", "1000000"]
    args += ["--env-kwargs", '{"delay": 0.002}', *SMALL]
    with start(*args, cwd=tmp_path) as process:
        metrics = tmp_path / "runs" / "x" / "metrics.csv"
        wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, process)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert process.returncode == code, error
    assert "Traceback" not in error
    (saved,) = steps(tmp_path / "runs" / "x")
    assert saved >= 32
    assert saved % 16 == 0
    summary = json.loads((tmp_path / "runs" / "x" / "summary.json").read_text())
    assert summary["complete"] is False
    assert summary["env_steps"] == saved


def test_training_is_saved_when_nobody_reads_its_progress_any_more(tmp_path):
    """As by ``kitae-marl train ... | head``."""
    args = ["train", GAME, "--run", "x", "--env-steps", "1000000", "--save-every", "1000000"]
    args += ["--env-kwargs", '{"delay": 0.002}', "--json", *SMALL]
    with start(*args, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any("env steps/s" in line for line in process.stdout)
        process.stdout.close()
        error = process.stderr.read()
        assert (process.wait(timeout=30), error) == (128 + signal.SIGPIPE, "")
    (saved,) = steps(tmp_path / "runs" / "x")
    summary = json.loads((tmp_path / "runs" / "x" / "summary.json").read_text())
    assert summary["complete"] is False
    assert summary["env_steps"] == saved > 0


def test_output_to_a_full_disk_ends_with_one_line(tmp_path):
    command = [sys.executable, "-m", "kitae_marl", "runs", "--json"]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    assert (ran.returncode, ran.stderr) == (2, "error: [Errno 28] No space left on device\n")


def interrupted(args: list[str], cwd: Path, ready: str) -> tuple[int, str]:
    """Send Ctrl-C to a command once a file of this pattern is there; its code, what it said."""
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{cwd}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
    with start(*args, cwd=cwd, env=environment) as process:
        wait_until(lambda: list(cwd.glob(ready)), process)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=10)
    return process.returncode, error


class TestCtrlC:
    """One line, exit code 130, and nothing of what was being made."""

    STOPPED = (130, "stopped by SIGINT\n")

    def test_in_the_middle_of_an_import(self, tmp_path):
        """To raise there crashes modules in C; so nothing is raised."""
        (tmp_path / "slow_game.py").write_text(
            "import pathlib, time\npathlib.Path('importing').touch()\n"
            "try:\n    time.sleep(60)\nexcept BaseException:\n    pathlib.Path('raised').touch()\n"
        )
        assert interrupted(["doctor", "slow_game:make"], tmp_path, "importing") == self.STOPPED
        assert not (tmp_path / "raised").exists()

    def test_before_the_command_line_is_there(self, tmp_path):
        (tmp_path / "tyro.py").write_text(
            "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(60)\n"
        )
        assert interrupted(["list"], tmp_path, "importing") == self.STOPPED

    def test_in_the_middle_of_a_film(self, trained):
        args = ["watch", "small", "--runs-dir", "here", "--out", "long.gif", "--allow-import"]
        args += ["--episodes", "100000"]
        assert interrupted(args, trained, ".unfinished-*") == self.STOPPED
        assert not list(trained.glob(".unfinished-*"))
        assert not (trained / "long.gif").exists()


def test_help_is_quick_and_loads_nothing_heavy(tmp_path):
    for args in ((), ("train",)):
        best = min(seconds_of_help(tmp_path, *args) for _ in range(2))
        assert best < 2.0  # half of one on a quiet machine
    code = (
        "import sys\nfrom kitae_marl.cli.main import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'jax', 'flax', 'optax', 'orbax', 'gymnasium', 'pettingzoo', 'tensorboardX'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().splitlines()[-1] == "[]"


def seconds_of_help(cwd: Path, *args: str) -> float:
    """Seconds of a processor: others may be busy on this machine."""
    started = os.times()
    ran = program(*args, "--help", cwd=cwd)
    assert ran.returncode == 0
    assert "train" in ran.stdout
    ended = os.times()
    used = ended.children_user + ended.children_system
    return used - started.children_user - started.children_system


def test_without_what_windows_lacks_it_trains_in_one_process(tmp_path):
    script = Path(without_posix.__file__)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, script, *args]
        return subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )

    small = [*SMALL, "--env-steps", "64", "--run", "a"]
    small = [word for word in small if word != "0" and word != "--n-workers"]
    trained = run("train", GAME, *small)
    assert trained.returncode == 0, trained.stderr
    assert "the run is in" in trained.stdout
    listed = run("runs", "--json")
    assert last_json(listed.stdout)["runs"][0]["state"] == "complete"
    refused = run("train", GAME, *small, "--n-workers", "2", "--overwrite")
    assert refused.returncode == 2
    assert "expected n_workers=0 on Windows, got 2" in refused.stderr
