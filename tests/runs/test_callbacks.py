"""Callbacks and evaluations during training, by both loops; the page's examples as they stand."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest
from clock_run import CONFIG, make_env
from command_line import ENVIRONMENT, program

from kitae_marl import (
    Agent,
    Callback,
    CompiledVecParallelEnv,
    Config,
    PPOConfig,
    evaluation_of,
    train_many,
)
from kitae_marl.errors import ConfigError
from kitae_marl.runs.callbacks import ASKED, AfterUpdate, make_hooks
from kitae_marl.runs.logger import Logger
from kitae_marl.runs.store.best import Best
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.sets import write_set

pytestmark = pytest.mark.usefixtures("quickest_compilation")
PAGE = Path(__file__).resolve().parents[2] / "kitae_marl" / "README.md"
PER_UPDATE = CONFIG.n_envs * CONFIG.ppo.n_steps
COMPILED = Config(
    env_id="mpe/simple_spread-v3", n_envs=4, env_steps=4 * 25 * 6, save_every=100, seed=2,
    ppo=PPOConfig(n_steps=25, n_epochs=1, n_minibatches=1, hidden_sizes=(8,)),
)  # fmt: skip


def make(kind: str) -> tuple[Any, Config]:
    if kind == "host":
        return make_env(), CONFIG
    return CompiledVecParallelEnv(COMPILED.env_id, COMPILED.n_envs), COMPILED


class Record(Callback):
    """Writes down what it is told; asks for the end at a step."""

    def __init__(self, until: float = float("inf")) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.until = until

    def at_start(self, step: int, env: Any, agent: Any) -> None:
        self.told.append(("start", step))
        self.env = env

    def after_update(self, step: int, metrics: Mapping[str, float], agent: Any) -> bool:
        assert step == agent.learned_step * agent.config.n_envs
        self.told.append(("update", step, dict(metrics)))
        return step >= self.until

    def after_evaluation(self, step: int, metrics: Mapping[str, float], agent: Any) -> bool:
        self.told.append(("evaluation", step, dict(metrics)))
        return False

    def at_end(self, step: int, metrics: Mapping[str, float], agent: Any) -> None:
        self.told.append(("end", step))

    def steps(self, kind: str) -> list[int]:
        return [told[1] for told in self.told if told[0] == kind]


@pytest.mark.parametrize("kind", ["host", "compiled"])
class TestBothLoops:
    def test_they_are_told_of_start_updates_evaluations_and_end(self, kind, tmp_path):
        record, played = Record(), []

        def evaluate(agent: Any) -> dict[str, float]:
            played.append(agent.learned_step * agent.config.n_envs)
            return {"score": float(len(played))}

        env, config = make(kind)
        agent = Agent(env, config)
        agent.train(
            env, tmp_path / "run", show=False, callbacks=[record], evaluate=evaluate,
            evaluate_every=config.env_steps // 2,
        )  # fmt: skip
        assert [told[0] for told in record.told][:: len(record.told) - 1] == ["start", "end"]
        assert record.env.num_envs == config.n_envs
        assert record.steps("end") == [config.env_steps]
        assert record.steps("update")[-1] == config.env_steps
        if kind == "host":
            assert record.steps("update") == [PER_UPDATE * (i + 1) for i in range(6)]
            assert played == [config.env_steps // 2, config.env_steps]
        assert record.steps("evaluation") == played
        assert played[-1] == config.env_steps
        with open(tmp_path / "run" / "metrics.csv") as file:
            rows = list(csv.DictReader(file))
        kept = json.loads((tmp_path / "run" / "checkpoints" / "best.json").read_text())
        assert kept == {"env_step": played[-1], "metric": "score", "value": float(len(played))}
        assert Agent.load(tmp_path / "run", step="best").env_steps == played[-1]
        scores = [(int(r["step"]), float(text)) for r in rows if (text := r["evaluation/score"])]
        assert scores == [(step, index + 1.0) for index, step in enumerate(played)]
        row, newest = rows[-2], record.told[-2][2]  # that of the last update
        assert row.pop("step") == str(config.env_steps)
        assert {name: float(text) for name, text in row.items() if text} == {
            name: newest[name] for name, text in row.items() if text
        }

    def test_who_asks_for_the_end_ends_it_and_it_goes_on_from_there(self, kind, tmp_path):
        env, config = make(kind)
        agent = Agent(env, config)
        end = config.env_steps // 3 if kind == "host" else 1  # the first chunk is one update
        summary = agent.train(env, tmp_path / "run", show=False, callbacks=[Record(end), Record()])
        assert not summary["complete"]
        stopped = summary["env_steps"]
        assert end <= stopped < config.env_steps
        again = Record()
        env, _ = make(kind)
        loaded = Agent.load(tmp_path / "run")
        summary = loaded.resume(env, tmp_path / "run", show=False, callbacks=[again])
        assert summary["complete"]
        assert again.steps("start") == [stopped]
        assert again.steps("update")[-1] == config.env_steps

    def test_another_training_in_this_process_goes_on_with_new_games(self, kind, tmp_path):
        env, config = make(kind)
        agent = Agent(env, config)
        agent.train(env, tmp_path / "a", show=False, callbacks=[Record(1)])
        stopped, record = agent.learned_step * config.n_envs, Record()
        assert stopped < config.env_steps
        summary = agent.train(make(kind)[0], tmp_path / "b", show=False, callbacks=[record])
        assert record.steps("start") == [stopped]
        assert summary["complete"]
        assert summary["env_steps"] == config.env_steps


@pytest.mark.parametrize(
    ("kind", "method"), [("host", "at_start"), ("compiled", "after_update"), ("host", "at_end")]
)
def test_what_one_raises_ends_the_training_saved_and_the_environments_are_closed(
    kind, method, tmp_path
):
    def fail(self: Any, *told: Any) -> None:
        raise LookupError("of the user's own")

    failing = type("Failing", (Callback,), {method: fail})()
    env, config = make(kind)
    config = replace(config, save_every=10**6)
    agent = Agent(env, config)
    with pytest.raises(LookupError, match="of the user's own") as caught:
        agent.train(env, tmp_path / "run", show=False, callbacks=[failing])
    assert env.closed
    assert f"Failing.{method}" in caught.value.__notes__[0]
    if method != "at_start":
        loaded = Agent.load(tmp_path / "run")
        assert loaded.learned_step == agent.learned_step > 0


class TestAnswers:
    @pytest.mark.parametrize(
        "answer", ["no", pytest.param(np.array([True, False]), marks=pytest.mark.slow)]
    )
    def test_an_answer_that_is_no_truth_value_is_refused(self, answer):
        class Odd(Callback):
            def after_update(self, step: int, metrics: Mapping[str, float], agent: Any) -> Any:
                return answer

        env, config = make("host")
        with pytest.raises(TypeError, match="expected True, False or None of a callback, got"):
            Agent(env, config).train(env, show=False, callbacks=[Odd()])

    @pytest.mark.parametrize("callbacks", [None, Callback(), "mine"])
    def test_what_is_no_list_of_callbacks_is_refused_and_the_environments_are_closed(
        self, callbacks
    ):
        env, config = make("host")
        with pytest.raises(TypeError, match="expected callbacks as a list of objects, got"):
            Agent(env, config).train(env, show=False, callbacks=callbacks)
        assert env.closed

    def test_metrics_may_be_kept(self):
        kept: list[Any] = []

        class Keep(Callback):
            def after_update(self, step: int, metrics: Any, agent: Any) -> None:
                kept.append(metrics)
                metrics.clear()

        record = Record()
        env, config = make("host")
        Agent(env, config).train(env, show=False, callbacks=[Keep(), record])
        assert len({id(metrics) for metrics in kept}) == 6
        assert all(told[2] for told in record.told if told[0] == "update")


class TestEvaluations:
    def test_a_signal_cuts_one_short_and_nothing_is_told(self):
        env, config = make("host")
        own, agent = make_env(), Agent(env, config)
        evaluate = evaluation_of(own, 10**9)

        Timer(0.3, lambda: setattr(agent, "stopping", ASKED)).start()
        assert evaluate(agent) == {}
        own.close()

    @pytest.mark.parametrize(
        ("result", "words"),
        [
            (3.0, "return numbers by name, got float"),
            ({"good": 1.0, "word": "x"}, "got 'word': 'x'"),
            ({1: 2.0}, "got 1: 2.0"),
            ({"pair": np.zeros(2)}, "got 'pair': array"),
        ],
    )
    def test_what_is_no_number_is_named(self, result, words):
        env, config = make("host")
        agent = Agent(env, config)
        hooks = make_hooks((), lambda agent: result, 1)
        follower = AfterUpdate(agent, hooks, Logger(None, total_steps=8, show=False), None)
        with pytest.raises(TypeError, match=words):
            follower.save(1, agent)

    def test_no_win_rate_takes_the_place_of_what_an_evaluation_calls_best(self, tmp_path):
        env, config = make("host")
        agent, logger = Agent(env, config), Logger(None, total_steps=8, show=False)
        for name, value in (("return/a", 1.0), ("return/b", -1.0)):
            logger.add_scalar(name, value, 0)
        logger.flush_step(1)
        rates = {"win_rate/mean": 0.5}
        hooks = make_hooks((), lambda agent: {"elo": 1000.0}, 2 * config.n_envs)
        hooks = hooks._replace(win_rates=lambda agent, step, last: rates)
        keeper = RunCheckpointer(tmp_path, save_every=10**9, num_envs=config.n_envs)
        follower, metrics = AfterUpdate(agent, hooks, logger, keeper), []
        for step in (1, 2, 3):  # an evaluation is due at the second
            follower.save(step, agent)
            metrics.append(best.metric if (best := keeper.best()) else None)
        assert metrics == ["win_rate/mean", "elo", "elo"]
        AfterUpdate(agent, hooks, logger, keeper).end(agent)  # of a run that goes on
        assert keeper.best() == Best(0, "elo", 1000.0)
        assert follower.measured == 3 * config.n_envs
        env.close()

    def test_numbers_of_numpy_are_numbers(self, tmp_path):
        env, config = make("host")
        Agent(env, config).train(
            env,
            tmp_path / "run",
            show=False,
            evaluate=lambda agent: {"x": np.float32(1.5), "y": np.ones(())},
            evaluate_every=config.env_steps,
        )
        with open(tmp_path / "run" / "metrics.csv") as file:
            row = list(csv.DictReader(file))[-1]
        assert (row["evaluation/x"], row["evaluation/y"]) == ("1.5", "1.0")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nomodule:x", "there is no module 'nomodule'"),
        ("json", "expected module:name"),
        ("json:nothing", "has no 'nothing'"),
        (":x", "expected module:name"),
        ("torn:x", "importing torn raised SyntaxError"),
        ("ends:x", "importing ends raised SystemExit: 3"),
        ("json:dumps", "derived from kitae_marl.Callback, got function"),
        ("json:JSONDecoder", "derived from kitae_marl.Callback, got the class JSONDecoder"),
    ],
)
def test_names_of_no_callback_are_refused_before_a_folder_is_replaced(text, error, tmp_path):
    (tmp_path / "torn.py").write_text("def\n")
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "config.json").write_text(CONFIG.to_json())
    (tmp_path / "runs" / "x" / "kept").touch()
    done = program(
        "train", CONFIG.env_id, "--run", "x", "--overwrite", "--callback", text, cwd=tmp_path
    )
    assert done.returncode == 2
    assert error in done.stderr
    assert (tmp_path / "runs" / "x" / "kept").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"callbacks": [3]},
        {"seeds": (4, -5)},
        {"seeds": 3},
        {"hyperparameters": ["gamma"]},
        {"hyperparameters": {"gamma": [0.9, 7.0]}},
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_before_a_set_is_replaced(wrong, tmp_path):
    member = tmp_path / "set" / "seed_4"
    member.mkdir(parents=True)
    write_set(tmp_path / "set", [4, 5])
    (member / "config.json").write_text(COMPILED.to_json())
    told = {"seeds": (4, 5), "run_dir": tmp_path / "set", "overwrite": True, **wrong}
    with pytest.raises((TypeError, ConfigError), match="expected"):
        train_many(COMPILED.env_id, COMPILED, **told)
    assert (member / "config.json").exists()


def test_several_runs_in_one_program_tell_of_each_and_one_ends_all(capsys):
    class Second(Record):
        def after_update(self, step: int, metrics: Mapping[str, float], agent: Any) -> bool:
            return agent.config.seed == 5

    record = Second()
    runs = train_many(COMPILED.env_id, COMPILED, np.array([4, 5]), callbacks=[record])
    assert {run.summary["env_steps"] for run in runs} == {100}
    assert record.steps("start") == [0, 0]
    assert record.steps("end") == [100, 100]
    assert "stopped by a callback" in capsys.readouterr().out


def blocks(heading: str) -> list[tuple[str, str]]:
    """The blocks of code of one section of the page, with their languages."""
    section = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def write_modules(folder: Path, heading: str) -> list[str]:
    """Write the blocks that begin with the name of a file; return the section's commands."""
    commands: list[str] = []
    for language, code in blocks(heading):
        if language == "bash":
            commands += [line.partition("kitae-marl ")[2] for line in code.splitlines()]
        elif code.startswith("# "):
            (folder / code.splitlines()[0][2:]).write_text(code)
    return commands


def change(module: Path, texts: Mapping[str, str]) -> None:
    """Make an example shorter: other numbers in the same code."""
    code = module.read_text()
    for old, new in texts.items():
        assert code.count(old) == 1
        code = code.replace(old, new)
    module.write_text(code)


def run(folder: Path, command: str, *more: str) -> Any:
    done = program(*command.split(), *more, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_the_pages_callbacks_run_as_written(tmp_path):
    (command,) = write_modules(tmp_path, "A callback")
    run(tmp_path, command, "--env-steps", "4096", "--ppo.n-epochs", "1")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2048, 4096]
    assert all("return/mean" in line for line in lines)
    names: dict[str, Any] = {}
    exec((tmp_path / "mine.py").read_text(), names)
    until = names["UntilGood"]()
    assert not until.after_update(1, {"return/mean": -21.0}, None)
    assert until.after_update(1, {"return/mean": -19.0}, None)


def test_the_pages_callbacks_in_python_run_as_written(tmp_path):
    write_modules(tmp_path, "A callback")
    change(tmp_path / "good.py", {"200_000": "4096", "100_000": "2048"})
    change(tmp_path / "mine.py", {"-20.0": "-90.0"})
    done = subprocess.run(
        [sys.executable, "good.py"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stopped by a callback" in done.stdout
    with open(tmp_path / "runs" / "good" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2048", "2048"]  # an evaluation has a row of its own
    assert [row["evaluation/return/mean"] != "" for row in rows] == [False, True]


def test_the_pages_curriculum_of_options_runs_as_written(tmp_path):
    (command,) = write_modules(tmp_path, "A curriculum")
    code = (tmp_path / "levels.py").read_text()
    assert "> -0.9 * self.cycles" in code
    (tmp_path / "levels.py").write_text(
        code.replace("> -0.9 * self.cycles", "> -9.0 * self.cycles")
    )
    run(tmp_path, command, "--env-steps", "6144", "--ppo.n-epochs", "1", "--run", "levels")
    with open(tmp_path / "runs" / "levels" / "metrics.csv") as file:
        lengths = [float(row["episode/length"]) for row in csv.DictReader(file)]
    assert lengths[0] == 5.0
    assert 8.0 < lengths[1] <= 10.0  # a few had begun before the options changed
    assert 13.0 < lengths[2] <= 15.0


def test_the_pages_curriculum_of_stages_runs_as_written(tmp_path):
    write_modules(tmp_path, "A curriculum")
    change(tmp_path / "stages.py", {"1_000_000": "6144", "-8.0": "-80.0"})
    done = subprocess.run(
        [sys.executable, "stages.py"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lengths = {}
    for cycles in (10, 25):
        with open(tmp_path / "runs" / f"cycles_{cycles}" / "metrics.csv") as file:
            lengths[cycles] = [(r["step"], r["episode/length"]) for r in csv.DictReader(file)]
    assert lengths[10] == [("2048", "10.0")]
    assert [step for step, _ in lengths[25]] == ["4096", "6144"]
