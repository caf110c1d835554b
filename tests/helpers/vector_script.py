"""A small trainer for the tests: ``python vector_script.py SITUATION``; prints READY and stays."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
from vector_faults import boom_here, hold_the_gil
from vector_games import CountGame

from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

FAULTS = {"hung": boom_here, "gil": hold_the_gil}


def make(fault: str = "") -> SubProcVecParallelEnv:
    """Make two environments in two workers."""
    fns = [CountGame, lambda: CountGame(fault=FAULTS.get(fault))]
    return SubProcVecParallelEnv(fns, n_workers=2)


def ready() -> None:
    """Tell the test that the situation is reached."""
    print("READY", flush=True)


def main(situation: str) -> None:
    """Bring about a situation and stay in it, or end in a certain way."""
    if situation in ("thread", "thread-ends"):
        return in_thread(situation)
    vec = make(situation)
    vec.reset(seed=0)
    zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
    if situation in ("hung", "gil"):
        vec.step_async(zeros)
        time.sleep(0.2)
        ready()
        vec.step_wait()
    ready()
    match situation:
        case "idle":
            time.sleep(60)
        case "stepping":
            while True:
                vec.step(zeros)
        case "no-close":
            return None
        case "del":
            pids = vec.worker_pids
            del vec
            assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
        case "exception":
            raise RuntimeError("user code failed")
        case "os-exit":
            os._exit(3)
    return None


def in_thread(situation: str) -> None:
    """Create the vector in a thread that ends, and use it here."""
    box = []
    thread = threading.Thread(target=lambda: box.append(make()))
    thread.start()
    thread.join()
    time.sleep(0.3)
    vec = box[0]
    vec.reset(seed=0)
    zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
    for _ in range(3):
        assert "worker_restarted" not in vec.step(zeros)[4]
    ready()
    if situation == "thread":
        vec.close()


if __name__ == "__main__":
    main(sys.argv[1])
