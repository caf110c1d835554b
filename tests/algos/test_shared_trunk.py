"""Actor and critic that see through the same layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.linen as nn
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probe_checks import faults, make_agent, teach
from probe_games import MEMORY_PROBES, PROBES

from kitae_marl.algos.nets.networks import NETWORKS
from kitae_marl.algos.ppo.learner import first_state, make_learner
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.types import GroupSpec

pytestmark = pytest.mark.usefixtures("quickest_compilation")
CONFIG = Config(n_envs=2, env_steps=256, ppo=PPOConfig(hidden_sizes=(6,), shared_trunk=True))
PICTURE = gym.spaces.Box(0, 255, (12, 12, 3), np.uint8)


def group(space: gym.Space = PICTURE, share_params: bool = True) -> GroupSpec:
    return GroupSpec("a", ("a_0", "a_1"), space, gym.spaces.Discrete(3), share_params)


def names(params: Any) -> set[str]:
    return set(params["params"])


def test_the_critic_has_a_last_layer_alone_and_its_errors_reach_the_trunk():
    pair = group()
    learner = make_learner(pair, CONFIG, (pair,))
    state = first_state(pair, CONFIG, (pair,), jax.random.key(0))
    assert names(state.params["critic"]) == {"Dense_0"}
    seen = jnp.array(np.random.default_rng(0).integers(0, 255, (5, 2, 12, 12, 3)), jnp.uint8)
    head = {"params": {"Dense_0": {"kernel": jnp.ones((6, 1)), "bias": jnp.zeros(1)}}}

    def error(params: Any) -> Any:
        value, carry = learner.value(state._replace(params=params), seen, ())
        assert (value.shape, carry) == ((5, 2), ())
        return jnp.sum(value)

    grads = jax.jit(jax.grad(error))(state.params | {"critic": head})
    trunk = {k: v for k, v in grads["actor"]["params"].items() if k != "Dense_0"}
    assert len(trunk) >= 1
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(trunk))
    assert not any(leaf.any() for leaf in jax.tree.leaves(grads["actor"]["params"]["Dense_0"]))


def test_the_trunk_is_computed_once():
    """Policy and value of pictures together cost little more than one of them."""
    pair = group(gym.spaces.Box(0, 255, (84, 84, 4), np.uint8))
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, hidden_sizes=(64,)))
    flops = {}
    for shared in (True, False):
        own = replace(config, ppo=replace(config.ppo, shared_trunk=shared))
        learner = make_learner(pair, own, (pair,))
        state = first_state(pair, own, (pair,), jax.random.key(0))

        def both(state: Any, seen: Any, learner: Any = learner) -> Any:
            return learner.policy(state, seen, (), ())[0], learner.value(state, seen, ())[0]

        program = jax.jit(both).lower(state, jnp.ones((1, 2, 84, 84, 4), jnp.uint8)).compile()
        flops[shared] = program.cost_analysis()["flops"]
    assert flops[True] < 0.6 * flops[False]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("truncation", {}),
        pytest.param("own reward", {"share_params": False}, marks=pytest.mark.slow),
        pytest.param("memory", {"gru_size": 16, "chunk_length": 8}, marks=pytest.mark.slow),
        pytest.param("dict observation", {}, marks=pytest.mark.slow),
    ],
)
def test_it_learns_what_is_known(name, settings):
    probe = (PROBES | MEMORY_PROBES)[name]
    agent = make_agent(probe, "ippo", shared_trunk=True, **settings)
    assert faults(teach(agent, probe.game), probe) == []


def test_a_network_of_the_users_own_is_the_trunk(monkeypatch):
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, observation: Any) -> Any:
            return nn.Dense(7)(observation.reshape(*observation.shape[:-3], -1) / 255.0)

    monkeypatch.setitem(NETWORKS, "Wide", lambda space: Wide())
    config = replace(CONFIG, ppo=replace(CONFIG.ppo, network="Wide"))
    state = first_state(group(), config, (group(),), jax.random.key(0))
    assert state.params["critic"]["params"]["Dense_0"]["kernel"].shape == (7, 1)


def test_critics_that_see_more_have_no_use_for_it():
    with pytest.raises(ConfigError, match=r"shared_trunk: expected false with mappo, whose"):
        replace(CONFIG, algo="mappo")
    with pytest.raises(ConfigError, match=r"shared_trunk: expected true or false"):
        PPOConfig(shared_trunk="yes")  # type: ignore[arg-type]
