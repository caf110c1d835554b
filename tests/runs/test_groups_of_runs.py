"""Groups that a run is told to make, and runs that began when other names were grouped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from compiled_runs import OnHost, config, make
from numbered_games import Numbered
from pytrees import same_bits

from kitae_marl import Agent, Config, SubProcVecParallelEnv, frozen, with_seats
from kitae_marl.errors import ConfigError
from kitae_marl.runs.session import headline

pytestmark = pytest.mark.usefixtures("quickest_compilation")

CRYPTO = "mpe/simple_crypto-v3"
TEAM = {"team": ["alice_0", "bob_0"]}


def crypto(**changes: Any) -> Config:
    return replace(config(CRYPTO, n_updates=2), **changes)


@pytest.mark.usefixtures("usual_fusions")
def test_a_merged_group_learns_alike_inside_xla_and_from_the_host() -> None:
    agents = [Agent(make(CRYPTO), crypto(groups=TEAM)) for _ in range(2)]
    assert [(g.name, g.agents) for g in agents[0].groups] == [
        ("eve", ("eve_0",)),
        ("team", ("bob_0", "alice_0")),
    ]
    agents[0].train(make(CRYPTO), show=False)
    agents[1].train(OnHost(make(CRYPTO)), show=False)
    assert same_bits(agents[0].state, agents[1].state)


def test_the_config_keeps_it_and_a_run_goes_on_with_it_alone(tmp_path: Path) -> None:
    told = crypto(groups=TEAM)
    Agent(make(CRYPTO), told).train(make(CRYPTO), tmp_path / "run", show=False)
    loaded = Agent.load(tmp_path / "run")
    assert loaded.config.groups == TEAM
    longer = replace(told, env_steps=2 * told.env_steps, groups={})
    with pytest.raises(ConfigError, match="groups: the run was trained with"):
        Agent(make(CRYPTO), longer).resume(make(CRYPTO), tmp_path / "run", show=False)
    longer = replace(longer, groups=TEAM)
    Agent(make(CRYPTO), longer).resume(make(CRYPTO), tmp_path / "run", show=False)


@pytest.mark.parametrize("inside", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_merged_policy_takes_seats(inside: bool) -> None:
    agent = Agent(make(CRYPTO), crypto(groups=TEAM))
    env = make(CRYPTO) if inside else OnHost(make(CRYPTO))
    seated = with_seats(env, {"alice_0": frozen(agent), "bob_0": frozen(agent)})
    both = with_seats(make(CRYPTO), {"[ab]*": frozen(agent)})
    for vec in (seated, both):
        vec.reset(seed=0)
        vec.step({"eve_0": np.zeros(vec.num_envs, int)})
        assert vec.possible_agents == ["eve_0"]


def split(path: Path) -> None:
    """Turn a run that was told its groups into one that was not, as old ones were."""
    stored = json.loads((path / "config.json").read_text())
    assert stored.pop("groups")
    (path / "config.json").write_text(json.dumps(stored))


@pytest.mark.slow
def test_a_run_from_when_other_names_were_grouped_is_gone_on_with(tmp_path: Path) -> None:
    def env() -> SubProcVecParallelEnv:
        return SubProcVecParallelEnv([lambda: Numbered(("p0", "p1", "q"))] * 4, n_workers=0)

    apart = replace(config("x:y"), groups={"p0": ["p0"], "p1": ["p1"]})
    Agent(env(), apart).train(env(), tmp_path / "run", show=False)
    split(tmp_path / "run")
    now = replace(apart, groups={}, env_steps=2 * apart.env_steps)
    agent = Agent(env(), now)
    assert [g.name for g in agent.groups] == ["p", "q"]
    agent.resume(env(), tmp_path / "run", show=False)
    assert [g.name for g in agent.groups] == ["p0", "p1", "q"]
    loaded = Agent.load(tmp_path / "run")
    assert all(map(np.array_equal, *map(jax.tree.leaves, (loaded.state, agent.state))))


def test_agents_without_anything_in_common_learn_as_one_program() -> None:
    names = tuple(f"p_{i}_red" for i in range(20))
    env = SubProcVecParallelEnv([lambda: Numbered(names)] * 4, n_workers=0)
    agent = Agent(env, config("x:y", n_updates=1))
    assert [(g.n_agents, g.share_params) for g in agent.groups] == [(20, False)]
    assert "agents: a network each, --groups lets them share" in headline(agent, "in Python")
    agent.train(env, show=False)
