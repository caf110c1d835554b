"""Spaces survive JSON; broken descriptions are config errors."""

import json

import gymnasium as gym
import numpy as np
import pytest

from kitae_marl.data.space_json import space_from_json, space_to_json
from kitae_marl.errors import ConfigError

spaces = gym.spaces
inf = np.inf
SPACES = {
    "box": spaces.Box(-1, 1, (2, 3)),
    "box of 0 axes": spaces.Box(-1.0, 1.0, ()),
    "box with bounds of its own": spaces.Box(np.float32([0, -2]), np.float32([0.1, 1 / 3])),
    "box without bounds": spaces.Box(-inf, inf, (4,), np.float64),
    "box with a few bounds": spaces.Box(np.float32([-inf, 0.1]), np.float32([0.7, inf])),
    "image": spaces.Box(0, 255, (84, 84, 3), np.uint8),
    "integers": spaces.Box(np.array([-(2**62), 0]), np.array([2**62, 1]), dtype=np.int64),
    "large floats": spaces.Box(np.float32(-3.4e38), np.float32(3.4e38), (2,)),
    "half floats": spaces.Box(np.float16([-inf, 0.1]), np.float16([0.2, inf]), dtype=np.float16),
    "bool": spaces.Box(0, 1, (2,), np.bool_),
    "box without numbers": spaces.Box(0, 1, (0, 3)),
    "very many bounds": spaces.Box(
        np.arange(2000, dtype=np.float32).reshape(2, -1) / 3, np.float32(inf), (2, 1000)
    ),
    "discrete": spaces.Discrete(5),
    "discrete from -2": spaces.Discrete(5, start=-2),
    "discrete of a byte": spaces.Discrete(5, dtype=np.uint8),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-discrete from 1, 2": spaces.MultiDiscrete([2, 3], start=[1, 2]),
    "multi-discrete 2 x 2": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary 2 x 2": spaces.MultiBinary((2, 2)),
    "dict": spaces.Dict(
        observation=spaces.Box(0, 1, (3,)),
        action_mask=spaces.Box(0, 1, (5,), np.int8),
        deeper=spaces.Dict(a=spaces.Discrete(2)),
    ),
    "dict in an order of its own": spaces.Dict(b=spaces.Discrete(2), a=spaces.MultiBinary(2)),
    "dict by number": spaces.Dict({7: spaces.Discrete(2), 11: spaces.Dict()}),
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_there_and_back(space):
    text = json.dumps(space_to_json(space), allow_nan=False)  # plain JSON, no NaN or Infinity
    again = space_from_json(json.loads(text))
    assert again == space
    assert again.dtype == space.dtype
    assert json.dumps(space_to_json(again)) == text  # every bit of the bounds, and the order
    space.seed(0)
    assert again.contains(space.sample())


def test_the_largest_integers_are_not_rounded():
    space = spaces.Box(np.uint64([0, 2]), np.uint64([1, 2**64 - 1]), dtype=np.uint64)
    assert space_from_json(space_to_json(space)).high.tolist() == [1, 2**64 - 1]


def test_an_image_is_described_briefly():
    assert len(json.dumps(space_to_json(SPACES["image"]))) < 120


GOLDEN = {
    "box": '{"type": "Box", "shape": [2, 3], "dtype": "float32", "low": -1.0, "high": 1.0}',
    "box with a few bounds": '{"type": "Box", "shape": [2], "dtype": "float32", "low": '
    '["-inf", 0.10000000149011612], "high": [0.699999988079071, "inf"]}',
    "integers": '{"type": "Box", "shape": [2], "dtype": "int64", "low": [-4611686018427387904, 0], '
    '"high": [4611686018427387904, 1]}',
    "bool": '{"type": "Box", "shape": [2], "dtype": "bool", "low": false, "high": true}',
    "discrete from -2": '{"type": "Discrete", "n": 5, "start": -2}',
    "discrete of a byte": '{"type": "Discrete", "n": 5, "start": 0, "dtype": "uint8"}',
    "multi-discrete 2 x 2": '{"type": "MultiDiscrete", "nvec": [[2, 3], [4, 5]], "start": '
    '[[0, 0], [0, 0]], "dtype": "int64"}',
    "multi-binary": '{"type": "MultiBinary", "shape": 4}',
    "multi-binary 2 x 2": '{"type": "MultiBinary", "shape": [2, 2]}',
    "dict": '{"type": "Dict", "spaces": {"observation": {"type": "Box", "shape": [3], "dtype": '
    '"float32", "low": 0.0, "high": 1.0}, "action_mask": {"type": "Box", "shape": [5], "dtype": '
    '"int8", "low": 0, "high": 1}, "deeper": {"type": "Dict", "spaces": {"a": {"type": '
    '"Discrete", "n": 2, "start": 0}}}}}',
    "dict by number": '{"type": "Dict", "pairs": [[7, {"type": "Discrete", "n": 2, "start": 0}], '
    '[11, {"type": "Dict", "spaces": {}}]]}',
    "tuple": '{"type": "Tuple", "spaces": [{"type": "Discrete", "n": 2, "start": 0}, '
    '{"type": "MultiBinary", "shape": 2}]}',
}
"""What run folders hold since the first of them, but for the byte and the numbers as keys."""


@pytest.mark.parametrize("name", GOLDEN)
def test_the_text_stays_as_it_is(name):
    assert json.dumps(space_to_json(SPACES[name])) == GOLDEN[name]
    assert space_from_json(json.loads(GOLDEN[name])) == SPACES[name]


def test_older_texts_are_read():
    lists = {"type": "Box", "shape": [2], "dtype": "float32", "low": [0, 0], "high": ["inf", "inf"]}
    assert space_from_json(lists) == spaces.Box(0, inf, (2,))
    bounds = np.arange(2001).tolist()  # before, no bounds were written as bytes
    many = {"type": "Box", "shape": [2001], "dtype": "int32", "low": bounds, "high": 3000}
    assert space_from_json(many).low.tolist() == bounds


def test_other_spaces_are_refused():
    inside = spaces.Dict(a=spaces.Tuple([spaces.Text(3)]))
    refused = r"expected a space made of Box, .*, got Text.* at \['a'\]\[0\]; wrap the environment"
    with pytest.raises(TypeError, match=refused):
        space_to_json(inside)
    with pytest.raises(TypeError, match="keys are texts or whole numbers"):
        space_to_json(spaces.Dict({(1, 2): spaces.Discrete(2)}))


def test_what_a_game_has_made_may_be_larger_than_what_a_file_may_ask_for():
    data = space_to_json(spaces.Discrete(10**9))
    assert space_from_json(data, None) == spaces.Discrete(10**9)
    with pytest.raises(ConfigError, match="at most 100000000 numbers"):
        space_from_json(data)


def test_a_space_nested_without_end_is_refused():
    data = {"type": "Discrete", "n": 2, "start": 0}
    for _ in range(100_000):
        data = {"type": "Tuple", "spaces": [data]}
    with pytest.raises(ConfigError, match="nested without end"):
        space_from_json(data)


BOX = {"type": "Box", "shape": [2], "dtype": "float32", "low": 0, "high": 1}
BROKEN = [
    None,
    [],
    "Box",
    {},
    {"type": "Graph"},
    {"type": "Discrete"},
    {"type": "Discrete", "n": 0, "start": 0},
    {"type": "Discrete", "n": "os.system", "start": 0},
    BOX | {"shape": [-1]},
    BOX | {"shape": 2},
    BOX | {"shape": [10**9]},
    BOX | {"shape": [10**6, 10**6]},
    {"type": "Discrete", "n": 10**12, "start": 0},
    {"type": "Discrete", "n": 2, "start": 0, "dtype": "float32"},
    {"type": "MultiDiscrete", "nvec": [2, 10**12], "start": [0, 0], "dtype": "int64"},
    {"type": "MultiBinary", "shape": 10**12},
    BOX | {"low": [0, 0, 0]},
    BOX | {"low": "low"},
    BOX | {"low": None},
    BOX | {"low": [[0], [0, 1]]},
    BOX | {"low": {"base64": "AAAA"}},
    BOX | {"low": {"base64": "no"}},
    BOX | {"low": {"bytes": ""}},
    BOX | {"dtype": "int8", "low": 1000},
    BOX | {"dtype": "object", "low": {"base64": "AAAAAAAAAAAAAAAAAAAAAA=="}},
    BOX | {"dtype": "object"},
    BOX | {"dtype": "float33"},
    BOX | {"dtype": 7},
    {"type": "MultiDiscrete", "nvec": [0], "start": [0], "dtype": "int64"},
    {"type": "MultiDiscrete", "nvec": [2], "start": [0], "dtype": "float32"},
    {"type": "MultiBinary", "shape": [0]},
    {"type": "MultiBinary", "shape": "x"},
    {"type": "Dict", "spaces": []},
    {"type": "Dict", "spaces": {"a": 3}},
    {"type": "Dict", "pairs": [[1]]},
    {"type": "Dict", "pairs": [[[], BOX]]},
    {"type": ["Box"]},
    {"type": "Tuple", "spaces": 3},
]


@pytest.mark.parametrize("data", BROKEN, ids=str)
def test_broken_descriptions(data):
    with pytest.raises(ConfigError, match="expected the description of a space, got"):
        space_from_json(data)
