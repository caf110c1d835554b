"""IPPO learns the known value and policy of every probe game, and is not fooled by broken ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from probe_games import BROKEN, PROBES, Probe

from kitae_marl.agent import Agent
from kitae_marl.algos.ppo import make_learner
from kitae_marl.config import Config, PPOConfig
from kitae_marl.groups import map_leaves, without_mask
from kitae_marl.vector import SubProcVecParallelEnv

pytestmark = pytest.mark.usefixtures("quick_compilation")
N_ENVS = 16
P_BEST = 0.85
"""Probability that the best action must have at least."""
CLOSE = 0.12
"""Largest distance of a continuous action from the best one."""


@functools.cache
def agent_for(name: str, share_params: bool) -> tuple[Agent, Any]:
    """An agent for a probe, compiled once, and its first state."""
    probe = PROBES[name]
    ppo = PPOConfig(
        n_steps=16,
        n_epochs=4,
        n_minibatches=4,
        learning_rate=1e-2,
        gamma=probe.gamma,
        hidden_sizes=(16,),
        share_params=share_params,
        **probe.settings,
    )
    config = Config(env_id="probe", n_envs=N_ENVS, n_workers=0, env_steps=probe.env_steps, ppo=ppo)
    agent = Agent(probe.game(), config)
    return agent, jax.tree.map(np.array, agent.run_state())


def learn(name: str, game: Callable[[], Any], *, share_params: bool) -> Agent:
    """Train from the start on a game with the spaces of a probe."""
    agent, first = agent_for(name, share_params)
    agent.load_state(first)
    agent.train(SubProcVecParallelEnv([game] * N_ENVS, n_workers=0), show=False)
    return agent


def faults(agent: Agent, probe: Probe) -> list[str]:
    """What the agent has wrong about what is known; empty if nothing."""
    found = []
    for known in probe.known:
        group = next(g for g in agent.groups if known.agent in g.agents)
        learner = make_learner(group, agent.config)
        state = agent.state[group.name]
        if not group.share_params:
            row = group.agents.index(known.agent)
            state = jax.tree.map(lambda leaf, row=row: leaf[row], state)
        seen, mask = without_mask(known.observation), known.mask
        if isinstance(known.observation, dict):
            mask = known.observation.get("action_mask", mask)
        seen = map_leaves(lambda leaf: np.asarray(leaf)[None], seen)
        where = f"{known.agent} at {known.observation}"
        value = float(learner.value(state, seen, ())[0][0])
        if known.value is not None and abs(value - known.value) > probe.tolerance:
            found.append(f"{where}: value {value:.3f}, known {known.value:.3f}")
        outputs, _ = learner.policy(state, seen, () if mask is None else mask[None], ())
        if mask is not None:
            p = np.asarray(jax.nn.softmax(outputs))[0]
            found += [f"{where}: p {p} of what {mask} forbids"] * bool(p[mask == 0].any())
        if known.action is None:
            continue
        if learner.distribution.learned_scale:
            action = np.asarray(learner.distribution.mode(outputs))[0]
            if abs(action - known.action).max() > CLOSE:
                found.append(f"{where}: action {action}, best {known.action}")
        else:
            best = np.asarray(known.action)[None]
            p = float(np.exp(learner.distribution.log_prob(outputs, best))[0])
            if p < P_BEST:
                found.append(f"{where}: best action {known.action} has p {p:.3f}")
    return found


@pytest.mark.parametrize("name", PROBES)
def test_learns_what_is_known(name):
    assert faults(learn(name, PROBES[name].game, share_params=True), PROBES[name]) == []


QUICK = ("turn-based",)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROBES],
)
def test_learns_what_is_known_with_independent_parameters(name):
    assert faults(learn(name, PROBES[name].game, share_params=False), PROBES[name]) == []


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_game_fails_the_probe(broken):
    name, game = BROKEN[broken]
    assert faults(learn(name, game, share_params=True), PROBES[name]) != []
