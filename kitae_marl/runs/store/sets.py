"""This file keeps sets of runs that differ in their seed: which seeds, and the name of each run."""

from __future__ import annotations

import json
from pathlib import Path

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.files import write_text
from kitae_marl.runs.store.strict_json import read_json

SET_FILE = "seeds.json"
"""The file that makes a folder a set of runs."""


def write_set(path: Path, seeds: list[int]) -> None:
    """Make a folder a set of runs with these seeds."""
    write_text(path / SET_FILE, json.dumps({"seeds": seeds}) + "\n")


def read_set(path: Path) -> list[int]:
    """Return the seeds of a set of runs, in ascending order.

    Raises:
        ConfigError: if the folder holds no set, or a damaged one.
    """
    data = read_json(path / SET_FILE)
    seeds = data.get("seeds") if isinstance(data, dict) else None
    good = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not isinstance(seeds, list) or not good or not seeds:
        raise ConfigError(f"{path / SET_FILE}: expected seeds, got a damaged file.")
    return sorted(set(seeds))


def member_name(seed: int) -> str:
    """Name the run of a set that has this seed."""
    return f"seed_{seed}"


def is_set(path: Path) -> bool:
    """Whether a folder holds a set of runs."""
    try:
        read_set(path)
    except ConfigError:
        return False
    return True
