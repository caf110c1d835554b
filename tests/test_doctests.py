"""The examples in the docstrings."""

import doctest
import importlib

import pytest

WITH_EXAMPLES = [
    "kitae_envs.grouping",
    "kitae_marl.buffer",
    "kitae_marl.distributions",
    "kitae_marl.groups",
    "kitae_marl.networks",
    "kitae_marl.ops",
    "kitae_marl.spaces",
    "kitae_marl.vector",
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
