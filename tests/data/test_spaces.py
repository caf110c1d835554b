"""Every kind of space goes the whole way: arrays, texts, JSON, networks and shared memory.

One of the kinds is made up here and put into the table of kinds; nothing else is told about it.
"""

from __future__ import annotations

import copy
import json

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from vector_games import SpaceGame

from kitae_marl.algos.nets.networks import Encoder
from kitae_marl.algos.nets.normalization import Moments, moments_of, normalized, with_rows
from kitae_marl.config.run import Config
from kitae_marl.data.groups import learning_groups
from kitae_marl.data.space_json import space_from_json, space_to_json
from kitae_marl.data.space_kinds import KINDS, Kind, Range
from kitae_marl.data.spaces import (
    has_mask,
    lead_shape,
    leaves,
    mask_width,
    nest,
    space_text,
    zeros,
)
from kitae_marl.vector.stepping.blocks import decode, describe_env, make_blocks
from kitae_marl.vector.stepping.faults import DataFault
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv


class Dial(gym.Space):
    """Whole degrees of some dials, from 0 to 359."""

    def __init__(self, n: int) -> None:
        super().__init__((n,), np.int16)

    def sample(self, mask=None, probability=None):
        return self.np_random.integers(360, size=self.shape, dtype=np.int16)

    def contains(self, x):
        return np.shape(x) == self.shape and (x >= 0).all() and (x < 360).all()

    def __eq__(self, other):
        return isinstance(other, Dial) and other.shape == self.shape


@pytest.fixture(autouse=True)
def dials(monkeypatch):
    """Teach the package what a dial is."""
    dial = Kind(
        Dial,
        lambda space: Range(0, 359),
        lambda space: {"n": space.shape[0]},
        lambda data: Dial(data["n"]),
    )
    monkeypatch.setitem(KINDS, "Dial", dial)


BOX = spaces.Box(np.float32([0, -1]), np.float32([2, np.inf]))
SPACES = {
    "Box": (BOX, "Box(2)", 2),
    "Discrete": (spaces.Discrete(3, start=-1), "Discrete(3)", 3),
    "MultiDiscrete": (spaces.MultiDiscrete([2, 3], start=[1, 0]), "MultiDiscrete(2, 3)", 5),
    "MultiBinary": (spaces.MultiBinary([2, 2]), "MultiBinary(2, 2)", 4),
    "Dial": (Dial(2), "Dial(2)", 2),
    "Dict": (spaces.Dict(y=Dial(2), x=BOX), "y: Dial(2), x: Box(2)", 4),
    "Tuple": (
        spaces.Tuple([spaces.Dict(only=BOX), spaces.Discrete(2)]),
        "(only: Box(2), Discrete(2))",
        4,
    ),
}


def test_every_kind_is_here():
    assert SPACES.keys() == KINDS.keys() | {"Dict", "Tuple"}


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param][0]


@pytest.fixture
def sample(space):
    space.seed(0)
    return nest(space, [np.asarray(leaf.of(space.sample())) for leaf in leaves(space)])


def test_leaves_are_the_arrays_of_a_sample(space, sample):
    for leaf in leaves(space):
        value = leaf.of(sample)
        assert (value.shape, value.dtype) == (leaf.shape, leaf.dtype)
        assert (leaf.low <= value).all()
        assert (value <= leaf.high).all()


def test_zeros_have_the_form_of_samples_behind_leading_axes(space, sample):
    empty = zeros(space, 4, 2)
    assert lead_shape(space, empty) == (4, 2)
    assert lead_shape(space, sample) == ()
    for leaf in leaves(space):
        assert (leaf.of(empty)[0, 0].shape, leaf.of(empty).dtype) == (leaf.shape, leaf.dtype)
        assert not leaf.of(empty).any()


@pytest.mark.parametrize("name", SPACES)
def test_texts(name):
    space, text, _ = SPACES[name]
    assert space_text(space) == text
    masked = spaces.Dict(observation=space, action_mask=spaces.MultiBinary(2))
    assert space_text(masked) == text
    assert has_mask(masked)
    assert not has_mask(space)


def test_json(space):
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert space_from_json(json.loads(text)) == space


@pytest.mark.parametrize("name", SPACES)
def test_networks_see_it(name, quickest_compilation):
    space, _, width = SPACES[name]
    encoded = Encoder(space).apply({}, zeros(space, 5, 2))
    assert encoded.shape == (5, 2, width)
    apart = Encoder(spaces.Dict(g=space), by_group=True).apply({}, {"g": zeros(space, 5, 2)})
    np.testing.assert_array_equal(apart, encoded.reshape(5, -1))


def test_observations_are_normalised_where_they_are_amounts(space, sample):
    moments = with_rows(moments_of(space), zeros(space, 3), jnp.ones(3))
    found = jax.tree.leaves(moments, is_leaf=lambda x: isinstance(x, Moments))
    assert len(found) == sum(leaf.kind in ("Box", "Dial") for leaf in leaves(space))
    assert jax.tree.structure(normalized(moments, sample)) == jax.tree.structure(sample)


def test_workers_and_blocks(space):
    game = SpaceGame(space, spaces.Discrete(2))
    description = decode(describe_env(game))
    assert description.observation_spaces["a_0"] == space
    blocks = make_blocks(description, 3, lambda size: np.zeros(size, np.uint8))
    assert lead_shape(space, blocks.observation["a"]) == (3, 2)
    with SubProcVecParallelEnv([lambda: game, lambda: copy.deepcopy(game)], n_workers=0) as vec:
        observations, _ = vec.reset(seed=0)
        for leaf in leaves(space):
            values = leaf.of(observations["b_0"])
            assert (values.shape, values.dtype) == ((2, *leaf.shape), leaf.dtype)
            assert (leaf.low <= values).all()
            assert (values <= leaf.high).all()


def test_only_actions_that_are_counted_can_be_masked(space):
    widths = {"Discrete": 3, "MultiDiscrete": 5, "Tuple": 2}  # of the Discrete(2) in it
    assert mask_width(space) == widths.get(type(space).__name__, 0)


UNKNOWN = spaces.Dict(told=spaces.Text(3), seen=BOX)
REFUSED = {
    "a part of an unknown kind": (
        UNKNOWN,
        spaces.Discrete(2),
        r"observation .* at \['told'\]; wrap",
    ),
    "nothing to do": (
        BOX,
        spaces.Tuple([]),
        r"an action space of agent 'a_0' with something to do",
    ),
    "an unknown part of an action": (
        BOX,
        spaces.Tuple([BOX, spaces.Text(3)]),
        r"an action space of agent 'a_0' .* got Text.* at \[1\]; wrap",
    ),
    "a nested mask": (
        spaces.Dict(observation=BOX, action_mask=spaces.Dict(move=spaces.MultiBinary(3))),
        spaces.Dict(aim=BOX, move=spaces.Discrete(3)),
        r"'a_0': expected 3 numbers 0 or 1 \(side by side 3 for \['move'\]\), .*; declare it",
    ),
    "a mask of another length": (
        spaces.Dict(observation=BOX, action_mask=spaces.MultiBinary(2)),
        spaces.MultiDiscrete([2, 3]),
        r"of agent 'a_0': expected 5 numbers 0 or 1, got Mul.*; declare it as MultiBinary\(5\)",
    ),
    "a mask over what has no choices": (
        spaces.Dict(observation=BOX, action_mask=spaces.MultiBinary(2)),
        spaces.Tuple([BOX]),
        r"no action_mask, for none of these actions can be masked, got .*; leave it out",
    ),
    "an unknown action": (BOX, spaces.Text(3), r"an action space of agent 'a_0' .* got Text"),
    "nothing to see": (
        spaces.Dict(action_mask=spaces.MultiBinary(2)),
        spaces.Discrete(2),
        r"agent 'a_0' with something to see beside an action mask",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_is_refused_by_the_name_of_the_agent(name):
    observation, action, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        learning_groups(SpaceGame(observation, action), Config(env_id="x:y"))


def test_workers_refuse_by_the_name_of_the_agent():
    with pytest.raises(DataFault, match=r"observation space of agent 'a_0' .* at \['told'\]"):
        describe_env(SpaceGame(UNKNOWN, spaces.Discrete(2)))
    with pytest.raises(DataFault, match=r"action space of agent 'a_0' .* at \[1\]; wrap"):
        describe_env(SpaceGame(BOX, spaces.Tuple([BOX, spaces.Text(3)])))
