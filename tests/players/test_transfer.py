"""Trained networks for other numbers of agents than they were trained with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from compiled_runs import config
from numbered_games import Numbered
from pytrees import same_bits

from kitae_marl import Agent, Config, SubProcVecParallelEnv, evaluate
from kitae_marl.errors import ConfigError

pytestmark = pytest.mark.usefixtures("quickest_compilation")


def make(n: int, name: str = "a_{}") -> SubProcVecParallelEnv:
    """Four games of n agents, who all see and do the same."""
    names = tuple(name.format(i) for i in range(n))
    return SubProcVecParallelEnv([lambda: Numbered(names)] * 4, n_workers=0, with_state=True)


def agent_of(n: int, algo: str = "ippo", groups: Any = None, **ppo: Any) -> Agent:
    settings: Config = replace(config("x:y", n_updates=1, **ppo), algo=algo, groups=groups or {})
    return Agent(make(n), settings)


@pytest.mark.parametrize(
    ("n", "algo", "gru_size"),
    [
        (5, "ippo", 0),
        (2, "mappo", 4),
        pytest.param(5, "mappo", 4, marks=pytest.mark.slow),
        pytest.param(2, "ippo", 4, marks=pytest.mark.slow),
    ],
)
def test_a_shared_network_plays_for_any_number(n: int, algo: str, gru_size: int) -> None:
    agent, env = agent_of(3, algo, gru_size=gru_size, chunk_length=4), make(n)
    player = agent.player(env=env)
    first = env.reset(seed=0)
    acted = player.select_action(*first)
    assert list(acted) == env.possible_agents
    seen = dict.fromkeys(agent.possible_agents, first[0]["a_1"])
    active = dict.fromkeys(seen, np.ones(4, bool))
    expected = agent.player().select_action(seen, {"active": active, "reset": np.ones(4, bool)})
    np.testing.assert_array_equal(acted["a_1"], expected["a_0"])
    result = evaluate(player.select_action, env, n_episodes=4)
    assert set(result.returns) == set(env.possible_agents)


def test_the_same_agents_need_nothing_new() -> None:
    agent = agent_of(3)
    assert agent.player(env=make(3)).groups is agent.groups


WHY: dict[str, tuple[dict[str, Any], str]] = {
    "a network each": ({"share_params": False}, r"\['a_0', 'a_1', 'a_2'\].*a network of its own"),
    "ids": ({"agent_id": True}, r"made for 3 agents and is to serve 5: with agent ids"),
}


@pytest.mark.parametrize("why", WHY)
def test_what_cannot_is_told_why(why: str) -> None:
    settings, text = WHY[why]
    with pytest.raises(ConfigError, match=text):
        agent_of(3, **settings).player(env=make(5))
    with pytest.raises(ConfigError, match=text):
        agent_of(5, **settings).begin_with(agent_of(3, **settings))


def test_several_networks_that_might_be_meant() -> None:
    apart = {"x": ["a_0"], "y": ["a_1"]}
    agent = agent_of(2, groups=apart)
    with pytest.raises(ConfigError, match=r"one network .* \['x', 'y'\]"):
        agent_of(3, groups={"z": ["a_*"]}).begin_with(agent)


@pytest.mark.slow
def test_training_begins_with_trained_networks() -> None:
    trained, agent = agent_of(3), agent_of(5)
    trained.train(make(3), show=False)
    agent.begin_with(trained)
    assert agent.origin is not None
    assert (agent.origin["run"], agent.origin["env_step"]) == (None, trained.env_steps)
    with pytest.raises(ConfigError, match="expected an agent before training, got one of"):
        trained.begin_with(agent)
    for own, theirs in zip(agent.state.values(), trained.state.values(), strict=True):
        assert same_bits(own.params, theirs.params)
        assert int(own.n_updates) == 0
    before = jax.tree.map(np.array, agent.state["a"].params)
    agent.train(make(5), show=False)
    assert not same_bits(agent.state["a"].params, before)


@pytest.mark.slow  # so do those of the command line
def test_a_central_critic_knows_how_many_there_are() -> None:
    with pytest.raises(ConfigError, match=r"critic.* made for 3 agents and is to serve 5.*mappo"):
        agent_of(5, "mappo").begin_with(agent_of(3, "mappo"))


@pytest.mark.slow
def test_other_networks_are_refused() -> None:
    agent = agent_of(3)
    small = replace(agent.config, ppo=replace(agent.config.ppo, hidden_sizes=(8,)))
    other = Agent(make(3), small)
    with pytest.raises(ConfigError, match=r"shape \(16, 3\) for \(8, 3\).*settings of its net"):
        other.begin_with(agent)


def test_what_is_no_game_and_no_agent() -> None:
    agent = agent_of(3)
    with pytest.raises(TypeError, match=r"expected a PettingZoo ParallelEnv, .* got int"):
        agent.player(env=3)
    with pytest.raises(
        TypeError, match=r"expected a trained kitae_marl.Agent, got str; Agent.load"
    ):
        agent.begin_with("a run")  # type: ignore[arg-type]
