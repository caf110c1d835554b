"""The one walk over nested spaces."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from gymnasium import spaces
from kitae_envs.spaces import flat_space, fold_space, map_space, nested, parts_of

TWO, THREE = spaces.Discrete(2), spaces.MultiBinary(3)
SPACE = spaces.Dict({"b": spaces.Tuple([TWO, spaces.Dict(c=THREE)]), "a": TWO})


def test_every_array_is_met_once_in_the_order_of_the_space():
    assert flat_space(SPACE) == [(("a",), TWO), (("b", 0), TWO), (("b", 1, "c"), THREE)]
    assert flat_space(TWO) == [((), TWO)]
    ordered = spaces.Dict(OrderedDict(b=TWO, a=THREE))
    assert [path for path, _ in flat_space(ordered)] == [("b",), ("a",)]


def test_values_are_walked_beside_the_space_and_nested_like_it():
    one = {"a": 1, "b": (2, {"c": 3})}
    other = {"b": [20, {"c": 30, "more": 0}], "a": 10, "more": 0}
    found = map_space(lambda part, x, y: (part, x + y), SPACE, one, other)
    assert found == {"a": (TWO, 11), "b": ((TWO, 22), {"c": (THREE, 33)})}


def test_parts_and_nested_are_inverse():
    for space in (SPACE, SPACE["b"], spaces.Dict(), spaces.Tuple([])):
        parts = parts_of(space)
        assert parts_of(type(space)(nested(space, parts))) == parts
    assert parts_of(TWO) is None


def test_answers_are_joined_from_below():
    def join(space, answers):
        return f"{type(space).__name__}({', '.join(answers.values())})"

    found = fold_space(str, join, SPACE)
    assert found == "Dict(Discrete(2), Tuple(Discrete(2), Dict(MultiBinary(3))))"


LACKING = [{"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": (2,)}, 3, (1, 2), None]


@pytest.mark.parametrize("value", LACKING, ids=str)
def test_values_without_a_part_are_refused(value):
    with pytest.raises(ValueError, match=r"expected a value with the parts .*; give what the sp"):
        map_space(lambda part, x: x, SPACE, value)
