"""Games that write in place, against the same games asked the long way, by five dicts a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lockstep import WARNINGS, same
from pettingzoo.utils import BaseParallelWrapper

from kitae_marl.vector.make import make_parallel_env
from kitae_marl.vector.subproc import SubProcVecParallelEnv

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

IDS = [
    "classic/tictactoe-v3",
    "classic/connect_four-v3",
    "classic/leduc_holdem-v4",
    "classic/texas_holdem-v4",
]
RANDOM_SHARE = 0.1
"""So many moves are drawn from all, legal or not."""


def in_place(id: str) -> Any:
    return make_parallel_env(id)


def by_dicts(id: str) -> Any:
    """The same game behind a wrapper that does nothing."""
    return BaseParallelWrapper(make_parallel_env(id))


def failing(make: Callable[[str], Any], id: str) -> Any:
    """A game that fails on the fifth move of every object."""
    env = make(id)
    core, n_moves = env.unwrapped, 0
    real = core.step

    def step(action: Any) -> None:
        nonlocal n_moves
        n_moves += 1
        if n_moves == 5:
            raise OSError("no")
        real(action)

    core.step = step
    return env


def vector(makers: list[Callable[[], Any]], **options: Any) -> SubProcVecParallelEnv:
    return SubProcVecParallelEnv(makers, n_workers=0, **options)


def tenants(env: SubProcVecParallelEnv) -> list[bool]:
    """Which environments write in place."""
    (worker,) = env._pool.workers
    collector: Any = worker._servant._collector  # type: ignore[union-attr]
    return [record.tenant is not None for record in collector.records]


def draw(observations: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Moves that are mostly legal."""
    actions = {}
    for agent, seen in observations.items():
        mask = seen["action_mask"].astype(bool)
        legal = mask | (rng.random((len(mask), 1)) < RANDOM_SHARE) | ~mask.any(1, keepdims=True)
        actions[agent] = (rng.random(mask.shape) * legal).argmax(axis=1)
    return actions


def without_times(env: Any) -> dict[str, float]:
    return {name: value for name, value in env.metrics.items() if "step_ms" not in name}


def assert_equal_runs(left: Any, right: Any, steps: int = 150) -> int:
    """Step two vectors with the same moves; return the episodes that ended."""
    rng, ends = np.random.default_rng(3), 0
    with left, right:
        for seed in (5, None):
            one, other = left.reset(seed=seed), right.reset(seed=seed)
            assert all(map(same, one, other))
            for _ in range(steps):
                actions = draw(one[0], rng)
                one, other = left.step(actions), right.step(actions)
                assert all(map(same, one, other))
                ends += int(one[-1].get("_final_observation", np.zeros(1)).sum())
            assert without_times(left) == without_times(right)
    return ends


@pytest.mark.parametrize("id", IDS)
def test_in_place_equals_dicts(id: str) -> None:
    left = vector([lambda: in_place(id)] * 5)
    right = vector([lambda: by_dicts(id)] * 5)
    assert tenants(left) == [True] * 5
    assert tenants(right) == [False] * 5
    assert assert_equal_runs(left, right) > 50


@pytest.mark.parametrize("id", IDS[:3])
def test_rows_in_place_beside_rows_by_dicts(id: str) -> None:
    left = vector([lambda: in_place(id), lambda: by_dicts(id)] * 2)
    assert tenants(left) == [True, False, True, False]
    assert assert_equal_runs(left, vector([lambda: by_dicts(id)] * 4)) > 40


def test_time_limits_cut_episodes_alike() -> None:
    id = "classic/connect_four-v3"
    vectors = [
        vector([lambda make=make: make(id)] * 3, max_episode_steps=4)
        for make in (in_place, by_dicts)
    ]
    assert assert_equal_runs(*vectors) > 100


@pytest.mark.parametrize("id", IDS[:3])
def test_games_that_fail_are_begun_anew_alike(id: str) -> None:
    options: dict[str, Any] = {"on_exception": "restart", "max_restarts": 1000}
    vectors = [
        vector([lambda: failing(in_place, id), lambda: by_dicts(id)], **options),
        vector([lambda: failing(by_dicts, id), lambda: by_dicts(id)], **options),
    ]
    assert assert_equal_runs(*vectors) > 40


def test_infos_that_are_kept_are_asked_for() -> None:
    id = "classic/tictactoe-v3"
    with vector([lambda: in_place(id)], keep_infos=True) as env:
        assert tenants(env) == [False]
        _, infos = env.reset(seed=0)
        assert infos["env_infos"] == [{"player_1": {"active": True}, "player_2": {"active": False}}]


def test_a_game_whose_source_is_not_known_is_asked_the_long_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kitae_marl.vector.lean_classic.is_known_source", lambda name: False)
    left, right = vector([lambda: in_place(IDS[0])]), vector([lambda: by_dicts(IDS[0])])
    assert tenants(left) == [False]
    assert assert_equal_runs(left, right, steps=40) > 4


def test_what_a_game_returned_is_not_changed_by_its_next_move() -> None:
    env = make_parallel_env(IDS[0])
    first = env.reset(seed=0)[0]
    before = {agent: seen["observation"].copy() for agent, seen in first.items()}
    first["player_1"]["action_mask"][:] = 0  # belongs to the caller
    env.step({"player_1": 4})
    assert all(np.array_equal(before[agent], first[agent]["observation"]) for agent in before)
