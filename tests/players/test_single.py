"""One observation of one agent: the action that all agents together would take, or an error."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium import spaces

from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.data.stacking import map_leaves
from kitae_marl.players.player import Player
from kitae_marl.runs.agent import Agent

pytestmark = pytest.mark.usefixtures("quickest_compilation")

BOX = spaces.Box(-np.inf, np.inf, (5,), np.float32)
MASKED = spaces.Dict(observation=BOX, action_mask=spaces.Box(0, 1, (6,), np.int8))
MIXED = spaces.Dict(
    b=spaces.Tuple([spaces.Discrete(3, start=2), BOX]), a=spaces.MultiDiscrete([2, 3])
)
PARTS = spaces.Dict(
    move=spaces.Discrete(4, start=1),
    aim=spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)]),
    level=spaces.Box(-1, 2, (2,), np.int8),
)


class Spaces:
    """Agents and spaces, no game: two groups, one of them of two agents."""

    possible_agents = ("cat_0", "cat_1", "dog_0")

    def observation_space(self, agent: str) -> gym.Space:
        return MIXED if agent == "dog_0" else MASKED

    def action_space(self, agent: str) -> gym.Space:
        return PARTS if agent == "dog_0" else spaces.Discrete(6, start=1)


def make_agent(env: Any = None, **settings: Any) -> Agent:
    """Make an agent whose parameters are large, so that actions differ."""
    agent = Agent(env or Spaces(), Config(ppo=PPOConfig(hidden_sizes=(8,), **settings)))
    generator = np.random.default_rng(0)
    agent.state = {
        name: state._replace(
            params=jax.tree.map(
                lambda x: x + generator.standard_normal(x.shape, np.float32), state.params
            )
        )
        for name, state in agent.state.items()
    }
    return agent


def draw(seed: int) -> dict[str, Any]:
    """One observation of each agent."""
    seen = {}
    for i, agent in enumerate(Spaces.possible_agents):
        space = Spaces().observation_space(agent)
        space.seed(10 * seed + i)
        seen[agent] = space.sample()
        if isinstance(seen[agent], dict) and "action_mask" in seen[agent]:
            seen[agent]["action_mask"][i] = 1
    return seen


@pytest.fixture(scope="module")
def agent(quickest_compilation) -> Agent:
    return make_agent(share_params=False)


@pytest.mark.parametrize("settings", [{"share_params": False}, {"agent_id": True}])
def test_it_acts_as_all_agents_together_do(agent, settings):
    agent = agent if "share_params" in settings else make_agent(**settings)
    taken = set()
    for seed in range(20):
        seen = draw(seed)
        expected = agent.select_action(map_leaves(lambda x: np.asarray(x)[None], seen))
        for name in Spaces.possible_agents:
            action = agent.act(name, seen[name])
            assert Spaces().action_space(name).contains(action)
            map_leaves(lambda x, y: np.testing.assert_allclose(x, y[0]), action, expected[name])
            taken.add(str(action))
    assert len(taken) > 10


def test_samples_are_drawn_anew_within_the_mask_and_repeat_by_seed(agent):
    seen = draw(0)["cat_0"]
    seen["action_mask"][:] = [0, 1, 1, 0, 1, 1]
    twins = [agent.player(seed=3) for _ in range(2)]
    drawn = [[twin.act("cat_0", seen, sample=True) for _ in range(40)] for twin in twins]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) <= {2, 3, 5, 6}
    agent.state, kept = jax.tree.map(lambda x: 0 * x, agent.state), agent.state
    assert {agent.act("cat_0", seen, sample=True) for _ in range(40)} == {2, 3, 5, 6}
    agent.state = kept


def test_a_mask_may_be_given_beside_the_observation(agent):
    seen = draw(1)["cat_1"]
    for i in range(6):
        only = np.eye(6)[i]
        assert agent.act("cat_1", seen["observation"], only) == i + 1
        assert agent.act("cat_1", seen, mask=only.astype(bool).tolist()) == i + 1


SEEN = np.zeros(5, np.float32)


@pytest.mark.parametrize(
    ("name", "observation", "mask", "error"),
    [
        ("bird", SEEN, None, r"one of the agents \['cat_0', 'cat_1', 'dog_0'\], got 'bird'"),
        ("cat_0", SEEN[:4], np.ones(6), r"'cat_0': expected one .* \(5,\), got float32 .* \(4,\)"),
        ("cat_0", SEEN[None], np.ones(6), r"without an axis of environments.*\(1, 5\)"),
        ("cat_0", [0, 0, 0, 0, np.nan], np.ones(6), "expected finite numbers, got .*nan"),
        ("cat_0", ["a"] * 5, np.ones(6), "expected float32"),
        ("cat_0", None, np.ones(6), "got object"),
        ("cat_0", SEEN, None, "expected an action_mask .* 6 numbers 0 or 1, got none"),
        ("cat_0", SEEN, np.ones(5), r"as mask 6 numbers 0 or 1, got ndarray of shape \(5,\)"),
        ("cat_0", SEEN, np.zeros(6), "a mask that allows an action"),
        ("dog_0", {"a": np.ones(2, int)}, None, r"expected an array at \['b'\]\[0\]"),
        ("dog_0", {"a": [0, 3], "b": (2, SEEN)}, None, r"to \[1 2\] at \['a'\], got \[0 3\]"),
        ("dog_0", {"a": [0, 1], "b": (1, SEEN)}, None, r"expected 2 to 4 at \['b'\]\[0\], got 1"),
    ],
)
def test_what_it_cannot_play_is_named(agent, name, observation, mask, error):
    with pytest.raises(ValueError, match=error):
        agent.act(name, observation, mask)


def test_a_group_is_compiled_once(agent):
    agent.act("cat_0", draw(0)["cat_0"])
    compiled = agent.player()._single._compiled["cat"][0]
    before = compiled._cache_size()
    for name, seed in (("cat_0", 1), ("cat_1", 2)):
        seen = draw(seed)[name]
        agent.act(name, seen)
        agent.act(name, seen["observation"].astype(np.float64).tolist(), seen["action_mask"] > 0)
    assert compiled._cache_size() == before


def test_policies_with_memory_say_what_to_use(agent):
    config = Config(ppo=PPOConfig(gru_size=4))
    player = Player(agent.possible_agents, agent.groups, config, agent.root_key)
    with pytest.raises(ValueError, match=r"without memory.*agent\.player\(\).*select_action"):
        player.act("cat_0", draw(0)["cat_0"])


@pytest.mark.parametrize("sample", [False, True])
def test_all_agents_together_ask_for_the_axis_of_environments(agent, sample):
    with pytest.raises(ValueError, match=r"observations\[agent\]\[None\], or use Agent\.act"):
        agent.select_action(draw(0), sample=sample)


def test_agent_and_player_say_what_they_are(agent):
    said = f"{agent.config.env_id}, ippo"
    assert repr(agent).startswith(f"Agent({said}, {len(Spaces.possible_agents)} agents in ")
    assert repr(agent).endswith(", 0 env steps)")
    assert repr(agent.player()).startswith(f"Player({said}: {Spaces.possible_agents[0]}, ")
