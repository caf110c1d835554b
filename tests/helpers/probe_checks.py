"""Training on probe games, and what an agent has wrong about what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from probe_games import Known, Probe

from kitae_marl.algos.nets.normalization import normalized
from kitae_marl.algos.ppo.learner import first_carry, is_central, make_learners
from kitae_marl.algos.ppo.units import Units
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.data.lifting import over_agents
from kitae_marl.data.stacking import split_masks, stack, starts
from kitae_marl.players.policies import random_policy
from kitae_marl.runs.agent import Agent
from kitae_marl.types import GroupSpec
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

N_ENVS = 16
GRU: dict[str, Any] = {"gru_size": 16, "chunk_length": 8}
"""Settings of a learner that remembers."""
P_BEST = 0.85
"""Probability that the best action must have at least."""
CLOSE = 0.12
"""Largest distance of a continuous action from the best one."""
N_SEEN = 24
"""Joint steps, random and legal, in which all that is known must come up."""


def make_agent(probe: Probe, algo: str, **settings: Any) -> Agent:
    """Make an agent for a probe; settings are those of PPO, over those of the probe."""
    ppo = PPOConfig(
        **{
            "n_steps": 16,
            "n_epochs": 4,
            "n_minibatches": 4,
            "learning_rate": 1e-2,
            "gamma": probe.gamma,
            "hidden_sizes": (16,),
            **probe.settings,
            **settings,
        }
    )
    config = Config(
        env_id="probe", n_envs=N_ENVS, n_workers=0, env_steps=probe.env_steps, ppo=ppo, algo=algo
    )
    return Agent(vector(probe.game), config)


def vector(game: Callable[[], Any]) -> SubProcVecParallelEnv:
    """Games side by side in this process."""
    return SubProcVecParallelEnv([game] * N_ENVS, n_workers=0, with_state=None)


def teach(agent: Agent, game: Callable[[], Any]) -> Agent:
    """Train on a game with the spaces of the agent's own."""
    agent.train(vector(game), show=False)
    return agent


def _watch(agent: Agent, probe: Probe) -> dict[str, Any]:
    """Play at random and keep what is seen, stacked by group, ``[T, E, A, ...]``."""
    env = vector(probe.game)
    observations, infos = env.reset(seed=1)
    policy = random_policy(env, seed=1)
    steps = []
    for t in range(N_SEEN):
        features, masks = split_masks(observations, infos, agent.groups)
        row = {
            "seen": stack(observations, agent.groups),
            "observation": features,
            "mask": masks,
            "active": stack(infos["active"], agent.groups),
            "reset": np.ones(N_ENVS, bool) if t == 0 else starts(infos, N_ENVS),
            "state": env.state() if env.state_space is not None else (),
        }
        steps.append(jax.tree.map(np.copy, row))
        observations, *_, infos = env.step(policy(observations, infos))
    env.close()
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)


def _seen_of(agent: Agent, group: GroupSpec, watched: dict[str, Any]) -> Any:
    """What a central critic sees of a group: normalised where it is to be, zeros of who waits."""
    seen, on = watched["observation"][group.name], watched["active"][group.name]
    if agent.config.ppo.normalize_observation:
        moments = agent.state[group.name].moments["observation"]
        seen = over_agents(normalized, group, 2, 2)(moments, seen)
    return jax.tree.map(lambda x: np.where(on.reshape(on.shape + (1,) * (x.ndim - 3)), x, 0), seen)


def _judge(agent: Agent, group: GroupSpec, watched: dict[str, Any]) -> tuple[Any, np.ndarray, Any]:
    """What a group's networks say: distribution, its parameters, and values ``[T, E, A]``."""
    config, name = agent.config, group.name
    learner = make_learners(agent.groups, config)[name]
    central, state = is_central(config), agent.state[name]
    active = watched["active"][name]
    rows: tuple[Any, ...] = ()
    if config.ppo.gru_size:
        rows = (np.broadcast_to(watched["reset"][..., None], active.shape), active)
    sight, axis = watched["observation"][name], 2
    if central:
        axis = None
        sight = watched["state"]
        if group.state_space is None:  # those who do not act are not seen
            sight = {g.name: _seen_of(agent, g, watched) for g in agent.groups}

    def policy(state: Any, observation: Any, mask: Any, *rows: Any) -> Any:
        carry = first_carry(group, config, N_ENVS)
        return learner.policy(state, observation, mask, carry, rows or None)[0]

    def value(state: Any, sight: Any, *rows: Any) -> Any:
        return learner.value(state, sight, first_carry(group, config, N_ENVS), rows or None)[0]

    @jax.jit
    def judge(state: Any, observation: Any, mask: Any, sight: Any, *rows: Any) -> Any:
        return (
            over_agents(policy, group, 2, 2)(state, observation, mask, *rows),
            over_agents(value, group, (axis, *(2 for _ in rows)), 2)(state, sight, *rows),
        )

    outputs, values = judge(
        state, watched["observation"][name], watched["mask"][name], sight, *rows
    )
    if config.ppo.normalize_return:
        values = Units.of(state.moments["target"]).of_rewards(values)
    return learner.distribution, outputs, np.asarray(values)


def _same(a: Any, b: Any) -> np.ndarray:
    """Where the leaves of ``a``, ``[T, E, ...]``, equal those of one observation, ``[T, E]``."""
    equal = jax.tree.map(
        lambda x, y: (x == np.asarray(y)).reshape(*x.shape[:2], -1).all(axis=-1), a, b
    )
    return np.all(jax.tree.leaves(equal), axis=0)


def _where(known: Known, agent: Agent, watched: dict[str, Any]) -> np.ndarray:
    """Steps ``[T, E]`` at which what is known applies."""
    places = {a: (g.name, i) for g in agent.groups for i, a in enumerate(g.agents)}

    def seen(name: str) -> Any:
        group, i = places[name]
        return jax.tree.map(lambda x: x[:, :, i], watched["seen"][group])

    group, i = places[known.agent]
    found = _same(seen(known.agent), known.observation) & watched["active"][group][:, :, i]
    for other, observation in known.others.items():
        found &= _same(seen(other), observation)
    if known.state is not None:
        found &= _same(watched["state"], known.state)
    for back, before in enumerate(reversed(known.before), start=1):
        earlier, fresh = _same(seen(known.agent), before), watched["reset"]
        found[:back] = False
        for t in range(back, len(found)):
            found[t] &= earlier[t - back] & ~fresh[t - back + 1 : t + 1].any(axis=0)
    if known.before:  # as long ago as that an episode began
        n = len(known.before)
        found[n:] &= watched["reset"][: len(found) - n]
    return found


def faults(agent: Agent, probe: Probe) -> list[str]:
    """What the agent has wrong about what is known; empty if nothing."""
    watched = _watch(agent, probe)
    judged = {group.name: _judge(agent, group, watched) for group in agent.groups}
    found = []
    for known in probe.known:
        group = next(g for g in agent.groups if known.agent in g.agents)
        i = group.agents.index(known.agent)
        distribution, outputs, values = judged[group.name]
        rows = _where(known, agent, watched)
        where = f"{known.agent} at {known.observation}"
        assert rows.any(), f"{where} never comes up"
        value = values[:, :, i][rows]
        if known.value is not None and np.abs(value - known.value).max() > probe.tolerance:
            found.append(f"{where}: values {value.min():.3f} .. {value.max():.3f}, known {known}")
        own = outputs[:, :, i][rows]
        mask = watched["mask"][group.name]
        if not isinstance(mask, tuple):
            p = np.asarray(jax.nn.softmax(own))[..., : mask.shape[-1]]
            found += [f"{where}: p {p} of what is forbidden"] * bool(
                p[mask[:, :, i][rows] == 0].any()
            )
        if known.action is not None:
            found += _wrong_actions(distribution, own, known, where)
    return found


def _wrong_actions(distribution: Any, outputs: Any, known: Known, where: str) -> list[str]:
    """Say if the best action is not the one that is taken."""
    best = jax.tree.map(lambda x: np.broadcast_to(x, (len(outputs), *np.shape(x))), known.action)
    if distribution.n_scales:
        action = distribution.mode(outputs)
        off = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - y).max(), action, best)
        far = max(jax.tree.leaves(off)) > CLOSE
        return [f"{where}: actions {action}, best {known.action}"] * bool(far)
    p = np.exp(np.asarray(distribution.log_prob(outputs, best)))
    return [f"{where}: best action {known.action} has p {p.min():.3f}"] * bool(p.min() < P_BEST)
