"""Every member of the PPO family learns the known value and policy of every probe game."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from probe_checks import GRU, faults, make_agent, teach
from probe_games import BROKEN, CENTRAL_PROBES, MEMORY_PROBES, PROBES, Probe

pytestmark = pytest.mark.usefixtures("quickest_compilation")
ALL = {**PROBES, **MEMORY_PROBES, **CENTRAL_PROBES}
MEMORIES: dict[str, dict[str, Any]] = {"feed-forward": {}, "gru": GRU}
SHARING = {"shared": True, "independent": False}
QUICK = {
    *((name, "ippo", "feed-forward", "shared") for name in PROBES),
    ("turn-based", "ippo", "feed-forward", "independent"),
    ("memory", "ippo", "gru", "shared"),
    ("other's observation", "mappo", "feed-forward", "shared"),
    ("turn-based", "mappo", "gru", "independent"),
}
"""What is run without ``--slow``."""


def applies(name: str, algo: str, memory: str) -> bool:
    """Whether a learner can pass a probe."""
    if name in CENTRAL_PROBES:
        return algo == "mappo"
    return memory == "gru" or name not in MEMORY_PROBES


def cases() -> list[Any]:
    found = []
    for case in itertools.product(ALL, ("ippo", "mappo"), MEMORIES, SHARING):
        name, algo, memory, _ = case
        if applies(name, algo, memory):
            marks = () if case in QUICK else (pytest.mark.slow,)
            found.append(pytest.param(*case, marks=marks, id="-".join(case)))
    return found


@pytest.mark.long
@pytest.mark.parametrize(("name", "algo", "memory", "sharing"), cases())
def test_learns_what_is_known(name, algo, memory, sharing):
    probe = ALL[name]
    agent = make_agent(probe, algo, share_params=SHARING[sharing], **MEMORIES[memory])
    assert faults(teach(agent, probe.game), probe) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "algo", "settings"),
    [
        ("dict observation", "ippo", {}),
        ("dict observation", "mappo", GRU | {"share_params": False}),
        ("turn-based", "mappo", GRU),
        ("unequal spaces", "ippo", {}),
    ],
)
def test_learns_it_normalised_too(name, algo, settings):
    """Values are known in units of rewards, the critic's are others."""
    probe = PROBES[name]
    agent = make_agent(probe, algo, normalize_observation=True, normalize_return=True, **settings)
    assert faults(teach(agent, probe.game), probe) == []


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_game_fails_the_probe(broken):
    name, game = BROKEN[broken]
    agent = teach(make_agent(PROBES[name], "ippo"), game)
    assert faults(agent, PROBES[name]) != []


def cannot_know(probe: Probe, algo: str, **settings: Any) -> list[str]:
    return faults(teach(make_agent(probe, algo, **settings), probe.game), probe)


@pytest.mark.long
def test_who_remembers_nothing_fails_the_probe_of_memory():
    assert cannot_know(MEMORY_PROBES["memory"], "ippo") != []


@pytest.mark.parametrize(
    "name", ["other's observation", pytest.param("global state", marks=pytest.mark.slow)]
)
def test_who_sees_only_its_own_view_cannot_know_the_value(name):
    """The policy is learned all the same: it is the value alone that is wrong."""
    found = cannot_know(CENTRAL_PROBES[name], "ippo")
    assert found
    assert all("values" in fault for fault in found)
