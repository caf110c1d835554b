"""What every transport of workers must do beside carrying frames; one can be added by one class.

That games are stepped alike over all of them is the subject of the tests that use the fixture
``n_workers``, above all ``test_stepping`` and ``test_data_faults``.
"""

from __future__ import annotations

import inspect
import time
from typing import Any, get_type_hints

import numpy as np
import pytest
from thread_worker import ThreadWorker
from vector_faults import leave, once
from vector_games import CountGame

from kitae_marl import SubProcVecParallelEnv
from kitae_marl.errors import WorkerDiedError, WorkerTimeoutError
from kitae_marl.vector.protocol import VecParallelEnv
from kitae_marl.vector.workers.process import WorkerProcess
from kitae_marl.vector.workers.transport import InlineWorker, Worker

pytestmark = pytest.mark.faults
ZEROS = {"a_0": np.zeros(2, np.int64), "a_1": np.zeros(2, np.int64)}
LOSABLE = {"processes": None, "threads": ThreadWorker}


class ThreadVecParallelEnv(SubProcVecParallelEnv):
    """All that it takes to use another transport."""

    transport = ThreadWorker


@pytest.fixture(params=LOSABLE)
def lossy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A transport whose workers can be lost."""
    monkeypatch.setattr(SubProcVecParallelEnv, "transport", LOSABLE[request.param])
    return request.param


def sleep(game: Any) -> None:
    time.sleep(3)


@pytest.mark.parametrize("transport", [InlineWorker, WorkerProcess, ThreadWorker])
def test_a_transport_has_every_member_of_the_protocol(transport: type) -> None:
    methods = {
        name: function
        for name, function in vars(Worker).items()
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_"))
    }
    assert len(methods) > 8
    for name, function in methods.items():
        expected = [(p.name, p.default) for p in inspect.signature(function).parameters.values()]
        found = inspect.signature(getattr(transport, name)).parameters.values()
        assert [(p.name, p.default) for p in found] == expected, name
    written = inspect.getsource(transport)
    for name in get_type_hints(Worker):
        assert hasattr(transport, name) or f"self.{name}" in written, name


def test_a_subclass_names_its_transport() -> None:
    with ThreadVecParallelEnv([CountGame] * 2, n_workers=2) as vec:
        assert isinstance(vec, VecParallelEnv)
        assert vec.worker_pids == []
        vec.reset(seed=3)
        assert vec.step(ZEROS)[1]["a_0"].tolist() == [1, 1]


def make(fault: Any, **options: Any) -> SubProcVecParallelEnv:
    fns = [lambda: CountGame(length=50), lambda: CountGame(length=50, fault=once(fault))]
    return SubProcVecParallelEnv(fns, n_workers=2, **options)


def step(vec: SubProcVecParallelEnv, n_steps: int) -> None:
    for _ in range(n_steps):
        vec.step(ZEROS)


def test_a_worker_that_leaves_is_replaced(lossy: str) -> None:
    with make(leave) as vec:
        vec.reset(seed=5)
        restarted = [bool(vec.step(ZEROS)[-1].get("worker_restarted", [0, 0])[1]) for _ in range(6)]
        assert restarted.count(True) == 1
        assert vec.metrics["faults/worker_restarts"] == 1
        assert vec.step(ZEROS)[1]["a_0"][0] == 7  # the other lost nothing


def test_a_worker_that_leaves_is_named(lossy: str) -> None:
    with make(leave, on_crash="raise") as vec:
        vec.reset(seed=5)
        with pytest.raises(WorkerDiedError, match=r"env 1 \(pid \d+, in step\)"):
            step(vec, 6)
        vec.reset(seed=1005)
        assert vec.step(ZEROS)[1]["a_0"].tolist() == [1, 1]


def test_a_worker_that_hangs_is_given_up(lossy: str) -> None:
    with make(sleep, step_timeout=0.5, on_crash="raise") as vec:
        vec.reset(seed=5)
        clock = time.perf_counter()
        with pytest.raises(WorkerTimeoutError, match="env 1"):
            step(vec, 6)
        assert time.perf_counter() - clock < 2.9


class TestGivenEnvironments:
    """The vector within this process takes environments themselves."""

    def test_they_are_stepped_as_they_are(self) -> None:
        games = [CountGame(), CountGame()]
        with SubProcVecParallelEnv(games, n_workers=0) as vec:
            vec.reset(seed=0)
            vec.step(ZEROS)
            assert [game.t for game in games] == [1, 1]

    @pytest.mark.parametrize("n_workers", [0, 1])
    def test_they_are_refused_elsewhere(self, n_workers: int) -> None:
        items = [CountGame(), *([CountGame] if n_workers == 0 else [])]
        with pytest.raises(TypeError, match="functions that make environments, got a CountGame"):
            SubProcVecParallelEnv(items, n_workers=n_workers)
