"""Games that write in place, against the same games asked the long way, by five dicts a step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lockstep import WARNINGS, same
from pettingzoo.utils import BaseParallelWrapper

from kitae_marl.vector.lean.aec import peel
from kitae_marl.vector.lean.build import aec_as_parallel
from kitae_marl.vector.lean.turn_based import TurnBasedParallelEnv
from kitae_marl.vector.make import make_parallel_env
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

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


def writing_in_place(env: SubProcVecParallelEnv) -> list[bool]:
    """Which environments write in place."""
    (worker,) = env._pool.workers
    collector: Any = worker._servant._collector  # type: ignore[union-attr]
    return [record.in_place is not None for record in collector.records]


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
    assert writing_in_place(left) == [True] * 5
    assert writing_in_place(right) == [False] * 5
    assert assert_equal_runs(left, right) > 50


@pytest.mark.parametrize("id", IDS[:3])
def test_rows_in_place_beside_rows_by_dicts(id: str) -> None:
    left = vector([lambda: in_place(id), lambda: by_dicts(id)] * 2)
    assert writing_in_place(left) == [True, False, True, False]
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
        assert writing_in_place(env) == [False]
        _, infos = env.reset(seed=0)
        assert infos["env_infos"] == [{"player_1": {"active": True}, "player_2": {"active": False}}]


def test_a_game_whose_source_is_not_known_is_asked_the_long_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kitae_marl.vector.lean.boards.is_known_source", lambda name: False)
    left, right = vector([lambda: in_place(IDS[0])]), vector([lambda: by_dicts(IDS[0])])
    assert writing_in_place(left) == [False]
    assert assert_equal_runs(left, right, steps=40) > 4


def test_what_a_game_returned_is_not_changed_by_its_next_move() -> None:
    env = make_parallel_env(IDS[0])
    first = env.reset(seed=0)[0]
    before = {agent: seen["observation"].copy() for agent, seen in first.items()}
    first["player_1"]["action_mask"][:] = 0  # belongs to the caller
    env.step({"player_1": 4})
    assert all(np.array_equal(before[agent], first[agent]["observation"]) for agent in before)


def lean_way(id: str) -> Any:
    return aec_as_parallel(make_parallel_env(id, stock=True).aec_env)


def plain_way(id: str) -> Any:
    """The same rules, observed by the game's own code on every step."""
    return TurnBasedParallelEnv(peel(make_parallel_env(id, stock=True).aec_env))


def richer(results: Any) -> Any:
    return (
        results[0],
        {agent: reward + 0.25 for agent, reward in results[1].items()},
        *results[2:],
    )


def own_step_in_the_object(make: Callable[[str], Any], id: str) -> Any:
    env = make(id)
    inner = env.step
    env.step = lambda actions: richer(inner(actions))
    return env


def own_reset_in_the_object(make: Callable[[str], Any], id: str) -> Any:
    env = make(id)
    inner = env.reset
    env.reset = lambda seed=None, options=None: inner(seed=7, options=options)
    return env


def own_step_in_a_subclass(make: Callable[[str], Any], id: str) -> Any:
    env = make(id)

    class Richer(type(env)):
        def step(self, actions: dict[str, Any]) -> Any:
            return richer(super().step(actions))

    env.__class__ = Richer
    return env


def own_observe_in_the_game(make: Callable[[str], Any], id: str) -> Any:
    """The pieces and cards of everybody are turned over."""
    env = make(id)
    inner = env.unwrapped.observe

    def observe(agent: str) -> dict[str, Any]:
        seen = inner(agent)
        return {**seen, "observation": 1 - seen["observation"]}

    env.unwrapped.observe = observe
    return env


CHANGES = [
    own_step_in_the_object,
    own_reset_in_the_object,
    own_step_in_a_subclass,
    own_observe_in_the_game,
]


WAYS = (lean_way, plain_way)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("id", IDS[:3])
def test_what_users_put_in_the_place_of_methods_counts(id: str, change: Callable[..., Any]) -> None:
    left, right = (vector([lambda make=make: change(make, id)] * 2) for make in WAYS)
    assert writing_in_place(left) == [False, False]
    assert assert_equal_runs(left, right, steps=60) > 5


@pytest.mark.parametrize("name", ["step", "reset", "observe"])
@pytest.mark.parametrize("id", IDS[:3])
def test_a_game_changed_before_it_is_converted_keeps_its_changes(id: str, name: str) -> None:
    def make(way: Callable[[Any], Any]) -> Any:
        game = make_parallel_env(id, stock=True).aec_env
        raw = game.unwrapped
        inner = getattr(raw, name)

        def changed(*args: Any, **kwargs: Any) -> Any:
            seen = inner(*args, **kwargs)
            if name == "observe":
                return {**seen, "observation": 1 - seen["observation"]}
            raw.rewards = {agent: reward + 0.5 for agent, reward in raw.rewards.items()}
            return seen

        setattr(raw, name, changed)
        return way(game)

    left = vector([lambda: make(aec_as_parallel)])
    right = vector([lambda: make(lambda game: TurnBasedParallelEnv(peel(game)))])
    assert assert_equal_runs(left, right, steps=60) > 3


@pytest.mark.parametrize("id", IDS)
def test_copies_play_for_themselves_once_they_are_reset(id: str) -> None:
    used, other = make_parallel_env(id), make_parallel_env(id)
    used.reset(seed=0)
    twin = copy.deepcopy(used)
    with pytest.raises(RuntimeError, match="expected reset before the first step"):
        twin.step(dict.fromkeys(twin.possible_agents, 0))
    rng = np.random.default_rng(0)
    for seed in (4, None):
        results, expected = twin.reset(seed=seed), other.reset(seed=seed)
        assert all(map(same, results, expected))
        used.reset(seed=9)
        while other.agents:
            actions = {
                agent: int((rng.random(len(seen["action_mask"])) * seen["action_mask"]).argmax())
                for agent, seen in expected[0].items()
            }
            results, expected = twin.step(actions), other.step(actions)
            assert all(map(same, results, expected))
