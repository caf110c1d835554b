"""The examples in the docstrings of all modules."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def with_examples() -> list[str]:
    """Names of the modules that show an example."""
    found = []
    for package in (ROOT / "kitae_marl", ROOT / "envs" / "kitae_envs"):
        for path in sorted(package.rglob("*.py")):
            if ">>>" in path.read_text(encoding="utf-8"):
                parts = path.relative_to(package.parent).with_suffix("").parts
                found.append(".".join(part for part in parts if part != "__init__"))
    return found


@pytest.mark.parametrize("name", with_examples())
def test_examples_are_true(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
