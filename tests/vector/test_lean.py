"""The lean construction of every cyclic game against PettingZoo's own, in lockstep."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from lockstep import WARNINGS, random_actions, same
from pettingzoo import ParallelEnv

from kitae_marl.vector.ids import known_ids
from kitae_marl.vector.lean import mpe, mpe_physics
from kitae_marl.vector.lean.aec import LeanParallelEnv
from kitae_marl.vector.lean.build import lean
from kitae_marl.vector.lean.fingerprints import FINGERPRINTS, is_known_source
from kitae_marl.vector.lean.mpe import LeanMPEParallelEnv
from kitae_marl.vector.make import make_parallel_env

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

ARGUMENTS = [
    ({"continuous_actions": True}, "continuous"),
    ({"max_cycles": 7}, "short"),
]
SLOW_MPE = ("mpe/collect_treasure-v1", "mpe/simple_world_comm-v3", "mpe/simple_formation-v1")
MPE = [id for id in known_ids() if id.startswith("mpe/")]
SPREAD = [
    {"N": 1},
    {"N": 4, "local_ratio": 0.2, "benchmark_data": True},
    {"num_agent_neighbors": 1, "num_landmark_neighbors": 2},
    {"terminate_on_success": True, "N": 1, "max_cycles": 400},
    {"curriculum": True, "N": 4},
]
CYCLIC = [
    ("butterfly/knights_archers_zombies-v11", {}, 540),
    ("butterfly/knights_archers_zombies-v11", {"obs_method": "image", "max_cycles": 8}, 27),
    ("butterfly/knights_archers_zombies-v11", {"line_death": True, "spawn_delay": 3}, 540),
    ("butterfly/pistonball-v6", {"render_mode": "rgb_array", "n_pistons": 5}, 100),
    (
        "butterfly/pistonball-v6",
        {"render_mode": "rgb_array", "continuous": False, "n_pistons": 3},
        60,
    ),
    ("butterfly/cooperative_pong-v6", {"render_mode": "rgb_array"}, 100),
    ("sisl/pursuit-v5", {"max_cycles": 30}, 80),
    ("sisl/pursuit-v5", {"x_size": 12, "y_size": 11, "n_evaders": 9, "max_cycles": 60}, 100),
    ("sisl/pursuit-v5", {"surround": False, "n_pursuers": 3, "obs_range": 5}, 60),
    ("sisl/multiwalker-v9", {"max_cycles": 10**6}, 250),
    ("sisl/multiwalker-v9", {"terminate_on_fall": False, "n_walkers": 4, "max_cycles": 10**6}, 300),
    ("classic/rps-v2", {}, 1000),
    ("classic/rps-v2", {"num_actions": 5, "max_cycles": 3}, 100),
]
ATARI = ["atari/pong-v3", "atari/warlords-v3"]


def assert_equal_playouts(stock: ParallelEnv, ours: ParallelEnv, steps: int, seed: int = 3) -> int:
    """Step both with the same random actions; return the number of episodes that ended."""
    rng, ends = np.random.default_rng(seed), 0
    results = stock.reset(seed=seed), ours.reset(seed=seed)
    for step in range(steps):
        for left, right in zip(*results, strict=True):
            assert same(left, right), f"step {step}: {left} != {right}"
        assert stock.agents == ours.agents
        fell = "walker" in stock.possible_agents[0] and len(stock.agents) < len(
            stock.possible_agents
        )
        if hasattr(stock, "state_space") and step % 10 == 0 and not fell:
            assert same(stock.state(), ours.state())
        if not stock.agents:
            ends += 1
            again = None if ends % 2 else seed + ends
            results = stock.reset(seed=again), ours.reset(seed=again)
            continue
        actions = random_actions(stock, results[0][0], results[0][-1], rng)
        results = stock.step(dict(actions)), ours.step(dict(actions))
    stock.close()
    ours.close()
    return ends


@pytest.mark.parametrize("id", MPE)
def test_mpe_games_are_equal(id: str) -> None:
    ours = make_parallel_env(id)
    assert isinstance(ours, LeanMPEParallelEnv)
    assert ours.plain_physics, "mpe2 has changed: compare mpe_physics with it, then fingerprint it"
    steps = 105 if id in SLOW_MPE else 260
    assert assert_equal_playouts(make_parallel_env(id, stock=True), ours, steps) > 3


@pytest.mark.parametrize("continuous", [False, True])
def test_crowded_worlds_are_equal_over_a_long_episode(continuous: bool) -> None:
    kwargs = {"N": 6, "max_cycles": 250, "continuous_actions": continuous}
    id = "mpe/simple_spread-v3"
    stock, ours = make_parallel_env(id, stock=True, **kwargs), make_parallel_env(id, **kwargs)
    for env in (stock, ours):
        env.reset(seed=0)
        for agent in env.unwrapped.world.agents:
            agent.size = 0.6  # everyone touches everyone all the time
    rng = np.random.default_rng(0)
    while stock.agents:
        actions = random_actions(stock, dict.fromkeys(stock.agents), {}, rng)
        for left, right in zip(stock.step(actions), ours.step(actions), strict=True):
            assert same(left, right)
    for left, right in zip(stock.unwrapped.world.agents, ours.unwrapped.world.agents, strict=True):
        assert left.state.p_pos.tobytes() == right.state.p_pos.tobytes()
        assert left.state.p_vel.tobytes() == right.state.p_vel.tobytes()


@pytest.mark.parametrize("id", ["mpe/simple_spread-v3", "mpe/simple_world_comm-v3"])
def test_another_version_of_mpe2_steps_through_its_own_physics(
    id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (mpe_physics, mpe):
        monkeypatch.setattr(module, "is_known_source", lambda name: False)
    ours = make_parallel_env(id)
    assert not ours.plain_physics  # type: ignore[attr-defined]
    assert_equal_playouts(make_parallel_env(id, stock=True), ours, 60)


@pytest.mark.parametrize("id", MPE)
@pytest.mark.parametrize(("kwargs", "name"), ARGUMENTS, ids=[name for _, name in ARGUMENTS])
def test_mpe_games_are_equal_with_arguments(id: str, kwargs: dict, name: str) -> None:
    stock, ours = make_parallel_env(id, stock=True, **kwargs), make_parallel_env(id, **kwargs)
    assert_equal_playouts(stock, ours, 25 if id in SLOW_MPE else 60)


@pytest.mark.parametrize("kwargs", SPREAD, ids=str)
def test_simple_spread_is_equal_with_its_own_arguments(kwargs: dict) -> None:
    id = "mpe/simple_spread-v3"
    stock, ours = make_parallel_env(id, stock=True, **kwargs), make_parallel_env(id, **kwargs)
    assert_equal_playouts(stock, ours, 900 if "terminate_on_success" in kwargs else 80)


@pytest.mark.parametrize(("id", "kwargs", "steps"), CYCLIC, ids=lambda value: str(value))
def test_cyclic_games_are_equal(id: str, kwargs: dict, steps: int) -> None:
    stock, ours = make_parallel_env(id, stock=True, **kwargs), make_parallel_env(id, **kwargs)
    assert isinstance(ours, LeanParallelEnv)
    if "knights" in id:  # what survives a reset there is put right in ours: compare fresh ones
        for seed in range(3):
            pair = (make_parallel_env(id, stock=s, **kwargs) for s in (True, False))
            assert_equal_playouts_of_one_episode(*pair, steps=steps // 3, seed=seed)
        return
    assert_equal_playouts(stock, ours, steps)


def assert_equal_playouts_of_one_episode(
    stock: ParallelEnv, ours: ParallelEnv, steps: int, seed: int
) -> None:
    """Compare up to the end of the first episode."""
    rng = np.random.default_rng(seed)
    results = stock.reset(seed=seed), ours.reset(seed=seed)
    for step in range(steps):
        for left, right in zip(*results, strict=True):
            assert same(left, right), f"step {step}"
        assert stock.agents == ours.agents
        if not stock.agents:
            return
        actions = random_actions(stock, results[0][0], results[0][-1], rng)
        results = stock.step(dict(actions)), ours.step(dict(actions))


def test_what_users_put_in_the_place_of_methods_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    spread, walkers = (
        [make_parallel_env(id, stock=stock) for stock in (True, False)]
        for id in ("mpe/simple_spread-v3", "sisl/multiwalker-v9")
    )
    for env in spread:
        scenario = env.unwrapped.scenario
        monkeypatch.setattr(scenario, "reward", lambda agent, world: agent.state.p_pos[0])
    assert assert_equal_playouts(*spread, 60) > 1
    for env in walkers:
        env.unwrapped.env.hardcore = True
    assert assert_equal_playouts(*walkers, 60) > 0


def test_what_users_put_into_a_games_class_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_parallel_env("sisl/multiwalker-v9").unwrapped
    for kind, name in ((type(raw.env), "scroll_subroutine"), (type(raw.env.walkers[0]), "_reset")):
        assert is_known_source(kind.__module__)
        with monkeypatch.context() as patch:
            patch.setattr(kind, name, lambda self: None)
            assert not is_known_source(kind.__module__)


@pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="needs the atari extra")
@pytest.mark.parametrize("id", ATARI)
def test_atari_games_are_equal(id: str) -> None:
    stock = make_parallel_env(id, stock=True, max_cycles=20)
    assert assert_equal_playouts(stock, make_parallel_env(id, max_cycles=20), 50) >= 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="needs the atari extra")
@pytest.mark.parametrize("id", [id for id in known_ids() if id.startswith("atari/")])
def test_every_atari_game_is_equal(id: str) -> None:
    stock = make_parallel_env(id, stock=True, max_cycles=120)
    assert assert_equal_playouts(stock, make_parallel_env(id, max_cycles=120), 300) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("id", [*MPE, "sisl/pursuit-v5", "classic/rps-v2"])
def test_games_are_equal_over_thousands_of_steps(id: str) -> None:
    steps = 600 if "pursuit" in id else 5000
    assert_equal_playouts(make_parallel_env(id, stock=True), make_parallel_env(id), steps, seed=17)


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_games_are_the_ones_that_were_compared(name: str) -> None:
    assert is_known_source(name), "changed: compare the rewritten parts, then renew the line"


def test_environments_that_are_not_pettingzoos_own_chain_are_left_alone() -> None:
    from pettingzoo.utils import BaseParallelWrapper

    wrapped = BaseParallelWrapper(make_parallel_env("mpe/simple-v3", stock=True))
    assert lean(wrapped) is wrapped


@pytest.mark.parametrize("stock", [False, True])
def test_steps_after_the_end_are_empty(stock: bool) -> None:
    env = make_parallel_env("mpe/simple_spread-v3", stock=stock, max_cycles=1)
    env.reset(seed=0)
    env.step(dict.fromkeys(env.agents, 0))
    assert env.agents == []
    assert [dict(part) for part in env.step({})] == [{}, {}, {}, {}, {}]


@pytest.mark.parametrize(
    "id",
    ["mpe/simple_spread-v3", "classic/rps-v2", "classic/tictactoe-v3", "sisl/multiwalker-v9"],
)
def test_steps_before_the_first_reset_and_missing_actions_are_named(id: str) -> None:
    env = make_parallel_env(id)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"expected an action of .*{env.possible_agents[0]}"):
        env.step({})


@pytest.mark.parametrize("noise", ["much", None, -1.0, "0.1", [1.0, 2.0]])
def test_noise_that_is_no_number_is_named_with_the_games_own_type_of_error(noise: object) -> None:
    stock = make_parallel_env("sisl/multiwalker-v9", stock=True, angle_noise=noise)
    with pytest.raises((TypeError, ValueError)) as theirs:
        stock.reset(seed=0)
    with pytest.raises(theirs.type, match="angle_noise: expected a number of at least 0, got"):
        lean(stock)


@pytest.mark.parametrize("bad", [5, -1, 1.5, "left", None, np.array([0, 1])])
def test_an_action_outside_the_space_is_refused_by_name(bad: object) -> None:
    env = make_parallel_env("mpe/simple_spread-v3")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected an action in Discrete\(5\).*'agent_1'"):
        env.step({"agent_0": 0, "agent_1": bad, "agent_2": 0})


def test_continuous_actions_are_clipped_and_nan_is_refused() -> None:
    stock, ours = (make_parallel_env("sisl/multiwalker-v9", stock=stock) for stock in (True, False))
    wild = {agent: np.full(4, 3.0, np.float32) for agent in ours.possible_agents}
    tame = {agent: np.ones(4, np.float32) for agent in ours.possible_agents}
    ours.reset(seed=5)
    wild_results = ours.step(wild)
    stock.reset(seed=5)
    for left, right in zip(stock.step(tame), wild_results, strict=True):
        assert same(left, right)
    with pytest.raises(ValueError, match="'walker_0'"):
        ours.step({**tame, "walker_0": np.full(4, np.nan, np.float32)})
