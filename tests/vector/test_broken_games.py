"""A table of broken games: training and the doctor run them both, or refuse both by one rule."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from broken_games import REFUSED, UNDERSTOOD, Bare, Broken
from gymnasium.spaces import Box
from lockstep import WARNINGS

from kitae_marl import Agent, AlgoType, Config, SubProcVecParallelEnv, vectorized_train
from kitae_marl.config import PPOConfig
from kitae_marl.errors import EnvDataError, VectorEnvError
from kitae_marl.vector.catalogue.doctor import check_parallel_env
from kitae_marl.vector.catalogue.playout import rule_of

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]
INSIDE = ("AttributeError", "KeyError", "TypeError", "IndexError", "ValueError")
"""What must not come from within the package; the games here raise none of these themselves."""


def play(make: Callable[[], Any], **options: Any) -> list[float]:
    """Two episodes and a bit, as training steps them; the rewards of ``a_0``."""
    with SubProcVecParallelEnv([make], n_workers=0, **options) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(1, int) for agent in vec.possible_agents}
        return [float(vec.step(zeros)[1]["a_0"][0]) for _ in range(9)]


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_what_can_be_understood_runs_in_both(name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, sentence = UNDERSTOOD[name]
    with caplog.at_level(logging.WARNING, "kitae_marl.vector"):
        assert play(make) == [1, 2, 3, 4, 1, 2, 3, 4, 1]
    said = [r.getMessage() for r in caplog.records if not r.getMessage().startswith("close()")]
    assert len(said) == bool(sentence)
    assert all(sentence in text for text in said)
    report = check_parallel_env(make, episodes=2, max_steps=9)
    assert report.ok, report.problems
    assert report.episodes[0] == 2
    assert not sentence or any(sentence in note for note in report.notes), report.notes


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_is_refused_in_both_by_one_rule(name: str) -> None:
    make, rule = REFUSED[name]
    with pytest.raises(VectorEnvError) as training:
        play(make)
    told = rule_of(training.value)
    assert re.search(rule, told), told
    assert not any(kind in told for kind in INSIDE), told
    if training.value.phase == "start":  # there is nothing to play
        with pytest.raises(type(training.value)) as checking:
            check_parallel_env(make)
        assert rule_of(checking.value) == told
        return
    report = check_parallel_env(make, episodes=2, max_steps=9)
    assert not report.ok
    assert report.problems == (f"{told} (2 times)",)
    assert told in "\n".join(report.lines())
    json.dumps(report.to_json())


def test_there_are_enough_of_them() -> None:
    assert len(UNDERSTOOD) + len(REFUSED) >= 40


def test_an_agent_learns_where_the_first_mask_comes_late_and_forbids_everything() -> None:
    ppo = PPOConfig(n_steps=8, n_minibatches=1, n_epochs=1, hidden_sizes=(4,))
    make, _ = UNDERSTOOD["mask forbids everything"]
    vec = SubProcVecParallelEnv([make] * 2, n_workers=0)
    agent = Agent(vec, Config(n_envs=2, env_steps=16, ppo=ppo))
    vectorized_train(0, agent, vec, 8, AlgoType.ON_POLICY)
    assert agent.learned_step == 8


@pytest.mark.parametrize("name", [name for name in UNDERSTOOD if name.startswith("state ")])
def test_a_wrong_state_is_noted_and_refused_where_it_is_seen(name: str) -> None:
    make, _ = UNDERSTOOD[name]
    with pytest.raises(VectorEnvError) as training:
        play(make, with_state=True)
    notes = check_parallel_env(make, episodes=1).notes
    assert any(f"refuses the game: {rule_of(training.value)}" in note for note in notes), notes


def test_actions_that_no_policy_draws_are_a_problem() -> None:
    def make() -> Broken:
        return Broken(act=Box(0, 2**30, (2,), np.int32))

    told = "expected integers with at most 65536 values in all"
    with SubProcVecParallelEnv([make], n_workers=0) as vec, pytest.raises(TypeError, match=told):
        Agent(vec, Config())
    (problem,) = check_parallel_env(make, episodes=1).problems
    assert re.search(told, problem)


def test_a_game_without_a_seed_is_not_called_broken() -> None:
    report = check_parallel_env(UNDERSTOOD["reset without seed"][0], episodes=1)
    assert report.seeding == "reset() takes no seed"


def test_a_game_object_of_no_base_class_is_checked_and_stays_open() -> None:
    game = Bare()
    assert check_parallel_env(game, episodes=1).ok  # type: ignore[arg-type]
    assert check_parallel_env(game, episodes=1).name == "Bare"  # type: ignore[arg-type]


def test_a_fault_of_a_later_episode_is_found() -> None:
    class Later(Broken):
        def observe(self, last: int = 0) -> dict[str, Any]:
            values = super().observe(last)
            return values if self.n_resets < 4 else {**values, "a_1": None}

    with pytest.raises(EnvDataError):
        play(Later, max_episode_steps=2)
    assert not check_parallel_env(Later, episodes=3).ok
