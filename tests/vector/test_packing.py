"""What users write over and into their classes, sent to workers from wherever it was written."""

from __future__ import annotations

import functools
import importlib
import pickle
import sys
import textwrap
from pathlib import Path

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from pettingzoo import ParallelEnv
from vector_parents import Program

from kitae_marl.vector.workers.packing import dumps
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

TUTORIAL = '''
import functools
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv
from kitae_marl import SubProcVecParallelEnv

@functools.lru_cache
def width():
    return 2

class Tutorial(ParallelEnv):
    """A game as PettingZoo's tutorials write one."""
    metadata = {"name": "tutorial_v0"}

    def __init__(self):
        super().__init__()
        self.possible_agents = ["player_0", "player_1"]

    @functools.lru_cache(maxsize=None)
    def observation_space(self, agent):
        return Box(0, 100, (self.size,))

    @functools.lru_cache
    def action_space(self, agent):
        return Discrete(2)

    @functools.cached_property
    def size(self):
        return width()

    @staticmethod
    @functools.cache
    def reward():
        return 1.0

    def reset(self, seed=None, options=None):
        self.agents = self.possible_agents[:]
        self.t = 0
        return self.observations(), {agent: {} for agent in self.agents}

    def observations(self):
        return {agent: np.full(self.size, self.t, np.float32) for agent in self.possible_agents}

    def step(self, actions):
        self.t += 1
        ended = dict.fromkeys(self.agents, self.t == 3)
        rewards = dict.fromkeys(self.agents, self.reward())
        infos = {agent: {} for agent in self.agents}
        if self.t == 3:
            self.agents = []
        return self.observations(), rewards, dict.fromkeys(ended, False), ended, infos
'''
PLAY = """
for n_workers in (0, 2):
    vec = SubProcVecParallelEnv([Tutorial] * 2, n_workers=n_workers)
    vec.reset(seed=0)
    zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
    for _ in range(3):
        observations, rewards, *_ = vec.step(zeros)
        print(rewards["player_0"].tolist(), observations["player_1"][:, 1].tolist(), flush=True)
    vec.close()
"""
PLAYED = ["[1.0, 1.0] [1.0, 1.0]", "[1.0, 1.0] [2.0, 2.0]", "[1.0, 1.0] [0.0, 0.0]"] * 2

IN_A_FUNCTION = "def main():\n" + textwrap.indent(TUTORIAL + PLAY, "    ") + "\nmain()\n"
GUARDED = TUTORIAL + 'if __name__ == "__main__":' + textwrap.indent(PLAY, "    ")
NOTEBOOK = """
import code, sys
interpreter = code.InteractiveInterpreter({'__name__': '__main__'})
for cell in sys.stdin.read().split("\\0"):
    assert not interpreter.runsource(cell + "\\n", "<cell>", "exec")
"""


@pytest.mark.parametrize("source", [TUTORIAL + PLAY, GUARDED, IN_A_FUNCTION])
@pytest.mark.parametrize("way", ["script", "standard input", "notebook"])
def test_the_pattern_of_pettingzoos_tutorials_runs_as_it_is(
    tmp_path: Path, way: str, source: str
) -> None:
    if way == "script":
        (tmp_path / "game.py").write_text(source)
        program = Program(tmp_path / "game.py")
    elif way == "standard input":
        program = Program("-", stdin=source)
    else:
        cells = [TUTORIAL, PLAY] if source == TUTORIAL + PLAY else [source]
        program = Program("-c", NOTEBOOK, stdin="\0".join(cells))
    assert program.popen.stdout is not None
    output = program.popen.stdout.read()
    stderr, _ = program.end(30)
    assert output.splitlines() == PLAYED, stderr
    program.assert_nothing_left()


def game_in_a_function() -> type[ParallelEnv]:
    names: dict = {}
    exec(TUTORIAL, names)
    base = names["Tutorial"]

    class Inner(base):
        @functools.lru_cache  # noqa: B019 - as tutorials do
        def observation_space(self, agent: str) -> gym.Space:
            return super().observation_space(agent)

    return Inner


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.usefixtures("nothing_left")
def test_a_cache_that_refers_to_its_own_class(n_workers: int) -> None:
    vec = SubProcVecParallelEnv([game_in_a_function()] * 2, n_workers=n_workers)
    vec.reset(seed=0)
    assert vec.step({a: np.zeros(2, int) for a in vec.possible_agents})[1]["player_0"].all()
    vec.close()


def test_a_cached_function_that_calls_itself() -> None:
    @functools.lru_cache(maxsize=7, typed=True)
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    copy = pickle.loads(dumps(factorial))
    assert copy is not factorial
    assert (copy(5), copy.cache_parameters()) == (120, {"maxsize": 7, "typed": True})
    assert copy.cache_info().currsize > 0


def test_what_a_module_holds_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what a worker already has there, and the cache's size, are those of the module."""
    (tmp_path / "cached_in_a_module.py").write_text(
        "import functools\n@functools.lru_cache\ndef f():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("cached_in_a_module")
    assert pickle.loads(dumps(module.f)) is module.f
    cloudpickle.register_pickle_by_value(module)
    assert pickle.loads(dumps(module.f)) is not module.f
    cloudpickle.unregister_pickle_by_value(module)
    del sys.modules["cached_in_a_module"]
