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
    "bool": spaces.Box(0, 1, (2,), np.bool_),
    "discrete": spaces.Discrete(5),
    "discrete from -2": spaces.Discrete(5, start=-2),
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
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_there_and_back(space):
    text = json.dumps(space_to_json(space), allow_nan=False)  # plain JSON, no NaN or Infinity
    again = space_from_json(json.loads(text))
    assert again == space
    assert again.dtype == space.dtype
    space.seed(0)
    assert again.contains(space.sample())


def test_an_image_is_described_briefly():
    assert len(json.dumps(space_to_json(SPACES["image"]))) < 120


def test_other_spaces_are_refused():
    with pytest.raises(TypeError, match=r"expected a Box, .*, got Text.*; wrap the environment"):
        space_to_json(spaces.Text(3))


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
    {"type": "MultiBinary", "shape": 10**12},
    BOX | {"low": [0, 0, 0]},
    BOX | {"low": "low"},
    BOX | {"low": None},
    BOX | {"low": [[0], [0, 1]]},
    BOX | {"dtype": "object"},
    BOX | {"dtype": "float33"},
    BOX | {"dtype": 7},
    {"type": "MultiDiscrete", "nvec": [0], "start": [0], "dtype": "int64"},
    {"type": "MultiDiscrete", "nvec": [2], "start": [0], "dtype": "float32"},
    {"type": "MultiBinary", "shape": [0]},
    {"type": "MultiBinary", "shape": "x"},
    {"type": "Dict", "spaces": []},
    {"type": "Dict", "spaces": {"a": 3}},
    {"type": "Tuple", "spaces": 3},
]


@pytest.mark.parametrize("data", BROKEN, ids=str)
def test_broken_descriptions(data):
    with pytest.raises(ConfigError, match="expected the description of a space, got"):
        space_from_json(data)
