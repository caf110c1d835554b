"""Agents whose ids are no texts: named by text outwards, the game gets its own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box
from numbered_games import Numbered, TurnByTurn

from kitae_marl import Agent, Config, SubProcVecParallelEnv, check_env, evaluate
from kitae_marl.vector.catalogue.doctor import check_parallel_env
from kitae_marl.vector.stepping.faults import DataFault
from kitae_marl.vector.stepping.names import TextNamesEnv, with_text_names


def test_the_game_of_these_tests_is_legal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pettingzoo.test imports the old way
        from pettingzoo.test import parallel_api_test
    parallel_api_test(Numbered(), 20)


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.usefixtures("nothing_left")
def test_a_vector_names_them_by_text(n_workers: int) -> None:
    vec = SubProcVecParallelEnv([Numbered] * 2, n_workers=n_workers, with_state=True)
    assert vec.possible_agents == ["0", "1", "2"]
    observations, infos = vec.reset(seed=0)
    assert observations["2"].tolist() == [[2, 0], [2, 0]]
    chosen = {name: np.full(2, int(name)) for name in vec.possible_agents}
    for t in range(1, 5):
        observations, rewards, terminated, truncated, infos = vec.step(chosen)
        assert rewards["0"].tolist() == rewards["2"].tolist() == [1, 1]
        assert rewards["1"].tolist() == [float(t <= 2)] * 2
        assert terminated["1"].tolist() == [t == 2] * 2
    assert truncated["0"].all()
    assert infos["episode"]["return"]["2"].tolist() == [4, 4]
    assert vec.state().tolist() == [[0], [0]]
    vec.close()


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ((np.int64(3), np.int64(1), np.int64(2)), ["3", "1", "2"]),
        (("a", 1, (2, 3)), ["a", "1", "(2, 3)"]),
    ],
)
def test_other_ids_than_texts(ids: tuple[Any, ...], names: list[str]) -> None:
    vec = SubProcVecParallelEnv([lambda: Numbered(ids)], n_workers=0)
    vec.reset(seed=0)
    assert vec.possible_agents == names
    assert vec.step({n: np.array([i]) for i, n in enumerate(names)})[1][names[2]].tolist() == [1]


def test_ids_that_are_one_text_are_refused() -> None:
    with pytest.raises(DataFault, match=r"ids differ as texts, got \[1, '1'\]"):
        with_text_names(Numbered((1, "1")))


def test_names_that_are_texts_change_nothing() -> None:
    env = Numbered(("a", "b", "c"))
    assert with_text_names(env) is env


def test_a_single_environment_is_named_too() -> None:
    env = check_env(Numbered())
    assert isinstance(env, TextNamesEnv)
    assert env.unwrapped is env.env
    assert env.state_space == Box(0, 9, (1,))
    assert env.reset()[0]["1"].tolist() == [1, 0]
    report = check_parallel_env(Numbered, episodes=2)
    assert report.ok, report.lines()


def test_turns_of_numbered_players() -> None:
    vec = SubProcVecParallelEnv([lambda: check_env(TurnByTurn())], n_workers=0)
    infos = vec.reset(seed=0)[1]
    for t in range(4):
        assert infos["active"][str(t % 2)].all()
        infos = vec.step({"0": np.array([0]), "1": np.array([1])})[4]
    assert "episode" in infos


def test_they_are_trained_and_evaluated(tmp_path: Any) -> None:
    config = Config(env_id="numbered:Numbered", n_envs=2, env_steps=256)
    config = config.with_learner(type(config.ppo)(n_steps=32, n_minibatches=1, n_epochs=1))
    vec = SubProcVecParallelEnv([Numbered] * 2, n_workers=0)
    agent = Agent(vec, config)
    agent.train(vec, tmp_path / "run")
    loaded = Agent.load(tmp_path / "run")
    vec = SubProcVecParallelEnv([Numbered], n_workers=0)
    returns = evaluate(loaded.select_action, vec, n_episodes=3).summary()["returns"]
    assert {"0", "1", "2", "mean"} <= set(returns)
