"""Workers that die, hang or raise: rows V1 to V8 of the fault matrix."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from vector_faults import (
    AT,
    boom_here,
    hold_the_gil,
    kill,
    leave,
    leave_at_once,
    once,
    raise_escape,
    raise_group,
    raise_local,
    raise_long,
    raise_namesake,
    raise_ours,
    raise_plain,
    raise_two,
    segfault,
    sleep_here,
)
from vector_games import CountGame

from kitae_marl.errors import (
    EnvError,
    SpaceMismatchError,
    VectorEnvError,
    WorkerDiedError,
    WorkerTimeoutError,
)
from kitae_marl.vector.protocol import episode_seed
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("nothing_left")]


def make_vec(fault: Callable[[Any], None] | None, **options: Any) -> SubProcVecParallelEnv:
    """Two environments in two workers; the second one has the fault."""
    fns = [lambda: CountGame(length=50), lambda: CountGame(length=50, fault=fault)]
    return SubProcVecParallelEnv(fns, n_workers=2, **options)


ZEROS = {"a_0": np.zeros(2, np.int64), "a_1": np.zeros(2, np.int64)}


def assert_restarted(
    result: tuple, before: dict[str, np.ndarray], time_of_other: int, row: int = 1
) -> None:
    """Assert what a step returns on which environment ``row`` of two was started again."""
    observations, rewards, terminated, truncated, infos = result
    other = 1 - row
    assert infos["worker_restarted"].tolist() == [i == row for i in range(2)]
    for agent in ("a_0", "a_1"):
        assert observations[agent][row, :2].tolist() == [episode_seed(5, row, 1) % 100_000, 0]
        assert observations[agent][other, 1] == time_of_other
        assert rewards[agent].tolist()[row] == 0
        assert rewards[agent].tolist()[other] == time_of_other
        assert not terminated[agent].any()
        assert truncated[agent].tolist() == [i == row for i in range(2)]
        np.testing.assert_array_equal(infos["final_observation"][agent][row], before[agent][row])
    assert infos["_final_observation"][row]
    assert not infos["_final_observation"][other]
    assert not infos["_episode"].any()


def run_to_fault(vec: SubProcVecParallelEnv, n_steps: int = AT - 1) -> dict[str, np.ndarray]:
    """Reset, step up to the fault, and return copies of the last observations."""
    observations, _ = vec.reset(seed=5)
    for _ in range(n_steps):
        observations = vec.step(ZEROS)[0]
    return {agent: value.copy() for agent, value in observations.items()}


def test_v1_killed_between_steps() -> None:
    with make_vec(None) as vec:
        before = run_to_fault(vec)
        pids = vec.worker_pids
        assert before["a_0"][:, 2].tolist() == [pid % 100_000 for pid in pids]
        os.kill(pids[1], signal.SIGKILL)
        time.sleep(0.05)
        assert_restarted(vec.step(ZEROS), before, AT)
        assert vec.worker_pids[0] == pids[0]
        assert vec.worker_pids[1] != pids[1]
        assert vec.metrics["faults/worker_restarts"] == 1
        result = vec.step(ZEROS)
        assert "worker_restarted" not in result[4]
        assert not result[3]["a_0"].any()
        assert result[0]["a_0"][:, 1].tolist() == [AT + 1, 1]
        for _ in range(49):
            infos = vec.step(ZEROS)[4]
            if infos.get("_episode", np.zeros(2))[1]:
                break
        assert infos["episode"]["length"]["a_0"][1] == 50
        assert infos["episode"]["return"]["a_0"][1] == 50 * 51 / 2


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (kill, "killed by SIGKILL; out of memory?"),
        (segfault, "SIGSEGV"),
        (leave, "exited with code 7"),
        (leave_at_once, "exited with code 9"),
    ],
)
def test_v2_dies_in_its_step(
    fault: Callable[[Any], None], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with make_vec(once(fault)) as vec:
        before = run_to_fault(vec)
        assert_restarted(vec.step(ZEROS), before, AT)
        assert vec.step(ZEROS)[0]["a_0"][:, 1].tolist() == [AT + 1, 1]
    assert text in caplog.text
    assert "env 1" in caplog.text
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {record.name for record in warnings} == {"kitae_marl.vector"}


def test_v2_only_the_dead_workers_environments_restart() -> None:
    """Three environments in two workers: the neighbours in the same process are lost with it."""
    fns = [lambda: CountGame(50), lambda: CountGame(50), lambda: CountGame(50, fault=once(kill))]
    zeros = {agent: np.zeros(3, int) for agent in ("a_0", "a_1")}
    with SubProcVecParallelEnv(fns, n_workers=2) as vec:
        vec.reset(seed=5)
        for _ in range(AT):
            observations, _, _, truncated, infos = vec.step(zeros)
        assert infos["worker_restarted"].tolist() == [False, True, True]
        assert truncated["a_1"].tolist() == [False, True, True]
        assert observations["a_0"][:, 1].tolist() == [AT, 0, 0]
        assert infos["final_observation"]["a_0"][1:, 1].tolist() == [AT - 1, AT - 1]


def test_v3_crashes_at_every_attempt() -> None:
    with make_vec(kill, max_restarts=2) as vec:
        vec.reset(seed=5)
        for _ in range(2):
            assert vec.step(ZEROS)[4]["worker_restarted"][1]
        with pytest.raises(WorkerDiedError, match=r"env 1 .*SIGKILL.*restarted 2 times") as caught:
            vec.step(ZEROS)
    error = caught.value
    assert (error.env_index, error.restarts, error.signal_name) == (1, 2, "SIGKILL")
    assert (error.exitcode, error.phase) == (-9, "step")


def test_v3_crashes_in_every_reset() -> None:
    fns = [lambda: CountGame(), lambda: CountGame(on_reset=kill)]
    with (
        SubProcVecParallelEnv(fns, n_workers=2, max_restarts=1) as vec,
        pytest.raises(WorkerDiedError, match=r"env 1 .*reset"),
    ):
        vec.reset(seed=0)


def test_v3_healthy_steps_give_a_restart_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitae_marl.vector.workers.recovery.HEALTHY_STEPS", 5)
    with make_vec(None, max_restarts=1) as vec:
        vec.reset(seed=5)
        for _ in range(2):
            os.kill(vec.worker_pids[1], signal.SIGKILL)
            assert vec.step(ZEROS)[4]["worker_restarted"][1]
            for _ in range(6):
                vec.step(ZEROS)


def test_on_crash_raise_and_reset_afterwards() -> None:
    with make_vec(once(kill), on_crash="raise") as vec:
        run_to_fault(vec)
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            vec.step(ZEROS)
        with pytest.raises(RuntimeError, match=r"call reset\(\) after an error"):
            vec.step(ZEROS)
        assert vec.reset(seed=2000)[0]["a_0"][:, 0].tolist() == [2000, 2001]
        assert vec.step(ZEROS)[1]["a_0"].tolist() == [1, 1]


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (raise_plain, "ValueError", "plain trouble"),
        (raise_local, "Local", "local trouble"),
        (raise_namesake, "ConfigError", "a game's own trouble"),
        (raise_ours, "ConfigError", "settings of a game within the game"),
        (raise_two, "TwoArguments", "1 and 2"),
        (raise_group, "ExceptionGroup", "several"),
        (raise_long, "ValueError", "(10000000 characters)"),
        (raise_escape, "ValueError", r"\x1b"),
    ],
)
def test_v4_exceptions(fault: Callable[[Any], None], kind: str, text: str, n_workers: int) -> None:
    fns = [lambda: CountGame(50), lambda: CountGame(50, fault=once(fault))]
    with SubProcVecParallelEnv(fns, n_workers=n_workers) as vec:
        run_to_fault(vec)
        with pytest.raises(EnvError) as caught:
            vec.step(ZEROS)
    error = caught.value
    assert str(error).startswith(f"env 1 (pid {error.pid}, step 3 of its episode, seed 6): ")
    assert (error.env_index, error.phase, error.restarts) == (1, "step", 0)
    assert error.remote_type.endswith(kind)
    assert text in error.remote_message
    assert len(error.remote_message) < 5000
    assert fault.__name__ in error.remote_traceback
    assert error.__cause__ is None
    assert "\x1b" not in str(error)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_v4_all_failing_environments_are_listed(n_workers: int) -> None:
    fns = [lambda: CountGame(fault=raise_plain)] * 4
    with SubProcVecParallelEnv(fns, n_workers=n_workers) as vec:
        vec.reset(seed=0)
        with pytest.raises(EnvError) as caught:
            vec.step({agent: np.zeros(4, int) for agent in vec.possible_agents})
    assert caught.value.env_index == 0
    assert "env 0 (pid" in str(caught.value)
    assert "and 3 more" in str(caught.value)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_v4_exception_in_reset_and_constructor(n_workers: int) -> None:
    fns = [lambda: CountGame(), lambda: CountGame(on_reset=raise_plain)]
    with SubProcVecParallelEnv(fns, n_workers=n_workers) as vec:
        with pytest.raises(EnvError, match=r"env 1 .*in reset, seed 1\): ValueError") as caught:
            vec.reset(seed=0)
        assert caught.value.phase == "reset"
    with pytest.raises(EnvError, match=r"env 1 .*while it was made\): ZeroDivisionError") as caught:
        SubProcVecParallelEnv([CountGame, lambda: 1 / 0], n_workers=n_workers)
    assert caught.value.phase == "start"


@pytest.mark.parametrize("n_workers", [0, 2])
def test_v4_restart_on_exception(n_workers: int) -> None:
    fns = [lambda: CountGame(50), lambda: CountGame(50, fault=once(raise_plain))]
    with SubProcVecParallelEnv(fns, n_workers=n_workers, on_exception="restart") as vec:
        before = run_to_fault(vec)
        assert_restarted(vec.step(ZEROS), before, AT)
        assert vec.step(ZEROS)[0]["a_0"][:, 1].tolist() == [AT + 1, 1]


@pytest.mark.parametrize("n_workers", [0, 1])
def test_v4_a_restart_hides_nothing_of_the_others_step(n_workers: int) -> None:
    """One episode ends on the very step on which the other environment raises."""
    fns = [lambda: CountGame(AT), lambda: CountGame(50, fault=once(raise_plain))]
    with SubProcVecParallelEnv(fns, n_workers=n_workers, on_exception="restart") as vec:
        run_to_fault(vec)
        _, rewards, _, truncated, infos = vec.step(ZEROS)
        assert truncated["a_0"].tolist() == [True, True]
        assert rewards["a_0"].tolist() == [AT, 0]
        assert infos["_final_observation"].tolist() == [True, True]
        assert infos["_episode"].tolist() == [True, False]
        assert infos["worker_restarted"].tolist() == [False, True]
        assert infos["episode"]["return"]["a_0"][0] == AT * (AT + 1) / 2
        assert infos["final_observation"]["a_0"][:, 1].tolist() == [AT, AT - 1]
        result = vec.step(ZEROS)
        assert not result[3]["a_0"].any()
        assert "_episode" not in result[4]


@pytest.mark.parametrize("fault", [sleep_here, boom_here, hold_the_gil])
def test_v5_hangs_in_step(fault: Callable[[Any], None], caplog: pytest.LogCaptureFixture) -> None:
    with make_vec(once(fault), step_timeout=1.0) as vec:
        before = run_to_fault(vec)
        start = time.monotonic()
        result = vec.step(ZEROS)
        assert 1.0 <= time.monotonic() - start < 1.0 + 2.0 + 2.0  # a new worker on a busy machine
        assert_restarted(result, before, AT)
        assert vec.step(ZEROS)[0]["a_0"][:, 1].tolist() == [AT + 1, 1]
    assert fault.__name__ in caplog.text


def test_v5_with_on_crash_raise() -> None:
    with make_vec(once(boom_here), step_timeout=1.0, on_crash="raise") as vec:
        run_to_fault(vec)
        start = time.monotonic()
        with pytest.raises(WorkerTimeoutError, match="no answer within 1 s") as caught:
            vec.step(ZEROS)
        assert time.monotonic() - start < 3.0
        assert isinstance(caught.value, TimeoutError)
        assert "boom_here" in caught.value.stack
        assert caught.value.timeout == 1.0


def test_v6_slow_but_alive(caplog: pytest.LogCaptureFixture) -> None:
    with make_vec(lambda game: time.sleep(0.7), step_timeout=1.0) as vec:
        vec.reset(seed=5)
        for t in (1, 2):
            result = vec.step(ZEROS)
            assert result[0]["a_0"][:, 1].tolist() == [t, t]
            assert "worker_restarted" not in result[4]
        assert vec.step_seconds[1] > 0.6
        assert vec.step_seconds[0] < 0.1
        assert vec.metrics["env/step_ms_max"] > 600
    assert caplog.text.count("half of the timeout") == 1
    assert "env 1" in caplog.text


def test_v7_hang_in_constructor() -> None:
    start = time.monotonic()
    with pytest.raises(WorkerTimeoutError) as caught:
        SubProcVecParallelEnv([CountGame, lambda: time.sleep(60)], n_workers=2, start_timeout=2.5)
    assert time.monotonic() - start < 4.5
    assert caught.value.phase == "start"
    assert caught.value.env_index == 1


def test_v7_hang_in_reset() -> None:
    fns = [CountGame, lambda: CountGame(on_reset=sleep_here)]
    with SubProcVecParallelEnv(fns, n_workers=2, step_timeout=1.0) as vec:
        start = time.monotonic()
        with pytest.raises(WorkerTimeoutError, match="env 1") as caught:
            vec.reset(seed=0)
        assert time.monotonic() - start < 3.0
        assert caught.value.phase == "reset"
        assert "sleep_here" in caught.value.stack


@pytest.mark.parametrize("in_step", [False, True])
def test_v7_hang_in_close(in_step: bool) -> None:
    class Stuck(CountGame):
        def close(self) -> None:
            time.sleep(60)

    fns = [CountGame, lambda: Stuck(fault=sleep_here if in_step else None)]
    vec = SubProcVecParallelEnv(fns, n_workers=2, close_timeout=1.0)
    vec.reset(seed=0)
    if in_step:
        vec.step_async(ZEROS)
    start = time.monotonic()
    vec.close()
    assert time.monotonic() - start < 2.0
    vec.close()


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize(
    ("other", "text"),
    [
        (
            lambda: CountGame(space=gym.spaces.Box(-1e6, 1e6, (5,))),
            r"env 1 .*Box.*\(4,\).*'a_0'.*\(5,\)",
        ),
        (lambda: CountGame(agents=("a_0", "z")), r"env 1 .*\['a_0', 'a_1'\].*\['a_0', 'z'\]"),
    ],
)
def test_v8_environments_differ(other: Callable[[], Any], text: str, n_workers: int) -> None:
    with pytest.raises(SpaceMismatchError, match=text) as caught:
        SubProcVecParallelEnv([CountGame, other], n_workers=n_workers)
    assert isinstance(caught.value, VectorEnvError)
