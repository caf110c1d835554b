"""The examples in the docstrings."""

import doctest
import importlib

import pytest

WITH_EXAMPLES = [
    "kitae_envs.grouping",
    "kitae_marl.data.rollout",
    "kitae_marl.algos.nets.distributions",
    "kitae_marl.data.groups",
    "kitae_marl.algos.nets.networks",
    "kitae_marl.algos.ops",
    "kitae_marl.data.space_json",
    "kitae_marl.vector",
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
