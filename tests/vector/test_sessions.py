"""Vectors in a spread test run and in notebooks: rows V17 and V20 of the fault matrix."""

from __future__ import annotations

import sys
import textwrap
import threading
import types
from pathlib import Path

import pytest
from vector_games import CountGame
from vector_parents import Program

from kitae_marl.errors import EnvError
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.faults

SPREAD = '''
import os, time
from pathlib import Path
import numpy as np
from vector_games import CountGame
from vector_leaks import children
from kitae_marl import SubProcVecParallelEnv

left_open = []

def meet(place):
    """Wait until the other test process is here too."""
    (Path(__file__).parent / (place + os.environ["PYTEST_XDIST_WORKER"])).touch()
    deadline = time.monotonic() + 20
    while len(list(Path(__file__).parent.glob(place + "gw*"))) < 2:
        assert time.monotonic() < deadline, place
        time.sleep(0.01)

def play(vec, seed):
    vec.reset(seed=seed)
    zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
    for step in range(1, 4):
        seen = vec.step(zeros)[0]["a_0"]
        assert seen[:, 0].tolist() == [seed, seed + 1]
        assert seen[:, 1].tolist() == [step, step]
        assert set(seen[:, 2].tolist()) == {pid % 100_000 for pid in vec.worker_pids}

def test_both_at_once():
    seed = 10 * int(os.environ["PYTEST_XDIST_WORKER"][2:])
    with SubProcVecParallelEnv([CountGame] * 2, n_workers=2) as vec:
        meet("open")
        play(vec, seed)
        meet("played")
        pids = vec.worker_pids
    assert not children() & set(pids)

def test_that_fails_and_closes_nothing():
    left_open.append(SubProcVecParallelEnv([CountGame] * 2, n_workers=1))
    play(left_open[0], 4)
    raise RuntimeError("a test fails")
'''


def test_v17_tests_spread_over_processes(tmp_path: Path) -> None:
    """Both processes run every test; each has vectors of its own, and nothing outlives the run."""
    (tmp_path / "test_spread.py").write_text(SPREAD)
    options = ["-n", "2", "--dist", "each", "-W", "error", "-p", "no:cacheprovider", "-q"]
    run = Program("-m", "pytest", *options, "--rootdir", tmp_path, tmp_path)
    assert run.popen.stdout is not None
    output = run.popen.stdout.read()
    run.end(30)
    assert "2 failed, 2 passed" in output, output
    assert output.count("RuntimeError: a test fails") >= 2, output
    run.assert_nothing_left()


CELLS = [
    "import os, signal, numpy as np",
    "from vector_games import CountGame",
    "from kitae_marl import SubProcVecParallelEnv",
    "length = 2",
    """
    class Mine(CountGame):
        def __init__(self, length):
            super().__init__(length)
    """,
    """
    def make():
        return Mine(length)
    """,
    "vec = SubProcVecParallelEnv([make, lambda: Mine(length + 1)], n_workers=2)",
    "begun = vec.reset(seed=0)",
    "zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}",
    """
    def play():
        for _ in range(4):
            print(vec.step(zeros)[3]["a_0"].tolist())
    """,
    # Cells are changed and run again; the vector goes on with what it was made of.
    "length = 50",
    """
    class Mine(CountGame):
        def __init__(self, length):
            raise RuntimeError("a later definition")
    """,
    "os.kill(vec.worker_pids[0], signal.SIGKILL)",
    "play()",
]
"""What is typed into an interactive session, one statement after the other."""
PLAYED = ["[True, False]", "[False, False]", "[True, True]", "[False, False]"]
"""Environment 0 is started again, then ends after two steps; environment 1 ends after three."""

KERNEL = """
import asyncio, code, sys

async def serve(cells, names):
    interpreter = code.InteractiveInterpreter(names)
    for cell in cells:
        assert not interpreter.runsource(cell + "\\n", "<cell>")
        await asyncio.sleep(0)

asyncio.run(serve(sys.stdin.read().split("\\0"), {names}))
"""
"""Runs cells inside a running event loop, as the kernel of a notebook does."""


def assert_played(session: Program) -> None:
    """Assert that the session played as it should and left nothing, though it closed nothing."""
    assert session.popen.stdout is not None
    output = session.popen.stdout.read()
    stderr, _ = session.end(30)
    assert [line for line in output.splitlines() if line.startswith("[")] == PLAYED, stderr
    assert "Traceback" not in stderr
    session.assert_nothing_left()


def test_v20_interactive_interpreter() -> None:
    cells = [textwrap.dedent(cell).strip("\n") + "\n\n" for cell in CELLS]
    assert_played(Program("-i", "-c", "import sys; sys.ps1 = sys.ps2 = ''", stdin="".join(cells)))


@pytest.mark.parametrize("names", ["{'__name__': '__main__'}", "None"], ids=["main", "console"])
def test_v20_notebook(names: str) -> None:
    cells = [textwrap.dedent(cell).strip("\n") + "\n" for cell in CELLS]
    kernel = KERNEL.replace("{names}", names)
    assert_played(Program("-c", kernel, stdin="\0".join(cells)))


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.usefixtures("nothing_left")
def test_v20_functions_that_cannot_be_sent(n_workers: int) -> None:
    lock = threading.Lock()

    def locked() -> CountGame:
        with lock:
            return CountGame()

    with pytest.raises(TypeError, match=r"env 1: expected a function .* '_thread\.lock'.* inside"):
        SubProcVecParallelEnv([CountGame, locked], n_workers=n_workers)


@pytest.mark.usefixtures("nothing_left")
def test_v20_modules_that_only_the_session_has(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_in_the_session")
    exec("from vector_games import CountGame\ndef make(): return CountGame()", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(EnvError, match=r"env 1 .* No module named 'made_in_the_session'") as caught:
        SubProcVecParallelEnv([CountGame, module.make], n_workers=2)
    assert (caught.value.phase, caught.value.remote_type) == ("start", "ModuleNotFoundError")
