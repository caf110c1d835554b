"""Spaces as JSON, and as arrays."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from vector_games import SpaceGame

from kitae_marl.data.spaces import leaves, nest
from kitae_marl.vector.stepping.blocks import decode, describe_env
from kitae_marl.vector.stepping.faults import DataFault

SPACES = [
    gym.spaces.Box(-np.inf, np.inf, (2, 3), np.float32),
    gym.spaces.Box(np.array([0.0, -1.5]), np.array([1.0, np.inf]), dtype=np.float64),
    gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
    gym.spaces.Box(0, 1, (2,), np.bool_),
    gym.spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64),
    gym.spaces.Discrete(7, start=-3),
    gym.spaces.MultiDiscrete([[2, 3], [4, 5]]),
    gym.spaces.MultiDiscrete([2, 3], start=[5, -5]),
    gym.spaces.MultiBinary(4),
    gym.spaces.MultiBinary((2, 3)),
    gym.spaces.Dict({"b": gym.spaces.Discrete(2), "a": gym.spaces.Tuple((gym.spaces.Box(0, 1),))}),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_round_trip(space: gym.Space) -> None:
    game = SpaceGame(space, gym.spaces.Discrete(3))
    description = decode(describe_env(game))
    assert description.agents == ("a_0", "a_1", "b_0")
    assert all(other == space for other in description.observation_spaces.values())
    assert description.action_spaces["a_0"] == gym.spaces.Discrete(3)
    assert description.state_space is None


def test_equal_games_have_equal_descriptions_and_others_not() -> None:
    boxes = [gym.spaces.Box(0, high, (2,)) for high in (1, 1, 2)]
    texts = [describe_env(SpaceGame(box, gym.spaces.Discrete(2))) for box in boxes]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_lie_within_the_bounds_of_the_leaves(space: gym.Space) -> None:
    space.seed(0)
    sample = space.sample()
    for leaf in leaves(space):
        value = sample
        for key in leaf.path:
            value = value[key]
        value = np.asarray(value)
        assert value.shape == leaf.shape
        assert ((value >= leaf.low) & (value <= leaf.high)).all()


def test_a_tree_of_leaves_is_nested_as_the_space() -> None:
    space = SPACES[-1]
    names = iter(leaf.path for leaf in leaves(space))
    assert nest(space, names) == {"a": (("a", 0),), "b": ("b",)}


@pytest.mark.parametrize("space", [gym.spaces.Text(3), gym.spaces.Sequence(SPACES[0])], ids=str)
def test_spaces_without_fixed_size(space: gym.Space) -> None:
    with pytest.raises(DataFault, match="expected an observation space of agent 'a_0' made of Box"):
        describe_env(SpaceGame(space, gym.spaces.Discrete(2)))


def test_nested_actions() -> None:
    nested = gym.spaces.Dict(b=SPACES[0], a=gym.spaces.Tuple((gym.spaces.Discrete(2),)))
    description = decode(describe_env(SpaceGame(SPACES[0], nested)))
    assert description.action_spaces["a_0"] == nested
    with pytest.raises(DataFault, match="expected an action space of agent 'a_0' made of Box"):
        describe_env(SpaceGame(SPACES[0], gym.spaces.Tuple((gym.spaces.Text(3),))))
