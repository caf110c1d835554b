"""Ids, and what is made of them."""

from __future__ import annotations

import pickle
import sys
from functools import partial
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from lockstep import WARNINGS, random_actions
from pettingzoo import ParallelEnv

from kitae_marl.errors import ConfigError, UnknownEnvironmentError
from kitae_marl.vector import ids
from kitae_marl.vector.adapters.gymnasium import GymnasiumParallelEnv
from kitae_marl.vector.ids import imports_code, install_hint, known_ids, parse_id
from kitae_marl.vector.lean.mpe import LeanMPEParallelEnv
from kitae_marl.vector.lean.turn_based import TurnBasedParallelEnv
from kitae_marl.vector.make import make_parallel_env, make_vec_env

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]


def my_cartpole(**kwargs: Any) -> gym.Env[Any, Any]:
    """A user's Gymnasium environment."""
    return gym.make("CartPole-v1", **kwargs)


def my_tictactoe() -> Any:
    """A user's AEC environment."""
    import pettingzoo

    return pettingzoo.make("aec", "classic/tictactoe-v3")


def my_spread(**kwargs: Any) -> Any:
    """A user's parallel environment."""
    return make_parallel_env("mpe/simple_spread-v3", stock=True, **kwargs)


def my_number() -> int:
    """Not an environment."""
    return 3


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("mpe/simple_spread-v3", "mpe/simple_spread-v3"),
        ("mpe/simple_spread_v3", "mpe/simple_spread-v3"),
        ("mpe/simple_spread", "mpe/simple_spread-v3"),
        (" mpe2/simple_spread_v3 ", "mpe/simple_spread-v3"),
        ("classic/connect_four", "classic/connect_four-v3"),
        ("butterfly/knights_archers_zombies_v11", "butterfly/knights_archers_zombies-v11"),
        ("gymnasium:CartPole-v1", "gymnasium:CartPole-v1"),
        ("envpool:Pong-v5", "envpool:Pong-v5"),
        ("my_package.games:make", "my_package.games:make"),
    ],
)
def test_ids_have_one_spelling(written: str, canonical: str) -> None:
    assert parse_id(written).text == canonical
    assert parse_id(canonical) == parse_id(written)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("mpe/simple_spred-v3", r"did you mean 'mpe/simple_spread-v3'"),
        ("mpe/simple_spread-v9", r"did you mean 'mpe/simple_spread-v3'"),
        ("connect_four", r"did you mean 'classic/connect_four-v3'"),
        ("butterfly/knights_archers_zombies-v10", "'butterfly/knights_archers_zombies-v11'"),
        ("CartPole-v1", "'gymnasium:CartPole-v1'"),
        ("gymnasium/CartPole-v1", "write a colon: 'gymnasium:CartPole-v1'"),
        ("gymnasium:CartPol-v1", "did you mean 'gymnasium:CartPole-v1'"),
        ("zzzz", "no known id is near.*kitae-marl list"),
        ("", "no environment is called ''"),
        ("nosuchmodule.sub:make", "no module 'nosuchmodule'.*PYTHONPATH=."),
        ("test_make:nothing", "has no 'nothing'"),
    ],
)
def test_unknown_ids_name_the_nearest(wrong: str, message: str) -> None:
    with pytest.raises(UnknownEnvironmentError, match=message):
        make_parallel_env(wrong)
    with pytest.raises(ValueError, match=message):
        make_parallel_env(wrong)


@pytest.mark.parametrize("wrong", ["HalfCheeta/2x3", "HalfCheetah/9x9"])
def test_an_unknown_scenario_of_mujoco_names_the_nearest(wrong: str) -> None:
    pytest.importorskip("gymnasium_robotics")
    with pytest.raises(UnknownEnvironmentError, match="'mamujoco:HalfCheetah/2x3'"):
        make_parallel_env(f"mamujoco:{wrong}")


def test_a_missing_package_is_named_with_its_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("pymunk", "envpool")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("pettingzoo.butterfly.pist")]:
        monkeypatch.delitem(sys.modules, name)
    from pettingzoo.env_registry import spec

    spec._load_env_creator.cache_clear()
    monkeypatch.setitem(sys.modules, "pymunk", None)
    monkeypatch.setitem(sys.modules, "envpool", None)
    message = r'pymunk.*; pip install "kitae-marl\[butterfly\]"\.'
    with pytest.raises(UnknownEnvironmentError, match=message):
        make_parallel_env("butterfly/pistonball-v6")
    with pytest.raises(UnknownEnvironmentError, match=r'pip install "kitae-marl\[envpool\]"'):
        make_vec_env("envpool:CartPole-v1", 2)


def test_a_family_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ids._GAMES_OF, "magent", "no_such_package_at_all.environments")
    known_ids.cache_clear()
    with pytest.raises(UnknownEnvironmentError, match='pip install "magent2"'):
        make_parallel_env("magent/battle-v4")
    known_ids.cache_clear()


def test_a_game_of_our_own_is_made_as_any_other() -> None:
    """So a run that trained on it can be evaluated and filmed."""
    env = make_vec_env("kitae/kuhn_poker", 2, n_workers=0)
    assert env.possible_agents == ["player_0", "player_1"]
    _, infos = env.reset(seed=0)
    assert [bool(infos["active"][agent][0]) for agent in env.possible_agents] == [True, False]
    env.close()
    assert parse_id("kitae/kuhn_poker").text == "kitae/kuhn_poker-v0"


def test_every_family_has_an_install_hint() -> None:
    families = {id.partition("/")[0] for id in known_ids()} | set(ids.PREFIXES)
    families -= {"gymnasium", "kitae"}  # which are there
    assert all(install_hint(family).startswith("pip install ") for family in families)


def test_arguments_pass_through_and_wrong_ones_are_refused_in_the_games_words() -> None:
    env = make_parallel_env("mpe/simple_spread-v3", N=5, max_cycles=2)
    assert len(env.possible_agents) == 5
    env.reset(seed=0)
    for _ in range(2):
        truncations = env.step(dict.fromkeys(env.agents, 0))[3]
    assert all(truncations.values())
    with pytest.raises(ConfigError, match=r"colour='red' \(TypeError: .*'colour'\)"):
        make_parallel_env("mpe/simple_spread-v3", colour="red")


def picky(size: int) -> None:
    raise ValueError(f"no board has {size} fields")


def test_what_the_users_own_function_raises_is_left_to_its_author() -> None:
    with pytest.raises(ValueError, match=r"^no board has 7 fields$") as caught:
        make_parallel_env("test_make:picky", size=7)
    assert caught.type is ValueError
    with pytest.raises(ConfigError, match=r"test_make:picky takes, got colour='red' \(TypeError"):
        make_parallel_env("test_make:picky", colour="red")


def test_stock_brings_the_stock_chain_back() -> None:
    assert isinstance(make_parallel_env("mpe/simple-v3"), LeanMPEParallelEnv)
    stock = make_parallel_env("mpe/simple-v3", stock=True)
    assert type(stock).__module__ == "pettingzoo.utils.conversions"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("my_cartpole", GymnasiumParallelEnv),
        ("my_tictactoe", TurnBasedParallelEnv),
        ("my_spread", LeanMPEParallelEnv),
    ],
)
def test_a_users_function_makes_any_kind_of_environment(name: str, kind: type) -> None:
    assert isinstance(make_parallel_env(f"test_make:{name}"), kind)


def test_a_users_function_must_return_an_environment() -> None:
    with pytest.raises(TypeError, match=r"expected a PettingZoo ParallelEnv.*got int"):
        make_parallel_env("test_make:my_number")
    assert imports_code("test_make:my_number")
    assert not imports_code("gymnasium:CartPole-v1")
    assert not imports_code("mpe/simple-v3")


@pytest.mark.parametrize("id", ["mpe/simple_tag-v3", "classic/tictactoe-v3", "sisl/multiwalker-v9"])
def test_environment_functions_travel_to_workers(id: str) -> None:
    env_fn = partial(make_parallel_env, id)
    for travelled in (
        pickle.loads(pickle.dumps(env_fn)),
        cloudpickle.loads(cloudpickle.dumps(env_fn)),
    ):
        assert isinstance(travelled(), ParallelEnv)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_vector_by_id(n_workers: int) -> None:
    env = make_vec_env(
        "mpe/simple_tag-v3",
        3,
        n_workers=n_workers,
        max_cycles=4,
        vector_options={"step_timeout": 9.0},
    )
    observations, infos = env.reset(seed=5)
    single = make_parallel_env("mpe/simple_tag-v3")
    for i in range(3):
        first = single.reset(seed=5 + i)[0]
        for agent in env.possible_agents:
            np.testing.assert_array_equal(observations[agent][i], first[agent])
    for _ in range(4):
        zero = {agent: np.zeros(3, int) for agent in env.possible_agents}
        *_, truncations, infos = env.step(zero)
    assert all(flag.all() for flag in truncations.values())
    assert infos["_episode"].all()
    env.close()


def test_a_vector_of_turn_based_games_says_who_is_to_act() -> None:
    env = make_vec_env("classic/connect_four-v3", 2, n_workers=0)
    _, infos = env.reset(seed=0)
    for move in range(4):
        mover, waits = env.possible_agents[move % 2], env.possible_agents[1 - move % 2]
        assert infos["active"][mover].all()
        assert not infos["active"][waits].any()
        assert not infos["action_mask"][waits].any()
        *_, infos = env.step({mover: np.full(2, 3)})
    env.close()


def test_a_vector_needs_an_environment() -> None:
    with pytest.raises(ValueError, match="n_envs of at least 1"):
        make_vec_env("mpe/simple-v3", 0)


@pytest.mark.parametrize(
    ("id", "kwargs", "package"),
    [
        ("magent/battle-v4", {"map_size": 16}, "magent2"),
        ("mamujoco:HalfCheetah/2x3", {}, "gymnasium_robotics"),
        ("openspiel:kuhn_poker", {"players": 3}, "pyspiel"),
        ("openspiel:goofspiel", {}, "pyspiel"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_games_of_other_packages(id: str, kwargs: dict[str, Any], package: str) -> None:
    pytest.importorskip(package)
    env = make_parallel_env(id, **kwargs)
    observations, infos = env.reset(seed=1)
    if "players" in kwargs:
        assert len(env.possible_agents) == 3
    rng = np.random.default_rng(0)
    for _ in range(30):
        if not env.agents:
            break
        actions = random_actions(env, observations, infos, rng)
        observations, rewards, *_, infos = env.step(actions)
        assert set(rewards) == set(observations)
    env.close()


def test_an_openspiel_game_that_does_not_exist_names_the_nearest() -> None:
    pytest.importorskip("pyspiel")
    with pytest.raises(UnknownEnvironmentError, match="'openspiel:kuhn_poker'"):
        make_parallel_env("openspiel:kuhn_pokr")
