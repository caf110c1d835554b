"""What the fault matrix does not spell out: faults together, at bad moments, and for long."""

from __future__ import annotations

import ast
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vector_faults import AT, fork_and_die, kill, once, raise_bomb, raise_plain, sleep_here
from vector_games import CountGame

import kitae_marl.vector
from kitae_marl.errors import EnvError, WorkerDiedError
from kitae_marl.vector.protocol import episode_seed
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("nothing_left")]


def zeros(n_envs: int) -> dict[str, np.ndarray]:
    return {agent: np.zeros(n_envs, int) for agent in ("a_0", "a_1")}


def make(*faults: Any, length: int = 50, **options: Any) -> SubProcVecParallelEnv:
    """One environment per fault, None for a healthy one."""
    fns = [lambda fault=fault: CountGame(length, fault=fault) for fault in faults]
    return SubProcVecParallelEnv(fns, **options)


def test_a_crash_and_an_exception_on_one_step() -> None:
    with make(
        once(kill), None, once(raise_plain), None, n_workers=2, on_exception="restart"
    ) as vec:
        vec.reset(seed=5)
        for _ in range(AT):
            observations, rewards, _, truncated, infos = vec.step(zeros(4))
        assert infos["worker_restarted"].tolist() == [True, True, True, False]
        assert truncated["a_0"].tolist() == [True, True, True, False]
        assert rewards["a_0"].tolist() == [0, 0, 0, AT]
        assert observations["a_0"][:, 1].tolist() == [0, 0, 0, AT]
        assert infos["final_observation"]["a_0"][:3, 1].tolist() == [AT - 1] * 3
        observations, _, _, truncated, _ = vec.step(zeros(4))
        assert observations["a_0"][:, 1].tolist() == [1, 1, 1, AT + 1]
        assert not truncated["a_0"].any()


def test_an_exception_that_is_to_be_raised_wins_over_a_crash() -> None:
    with make(once(kill), once(raise_plain), n_workers=2) as vec:
        vec.reset(seed=5)
        for _ in range(AT - 1):
            vec.step(zeros(2))
        with pytest.raises(EnvError, match="plain trouble"):
            vec.step(zeros(2))
        assert vec.reset(seed=2000)[0]["a_0"][:, 1].tolist() == [0, 0]
        assert vec.step(zeros(2))[1]["a_0"].tolist() == [1, 1]


def test_all_workers_die_at_once() -> None:
    with make(None, None, n_workers=2) as vec:
        vec.reset(seed=5)
        vec.step(zeros(2))
        for pid in vec.worker_pids:
            os.kill(pid, signal.SIGKILL)
        observations, _, _, truncated, infos = vec.step(zeros(2))
        assert infos["worker_restarted"].all()
        assert truncated["a_1"].all()
        assert observations["a_0"][:, 0].tolist() == [
            episode_seed(5, i, 1) % 100_000 for i in range(2)
        ]


def test_no_restarts_at_all() -> None:
    with make(once(kill), n_workers=1, max_restarts=0) as vec:
        vec.reset(seed=5)
        for _ in range(AT - 1):
            vec.step(zeros(1))
        with pytest.raises(WorkerDiedError, match="SIGKILL") as caught:
            vec.step(zeros(1))
    assert caught.value.restarts == 0


def test_a_worker_that_dies_before_a_reset_is_replaced_there() -> None:
    with make(None, None, n_workers=2) as vec:
        vec.reset(seed=5)
        os.kill(vec.worker_pids[0], signal.SIGKILL)
        time.sleep(0.05)
        observations, _ = vec.reset(seed=6)
        assert observations["a_0"][:, 1].tolist() == [0, 0]
        assert observations["a_0"][1, 0] == 7
        result = vec.step(zeros(2))
        assert result[1]["a_0"].tolist() == [1, 1]
        assert not result[3]["a_0"].any()


def test_the_final_state_of_a_lost_environment_is_the_last_one() -> None:
    with make(once(kill), n_workers=1, with_state=True) as vec:
        vec.reset(seed=5)
        for _ in range(AT):
            infos = vec.step(zeros(1))[4]
        assert infos["final_state"].tolist() == [[5, AT - 1]]
        assert vec.state().tolist() == [[episode_seed(5, 0, 1), 0]]


def test_a_worker_that_dies_over_a_question_is_an_error() -> None:
    class Fragile(CountGame):
        def state(self) -> np.ndarray:
            os.kill(os.getpid(), signal.SIGKILL)
            return super().state()

    with SubProcVecParallelEnv([Fragile], n_workers=1) as vec:
        vec.reset(seed=5)
        vec.step(zeros(1))
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            vec.state()
        with pytest.raises(RuntimeError, match="after an error"):
            vec.step(zeros(1))
        vec.reset(seed=6)
        assert vec.step(zeros(1))[1]["a_0"].tolist() == [1]


def test_a_grandchild_that_holds_the_socket_hides_no_death() -> None:
    """A game that forks: the end of the stream never comes, the process must be looked at."""
    with make(once(fork_and_die), n_workers=1) as vec:
        vec.reset(seed=5)
        start = time.monotonic()
        for _ in range(AT):
            infos = vec.step(zeros(1))[4]
        assert infos["worker_restarted"].all()
        assert time.monotonic() - start < 3.0


class Alarm(Exception):
    pass


@pytest.mark.parametrize("then", ["reset", "close"])
def test_interrupted_while_waiting(then: str) -> None:
    """As with Ctrl-C: the answer that comes too late is never taken for another one."""

    def interrupt(number: int, frame: Any) -> None:
        raise Alarm

    def slow(game: Any) -> None:
        if game.t == 2:
            time.sleep(0.6)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with make(slow, None, n_workers=2) as vec:
            vec.reset(seed=5)
            vec.step(zeros(2))
            signal.setitimer(signal.ITIMER_REAL, 0.15)
            with pytest.raises(Alarm):
                vec.step(zeros(2))
            if then == "reset":
                assert vec.reset(seed=9)[0]["a_0"][:, :2].tolist() == [[9, 0], [10, 0]]
                result = vec.step(zeros(2))
                assert result[0]["a_0"][:, 1].tolist() == [1, 1]
                assert result[1]["a_0"].tolist() == [1, 1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_what_games_raise_is_never_unpickled(tmp_path: Path) -> None:
    target = tmp_path / "bomb"
    fault = once(lambda game: raise_bomb(str(target)))
    with make(fault, n_workers=1) as vec:
        vec.reset(seed=5)
        with pytest.raises(EnvError, match="Bomb"):
            [vec.step(zeros(1)) for _ in range(AT)]
    assert not target.exists()


def test_only_what_the_worker_reads_is_ever_unpickled() -> None:
    """The parent's modules hold no call that could run what a worker sent."""
    folder = Path(kitae_marl.vector.__file__).parent
    callers = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("loads", "load"):
                owner = node.value.id if isinstance(node.value, ast.Name) else "?"
                if owner != "json":
                    callers.add((path.stem, owner))
    assert callers <= {("servant", "cloudpickle")}


def test_worker_environment_variables() -> None:
    class Named(CountGame):
        def __init__(self) -> None:
            super().__init__()
            names = ("MY_OPTION", "OMP_NUM_THREADS")
            self.metadata = {"values": [os.environ.get(name) for name in names]}

    env = {"MY_OPTION": "yes", "OMP_NUM_THREADS": "2"}
    with SubProcVecParallelEnv([Named], n_workers=1, worker_env=env) as vec:
        assert vec.metadata == {"values": ["yes", "2"]}


@pytest.mark.parametrize("n_kills", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_random_kills_never_break_the_books(n_kills: int) -> None:
    """Kill workers at random moments; every row must stay a sequence of whole episodes."""
    rng = np.random.default_rng(0)
    n_envs, length = 4, 7
    with make(*[None] * n_envs, length=length, n_workers=2, max_restarts=10**6) as vec:
        last = {a: v.copy() for a, v in vec.reset(seed=1)[0].items()}
        episode = np.zeros(n_envs, int)
        for step in range(12 * n_kills):
            kills = step % 12 == 5
            if kills and rng.random() < 0.5:
                os.kill(vec.worker_pids[rng.integers(2)], signal.SIGKILL)
                kills = False
            vec.step_async(zeros(n_envs))
            if kills:
                time.sleep(rng.random() * 1e-3)
                os.kill(vec.worker_pids[rng.integers(2)], signal.SIGKILL)
            observations, rewards, terminated, truncated, infos = vec.step_wait()
            lost = infos.get("worker_restarted", np.zeros(n_envs, bool))
            for i in range(n_envs):
                seed, t = observations["a_0"][i, :2]
                if lost[i]:
                    assert (t, rewards["a_0"][i], truncated["a_0"][i]) == (0, 0, True)
                    assert not infos["_episode"][i]
                    np.testing.assert_array_equal(
                        infos["final_observation"]["a_0"][i][:2], last["a_0"][i][:2]
                    )
                elif truncated["a_0"][i]:
                    assert (t, rewards["a_0"][i], last["a_0"][i][1]) == (0, length, length - 1)
                    assert infos["_episode"][i]
                    assert infos["episode"]["return"]["a_0"][i] == length * (length + 1) / 2
                    assert infos["final_observation"]["a_0"][i][1] == length
                else:
                    assert (t, rewards["a_0"][i]) == (last["a_0"][i][1] + 1,) * 2
                    assert seed == last["a_0"][i][0]
                if truncated["a_0"][i]:
                    episode[i] += 1
                    assert seed == episode_seed(1, i, int(episode[i])) % 100_000
                assert not terminated["a_0"][i]
            last = {a: v.copy() for a, v in observations.items()}
        assert vec.metrics["faults/worker_restarts"] == 2 * n_kills


def test_a_hung_and_a_slow_worker_are_told_apart() -> None:
    with make(
        once(sleep_here), once(lambda game: time.sleep(0.5)), n_workers=2, step_timeout=1.0
    ) as vec:
        vec.reset(seed=5)
        for _ in range(AT):
            observations, _, _, _, infos = vec.step(zeros(2))
        assert infos["worker_restarted"].tolist() == [True, False]
        assert observations["a_0"][:, 1].tolist() == [0, AT]
