"""Actions are checked before anything is sent: row V13 of the fault matrix."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from vector_games import CountGame, SpaceGame

from kitae_marl.data.stacking import AgentDict
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.faults

GOOD = {"a_0": np.zeros(2, int), "a_1": np.zeros(2, int)}


@pytest.fixture(scope="module")
def count() -> Any:
    with SubProcVecParallelEnv([lambda: CountGame(10**6)] * 2, n_workers=1) as vec:
        vec.reset(seed=0)
        yield vec


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        ({**GOOD, "a_1": np.zeros(3, int)}, r"shape \(2,\) for agent 'a_1', got \(3,\)"),
        ({**GOOD, "a_1": np.zeros((2, 1), int)}, r"got \(2, 1\)"),
        ({**GOOD, "a_1": 0}, r"got \(\)"),
        ({"a_0": GOOD["a_0"]}, "expected an action for agent 'a_1'"),
        ({**GOOD, "a_1": np.array([0, 3])}, r"Discrete\(3\), got 3 for agent 'a_1' of env 1"),
        ({**GOOD, "a_0": np.array([-1, 0])}, "got -1 for agent 'a_0' of env 0"),
        ({**GOOD, "a_0": np.array([0.0, 1.0])}, "dtype int64 .* got float64"),
        ({**GOOD, "a_0": np.array([0.0, np.nan])}, "got float64"),
        ({**GOOD, "a_0": [None, None]}, "got object"),
        (
            AgentDict({"a": np.zeros((3, 2), int)}, {"a": ("a_0", "a_1")}),
            r"shape \(2, 2\).*\(3, 2\)",
        ),
        (AgentDict({"a": np.full((2, 2), 5)}, {"a": ("a_0", "a_1")}), "got 5"),
    ],
)
def test_v13_wrong_actions_touch_nothing(count: Any, actions: Any, text: str) -> None:
    before = count.step(GOOD)[0]["a_0"][:, 1].copy()
    with pytest.raises(ValueError, match=text):
        count.step(actions)
    assert (count.step(GOOD)[0]["a_0"][:, 1] == before + 1).all()


def test_v13_small_integers_and_lists_are_fine(count: Any) -> None:
    observations = count.step({"a_0": np.array([1, 2], np.uint8), "a_1": [0, 0]})[0]
    assert observations["a_0"][:, 3].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("space", "bad", "text"),
    [
        (gym.spaces.Box(-2, 2, (2,)), np.nan, "got .*nan"),
        (gym.spaces.Box(-2, 2, (2,)), 2.1, "clip or mask"),
        (gym.spaces.MultiDiscrete([2, 3]), 2, r"\[2 2\]"),
        (gym.spaces.MultiBinary(2), 2, "MultiBinary"),
    ],
)
def test_v13_wrong_vectors(space: gym.Space, bad: float, text: str) -> None:
    with SubProcVecParallelEnv([lambda: SpaceGame(space, space)], n_workers=0) as vec:
        vec.reset(seed=0)
        dtype = vec.action_space("a_0").dtype
        good = {agent: np.zeros((1, 2), dtype) for agent in vec.possible_agents}
        with pytest.raises(ValueError, match=text):
            vec.step({**good, "a_1": np.full((1, 2), bad).astype(dtype)})
        vec.step(good)


def test_v13_what_the_inactive_say_is_ignored() -> None:
    class Quitter(CountGame):
        def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
            if self.t and set(actions) != {"a_0"}:
                raise ValueError(f"got {actions}")
            result = super().step(actions)
            if self.t == 1:
                result[2]["a_1"] = True
                self.agents = ["a_0"]
            return result

    with SubProcVecParallelEnv([Quitter] * 2, n_workers=0) as vec:
        vec.reset(seed=0)
        vec.step(GOOD)
        assert vec.step({**GOOD, "a_1": np.array([99, -99])})[1]["a_0"].tolist() == [2, 2]
        assert vec.step({"a_0": GOOD["a_0"]})[1]["a_0"].tolist() == [3, 3]
        block = AgentDict({"a": np.array([[1, 77], [1, 77]])}, {"a": ("a_0", "a_1")})
        assert vec.step(block)[0]["a_0"][:, 3].tolist() == [1, 1]
