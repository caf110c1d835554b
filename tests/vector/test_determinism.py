"""The same seed gives the same run, whatever the number of workers: row D1."""

from __future__ import annotations

import numpy as np
import pytest
from mpe2 import simple_spread_v3

from kitae_marl.vector.protocol import episode_seed
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

N_ENVS, N_STEPS = 4, 300


def rollout(n_workers: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return all observations and rewards of a run with actions drawn from the seed."""
    rng = np.random.default_rng(0)
    observations, rewards = [], []
    make = lambda: simple_spread_v3.parallel_env(N=2, max_cycles=25)  # noqa: E731
    with SubProcVecParallelEnv([make] * N_ENVS, n_workers=n_workers) as vec:
        values, _ = vec.reset(seed=seed)
        for _ in range(N_STEPS):
            actions = {agent: rng.integers(0, 5, N_ENVS) for agent in vec.possible_agents}
            values, given, *_ = vec.step(actions)
            observations.append(values.blocks["agent"].copy())
            rewards.append(given.blocks["agent"].copy())
    return np.stack(observations), np.stack(rewards)


@pytest.fixture(scope="module")
def reference() -> tuple[np.ndarray, np.ndarray]:
    return rollout(0)


@pytest.mark.faults
@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_d1_bit_by_bit_for_any_number_of_workers(
    n_workers: int, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    observations, rewards = rollout(n_workers)
    np.testing.assert_array_equal(observations, reference[0])
    np.testing.assert_array_equal(rewards, reference[1])


def test_d1_other_seeds_give_other_runs(reference: tuple[np.ndarray, np.ndarray]) -> None:
    assert (rollout(0, seed=4)[0] != reference[0]).any()


def test_d1_environments_and_episodes_differ() -> None:
    seeds = [5 + i for i in range(64)]
    seeds += [episode_seed(5, i, k) for i in range(64) for k in range(1, 20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**32 - 1, 2**32, 2**40])
def test_d1_the_seed_of_an_episode_is_numpys_hash_of_the_three_numbers(seed: int) -> None:
    expected = np.random.SeedSequence((seed, 3, 70)).generate_state(1)[0] >> 1
    assert episode_seed(seed, 3, 70) == expected
