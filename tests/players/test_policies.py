"""The first legal action, alone and in vectors."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from lockstep import WARNINGS
from vector_games import SpaceGame

from kitae_marl.players.policies import FirstLegal
from kitae_marl.vector.make import make_parallel_env, make_vec_env
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

GAMES = [
    "mpe/simple_speaker_listener-v4",
    "sisl/multiwalker-v9",
    "classic/connect_four-v3",
    "classic/leduc_holdem-v4",
    "gymnasium:Taxi-v4",
]


@pytest.mark.parametrize("id", GAMES)
@pytest.mark.parametrize("stock", [False, True])
def test_whole_games_are_played_legally(id: str, stock: bool) -> None:
    env = make_parallel_env(id, stock=stock)
    choose = FirstLegal(env)
    observations, infos = env.reset(seed=0)
    for _ in range(60):
        if not env.agents:
            break
        actions = choose(observations, infos)
        assert all(env.action_space(agent).contains(actions[agent]) for agent in env.agents)
        observations, _, terminations, truncations, infos = env.step(actions)
        if id.startswith("classic"):  # an illegal move would end with both flags up
            assert not any(terminations[a] and truncations[a] for a in terminations)


@pytest.mark.parametrize("id", GAMES)
def test_a_vector_chooses_as_its_environments(id: str) -> None:
    vec, env = make_vec_env(id, 2, n_workers=0), make_parallel_env(id)
    choose, choose_one = FirstLegal(vec), FirstLegal(env)
    result, one = vec.reset(seed=0), env.reset(seed=0)
    for _ in range(5):
        actions, plain = choose(result[0], result[-1]), choose_one(one[0], one[-1])
        for agent in env.agents:
            if one[-1][agent].get("active", True):
                np.testing.assert_array_equal(actions[agent][0], plain[agent])
        result, one = vec.step(actions), env.step(plain)
        if not env.agents:
            break
    vec.close()


def test_each_part_of_several_choices_has_a_mask_of_its_own() -> None:
    action = gym.spaces.MultiDiscrete([2, 3], start=[0, 10])
    env = SpaceGame(gym.spaces.Box(0, 1), action)
    mask = np.array([0, 1, 0, 0, 1], np.int8)
    observations, _ = env.reset(seed=0)
    chosen = FirstLegal(env)(observations, {agent: {"action_mask": mask} for agent in env.agents})
    assert [chosen[agent].tolist() for agent in env.agents] == [[1, 12]] * 3
    make = lambda: SpaceGame(gym.spaces.Box(0, 1), action)  # noqa: E731
    vec = SubProcVecParallelEnv([make] * 2, n_workers=0)
    masks = {agent: np.stack([mask, mask[::-1]]) for agent in vec.possible_agents}
    chosen = FirstLegal(vec)({}, {"action_mask": masks})
    assert chosen["a_1"].tolist() == [[1, 12], [0, 11]]
    vec.close()
