"""Parents that are killed, interrupted or careless: rows V15 to V20 of the fault matrix."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from vector_games import CountGame
from vector_leaks import children, descriptors
from vector_parents import Program, run_script, tagged

from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.faults

SCRIPT = Path(__file__).parents[1] / "helpers" / "vector_script.py"


@pytest.mark.parametrize("situation", ["idle", "stepping", "hung", "gil"])
def test_v15_parent_killed(situation: str) -> None:
    trainer = Program(SCRIPT, situation)
    trainer.wait_ready()
    assert len(tagged(trainer.tag)) == 3
    trainer.popen.kill()
    trainer.end(5)
    trainer.assert_nothing_left()


def test_v15_group_killed() -> None:
    trainer = Program(SCRIPT, "stepping")
    trainer.wait_ready()
    os.killpg(trainer.popen.pid, signal.SIGKILL)
    trainer.end(5)
    trainer.assert_nothing_left()


@pytest.mark.parametrize("to_group", [False, True], ids=["parent", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_v16_signals_are_for_the_trainer(number: signal.Signals, to_group: bool) -> None:
    trainer = Program(SCRIPT, "stepping")
    trainer.wait_ready()
    if to_group:
        os.killpg(trainer.popen.pid, number)
    else:
        trainer.popen.send_signal(number)
    stderr, seconds = trainer.end(5)
    assert seconds < 3.0
    assert trainer.popen.returncode == -number
    assert stderr.count("Traceback") == (1 if number == signal.SIGINT else 0), stderr
    trainer.assert_nothing_left()


@pytest.mark.parametrize(
    ("situation", "code"),
    [
        ("no-close", 0),
        ("del", 0),
        ("exception", 1),
        ("os-exit", 3),
        ("thread", 0),
        ("thread-ends", 0),
    ],
)
def test_v17_ends_without_close(situation: str, code: int) -> None:
    trainer = Program(SCRIPT, situation)
    trainer.wait_ready()
    stderr, _ = trainer.end(10)
    assert trainer.popen.returncode == code, stderr
    assert stderr.count("Traceback") == (1 if situation == "exception" else 0), stderr
    assert "Warning" not in stderr
    trainer.assert_nothing_left()


def test_v18_opening_and_closing_costs_nothing() -> None:
    _open_and_close(2)
    before = children(), descriptors(), psutil.Process().num_threads()
    _open_and_close(3)
    assert (children(), descriptors(), psutil.Process().num_threads()) == before


@pytest.mark.slow
def test_v18_fifty_times_and_ten_thousand_steps() -> None:
    _open_and_close(5)
    process = psutil.Process()
    before = children(), descriptors(), process.num_threads()
    memory = process.memory_info().rss
    _open_and_close(45)
    with SubProcVecParallelEnv([CountGame] * 2, n_workers=1) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        worker = psutil.Process(vec.worker_pids[0])
        for _ in range(1000):
            vec.step(zeros)
        of_worker = worker.memory_info().rss
        for _ in range(10_000):
            vec.step(zeros)
        assert worker.memory_info().rss == pytest.approx(of_worker, rel=0.05)
    assert (children(), descriptors(), process.num_threads()) == before
    assert process.memory_info().rss == pytest.approx(memory, rel=0.05)


def _open_and_close(times: int) -> None:
    """Create, use and close vectors; the last observations outlive them."""
    for _ in range(times):
        with SubProcVecParallelEnv([CountGame] * 2, n_workers=2) as vec:
            observations, _ = vec.reset(seed=0)
        assert observations["a_0"].shape == (2, 4)


def test_v19_workers_import_no_jax_and_see_no_gpu() -> None:
    class Spy(CountGame):
        def __init__(self) -> None:
            super().__init__()
            names = ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
            self.metadata = {
                "heavy": sorted({"jax", "flax", "optax"} & set(sys.modules)),
                "environment": [os.environ[name] for name in names],
            }

    with SubProcVecParallelEnv([Spy], n_workers=1) as vec:
        assert vec.metadata == {"heavy": [], "environment": ["cpu", "", "1"]}
        memory = psutil.Process(vec.worker_pids[0]).memory_info().rss
        assert memory < 120e6


def test_v19_jax_alive_in_the_parent() -> None:
    done = run_script("""
        import jax, numpy as np
        jax.numpy.ones(3).sum().block_until_ready()
        from vector_games import CountGame
        from kitae_marl import SubProcVecParallelEnv

        class Game(CountGame):
            def __init__(self):
                import jax
                super().__init__()
                self.metadata = {"platforms": sorted({d.platform for d in jax.devices()})}

        vec = SubProcVecParallelEnv([Game], n_workers=1)
        vec.reset(seed=0)
        vec.step({agent: np.zeros(1, int) for agent in vec.possible_agents})
        print(vec.metadata["platforms"])
        vec.close()
    """)
    assert done.stdout == "['cpu']\n", done.stderr
    assert "fork" not in done.stderr


def test_v19_importing_the_vector_imports_no_jax() -> None:
    done = run_script("""
        import sys
        import kitae_marl.vector.workers.worker, kitae_marl.vector.workers.servant
        import kitae_marl.vector.workers.subproc
        print(sorted({"jax", "flax", "optax"} & set(sys.modules)))
    """)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("stdin", [False, True])
def test_v20_scripts_without_a_main_guard(stdin: bool) -> None:
    """Lambdas, closures and a game defined in the script itself."""
    done = run_script(
        """
        import numpy as np
        from vector_games import CountGame
        from kitae_marl import SubProcVecParallelEnv

        class Mine(CountGame):
            pass

        length = 2
        def make(length=3):
            return lambda: Mine(length)

        vec = SubProcVecParallelEnv([make(), lambda: Mine(length)], n_workers=2)
        vec.reset(seed=0)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        for _ in range(3):
            print(vec.step(zeros)[3]["a_0"].tolist())
        vec.close()
    """,
        stdin=stdin,
    )
    expected = "[False, False]\n[False, True]\n[True, False]\n"
    assert done.stdout == expected, done.stderr


def test_what_games_print_is_not_on_standard_output() -> None:
    done = run_script("""
        from vector_games import CountGame
        from kitae_marl import SubProcVecParallelEnv
        vec = SubProcVecParallelEnv([lambda: print("noise") or CountGame()], n_workers=1)
        vec.close()
        print("mine")
    """)
    assert done.stdout == "mine\n"
    assert done.stderr == "noise\n"
