"""No integer becomes another on its way: observations from the games, actions to them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from vector_games import CountGame

from kitae_marl.data.stacking import AgentDict
from kitae_marl.errors import EnvDataError
from kitae_marl.vector.adapters.as_parallel import as_parallel
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv


class Sent(CountGame):
    """Observes the given value at every time but the first; keeps the actions it got."""

    def __init__(self, space: spaces.Space, value: Any, action: spaces.Space | None = None) -> None:
        super().__init__(length=10**6, space=space)
        self.value, self.action, self.got = value, action or spaces.Discrete(3), {}

    def action_space(self, agent: str) -> spaces.Space:
        return self.action

    def observe(self, last: int = 0) -> dict[str, Any]:
        zero = np.zeros(self.space.shape or (), self.space.dtype)
        return {agent: self.value if self.t and agent == "a_1" else zero for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        self.got, zeros = actions, dict.fromkeys(actions, 0)
        return super().step(zeros)


def observed(space: spaces.Space, value: Any, n_workers: int = 0) -> np.ndarray:
    """What agent a_1 observes after one step, when the game returns the value."""
    with SubProcVecParallelEnv([lambda: Sent(space, value)] * 2, n_workers=n_workers) as vec:
        vec.reset(seed=0)
        return vec.step({agent: np.zeros(2, int) for agent in vec.possible_agents})[0]["a_1"][1]


INT8 = spaces.Box(-128, 127, (2,), np.int8)
INT16 = spaces.Box(-(2**15), 2**15 - 1, (2,), np.int16)
INT64 = spaces.Box(-(2**62), 2**62, (2,), np.int64)
UINT64 = spaces.Box(0, 2**63, (2,), np.uint64)
BYTES = spaces.Box(0, 255, (2,), np.uint8)
PICTURE = spaces.Box(0, 255, (64, 64), np.uint8)
LARGE64 = spaces.Box(-(2**62), 2**62, (32, 32), np.int64)
TWO = spaces.MultiDiscrete([2**31 - 1] * 2)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (BYTES, np.array([200, 0], np.int64)),
        (BYTES, [200, 0]),
        (PICTURE, np.full((64, 64), 200, np.int32)),
        (INT8, np.array([127, 3], np.uint64)),
        (INT16, np.array([-5, 3], np.int64)),
        (INT64, np.array([2**31 - 1, -(2**31)])),
        (UINT64, np.array([2**32 - 1, 0], np.int64)),
        (spaces.MultiBinary(2), np.array([1, 0], np.int64)),
        (spaces.Box(0, 1, (2,), np.bool_), np.array([1, 0])),
        (spaces.Discrete(5), np.uint8(4)),
        (spaces.Box(-1e9, 1e9, (2,), np.float32), np.array([2**20, 7], np.uint64)),
    ],
)
def test_integers_that_fit_are_taken_of_every_type(space: spaces.Space, value: Any) -> None:
    np.testing.assert_array_equal(observed(space, value), value)


@pytest.mark.parametrize(
    ("space", "value", "expected", "got"),
    [
        (INT8, np.array([0, 300]), "[-128, 127]", "300 at [1]"),
        (INT16, np.array([70_000, 0], np.int32), "[-32768, 32767]", "70000 at [0]"),
        (BYTES, np.array([0, -1]), "[0, 255]", "-1 at [1]"),
        (PICTURE, np.full((64, 64), 256), "[0, 255]", "256 at [0, 0]"),
        (spaces.Discrete(5), 2**70, "dtype int64", str(2**70)),
        (spaces.Discrete(5), 2**40, "[0, 4]", str(2**40)),
        (TWO, np.array([1, 2**40]), "[0, 2147483646]", f"{2**40} at [1]"),
        (spaces.MultiBinary(2), np.array([256, 0]), "[-128, 127]", "256 at [0]"),
        (spaces.Box(0, 1, (2,), np.bool_), np.array([0, 2]), "[0, 1]", "2 at [1]"),
        (INT64, np.array([2**40, 0]), "[-2147483648, 2147483647]", f"{2**40} at [0]"),
        (UINT64, np.array([0, 2**33]), "[0, 4294967295]", f"{2**33} at [1]"),
        (LARGE64, np.full((32, 32), 2**33), "[-2147483648, ", f"{2**33} at [0, 0]"),
        (BYTES, np.array([0.5, 0.0]), "dtype uint8", "float64"),
    ],
)
def test_integers_that_do_not_fit_are_named(
    space: spaces.Space, value: Any, expected: str, got: str
) -> None:
    with pytest.raises(EnvDataError) as caught:
        observed(space, value)
    error = caught.value
    assert (error.env_index, error.agent, error.phase) == (0, "a_1", "step")
    assert expected in error.expected
    assert got in error.got


def test_choices_are_checked_on_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice there is not would be taken for another; amounts are looked at now and then."""
    monkeypatch.setattr("kitae_marl.vector.stepping.inspection.BOUNDED_STEPS", 0)
    with pytest.raises(EnvDataError, match=r"expected values in \[0, 4\], got 5"):
        observed(spaces.Discrete(5), 5)


def test_integers_are_checked_in_workers_too() -> None:
    with pytest.raises(EnvDataError, match="got 300 at"):
        observed(INT8, np.array([0, 300]), n_workers=1)


def sent(space: spaces.Space, given: Any, as_blocks: bool) -> Any:
    """What agent a_1 of the second environment is told to do."""
    games = [Sent(INT8, [0, 0], space) for _ in range(2)]
    with SubProcVecParallelEnv(games, n_workers=0) as vec:
        vec.reset(seed=0)
        action = np.stack([np.asarray(given)] * 2)
        if as_blocks:
            stacked = {"a": np.stack([action] * 2, axis=1)}
            vec.step(AgentDict(stacked, {"a": ("a_0", "a_1")}))
        else:
            vec.step(dict.fromkeys(vec.possible_agents, action))
    return games[1].got["a_1"]


@pytest.mark.parametrize("as_blocks", [False, True])
@pytest.mark.parametrize(
    ("space", "given"),
    [
        (spaces.MultiBinary(2), np.array([1, 0], np.int64)),
        (spaces.Discrete(5, dtype=np.int8), np.int64(4)),
        (spaces.Discrete(5, dtype=np.int8), np.uint64(4)),
        (spaces.MultiDiscrete([300, 300], dtype=np.int16), np.array([299, 0], np.int64)),
        (spaces.Box(-np.inf, np.inf, (2,)), np.array([1e30, 0.0])),
        (spaces.Box(-5, 5, (2,)), np.array([1, -5])),
    ],
)
def test_actions_that_fit_are_sent_as_they_are(
    space: spaces.Space, given: Any, as_blocks: bool
) -> None:
    np.testing.assert_allclose(sent(space, given, as_blocks), given)


@pytest.mark.parametrize("as_blocks", [False, True])
@pytest.mark.parametrize(
    ("space", "given", "got"),
    [
        (spaces.MultiBinary(2), np.array([256, 0]), "256"),
        (spaces.Discrete(5, dtype=np.int8), np.int64(257), "257"),
        (spaces.MultiDiscrete([300, 300], dtype=np.int16), np.array([2**16, 0]), "65536"),
        (spaces.Discrete(5), np.uint64(2**63 + 1), str(2**63 + 1)),
        (spaces.Box(-np.inf, np.inf, (2,)), np.array([1e300, 0.0]), "e\\+300"),
        (spaces.Box(-np.inf, np.inf, (2,)), np.array([np.inf, 0.0], np.float32), "inf"),
    ],
)
def test_actions_that_do_not_fit_never_arrive(
    space: spaces.Space, given: Any, got: str, as_blocks: bool
) -> None:
    with pytest.raises(ValueError, match=f"got .*{got}.* for agent 'a_[01]' of env 0"):
        sent(space, given, as_blocks)


def test_integers_of_a_vector_of_others_are_cast_with_a_look() -> None:
    class Wide(gym.vector.VectorEnv):
        num_envs, render_mode = 2, None
        single_observation_space, single_action_space = INT8, spaces.Discrete(2)
        metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return np.array([[1, 2], [3, 300]]), {}

    vec = as_parallel(Wide())
    with pytest.raises(ValueError, match=r"expected observation in \[-128, 127\].* got 300 at "):
        vec.reset(seed=0)
