"""Global states are checked like observations, also the last one of an episode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from vector_games import CountGame

from kitae_marl.errors import EnvDataError, EnvError
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

LENGTH = 5


class Told(CountGame):
    """Tells the given state at one time of every episode; a class of errors is raised instead."""

    def __init__(self, odd: Any, at: int = 3, space: gym.Space | None = None) -> None:
        super().__init__(length=LENGTH)
        self.odd, self.at = odd, at
        self.state_space = space or self.state_space

    def state(self) -> Any:
        if self.t == self.at:
            if isinstance(self.odd, type):
                raise self.odd("no agent is left")
            return self.odd
        return np.array([self.seed % 100, self.t], self.state_space.dtype)


def played(n_steps: int, *args: Any, n_workers: int = 0, **options: Any) -> Any:
    """Step two environments, of which the second tells what the arguments say; keep the last."""
    fns = [CountGame, lambda: Told(*args)]
    if len(args) > 2:
        fns[0] = lambda: Told(None, -1, args[2])
    with SubProcVecParallelEnv(fns, n_workers=n_workers, with_state=True, **options) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        for _ in range(n_steps):
            infos = vec.step(zeros)[4]
        return vec.state().copy(), {k: np.array(v) for k, v in infos.items() if "state" in k}, vec


NAN = np.array([0.0, np.nan])
INT8 = gym.spaces.Box(-128, 127, (2,), np.int8)


@pytest.mark.parametrize("at", [3, LENGTH])
@pytest.mark.parametrize(
    ("odd", "got", "space"),
    [
        (NAN, "nan at [1]", None),
        (np.array([np.inf, 0.0]), "inf at [0]", None),
        (np.zeros(3), "shape (3,)", None),
        (np.zeros(0), "shape (0,)", None),
        (0.0, "shape ()", None),
        (None, "nothing", None),
        ({"a_0": 1}, "dict", None),
        (np.array([1, 300]), "300 at [1]", INT8),
    ],
)
def test_a_wrong_state_is_named(odd: Any, got: str, space: gym.Space | None, at: int) -> None:
    with pytest.raises(EnvDataError, match="global state: expected ") as caught:
        played(at, odd, at, *([] if space is None else [space]))
    error = caught.value
    assert (error.env_index, error.phase, error.agent, error.field) == (
        1,
        "step",
        "",
        "global state",
    )
    assert got in error.got


def test_a_wrong_first_state_is_named(n_workers: int) -> None:
    with pytest.raises(EnvDataError, match=r"in reset.*: global state: expected finite") as caught:
        played(0, NAN, 0, n_workers=n_workers)
    assert (caught.value.env_index, caught.value.phase) == (1, "reset")


def test_the_first_state_of_a_later_episode_is_named() -> None:
    class Second(Told):
        def state(self) -> Any:
            return NAN if self.n_resets == 2 and self.t == 0 else super().state()

    with SubProcVecParallelEnv([lambda: Second(None, -1)], n_workers=0, with_state=True) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(1, int) for agent in vec.possible_agents}
        for _ in range(LENGTH - 1):
            vec.step(zeros)
        with pytest.raises(EnvDataError, match="global state: expected finite") as caught:
            vec.step(zeros)
    assert caught.value.phase == "reset"


def test_a_state_that_is_not_finite_is_cut_like_an_observation(n_workers: int) -> None:
    state, infos, vec = played(3, NAN, n_workers=n_workers, on_nonfinite="truncate")
    assert infos["final_state"][1].tolist() == [1, 2]  # the last that was delivered
    assert state[0].tolist() == [0, 3]
    assert state[1, 1] == 0
    assert vec.metrics["faults/nonfinite"] == 1


def test_a_state_that_fails_after_the_last_agent_has_left_is_named() -> None:
    with pytest.raises(EnvDataError, match="after the last agent has left") as caught:
        played(LENGTH, ValueError, LENGTH)
    assert "possible_agents" in str(caught.value)
    assert caught.value.got == "ValueError: no agent is left"
    with pytest.raises(EnvError, match="ValueError: no agent is left"):  # amid an episode: a bug
        played(3, ValueError, 3)


def test_sound_states_are_delivered_with_the_last_ones(n_workers: int) -> None:
    state, infos, _ = played(LENGTH, None, -1, n_workers=n_workers)
    assert infos["final_state"].tolist() == [[0, LENGTH], [1, LENGTH]]
    assert state[:, 1].tolist() == [0, 0]


def test_a_state_asked_for_once_is_checked_too() -> None:
    with SubProcVecParallelEnv([lambda: Told(NAN, 1)], n_workers=0) as vec:
        vec.reset(seed=0)
        assert vec.state().tolist() == [[0, 0]]
        vec.step({agent: np.zeros(1, int) for agent in vec.possible_agents})
        with pytest.raises(EnvDataError, match="global state"):
            vec.state()


@pytest.mark.parametrize("reward", [1e39, -1e300, np.float64(4e38)])
def test_a_reward_that_is_infinite_as_float32_is_named(reward: float) -> None:
    class Rich(CountGame):
        def step(self, actions: dict[str, Any]) -> Any:
            result = super().step(actions)
            result[1]["a_1"] = reward
            return result

    with SubProcVecParallelEnv([Rich], n_workers=0) as vec:
        vec.reset(seed=0)
        with pytest.raises(EnvDataError, match="a finite float32"):
            vec.step({agent: np.zeros(1, int) for agent in vec.possible_agents})
