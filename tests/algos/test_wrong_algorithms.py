"""A user's algorithm or network that takes or returns what it should not: told before it trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import gymnasium as gym
import jax
import jax.numpy as jnp
import pytest
from clock_run import CONFIG, make_env
from linear_q import LinearQConfig, linear_q

from kitae_marl import Agent, Algorithm, Callback, Config, LearnerConfig, PPOConfig, register
from kitae_marl.algos import ALGORITHMS
from kitae_marl.algos.nets.networks import NETWORKS
from kitae_marl.config.learner import DECLARED
from kitae_marl.errors import AlgorithmError, ConfigError

NAME = "wrong"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test registered."""
    before = [dict(table) for table in (ALGORITHMS, DECLARED, NETWORKS)]
    yield
    for table, old in zip((ALGORITHMS, DECLARED, NETWORKS), before, strict=True):
        table.clear()
        table.update(old)


def agent(**fields: Any) -> Agent:
    """An agent of the linear Q-learner with other fields."""
    register(linear_q._replace(name=NAME, **fields))
    return Agent(make_env(), replace(CONFIG, algo=NAME, own=LinearQConfig(), ppo=PPOConfig()))


def returning(field: str, change: Any) -> dict[str, Any]:
    """A factory whose function returns what ``change`` makes of the right result."""

    def factory(groups: Any, config: Any) -> Any:
        right = getattr(linear_q, field)(groups, config)
        return lambda *args: change(right(*args))

    return {field: factory}


def first(tree: dict[str, Any], change: Any) -> dict[str, Any]:
    """A dict with its first value changed."""
    name = next(iter(tree))
    return {**tree, name: change(tree[name])}


WRONG = {
    "no factory": ({"learn": None}, "learn to be a factory, .* got NoneType"),
    "a factory of nothing": ({"learn": lambda g, c: None}, "learn to be a factory"),
    "a factory of one": ({"select": lambda groups: None}, "select to be a factory"),
    "no function to act": ({"acting": None}, "acting to be a function"),
    "it raises": (
        returning("learn", lambda r: r["x"]),
        "learn to run for this game, got TypeError",
    ),
    "learn: nothing": (returning("learn", lambda r: None), r"\(state, metrics\), got NoneType"),
    "learn: three": (returning("learn", lambda r: (*r, 0)), "got a tuple of 3"),
    "learn: a list of metrics": (returning("learn", lambda r: (r[0], [1.0])), "metrics as scalars"),
    "learn: a vector": (
        returning("learn", lambda r: (r[0], {"loss": jnp.zeros(3)})),
        r"metrics as scalars by name, got \{'loss': float32\[3\]\}",
    ),
    "learn: another state": (
        returning("learn", lambda r: (jax.tree.leaves(r[0]), r[1])),
        "a state like the one it got",
    ),
    "learn: another dtype": (
        returning("learn", lambda r: (jax.tree.map(lambda x: x.astype(jnp.float16), r[0]), r[1])),
        "a state like the one it got, .* got float16",
    ),
    "explore: the action alone": (
        returning("explore", lambda r: r[0]),
        "to return .action, extras",
    ),
    "explore: no extras": (
        returning("explore", lambda r: (r[0], None, r[2])),
        "extras {group: ...} or",
    ),
    "explore: a carry from nowhere": (
        returning("explore", lambda r: (r[0], r[1], jnp.zeros(3))),
        "its carry as it got it",
    ),
    "explore: other groups": (
        returning("explore", lambda r: ({"zzz": 1}, *r[1:])),
        "actions .* with the groups",
    ),
    "explore: another shape": (
        returning("explore", lambda r: (first(r[0], lambda x: x[..., None]), *r[1:])),
        r"actions of Discrete\(\d\) as",
    ),
    "select: the action alone": (returning("select", lambda r: r[0]), "to return .action, carry"),
    "carry: nothing": ({"carry": lambda g, c: lambda n: None}, "carry to make"),
    "carry: without axes": (
        {"carry": lambda g, c: lambda n: {x.name: jnp.zeros(3) for x in g}},
        r"carry to make .* got \(3,\)",
    ),
    "a key as state": (
        returning("train_state", lambda r: {**r, "key": jax.random.key(0)}),
        "a checkpoint can hold",
    ),
    "an empty array as state": (
        returning("train_state", lambda r: {**r, "empty": jnp.zeros((0, 3))}),
        "arrays of some size",
    ),
    "no state": (returning("train_state", lambda r: ()), "train_state to make arrays, got none"),
}


@pytest.mark.parametrize(("fields", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_algorithm_is_told_by_field(fields, words):
    with pytest.raises(AlgorithmError, match=f"(?s)algorithm 'wrong': expected .*{words}"):
        agent(**fields)


def test_numbers_of_python_may_stand_in_a_state():
    def train_state(groups: Any, config: Any) -> Any:
        right = linear_q.train_state(groups, config)
        return lambda key: {**right(key), "seen": jnp.zeros((), jnp.int32)}

    def learn(groups: Any, config: Any) -> Any:
        right = linear_q.learn(groups, config)

        def update(state: Any, key: Any, experience: Any) -> Any:
            rest = {name: part for name, part in state.items() if name != "seen"}
            new, metrics = right(rest, key, experience)
            return {**new, "seen": 3}, metrics

        return update

    def without(factory: Any) -> Any:
        def made(groups: Any, config: Any) -> Any:
            right = factory(groups, config)
            return lambda state, *args: right(
                {k: v for k, v in state.items() if k != "seen"}, *args
            )

        return made

    trained = agent(
        train_state=train_state,
        learn=learn,
        explore=without(linear_q.explore),
        select=without(linear_q.select),
        acting=lambda state: state,
    )
    trained.train(make_env(), show=False)
    assert int(trained.state["seen"]) == 3


class TestSettings:
    def test_only_a_frozen_dataclass_with_defaults_is_registered(self):
        class Plain(LearnerConfig):
            rate: float = 0.1

        with pytest.raises(TypeError, match="Plain as a frozen dataclass"):
            register(linear_q._replace(name=NAME, settings=Plain))

        @dataclass(frozen=True, kw_only=True)
        class Bare(LearnerConfig):
            rate: float

        with pytest.raises(TypeError, match="a default for every field of Bare, got none for"):
            register(linear_q._replace(name=NAME, settings=Bare))

        @dataclass(frozen=True)
        class Unknown(LearnerConfig):
            TRACED = ("speed",)

        with pytest.raises(TypeError, match=r"to name its fields, got .'speed'."):
            register(linear_q._replace(name=NAME, settings=Unknown))

        @dataclass(frozen=True)
        class Elsewhere(LearnerConfig):
            SECTION = "mine"

        with pytest.raises(TypeError, match=r"SECTION as 'own', .* got 'mine'"):
            register(linear_q._replace(name=NAME, settings=Elsewhere))

    @pytest.mark.parametrize("value", ["fast", None, True])
    def test_values_of_plain_types_are_checked(self, value):
        register(linear_q._replace(name=NAME))
        with pytest.raises(
            ConfigError, match=r"own\.learning_rate: expected a value of type float"
        ):
            Config(algo=NAME, own={"learning_rate": value})

    def test_what_json_cannot_hold_is_refused_before_a_folder_is_made(self):
        @dataclass(frozen=True)
        class Holding(LearnerConfig):
            thing: Any = None
            sizes: tuple[int, ...] = (4, 4)

        register(linear_q._replace(name=NAME, settings=Holding))
        config = Config(algo=NAME, own=Holding(sizes=(2, 3)))
        assert Config.from_json(config.to_json()) == config
        with pytest.raises(ConfigError, match="values as in JSON"):
            Config(algo=NAME, own=Holding(thing={1, 2}))

    def test_a_config_from_before_the_registration_is_read_anew(self):
        config = Config(algo="wrong:later", own={"learning_rate": 0.5})
        with pytest.raises(ConfigError, match="wrong:later to be registered before"):
            Config(algo="wrong:later", own=LinearQConfig())
        register(linear_q, "wrong:later")
        assert Agent(make_env(), config).config.own == LinearQConfig(learning_rate=0.5)

    def test_a_lambda_has_no_name_to_register_by(self):
        with pytest.raises(ConfigError, match="expected a name to register by, got ''; give one"):
            register(lambda space: Net(space))

    @pytest.mark.parametrize("thing", [Algorithm, Callback, 3])
    def test_what_is_neither_an_algorithm_nor_makes_networks_is_refused(self, thing):
        with pytest.raises(TypeError, match=r"expected a kitae_marl\.Algorithm, or what makes"):
            register(thing)


class Net(nn.Module):
    space: Any
    kind: str = ""

    @nn.compact
    def __call__(self, observation: Any) -> Any:
        features = nn.Dense(4)(observation)
        if self.kind == "flat":
            return features.reshape(-1, 4)
        if self.kind == "pair":
            return features, features
        if self.kind == "none":
            return None
        if self.kind == "integers":
            return features.astype(jnp.int32)
        if self.kind == "batch":
            return nn.BatchNorm(use_running_average=False)(features)
        return features[..., :0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda space: Net(space, "flat"), r"\[2, 3, K\] .* got float32\[6, 4\]"),
        (lambda space: Net(space, "pair"), "got tuple"),
        (lambda space: Net(space, "none"), "got NoneType"),
        (lambda space: Net(space, "integers"), "got int32"),
        (lambda space: Net(space, "batch"), "parameters alone, got .'batch_stats'. too"),
        (lambda space: Net(space), r"got float32\[2, 3, 0\]"),
        (lambda space: nn.Dense(-1), "got "),
        (lambda: Net(gym.spaces.Discrete(2)), "made for an observation space, got TypeError"),
        (lambda space: "net", "flax.linen.Module"),
    ],
)
def test_a_wrong_network_is_told(make, words):
    register(make, NAME)
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, network=NAME))
    with pytest.raises(TypeError, match=words):
        Agent(make_env(), config)
