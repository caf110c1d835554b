"""The blocks that parent and workers share, and the two kinds of memory they lie in."""

from __future__ import annotations

import os
from multiprocessing import resource_tracker

import gymnasium as gym
import numpy as np
import psutil
import pytest
from vector_games import CountGame, SpaceGame

from kitae_marl.vector.make import make_vec_env
from kitae_marl.vector.stepping.blocks import Blocks, decode, describe_env, make_blocks
from kitae_marl.vector.workers.memory import Memory, attach
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.usefixtures("tracker", "nothing_left")


@pytest.fixture(scope="module")
def tracker() -> None:
    """Start the process that the standard library keeps for named memory."""
    resource_tracker.ensure_running()


@pytest.mark.parametrize("kind", ["memfd", "named", "private"])
def test_arrays_outlive_their_memory_and_cost_no_descriptor(kind: str) -> None:
    memory = Memory(kind)
    array = memory.allocate(1000)
    assert not array.any()
    array[:] = 7
    memory.close()
    memory.close()
    assert (array == 7).all()


def test_two_mappings_of_one_descriptor_show_the_same_bytes() -> None:
    memory = Memory("memfd")
    mine, theirs = memory.allocate(64), attach(memory.fd, "", 64)
    mine[3] = 9
    assert theirs[3] == 9
    memory.close()


def test_named_memory_works_where_there_is_no_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of macOS, which workers take when they are given a name."""
    monkeypatch.delattr(os, "memfd_create")
    with SubProcVecParallelEnv([lambda: CountGame(3)] * 2, n_workers=2) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        for t in (1, 2, 0):
            observations = vec.step(zeros)[0]
            assert observations["a_0"][:, 1].tolist() == [t, t]
        os.kill(vec.worker_pids[0], 9)
        assert vec.step(zeros)[4]["worker_restarted"].tolist() == [True, False]
    assert observations["a_0"][1, 1] == 1


def test_no_two_arrays_overlap_and_all_fit() -> None:
    space = gym.spaces.Dict({"x": gym.spaces.Box(0, 1, (3,)), "n": gym.spaces.Discrete(4)})
    description = decode(describe_env(SpaceGame(space, gym.spaces.Discrete(3))))
    blocks = make_blocks(description, 5, lambda size: np.zeros(size, np.uint8))
    arrays = [value for value in vars(blocks).values() if isinstance(value, np.ndarray)]
    for name in ("a", "b"):
        arrays += [*blocks.observation[name].values(), *blocks.final[name].values()]
        arrays += [blocks.action[name], blocks.mask[name]]
    arrays = [array for array in arrays if array is not blocks._buffer]
    for number, array in enumerate(arrays):
        array.view(np.uint8)[...] = number
    for number, array in enumerate(arrays):
        assert (array.view(np.uint8) == number).all()
    assert sum(array.nbytes for array in arrays) <= blocks.size


@pytest.mark.parametrize("shape", [(18,), (32, 32, 3)])
def test_the_blocks_take_no_more_than_twice_the_data(shape: tuple[int, ...]) -> None:
    """Observations lie there twice, as final ones too; the numbers beside them are few."""
    space = gym.spaces.Box(0, 255, shape, np.uint8 if len(shape) > 1 else np.float32)
    agents = tuple(f"a_{i}" for i in range(8))
    game = SpaceGame(space, gym.spaces.Box(-1, 1, (2,)), agents=agents)
    size = Blocks(decode(describe_env(game)), 64).size
    numbers = 2 * 4 + 8 + 3 + 16  # action, reward, flags, return and length of the episode
    assert size <= 2 * 64 * len(agents) * (int(np.prod(shape)) * space.dtype.itemsize + numbers)


def test_worker_memory() -> None:
    with make_vec_env("mpe/simple_spread-v3", 64, n_workers=2) as vec:
        vec.reset(seed=0)
        for _ in range(30):
            vec.step({agent: np.zeros(64, int) for agent in vec.possible_agents})
        memory = [psutil.Process(pid).memory_info().rss for pid in vec.worker_pids]
    assert sum(memory) < 250e6
    assert max(memory) < 120e6
