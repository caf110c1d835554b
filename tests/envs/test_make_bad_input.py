"""Making compiled games from bad ids and arguments: what was expected is said."""

from __future__ import annotations

import kitae_envs
import pytest


@pytest.mark.parametrize(
    ("id", "kwargs", "words"),
    [
        ("mpe/simple_spread-v3", {"n": 3}, r"n: expected one of the arguments .* N, .*; got n=3"),
        ("mpe/simple_spread-v3", {"max_cycles": None}, r"max_cycles: expected int .* got None"),
        ("mpe/simple_spread-v3", {"local_ratio": "a"}, r"local_ratio: expected float"),
        ("mpe/simple_spread-v3", {"continuous_actions": 3}, r"continuous_actions: expected bool"),
        ("mpe/simple_spread-v3", {"N": True}, r"N: expected int"),
        ("mpe/simple_world_comm-v3", {"num_food": None}, r"num_food: expected int"),
        ("classic/leduc_holdem-v4", {"history": "x"}, r"history: expected bool"),
        ("classic/connect_four-v3", {"x": 1}, r"x: expected one of .* none; got x=1"),
    ],
)
def test_arguments_of_another_kind(id, kwargs, words):
    with pytest.raises(TypeError, match=words):
        kitae_envs.make(id, **kwargs)


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [
        ("mpe/simple_spread-v3", {"N": 0}),
        ("mpe/simple_tag-v3", {"num_obstacles": -2}),
        ("mpe/simple_world_comm-v3", {"num_obstacles": -1}),
        ("mpe/simple_world_comm-v3", {"num_forests": -1}),
        ("classic/rps-v2", {"max_cycles": -1}),
        ("mpe/simple_spread-v3", {"local_ratio": float("nan")}),
    ],
)
def test_numbers_out_of_range(id, kwargs):
    with pytest.raises(ValueError, match="expected"):
        kitae_envs.make(id, **kwargs)


@pytest.mark.parametrize("id", [None, 3, "", "x" * 10_000, "mpe/simple_spread-v2"])
def test_ids_that_are_none(id):
    with pytest.raises(ValueError, match="expected the id of a compiled game") as caught:
        kitae_envs.make(id)
    assert len(str(caught.value)) < 400


def test_whole_numbers_serve_as_floats_and_no_obstacles_are_some():
    assert kitae_envs.make("mpe/simple_spread-v3", local_ratio=1)
    assert kitae_envs.make("mpe/simple_tag-v3", num_obstacles=0)
