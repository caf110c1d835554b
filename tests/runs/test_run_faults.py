"""What may happen to a run: kills, signals, refusing disks, two trainers, numbers that are none."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import psutil
import pytest
from clock_run import CONFIG, N_ENVS, make_env
from command_line import ENVIRONMENT, GAME, command, program, start, wait_until
from compiled_runs import config as compiled_config
from compiled_runs import make as make_compiled
from run_folders import checkpoint, digests, logged, same_folder, saved
from small_games import Clock

from kitae_marl import algos
from kitae_marl.__main__ import _report
from kitae_marl.algos.ppo import algorithm
from kitae_marl.algos.ppo.algorithm import ippo
from kitae_marl.errors import (
    CheckpointCorruptError,
    CheckpointIncompatibleError,
    CheckpointWriteError,
    ConfigError,
    EnvError,
    NoCheckpointError,
    RunLockedError,
    TrainingDivergedError,
    UnsafePathError,
)
from kitae_marl.loops.metrics import MAX_SKIPPED
from kitae_marl.loops.train import first_seed
from kitae_marl.loops.update import NONFINITE
from kitae_marl.runs import session
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store import contents, manifest
from kitae_marl.runs.store.checkpoint import RunCheckpointer
from kitae_marl.runs.store.files import LOCK, locked
from kitae_marl.runs.store.listing import list_runs
from kitae_marl.runs.terminal import PlainDisplay
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("quickest_compilation")]
LENGTH = CONFIG.ppo.n_steps
TRAIN = ["train", "classic/rps-v2", "--backend", "compiled", "--n-envs", "4"]
TRAIN += ["--ppo.n-steps", "8", "--ppo.hidden-sizes", "8", "--ppo.n-minibatches", "2"]
TRAIN += ["--ppo.n-epochs", "1", "--env-steps", "32000", "--save-every", "32"]
RESUME = ["train", "classic/rps-v2", "--resume"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A compiled run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    ran = program(*TRAIN, "--run", "x", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return folder / "runs" / "x"


class TestKilled:
    """D2, C1: killed at random instants and resumed, a run ends as if nothing had happened."""

    @pytest.mark.parametrize("n_kills", [3, pytest.param(20, marks=pytest.mark.slow)])
    def test_a_compiled_run_ends_as_one_without_interruption(self, whole, tmp_path, n_kills):
        rng = random.Random(n_kills)
        run = tmp_path / "runs" / "x"
        process = start(*TRAIN, "--run", "x", cwd=tmp_path)
        wait_until(lambda: saved(run), process)
        kills = before = 0
        while kills < n_kills:
            time.sleep(rng.choice([0.0, 0.05, 0.3, 1.0, 3.0]) * rng.random())
            if process.poll() is None:
                process.kill()
                kills += 1
            process.communicate()
            newest = saved(run)[-1]
            assert newest >= before  # never back
            before = newest
            process = start(*RESUME, "--run", "x", cwd=tmp_path)
            if newest < 3600 and rng.random() < 0.5:  # on the way, not only while starting
                wait_until(lambda newest=newest: saved(run)[-1] > newest, process)
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert "step 32000/32000" in out
        assert same_folder(run, whole)
        assert not list((run / "checkpoints").glob("*tmp*"))
        assert json.loads((run / "summary.json").read_text())["complete"] is True

    @pytest.mark.slow
    def test_a_run_with_workers_leaves_nobody_behind_and_never_goes_back(self, tmp_path):
        rng = random.Random(0)
        args = ["train", GAME, "--run", "x", "--n-envs", "4", "--n-workers", "2"]
        settings = ["--ppo.n-steps", "8", "--ppo.hidden-sizes", "8", "--save-every", "64"]
        settings += ["--env-steps", "10000000", "--env-kwargs", '{"delay": 0.002}']
        run, before = tmp_path / "runs" / "x", 0
        for _ in range(20):
            more = ["--resume"] if before else settings
            process = start(*args, *more, cwd=tmp_path)
            wait_until(lambda newest=before: (saved(run) or [0])[-1] > newest, process)
            time.sleep(rng.random())
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.communicate()
            assert saved(run)[-1] >= before
            before = saved(run)[-1]
            gone, alive = psutil.wait_procs(children, timeout=5)
            assert len(gone) >= 2
            assert not alive

    @pytest.mark.slow
    def test_one_cpu_gives_the_same(self, whole, tmp_path):
        """D4: the command line pins the number of threads."""
        environment = {k: v for k, v in ENVIRONMENT.items() if k != "NPROC"}
        args = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command(*TRAIN, "--run", "x")]
        subprocess.run(args, cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert same_folder(tmp_path / "runs" / "x", whole)


class TestOrigin:
    """D4: what a checkpoint says of the place where it was written."""

    def test_the_manifest_names_it(self, whole):
        newest = whole / "checkpoints" / f"step_{saved(whole)[-1]}"
        found = json.loads((newest / "manifest" / "metadata").read_text())
        names = {"kitae_marl", "python", "jax", "jaxlib", "numpy", "device"}
        assert set(found["origin"]) == names | {"devices", "NPROC", "XLA_FLAGS"}
        assert found["origin"]["jax"] == jax.__version__
        assert found["exact_resume"] is True

    @pytest.fixture
    def moved(self, stopped, tmp_path, monkeypatch) -> Path:
        """A run that another version of jax, with other threads, is to go on with."""
        here = manifest.origin()
        monkeypatch.setattr(manifest, "origin", lambda: {**here, "jax": "9.9.9", "NPROC": "64"})
        return Path(shutil.copytree(stopped, tmp_path / "run"))

    def test_the_number_of_devices_counts(self, stopped, tmp_path, monkeypatch):
        """Each device learns from its own rows: sums are rounded otherwise."""
        run = shutil.copytree(stopped, tmp_path / "run")
        monkeypatch.setattr(jax, "device_count", lambda: 2)
        with pytest.raises(CheckpointIncompatibleError, match="devices: '1' there, '2' here"):
            Agent.load(run).resume(make_env(), run, exact=True, show=False)

    def test_one_warning_names_the_differences(self, moved):
        with pytest.warns(UserWarning, match=r"jax: '.*' there, '9.9.9' here") as caught:
            Agent.load(moved).resume(make_env(), moved, show=False)
        assert len(caught) == 1
        assert "NPROC" in str(caught[0].message)
        assert "numpy" not in str(caught[0].message)

    def test_exact_refuses(self, moved):
        env = make_env()
        with pytest.raises(CheckpointIncompatibleError, match=r"9\.9\.9.*games run in Python"):
            Agent.load(moved).resume(env, moved, exact=True, show=False)
        assert env.closed


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run with games in Python that a signal ended in the middle; checkpoints 32, 48, 64."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    env = make_env()
    step, count = env.step, 0

    def step_and_stop(actions: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4 * LENGTH + 3:
            signal.raise_signal(signal.SIGTERM)
        return step(actions)

    env.step = step_and_stop
    with pytest.raises(SystemExit):
        Agent(env, replace(CONFIG, save_every=1)).train(env, path, show=False)
    assert saved(path) == [32, 48, 64]
    return path


@pytest.fixture
def copy(stopped, tmp_path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def resume(path: Path, **options: Any) -> Agent:
    agent = Agent.load(path)
    agent.resume(make_env(), path, show=False, **options)
    return agent


class TestGamesInPython:
    """D3: the games are not saved; what follows is said and repeatable."""

    def test_resuming_twice_gives_the_same_run(self, stopped, tmp_path):
        paths = [Path(shutil.copytree(stopped, tmp_path / name)) for name in "ab"]
        for path in paths:
            resume(path)
        assert same_folder(*paths)
        found = json.loads((paths[0] / "checkpoints" / "step_64/manifest/metadata").read_text())
        assert found["exact_resume"] is False

    def test_new_episodes_have_seeds_of_their_own(self, copy):
        env = make_env()
        seeds = []
        reset = env.reset
        env.reset = lambda seed: (seeds.append(seed), reset(seed=seed))[1]
        Agent.load(copy).resume(env, copy, show=False)
        assert seeds == [first_seed(CONFIG.seed, 33)]
        used = range(CONFIG.seed, CONFIG.seed + N_ENVS)
        assert not {*range(seeds[0], seeds[0] + N_ENVS)} & {*used}


def damage(folder: Path) -> None:
    for path in (folder / "state").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


class TestDamagedCheckpoints:
    """C3, C4: the newest good one is used; a named one, or none, is an error."""

    def test_the_next_older_one_is_used_with_a_warning(self, copy):
        damage(copy / "checkpoints" / "step_64")
        with pytest.warns(UserWarning, match=r"checkpoints/step_64: .* The next older .* is tried"):
            agent = Agent.load(copy)
        assert agent.step == 24

    def test_a_named_one_is_an_error(self, copy):
        damage(copy / "checkpoints" / "step_48")
        agent = Agent.load(copy)
        with pytest.raises(CheckpointCorruptError, match="checkpoints/step_48"):
            agent.resume(make_env(), copy, step=48, show=False)
        assert saved(copy) == [32, 48, 64]

    def test_going_on_from_an_older_one_leaves_the_newer_ones_behind(self, copy):
        agent = Agent.load(copy)
        env = make_env()
        env.step = lambda actions: signal.raise_signal(signal.SIGINT)  # at once
        with pytest.raises((KeyboardInterrupt, TypeError)):
            agent.resume(env, copy, step=32, show=False)
        assert saved(copy)[-1] == 64  # nothing was learned: nothing is lost
        resume(copy, step=32)
        assert saved(copy) == [64, 80, 96]
        steps = [int(row["step"]) for row in logged(copy)]
        assert steps == [N_ENVS * LENGTH * (i + 1) for i in range(6)]

    def test_going_on_ends_the_truth_of_the_summary(self, copy):
        """Or a run that was complete, and is killed on its way from an older step, would be so."""
        resume(copy)
        assert list_runs(copy.parent)[0]["state"] == "complete"
        agent, env = Agent.load(copy), make_env()
        env.step = lambda actions: 1 / 0
        with pytest.raises(ZeroDivisionError):
            agent.resume(env, copy, step=80, show=False)
        assert list_runs(copy.parent)[0]["state"] == "stopped"

    def test_all_damaged_ends_with_2(self, copy):
        for step in saved(copy):
            damage(checkpoint(copy, step))
        config = (copy / "config.json").read_text()
        ran = program("train", GAME, "--resume", "--run", "run", "--runs-dir", ".", cwd=copy.parent)
        assert ran.returncode == 2
        assert "no readable checkpoint" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert (copy / "config.json").read_text() == config
        assert len(logged(copy)) == 4

    def test_none_is_an_error(self, copy):
        shutil.rmtree(copy / "checkpoints")
        with pytest.raises(NoCheckpointError):
            Agent.load(copy)

    def test_values_of_another_size_are_not_taken_for_ours(self, copy):
        """The arrays of a much larger network, under the manifest of ours."""
        wide = replace(CONFIG, ppo=replace(CONFIG.ppo, hidden_sizes=(2000,)))
        other = RunCheckpointer(copy.parent / "other", save_every=1, num_envs=N_ENVS)
        big = Agent(make_env(), wide).run_state()._replace(step=np.asarray(32, np.int64))
        other.write(big)
        shutil.rmtree(copy / "checkpoints" / "step_64" / "state")
        shutil.copytree(
            copy.parent / "other" / "step_64" / "state", copy / "checkpoints/step_64/state"
        )
        with pytest.warns(UserWarning, match="checkpoints/step_64"):
            assert Agent.load(copy).step == 24

    @pytest.mark.parametrize("format", [0, 2, None, "1"])
    def test_another_format_is_named(self, copy, format):
        path = copy / "checkpoints" / "step_64" / "manifest" / "metadata"
        found = {**json.loads(path.read_text()), "format": format}
        found["sha256"] = manifest._digest(found)
        path.write_text(json.dumps(found))
        with pytest.raises(CheckpointIncompatibleError, match=r"expected .* format 1, got"):
            Agent.load(copy)

    def test_a_giant_manifest_is_not_read(self, copy):
        os.truncate(copy / "checkpoints/step_64/manifest/metadata", manifest.MAX_BYTES + 1)
        with pytest.warns(UserWarning, match="expected a manifest of at most"):
            assert Agent.load(copy).step == 24


def refusing(monkeypatch: pytest.MonkeyPatch, at: list[int]) -> list[Path]:
    """Let saves fail half-way at some steps, as a full disk does; return the targets tried."""
    write, tried = RunCheckpointer._write, []

    def refuse(self: Any, run_state: Any, target: Path) -> None:
        tried.append(target)
        if int(run_state.step) in at:
            (target.parent / f"{target.name}.orbax-checkpoint-tmp").mkdir()
            raise OSError(28, "No space left on device")
        write(self, run_state, target)

    monkeypatch.setattr(RunCheckpointer, "_write", refuse)
    return tried


class TestRefusingDisk:
    """C5, L1: training goes on, the failure is told, old checkpoints stay."""

    def test_a_failed_save_costs_a_warning_and_is_tried_again(self, tmp_path, monkeypatch):
        tried = refusing(monkeypatch, [16, 24])
        agent = Agent(make_env(), replace(CONFIG, save_every=1))
        with pytest.warns(UserWarning, match=r"No space left") as caught:
            agent.train(make_env(), tmp_path / "run", show=False)
        assert len(caught) == 2
        assert "bytes needed: " in str(caught[0].message)
        assert "free: " in str(caught[0].message)
        assert [path.name for path in tried] == [
            f"step_{k * N_ENVS}" for k in (8, 16, 24, 32, 40, 48)
        ]
        assert saved(tmp_path / "run") == [64, 80, 96]
        failures = [row["faults/checkpoint_failures"] for row in logged(tmp_path / "run")]
        assert failures == ["", "", "1.0", "2.0", "", ""]

    def test_old_ones_stay_and_the_last_failure_is_an_error(self, tmp_path, monkeypatch):
        refusing(monkeypatch, [24, 32, 40, 48])
        agent = Agent(make_env(), replace(CONFIG, save_every=1))
        with (
            pytest.warns(UserWarning, match="Training goes on"),
            pytest.raises(CheckpointWriteError, match="step 96"),
        ):
            agent.train(make_env(), tmp_path / "run", show=False)
        names = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
        assert names == ["step_16", "step_32"]  # nothing unfinished either
        assert len(logged(tmp_path / "run")) == 6

    def test_what_cannot_be_read_back_was_not_saved(self, tmp_path, monkeypatch):
        keeper = RunCheckpointer(tmp_path, save_every=1, num_envs=1)
        state = Agent(make_env(), CONFIG).run_state()
        keeper.write(state)
        write = RunCheckpointer._write
        monkeypatch.setattr(
            RunCheckpointer, "_write", lambda *a: (write(*a), damage(tmp_path / "step_8"))[0]
        )
        with pytest.raises(CheckpointWriteError, match="could not be read back"):
            keeper.write(state._replace(step=np.asarray(8, np.int64)))
        assert keeper.steps() == [0]

    @pytest.mark.slow
    def test_files_that_may_not_grow(self, tmp_path):
        """Every file is held below 12 kB: logs and checkpoints fail, learning does not."""
        args = [*TRAIN, "--run", "x", "--json", "--save-every", "16000"]
        limited = ["bash", "-c", 'ulimit -f 12; exec "$@"', "bash", *command(*args)]
        environment = {**ENVIRONMENT, "JAX_ENABLE_COMPILATION_CACHE": "false"}
        ran = subprocess.run(limited, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 74, ran.stderr
        assert "could not be written" in ran.stderr.splitlines()[-1]
        assert "File too large" in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr
        assert "step 32000/32000" in ran.stdout
        assert not list((tmp_path / "runs" / "x").rglob("*tmp*"))

    @pytest.mark.slow
    def test_a_small_disk_that_fills_up_and_one_that_cannot_be_written(self, tmp_path):
        script = """
            mount -t tmpfs -o size=$1 none disk && shift && "$@" > out 2> err; echo $? > code
            ls -A disk/x/checkpoints > left
        """
        (tmp_path / "disk").mkdir()
        if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
            pytest.skip("no user namespaces here")
        args = command(*TRAIN, "--run", "x", "--runs-dir", "disk")
        inside = ["unshare", "-rm", "bash", "-c", script, "bash", "150k", *args]
        environment = {**ENVIRONMENT, "PYTHONWARNINGS": "default"}
        subprocess.run(inside, cwd=tmp_path, env=environment, check=True)
        error = (tmp_path / "err").read_text()
        assert (tmp_path / "code").read_text().strip() == "74", error
        assert "metrics are no longer written" in error
        assert "No space left on device" in error.splitlines()[-1]
        assert "step 32000/32000" in (tmp_path / "out").read_text()
        assert "tmp" not in (tmp_path / "left").read_text()


class TestSignals:
    """C2: in every phase the state is saved, one line is printed, and the exit code tells."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_while_starting(self, tmp_path, number):
        process = start(*TRAIN, "--run", "x", cwd=tmp_path)
        time.sleep(0.8)
        process.send_signal(number)
        out, error = process.communicate(timeout=20)
        assert process.returncode in (128 + number, -number), error
        if process.returncode > 0:  # Python had started
            assert error.strip().splitlines() == [f"stopped by {number.name}"]
        assert "Traceback" not in out + error

    def test_where_nobody_reads_the_output(self, tmp_path):
        with start("list", cwd=tmp_path) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()  # as ``head`` does
            assert process.stderr.read() == ""
        assert process.returncode == 128 + signal.SIGPIPE

    @pytest.mark.slow
    def test_while_compiling_and_it_can_go_on(self, whole, tmp_path):
        run = tmp_path / "runs" / "x"
        process = start(*TRAIN, "--run", "x", cwd=tmp_path)
        wait_until((run / "config.json").exists, process)
        process.terminate()
        out, error = process.communicate(timeout=30)
        assert process.returncode == 143, error
        assert out.splitlines()[-1].startswith("stopped by SIGTERM; --resume goes on from step ")
        assert not error
        ran = program(*RESUME, "--run", "x", cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert same_folder(run, whole)

    @pytest.mark.slow
    @pytest.mark.parametrize("times", [1, 2])
    def test_while_saving(self, whole, tmp_path, times):
        run = tmp_path / "runs" / "x"
        process = start(*TRAIN, "--run", "x", cwd=tmp_path)
        wait_until(lambda: saved(run), process)
        wait_until(lambda: list((run / "checkpoints").glob("*tmp*")), process)
        for _ in range(times):
            process.terminate()
            time.sleep(0.001)
        _, error = process.communicate(timeout=20)
        assert process.returncode in ((143,) if times == 1 else (143, -15)), error
        assert saved(run)
        ran = program(*RESUME, "--run", "x", cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert "next older" not in ran.stderr
        assert same_folder(run, whole)

    @pytest.mark.slow
    def test_while_evaluating(self, whole):
        args = ["evaluate", str(whole), "--episodes", "100000", "--n-workers", "2"]
        process = start(*args, cwd=whole.parent)
        wait_until(lambda: len(psutil.Process(process.pid).children()) >= 2, process)
        time.sleep(1.0)
        children = psutil.Process(process.pid).children()
        os.killpg(process.pid, signal.SIGTERM)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 143, error
        assert error.strip().splitlines()[-1] == "stopped by SIGTERM"
        assert "Traceback" not in error
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive


class TestTwoTrainers:
    """C8: the second one is told who is at work."""

    @pytest.mark.parametrize("how", ["resume", "replace"])
    def test_the_second_is_refused(self, copy, how):
        agent, env = Agent.load(copy), make_env()
        options = {"overwrite": True} if how == "replace" else {}
        go = agent.train if how == "replace" else agent.resume
        with locked(copy):
            before = sorted(copy.rglob("*"))
            who = f"process {os.getpid()} on host {socket.gethostname()}"
            with pytest.raises(RunLockedError, match=who):
                go(env, copy, show=False, **options)
            assert sorted(copy.rglob("*")) == before
        assert env.closed
        assert not (copy / LOCK).exists()

    def test_a_lock_without_a_holder_is_harmless(self, copy):
        (copy / LOCK).write_text("process 1 on host elsewhere")
        resume(copy)
        assert saved(copy)[-1] == 96
        assert not (copy / LOCK).exists()

    def test_a_lock_that_is_a_link_is_not_followed(self, copy):
        (copy.parent / "precious").write_text("text")
        (copy / LOCK).symlink_to(copy.parent / "precious")
        with pytest.raises(OSError, match=LOCK):
            resume(copy)
        assert (copy.parent / "precious").read_text() == "text"

    @pytest.mark.parametrize("name", ["checkpoints", "logs", "metrics.csv"])
    def test_links_in_a_run_folder_are_not_written_through(self, copy, name):
        outside = copy.parent / "outside"
        (copy / name).rename(outside)
        (copy / name).symlink_to(outside)
        agent, before = Agent.load(copy), sorted(outside.rglob("*"))
        with pytest.raises(UnsafePathError, match=name):
            agent.resume(make_env(), copy, show=False)
        assert sorted(outside.rglob("*")) == before


def poisoned(when: Any) -> Any:
    """IPPO whose updates come to NaN where ``when(key data)`` says so."""

    def factory(groups: Any, config: Any) -> Any:
        update_step = algorithm.update_step_factory(groups, config)

        def poisoned_step(state: Any, key: Any, processed: Any) -> Any:
            state, info = update_step(state, key, processed)
            bad = when(jax.random.key_data(key))
            spoil = lambda x: jax.numpy.where(bad, jax.numpy.nan, x)  # noqa: E731
            params = {n: s._replace(params=jax.tree.map(spoil, s.params)) for n, s in state.items()}
            return params, info

        return poisoned_step

    return ippo._replace(learn=partial(algorithm.learn_factory, update_factory=factory))


@pytest.mark.parametrize("loop", ["host", "compiled"])
class TestNotFinite:
    """L2: an update that is not finite is skipped and named; ten in a row end the training."""

    @staticmethod
    def setting(loop: str, n_updates: int) -> tuple[Any, Any]:
        if loop == "compiled":
            return make_compiled("classic/rps-v2"), compiled_config("classic/rps-v2", n_updates)
        steps = N_ENVS * LENGTH * n_updates
        return make_env(), replace(CONFIG, env_steps=steps, save_every=1)

    def test_single_ones_are_skipped(self, loop, tmp_path, monkeypatch):
        monkeypatch.setitem(algos.ALGORITHMS, "ippo", poisoned(lambda data: data[0] % 2 == 0))
        env, config = self.setting(loop, 12)
        agent = Agent(env, config)
        agent.train(env, tmp_path / "run", show=False)
        skipped = [float(row[NONFINITE]) for row in logged(tmp_path / "run")]
        assert set(skipped) == {0.0, 1.0}
        for state in agent.state.values():
            _, (_, schedule) = state.opt_state
            assert int(schedule.count) == 12 * config.ppo.n_epochs * config.ppo.n_minibatches
            assert int(state.n_updates) == skipped.count(0.0)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))

    def test_ten_in_a_row_end_the_training(self, loop, tmp_path, monkeypatch):
        env, config = self.setting(loop, 3)
        agent = Agent(env, config)
        agent.train(env, tmp_path / "run", show=False)
        good = digests(tmp_path / "run")
        monkeypatch.setitem(algos.ALGORITHMS, "ippo", poisoned(lambda data: data[0] >= 0))
        env, longer = self.setting(loop, 3 + 2 * MAX_SKIPPED)
        agent = Agent.load(tmp_path / "run", config=longer)
        with pytest.raises(TrainingDivergedError, match="10 updates in a row") as caught:
            agent.resume(env, tmp_path / "run", show=False)
        last = checkpoint(tmp_path / "run", 3 * LENGTH * config.n_envs)
        assert caught.value.path == str(last)
        assert caught.value.path in str(caught.value)
        assert digests(tmp_path / "run") == good
        assert len(logged(tmp_path / "run")) == 3 + MAX_SKIPPED


class TestOtherSettings:
    """C7 and --resume: what differs is said; what cannot be is refused."""

    def test_what_may_change_is_said(self, copy, capsys):
        changed = replace(CONFIG, env_steps=128, ppo=replace(CONFIG.ppo, learning_rate=1e-4))
        agent = Agent.load(copy, config=changed)
        agent.resume(make_env(), copy)
        said = capsys.readouterr().out
        assert "ppo.learning_rate: the run was trained with 0.0025, goes on with 0.0001" in said
        assert "env_steps: the run was trained with 96, goes on with 128" in said
        assert "gamma" not in said
        assert contents.read_config(copy).ppo.learning_rate == 1e-4

    @pytest.mark.parametrize(
        ("key", "config"),
        {
            "seed": replace(CONFIG, seed=4),
            "env_kwargs": replace(CONFIG, env_kwargs={"length": 9}),
            "ppo.activation": replace(CONFIG, ppo=replace(CONFIG.ppo, activation="relu")),
            "ppo.hidden_sizes": replace(CONFIG, ppo=replace(CONFIG.ppo, hidden_sizes=(9,))),
        }.items(),
    )
    def test_what_may_not_is_refused_and_nothing_changes(self, copy, key, config):
        before = (copy / "config.json").read_text()
        env = make_env()
        with pytest.raises(ConfigError, match=rf"{key}: the run was trained with .*, got"):
            Agent(env, config).resume(env, copy, show=False)
        assert env.closed
        assert (copy / "config.json").read_text() == before

    def test_all_that_may_not_are_listed(self, copy):
        env, config = make_env(), replace(CONFIG, seed=4, env_kwargs={"length": 9})
        with pytest.raises(ConfigError, match=r"env_kwargs: .*; seed: ") as caught:
            Agent(env, config).resume(env, copy, show=False)
        assert caught.value.key == "env_kwargs"


def test_a_summary_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    def refuse(path: Path, summary: dict[str, Any]) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(contents, "write_summary", refuse)
    with pytest.warns(UserWarning, match=r"summary.json could not be written"):
        Agent(make_env(), CONFIG).train(make_env(), tmp_path / "run", show=False)
    assert saved(tmp_path / "run")[-1] == 96


class TestNobodyReads:
    def test_a_run_that_did_all_its_steps_is_complete(self, tmp_path, monkeypatch):
        """Though its last line could not be printed."""
        n_env_steps = CONFIG.n_updates * LENGTH * N_ENVS

        def update(self: PlainDisplay, step: int, rate: float, means: Any) -> None:
            if step == n_env_steps:
                raise BrokenPipeError

        monkeypatch.setattr(PlainDisplay, "update", update)
        with pytest.raises(SystemExit) as stopped:
            Agent(make_env(), CONFIG).train(make_env(), tmp_path / "run")
        assert stopped.value.code == 128 + signal.SIGPIPE
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert (summary["env_steps"], summary["complete"]) == (n_env_steps, True)

    def test_the_last_words_after_a_signal(self, monkeypatch):
        agent = Agent(make_env(), CONFIG)
        said: list[str] = []

        def learn(self: session.Session) -> None:
            agent.stopping = signal.SIGINT

        def say(text: str) -> None:
            said.append(text)
            raise BrokenPipeError

        monkeypatch.setattr(session, "say", say)
        monkeypatch.setattr(session.Session, "_learn", learn)
        with pytest.raises(KeyboardInterrupt):
            session.Session([agent], make_env(), [None], show=True).run()
        assert said == ["stopped by SIGINT"]

    @pytest.mark.parametrize(
        ("steps", "last"), [(3, "--resume goes on from step 48"), (6, "the run is complete")]
    )
    def test_a_signal_with_the_last_step_finds_the_run_complete(
        self, tmp_path, monkeypatch, steps, last
    ):
        said: list[str] = []
        agent = Agent(make_env(), CONFIG)
        contents.write_config(tmp_path, CONFIG)

        def learn(self: session.Session) -> None:
            agent.learned(agent.state, steps * LENGTH, ())
            agent.stopping = signal.SIGTERM

        monkeypatch.setattr(session, "say", said.append)
        monkeypatch.setattr(session.Session, "_learn", learn)
        with pytest.raises(SystemExit):
            session.Session([agent], make_env(), [tmp_path], show=True).run()
        assert said[-1] == f"stopped by SIGTERM; {last}"

    @pytest.mark.parametrize(
        ("end", "code", "told"),
        [
            ("print('progress', flush=True)", 141, ""),
            ("raise KeyboardInterrupt", 130, ""),
            ("raise RuntimeError('another fault') from None", 1, "another fault"),
        ],
        ids=["progress", "signal", "fault"],
    )
    def test_a_chunk_that_was_given_up_is_not_waited_for(self, end, code, told):
        script = f"""
import sys, time
from kitae_marl.cli import main as cli
from kitae_marl.loops.long_calls import GivenUpError, LongCall
def run(args):
    sys.stdin.readline()
    print("lost")
    try:
        LongCall(lambda: time.sleep(60)).wait(lambda: True)
    except GivenUpError:
        {end}
cli._run = run
cli.main(["train", "--json"])
"""
        with subprocess.Popen(
            [sys.executable, "-c", script],
            env={k: x for k, x in ENVIRONMENT.items() if k != "PYTHONUNBUFFERED"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            process.stdout.close()  # as ``tee`` does at Ctrl-C
            try:
                _, error = process.communicate("go on\n", timeout=30)
            finally:
                process.kill()
        assert process.returncode == code
        assert told in error
        assert ("Traceback" in error) == bool(error) == bool(told)


def test_a_closed_loop_that_a_thread_called_is_not_worth_a_traceback(monkeypatch):
    """Orbax closes it where the disk refuses a checkpoint; all other errors are told."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "__unraisablehook__", told.append)
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError) as caught:
        loop.call_soon_threadsafe(print)
    error, trace = caught.value, caught.value.__traceback__
    assert trace is not None
    _report(SimpleNamespace(exc_value=error, exc_traceback=trace.tb_next))
    assert told == []
    others = [(error, trace), (error, None), (OSError("bad"), trace.tb_next)]
    for other, at in others:
        _report(SimpleNamespace(exc_value=other, exc_traceback=at))
    assert [(unraisable.exc_value, unraisable.exc_traceback) for unraisable in told] == others


class Exploding(Clock):
    def step(self, actions: Any) -> Any:
        raise RuntimeError("boom")


def test_a_run_that_fails_at_its_first_step_leaves_nothing(tmp_path):
    path = tmp_path / "run"
    env = SubProcVecParallelEnv([Exploding] * N_ENVS, n_workers=0)
    with pytest.raises(EnvError, match="boom"):
        Agent(env, CONFIG).train(env, path, show=False)
    assert not path.exists()
