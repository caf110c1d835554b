"""Many runs in one program: each an ordinary run, equal to the one trained by itself."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from command_line import program, start, wait_until
from run_folders import checkpoint, same_folder, saved

from kitae_marl import Agent, Config, PPOConfig, train_many
from kitae_marl.cli.main import main
from kitae_marl.errors import ConfigError, NoCheckpointError, RunExistsError
from kitae_marl.runs.many import Trained, train_runs
from kitae_marl.runs.store import contents, search
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")
GAME = "mpe/simple-v3"
PPO = PPOConfig(n_steps=26, n_epochs=1, n_minibatches=2, hidden_sizes=(8,), anneal=False)
CONFIG = Config(env_id=GAME, n_envs=4, env_steps=2 * 26 * 4, save_every=1, ppo=PPO)
LONGER = dataclasses.replace(CONFIG, env_steps=3 * 26 * 4)
RATES = [1e-3, 3e-3]


def assert_close(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("many") / "grid"


@pytest.fixture(scope="module")
def trained(folder: Path) -> list[Trained]:
    varied = {"learning_rate": RATES}
    return train_many(GAME, CONFIG, [4, 5], varied, folder, show=False)


def test_every_combination_has_its_run(trained: list[Trained], folder: Path) -> None:
    found = [(run.agent.config.ppo.learning_rate, run.agent.config.seed) for run in trained]
    assert found == [(1e-3, 4), (1e-3, 5), (3e-3, 4), (3e-3, 5)]
    sets = sorted(path.name for path in folder.iterdir())
    assert sets == ["learning_rate-0.001", "learning_rate-0.003"]
    for run in trained:
        assert run.run_dir is not None
        assert contents.read_summary(run.run_dir) == run.summary
        assert run.summary["complete"]
        assert contents.read_config(run.run_dir).ppo == run.agent.config.ppo
        assert len((run.run_dir / "metrics.csv").read_text().splitlines()) == 1 + 2
        assert_close(Agent.load(run.run_dir).state, run.agent.state)
    leaves = [np.asarray(jax.tree.leaves(run.agent.state)[1]) for run in trained]
    assert len({leaf.tobytes() for leaf in leaves}) == 4


def test_each_is_the_run_trained_by_itself(trained: list[Trained]) -> None:
    run = trained[3]
    env = CompiledVecParallelEnv(GAME, CONFIG.n_envs)
    alone = Agent(env, dataclasses.replace(run.agent.config))
    summary = alone.train(env, show=False)
    assert_close(alone.state, run.agent.state)
    assert summary["returns"]["return/mean"] == pytest.approx(
        run.summary["returns"]["return/mean"], rel=1e-4
    )


def test_runs_go_on_together_also_where_one_is_behind(trained: list[Trained]) -> None:
    """The set was killed between the saves of its runs: they go on from where all have been."""
    paths = [run.run_dir for run in trained]
    configs = [dataclasses.replace(run.agent.config, env_steps=LONGER.env_steps) for run in trained]
    assert paths[1] is not None
    shutil.rmtree(checkpoint(paths[1], 208))
    through = train_runs(GAME, configs, [None] * 4, show=False)
    again = train_runs(GAME, configs, paths, show=False)
    for run, whole in zip(again, through, strict=True):
        assert run.summary["env_steps"] == LONGER.env_steps
        for x, y in zip(*map(jax.tree.leaves, (run.agent.state, whole.agent.state)), strict=True):
            np.testing.assert_array_equal(x, y)
    done = train_runs(GAME, configs, paths, show=False)  # nothing is left to do
    assert [run.summary for run in done] == [run.summary for run in again]


def test_bad_requests_are_refused(folder: Path, trained: list[Trained]) -> None:
    with pytest.raises(ConfigError, match="expected a list of different seeds"):
        train_many(GAME, CONFIG, [1, 1])
    with pytest.raises(ConfigError, match="expected values for some of learning_rate"):
        train_many(GAME, CONFIG, [1], {"n_steps": [16, 32]})
    for wrong in (1e-3, [], "12", ["much"], None):
        with pytest.raises(ConfigError, match=r"expected a list of values for 'gamma'.*got"):
            train_many(GAME, CONFIG, [1], {"gamma": wrong})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="gamma"):
        train_many(GAME, CONFIG, [1], {"gamma": [2.0]})
    with pytest.raises(RunExistsError, match="already holds a run"):
        train_many(GAME, CONFIG, [4], {"learning_rate": RATES}, folder)


def test_the_command_trains_seeds_in_one_program(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--n-envs", "4", "--env-steps", "208", "--ppo.n-steps", "26", "--json"]
    where = ["--runs-dir", str(tmp_path), "--run", "set"]
    main(["train", GAME, "--seeds", "2", "--ppo.hidden-sizes", "8", *options, *where])
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert f"ippo on {GAME} (compiled): 1 agent in 1 group, 4 environments\n" in out
    assert "2 runs begin in one program" in out
    assert f"kitae-marl evaluate set --runs-dir {tmp_path}\n" in out  # no --allow-import for ours
    assert "for a rollout" in out  # memory, before it is allocated
    assert sorted(result["seeds"]) == ["0", "1"]
    assert [path.name for path in search.find_runs(tmp_path / "set")] == ["seed_0", "seed_1"]
    assert contents.read_config(tmp_path / "set" / "seed_1").backend == "compiled"


def test_it_ends_with_where_the_runs_are(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train_many(GAME, CONFIG, [0], {"learning_rate": [1e-3]}, "runs/grid")
    out = capsys.readouterr().out
    assert out.startswith(f"ippo on {GAME} (compiled)")
    assert out.endswith("the runs are in runs/grid; kitae-marl runs --runs-dir runs/grid\n")
    main(["runs"])
    assert capsys.readouterr().out == "grid   folder    of runs: --runs-dir runs/grid\n"
    main(["runs", "--runs-dir", "runs/grid"])
    assert "learning_rate-0.001" in capsys.readouterr().out
    for wrong in ("grid", "runs/grid"):
        with pytest.raises(NoCheckpointError, match=r"folder of runs.*runs/grid/learning_rate"):
            search.find_runs(wrong)
    below = ["train", GAME, "--run", "grid/learning_rate-0.001/seed_0", "--resume"]
    with pytest.raises(SystemExit):
        main(below)
    told = "--runs-dir runs/grid/learning_rate-0.001 --run seed_0"
    assert told in capsys.readouterr().err
    main(["train", GAME, *told.split(), "--resume", "--env-steps", str(LONGER.env_steps)])
    assert f"done: {LONGER.env_steps} steps" in capsys.readouterr().out
    assert len(search.find_runs("grid/learning_rate-0.001/seed_0")) == 1


@pytest.mark.long
@pytest.mark.faults
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_all_runs_saved_and_they_go_on_exactly(
    tmp_path: Path, number: signal.Signals
) -> None:
    options = ["--n-envs", "4", "--ppo.n-steps", "8", "--ppo.hidden-sizes", "8"]
    options += ["--ppo.n-epochs", "1", "--save-every", "640", "--env-steps", "6400"]
    train = ["train", GAME, "--backend", "compiled", "--seeds", "3"]
    train += [*options, "--run", "set"]
    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
    cwd = tmp_path / "stopped"
    whole, stopped = (
        [tmp_path / folder / "runs" / "set" / f"seed_{k}" for k in range(3)]
        for folder in ("whole", "stopped")
    )
    process = start(*train, cwd=cwd)
    wait_until(lambda: all(saved(path) for path in stopped), process)
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number, error
    assert out.splitlines()[-1].startswith(f"stopped by {number.name}; --resume goes on from step ")
    reached = {saved(path)[-1] for path in stopped}
    assert len(reached) == 1
    assert 0 < reached.pop() < 6400
    for args, where in ((["train", "--resume", *train[1:]], cwd), (train, tmp_path / "whole")):
        ran = program(*args, cwd=where)
        assert ran.returncode == 0, ran.stderr
    assert all(same_folder(*pair) for pair in zip(whole, stopped, strict=True))
