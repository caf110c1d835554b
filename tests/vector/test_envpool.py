"""EnvPool's vectors follow our protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kitae_marl.errors import UnknownEnvironmentError
from kitae_marl.vector.adapters.as_parallel import SingleParallelEnv, as_parallel
from kitae_marl.vector.make import make_parallel_env, make_vec_env
from kitae_marl.vector.protocol import VecParallelEnv

envpool = pytest.importorskip("envpool")
pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered by casting:UserWarning")


def legal(infos: dict[str, Any], agents: list[str], n: int, rng: np.random.Generator) -> Any:
    """A random legal action for everyone."""
    masks = infos.get("action_mask")
    actions = {}
    for agent in agents:
        mask = np.ones((len(infos["active"][agent]), n)) if masks is None else masks[agent]
        weights = rng.random(mask.shape) * (mask + 1e-9 * (mask.sum(1, keepdims=True) == 0))
        actions[agent] = weights.argmax(axis=1)
    return actions


def test_a_single_player_pool_equals_the_pool_itself() -> None:
    env = make_vec_env("envpool:CartPole-v1", 4, n_workers=1)
    assert isinstance(env, VecParallelEnv)
    plain = envpool.make_gymnasium("CartPole-v1", num_envs=4, seed=9)
    observations, infos = env.reset(seed=9)
    expected, _ = plain.reset()
    rng, ended, returns = np.random.default_rng(0), np.zeros(4, bool), np.zeros(4)
    for _ in range(80):
        np.testing.assert_array_equal(observations["agent_0"], expected)
        np.testing.assert_array_equal(infos["active"]["agent_0"], ~ended)
        actions = rng.integers(0, 2, 4)
        observations, rewards, terminations, truncations, infos = env.step({"agent_0": actions})
        expected, reward, terminated, truncated, _ = plain.step(actions)
        np.testing.assert_array_equal(rewards["agent_0"], reward)
        np.testing.assert_array_equal(terminations["agent_0"], terminated)
        np.testing.assert_array_equal(truncations["agent_0"], truncated & ~terminated)
        returns = np.where(ended, 0, returns + reward)
        ended = terminated | truncated
        if ended.any():
            np.testing.assert_array_equal(infos["_episode"], ended)
            got = infos["episode"]["return"]["agent_0"][ended]
            np.testing.assert_array_equal(got, returns[ended])
            np.testing.assert_array_equal(infos["episode"]["length"]["agent_0"][ended], got)
    env.close()


def test_the_seed_of_a_made_pool_is_the_one_of_its_reset() -> None:
    env = make_vec_env("envpool:CartPole-v1", 2)
    first = env.reset(seed=1)[0]["agent_0"].copy()
    other = env.reset(seed=2)[0]["agent_0"].copy()
    np.testing.assert_array_equal(env.reset(seed=1)[0]["agent_0"], first)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("id", "players"), [("TicTacToe-v1", 2), ("SparrowMahjong-v1", 3)])
def test_a_turn_based_pool_says_who_is_to_act(id: str, players: int) -> None:
    env = make_vec_env(f"envpool:{id}", 5, n_workers=2)
    agents = [f"player_{i}" for i in range(players)]
    assert env.possible_agents == agents
    _, infos = env.reset(seed=3)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(60):
        active = np.stack([infos["active"][agent] for agent in agents], axis=1)
        mask = np.stack([infos["action_mask"][agent] for agent in agents], axis=1)
        assert ((mask.sum(axis=2) > 0) == active).all()
        n_actions = env.action_space(agents[0]).n
        observations, rewards, terminations, _, infos = env.step(
            legal(infos, agents, n_actions, rng)
        )
        ended = terminations[agents[0]]
        now = np.stack([infos["active"][agent] for agent in agents], axis=1)
        np.testing.assert_array_equal(now.sum(axis=1), np.where(ended, 0, 1))
        if ended.any() and id.startswith("Tic"):
            total = sum(rewards[agent] for agent in agents)
            assert (total[ended] == 0).all()
            decided = np.stack([infos["episode"]["return"][a] for a in agents])[:, ended]
            assert set(np.abs(decided).ravel()) <= {0.0, 1.0}
        ends += int(ended.sum())
    assert ends > 5
    assert observations[agents[0]].dtype == env.observation_space(agents[0]).dtype


def test_players_that_act_together_get_their_own_rows() -> None:
    env = make_vec_env("envpool:IntersectionMultiAgent-v0", 3, n_workers=2)
    speeds = {}
    for fast, slow in (("player_0", "player_1"), ("player_1", "player_0")):
        env.reset(seed=0)
        for _ in range(2):
            observations, rewards, *_, infos = env.step(
                {fast: np.full(3, 2), slow: np.zeros(3, int)}
            )
        assert all(infos["active"][agent].all() for agent in env.possible_agents)
        speeds[fast] = {a: np.abs(observations[a][:, 0, 3:5]).sum(axis=1) for a in (fast, slow)}
    assert observations["player_0"].shape == (3, 5, 5)
    assert rewards["player_1"].shape == (3,)
    for agent, other in (("player_0", "player_1"), ("player_1", "player_0")):
        assert (speeds[agent][agent] > speeds[other][agent]).all()


@pytest.mark.parametrize("id", ["envpool:CartPole-v1", "envpool:TicTacToe-v1"])
def test_one_environment_of_a_pool_is_a_parallel_environment(id: str) -> None:
    single, vector = make_parallel_env(id), make_vec_env(id, 1)
    agents, n_ended = single.possible_agents, 0
    rng = np.random.default_rng(0)
    got, infos = single.reset(seed=5)
    rows, whole = vector.reset(seed=5)
    assert single.agents == agents == vector.possible_agents
    while single.agents:
        for agent in agents:
            np.testing.assert_array_equal(got[agent], rows[agent][0])
            assert infos[agent]["active"] == whole["active"][agent][0]
        actions = legal(whole, agents, single.action_space(agents[0]).n, rng)  # type: ignore[attr-defined]
        got, *numbers, infos = single.step({agent: int(a[0]) for agent, a in actions.items()})
        rows, *expected, whole = vector.step(actions)
        for mine, theirs in zip(numbers, expected, strict=True):
            assert mine == {agent: theirs[agent][0] for agent in agents}
        n_ended += bool(numbers[1][agents[0]])
    assert n_ended == 1
    assert not any(info["active"] for info in infos.values())
    for agent in agents:
        np.testing.assert_array_equal(got[agent], whole["final_observation"][agent][0])
    assert single.step({}) == ({}, {}, {}, {}, {})
    assert len(single.reset()[0]) == len(agents)
    single.close()
    with pytest.raises(ValueError, match="num_envs=2"):
        SingleParallelEnv(make_vec_env(id, 2))


def test_a_users_pool_is_adapted_and_wrong_ones_are_refused() -> None:
    pool = envpool.make_gymnasium("CartPole-v1", num_envs=2, seed=1)
    assert as_parallel(pool).possible_agents == ["agent_0"]
    with pytest.raises(TypeError, match=r"envpool\.make_gymnasium"):
        as_parallel(envpool.make_dm("CartPole-v1", num_envs=2))
    with pytest.raises(ValueError, match="leave batch_size out"):
        as_parallel(envpool.make_gymnasium("CartPole-v1", num_envs=4, batch_size=2))
    with pytest.raises(UnknownEnvironmentError, match="'envpool:CartPole-v1'"):
        make_vec_env("envpool:CartPol-v1", 2)
