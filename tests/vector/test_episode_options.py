"""Options for episodes that begin later: who hands them over, and who refuses."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
from vector_games import CountGame

from kitae_marl import CompiledVecParallelEnv, SubProcVecParallelEnv, check_env
from kitae_marl.selfplay.seats import with_seats
from kitae_marl.vector.adapters.completed import CompletedVecParallelEnv

STAY = {"a_0": np.zeros(2, np.int64), "a_1": np.zeros(2, np.int64)}


class Level(CountGame):
    """The time begins at the level that ``reset`` is given, so that observations show it."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        observations, infos = super().reset(seed)
        for value in observations.values():
            value[3] = (options or {}).get("level", -1)
        return observations, infos


def levels(observations: Any) -> list[float]:
    return observations["a_0"][:, 3].tolist()


@pytest.mark.parametrize("n_workers", [0, 2])
class TestLaterEpisodes:
    def test_running_episodes_go_on_and_the_next_ones_get_them(self, n_workers):
        with SubProcVecParallelEnv([lambda: Level(length=2)] * 2, n_workers=n_workers) as vec:
            assert levels(vec.reset(seed=1, options={"level": 7})[0]) == [7, 7]
            vec.set_options({"level": 3})
            assert levels(vec.step(STAY)[0]) == [0, 0]
            assert levels(vec.step(STAY)[0]) == [3, 3]
            vec.set_options({"level": 1})
            vec.set_options({"level": 2})
            assert [levels(vec.step(STAY)[0]) for _ in range(2)] == [[0, 0], [2, 2]]
            vec.set_options(None)
            assert [levels(vec.step(STAY)[0]) for _ in range(2)] == [[0, 0], [-1, -1]]

    def test_reset_hands_them_over_where_it_is_given_none_of_its_own(self, n_workers):
        with SubProcVecParallelEnv([lambda: Level(length=2)] * 2, n_workers=n_workers) as vec:
            vec.set_options({"level": 5})
            assert levels(vec.reset(seed=1)[0]) == [5, 5]
            assert levels(vec.reset(seed=1, options={"level": 6})[0]) == [6, 6]
            assert levels(vec.reset(seed=1)[0]) == [5, 5]

    def test_they_are_refused_within_a_step_after_the_end_and_as_anything_but_a_dict(
        self, n_workers
    ):
        vec = SubProcVecParallelEnv([Level] * 2, n_workers=n_workers)
        with pytest.raises(TypeError, match="expected options as a dict or None, got 3"):
            vec.set_options(3)  # pyright: ignore[reportArgumentType]
        vec.reset(seed=0)
        vec.step_async(STAY)
        with pytest.raises(RuntimeError, match="set_options"):
            vec.set_options({})
        vec.step_wait()
        vec.close()
        with pytest.raises(RuntimeError, match="closed"):
            vec.set_options({})


def test_a_worker_that_is_started_again_knows_them():
    with SubProcVecParallelEnv([lambda: Level(length=9)] * 2, n_workers=2) as vec:
        vec.reset(seed=0)
        vec.set_options({"level": 4})
        os.kill(vec.worker_pids[1], signal.SIGKILL)
        assert levels(vec.step(STAY)[0]) == [0, 4]
        for _ in range(7):
            assert levels(vec.step(STAY)[0]) == [0, 0]
        assert levels(vec.step(STAY)[0]) == [4, 0]
        assert levels(vec.step(STAY)[0]) == [0, 4]


def test_a_worker_that_dies_before_they_come_is_found_in_the_step():
    with SubProcVecParallelEnv([lambda: Level(length=9)] * 2, n_workers=2) as vec:
        vec.reset(seed=0)
        os.kill(vec.worker_pids[1], signal.SIGKILL)
        os.waitid(os.P_PID, vec.worker_pids[1], os.WEXITED | os.WNOWAIT)
        vec.set_options({"level": 4})
        infos = vec.step(STAY)[4]
        assert infos["worker_restarted"].tolist() == [False, True]
        assert levels(vec.reset(seed=0)[0]) == [4, 4]


def test_a_seated_vector_hands_them_on():
    inner = SubProcVecParallelEnv([lambda: Level(length=1)] * 2, n_workers=0)
    vec = with_seats(inner, {"a_1": "random"})
    vec.reset(seed=0)
    vec.set_options({"level": 8})
    assert levels(vec.step({"a_0": STAY["a_0"]})[0]) == [8, 8]
    vec.close()


def test_a_users_vector_hands_them_on_if_it_can():
    class Taking:
        num_envs, possible_agents = 1, ["a"]
        taken: Any = None

        def observation_space(self, agent: str) -> Any:
            return CountGame().observation_space(agent)

        action_space = observation_space

        def set_options(self, options: Any) -> None:
            self.taken = options

    own = Taking()
    CompletedVecParallelEnv(own).set_options({"level": 1})
    assert own.taken == {"level": 1}


@pytest.mark.parametrize("kind", ["compiled", "gymnasium"])
def test_vectors_that_cannot_hand_them_over_say_so(kind):
    if kind == "compiled":
        vec = CompiledVecParallelEnv("mpe/simple_spread-v3", 2)
    else:
        import gymnasium

        vec = check_env(gymnasium.make_vec("CartPole-v1", 2))
    vec.set_options(None)
    vec.set_options({})
    with pytest.raises(ValueError, match=r"expected no options, got \{'level': 1\}: "):
        vec.set_options({"level": 1})
    if kind == "compiled":
        with pytest.raises(ValueError, match="expected no options"):
            vec.reset(options={"level": 1})
    vec.close()
