"""SuperSuit's wrappers work on our environments as on PettingZoo's, and inside our vector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lockstep import WARNINGS, random_actions, same
from pettingzoo.utils.wrappers import BaseParallelWrapper, MultiEpisodeParallelEnv

from kitae_marl import check_env
from kitae_marl.vector.adapters.as_parallel import as_parallel
from kitae_marl.vector.make import make_parallel_env
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

supersuit = pytest.importorskip("supersuit")
pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

Wrap = Callable[[Any], Any]
SPREAD, TAG, PISTONS = "mpe/simple_spread-v3", "mpe/simple_tag-v3", "butterfly/pistonball-v6"
KNIGHTS, WALKERS = "butterfly/knights_archers_zombies-v11", "sisl/multiwalker-v9"


def double(observation: np.ndarray, *_: Any) -> np.ndarray:
    """Twice the observation."""
    return observation * 2


def same_space(space: Any, *_: Any) -> Any:
    """The space as it is."""
    return space


CASES: list[tuple[str, str, Wrap]] = [
    ("clip_reward", SPREAD, lambda env: supersuit.clip_reward_v0(env, -1, 1)),
    ("dtype", SPREAD, lambda env: supersuit.dtype_v0(env, np.float64)),
    ("flatten", PISTONS, lambda env: supersuit.flatten_v0(env)),
    ("frame_skip", SPREAD, lambda env: supersuit.frame_skip_v0(env, 3)),
    ("delay", SPREAD, lambda env: supersuit.delay_observations_v0(env, 2)),
    ("sticky", SPREAD, lambda env: supersuit.sticky_actions_v0(env, 0.0)),
    ("frame_stack_v1", SPREAD, lambda env: supersuit.frame_stack_v1(env, 3)),
    ("frame_stack_v2", TAG, lambda env: supersuit.frame_stack_v2(env, 3)),
    ("max_observation", SPREAD, lambda env: supersuit.max_observation_v0(env, 2)),
    ("nan_noop", SPREAD, lambda env: supersuit.nan_noop_v0(env, 0)),
    ("nan_zeros", WALKERS, lambda env: supersuit.nan_zeros_v0(env)),
    ("nan_random", SPREAD, lambda env: supersuit.nan_random_v0(env)),
    (
        "observation_lambda",
        SPREAD,
        lambda env: supersuit.observation_lambda_v0(env, double, same_space),
    ),
    (
        "action_lambda",
        SPREAD,
        lambda env: supersuit.action_lambda_v1(env, lambda a, space: a, lambda space: space),
    ),
    ("reward_lambda", SPREAD, lambda env: supersuit.reward_lambda_v0(env, lambda r: r / 2)),
    ("black_death", KNIGHTS, lambda env: supersuit.black_death_v3(env)),
    ("pad_observations", TAG, lambda env: supersuit.pad_observations_v0(env)),
    ("pad_action_space", "mpe/simple_speaker_listener-v4",
     lambda env: supersuit.pad_action_space_v0(env)),
    ("agent_indicator", SPREAD, lambda env: supersuit.agent_indicator_v0(env)),
    ("agent_indicator_of_padded", TAG,
     lambda env: supersuit.agent_indicator_v0(supersuit.pad_observations_v0(env), type_only=True)),
    ("clip_actions", WALKERS, lambda env: supersuit.clip_actions_v0(env)),
    ("scale_actions", WALKERS, lambda env: supersuit.scale_actions_v0(env, 0.5)),
    ("normalize_obs", "sisl/pursuit-v5", lambda env: supersuit.normalize_obs_v0(env)),
    ("reshape", SPREAD, lambda env: supersuit.reshape_v0(env, (3, 6))),
    ("color_reduction", PISTONS, lambda env: supersuit.color_reduction_v0(env, "B")),
    ("resize", PISTONS, lambda env: supersuit.resize_v1(env, 32, 24)),
    (
        "picture_stack",
        PISTONS,
        lambda env: supersuit.frame_stack_v1(
            supersuit.resize_v1(supersuit.color_reduction_v0(env), 20, 20), 4
        ),
    ),
]  # fmt: skip


def build(id: str, wrap: Wrap, stock: bool) -> Any:
    """Make a small game and wrap it."""
    kwargs = {"n_pistons": 3, "render_mode": "rgb_array"} if id == PISTONS else {}
    return wrap(make_parallel_env(id, stock=stock, **kwargs))


@pytest.mark.parametrize(("name", "id", "wrap"), CASES, ids=[name for name, _, _ in CASES])
def test_a_wrapper_works_on_ours_as_on_the_stock_environment(
    name: str, id: str, wrap: Wrap
) -> None:
    stock, ours = build(id, wrap, True), build(id, wrap, False)
    results = stock.reset(seed=4), ours.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(12):
        for left, right in zip(*results, strict=True):
            assert same(dict(left), dict(right))
        assert list(stock.agents) == list(ours.agents)
        if not stock.agents:
            break
        actions = random_actions(stock, *results[0][:1], results[0][-1], rng)
        results = stock.step(dict(actions)), ours.step(dict(actions))


@pytest.mark.parametrize(("name", "id", "wrap"), CASES, ids=[name for name, _, _ in CASES])
def test_a_wrapped_environment_works_in_our_vector(name: str, id: str, wrap: Wrap) -> None:
    vec = SubProcVecParallelEnv([lambda: build(id, wrap, False)] * 2, n_workers=0)
    single = build(id, wrap, False)
    observations, _ = vec.reset(seed=4)
    results, rng = single.reset(seed=4), np.random.default_rng(1)
    for _ in range(6):
        for agent, observation in results[0].items():
            np.testing.assert_array_equal(observations[agent][0], observation)
        actions = random_actions(single, results[0], results[-1], rng)
        results = single.step(dict(actions))
        observations, rewards, *_ = vec.step(
            {agent: np.stack([actions[agent]] * 2) for agent in actions}
        )
        for agent, reward in results[1].items():
            assert rewards[agent][0] == pytest.approx(float(reward), abs=0)
        if not single.agents:
            break
    vec.close()


def test_pettingzoos_own_wrappers_work_in_our_vector() -> None:
    def build(stock: bool) -> Any:
        env = make_parallel_env(SPREAD, stock=stock, max_cycles=4)
        return MultiEpisodeParallelEnv(BaseParallelWrapper(env), 3)

    stock, vec = build(True), SubProcVecParallelEnv([lambda: build(False)], n_workers=0)
    expected, rng = stock.reset(seed=2), np.random.default_rng(0)
    got, infos = vec.reset(seed=2)
    for _ in range(12):
        for agent, observation in expected[0].items():
            np.testing.assert_array_equal(got[agent][0], observation)
        actions = random_actions(stock, expected[0], expected[-1], rng)
        expected = stock.step(dict(actions))
        got, rewards, *_, infos = vec.step({a: np.array([x]) for a, x in actions.items()})
        for agent, reward in expected[1].items():
            assert rewards[agent][0] == reward
    assert stock.agents == []
    assert infos["episode"]["length"]["agent_0"].tolist() == [12]
    vec.close()


def test_the_pictures_of_the_pistonball_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    env = make_parallel_env("pistonball:pictures", n_pistons=3)
    first = env.reset(seed=0)[0]["piston_1"].copy()  # SuperSuit overwrites what it has returned
    assert env.observation_space("piston_0").shape == (42, 42, 4)
    later, *_ = env.step({agent: env.action_space(agent).high for agent in env.agents})
    assert not np.array_equal(first, later["piston_1"])


@pytest.mark.parametrize("n_games", [1, 3])
def test_vectors_of_agents_become_vectors_of_games(n_games: int) -> None:
    markov = supersuit.pettingzoo_env_to_vec_env_v1(make_parallel_env(SPREAD, max_cycles=3))
    foreign = markov
    if n_games > 1:
        foreign = supersuit.concat_vec_envs_v1(markov, n_games, base_class="gymnasium")
    vec = check_env(foreign)
    assert (vec.num_envs, vec.possible_agents) == (n_games, ["agent_0", "agent_1", "agent_2"])
    own = SubProcVecParallelEnv([lambda: make_parallel_env(SPREAD, max_cycles=3)] * n_games)
    results, expected = vec.reset(seed=5), own.reset(seed=5)
    zeros = {agent: np.zeros(n_games, int) for agent in vec.possible_agents}
    for _ in range(3):
        for agent, observation in expected[0].items():
            np.testing.assert_array_equal(results[0][agent], observation)
        results, expected = vec.step(zeros), own.step(zeros)
    assert results[-1]["_episode"].all()
    vec.close()
    own.close()


def test_games_in_other_processes_are_out_of_reach() -> None:
    kind = type("ProcConcatVec", (), {"__module__": "supersuit.vector.multiproc_vec"})
    with pytest.raises(TypeError, match=r"got ProcConcatVec; .* num_cpus=0"):
        check_env(kind())


def test_one_game_can_be_made_so_and_several_cannot() -> None:
    markov = supersuit.pettingzoo_env_to_vec_env_v1(make_parallel_env(SPREAD))
    assert as_parallel(markov).possible_agents == ["agent_0", "agent_1", "agent_2"]
    several = supersuit.concat_vec_envs_v1(markov, 2, base_class="gymnasium")
    with pytest.raises(
        TypeError, match="expected one game, got 2 in a ConcatVecEnv; give check_env"
    ):
        as_parallel(several)
