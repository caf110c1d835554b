"""Seats: agents of a game that are played by a given policy, so that the others can be trained.

An opponent is part of the environment: :func:`with_seats` returns the environment of the agents
that are left. Compiled games ask random and frozen seats inside their own program.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from kitae_marl.data.groups import first_match, require_spaces
from kitae_marl.data.lifting import remember
from kitae_marl.data.spaces import feature_space, zeros
from kitae_marl.data.stacking import without_mask
from kitae_marl.players.player import Player
from kitae_marl.players.policies import random_policy
from kitae_marl.runs.agent import Agent
from kitae_marl.types import GroupSpec, Policy
from kitae_marl.vector.adapters.as_parallel import require_vector
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv
from kitae_marl.vector.adapters.seated import HostSeat, SeatedVecParallelEnv
from kitae_marl.vector.protocol import VecParallelEnv

if TYPE_CHECKING:
    from kitae_envs.core import Game, View
    from kitae_envs.seats import Seat

_LOG = logging.getLogger("kitae_marl.selfplay.seats")


class Frozen(NamedTuple):
    """A trained agent that plays and learns nothing more; made by :func:`frozen`."""

    player: Player
    sample: bool


def frozen(
    run: str | Path | Agent, *, step: int | Literal["best"] | None = None, sample: bool = True
) -> Frozen:
    """Return a trained agent as it is now, to be given a seat.

    Args:
        run: path of a run folder, name of a run in ``runs``, either with ``@STEP`` or ``@average``
            behind it, or an agent.
        step: environment step of the checkpoint, or ``"best"``; None: the newest.
        sample: sample actions as in training (True), or take the most probable ones.

    Raises:
        NoCheckpointError: if there is no such run or no readable checkpoint.
        ValueError: if ``step`` is given with an agent.
    """
    if isinstance(run, Agent):
        if step is not None:
            raise ValueError(f"expected a step with a run only, got step={step} with an agent.")
        return Frozen(run.player(), sample)
    return Frozen(Agent.load(run, step=step).player(), sample)


def with_seats(env: VecParallelEnv, seats: Mapping[str, str | Frozen | Policy]) -> VecParallelEnv:
    """Return the environments with fewer agents: those of ``seats`` are played for.

    Args:
        env: a vector of parallel environments; it is part of what is returned, which closes it.
        seats: by shell pattern of agent names, of which the first that matches counts:
            ``"random"`` (every allowed action with equal probability), ``frozen(run)``, or a Python
            function ``(observations, infos) -> actions`` that gets all agents' and returns at least
            its own, ``{agent: [E, ...]}``.

    Returns:
        A vector of the agents without a seat; ``infos["episode"]["seat_return"]`` holds the returns
        of the others. Compiled games stay compiled, without that entry; a Python function cannot
        act inside their program, so with one they are stepped from Python (a warning is logged).

    Raises:
        TypeError: for an environment that is no vector, or a seat of another kind.
        ValueError: if a pattern matches no agent, no agent is left, or a frozen agent does not know
            the agents it is to play, or other spaces of them.

    Example:
        ``with_seats(env, {"adversary_*": frozen("first"), "agent_0": "random"})``
    """
    env = require_vector(env)
    places = [(seats[pattern], agents) for pattern, agents in matches(env, seats).items()]
    for seat, agents in places:
        _require_seat(seat, agents, env)
    if env.game is not None:
        if not any(callable(seat) for seat, _ in places):
            from kitae_envs.seats import SeatedGame  # imports JAX

            chosen = [_compiled_seat(seat, agents, env.game) for seat, agents in places]
            game = SeatedGame(env.game, chosen)
            return CompiledVecParallelEnv(game, env.num_envs, with_state=env.with_state)
        _LOG.warning(
            "a seat is played by a Python function, which cannot act inside XLA; the compiled "
            "games are stepped from Python"
        )
    return SeatedVecParallelEnv(env, [_host_seat(seat, agents, env) for seat, agents in places])


def matches(env: Any, patterns: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the agents of each pattern, the first that matches an agent counting.

    Raises:
        ValueError: if a pattern matches no agent, or no agent is left.
    """
    found: dict[str, list[str]] = {}
    for agent in env.possible_agents:
        pattern = first_match(agent, patterns)
        if pattern is not None:
            found.setdefault(pattern, []).append(agent)
    idle = [p for p in patterns if not any(first_match(a, [p]) for a in env.possible_agents)]
    if idle or not patterns or sum(map(len, found.values())) == len(env.possible_agents):
        raise ValueError(
            f"expected patterns of seats that match some of {list(env.possible_agents)} and leave "
            f"at least one agent, got {list(patterns)}"
            + (f"; {idle} match none." if idle else "; give fewer, or none at all.")
        )
    return {pattern: tuple(agents) for pattern, agents in found.items()}


def _require_seat(seat: Any, agents: tuple[str, ...], env: Any) -> None:
    """Raise unless a seat is of a known kind and can play for these agents."""
    if isinstance(seat, Frozen):
        missing = [agent for agent in agents if agent not in seat.player.possible_agents]
        if missing:
            raise ValueError(
                f"expected a frozen agent that knows {list(agents)}, got one that plays "
                f"{seat.player.possible_agents}; give {missing} another seat."
            )
        require_spaces(only(env, agents), list(agents), seat.player.groups)
    elif seat != "random" and not callable(seat):
        raise TypeError(
            f"expected 'random', frozen(run) or a function (observations, infos) -> actions as the "
            f"seat of {list(agents)}, got {seat!r}."
        )


def only(env: Any, agents: Sequence[str]) -> Any:
    """Some agents of an environment, and their spaces."""
    return SimpleNamespace(
        possible_agents=list(agents),
        num_envs=env.num_envs,
        observation_space=env.observation_space,
        action_space=env.action_space,
    )


def policy_for(
    agent: Agent | Player,
    agents: Sequence[str],
    *,
    sample: bool = False,
    seed: int | None = None,
) -> Policy:
    """Return a trained agent's policy for some of the agents that it knows.

    Args:
        agent: as it is now; it may go on learning.
        agents: whom to play for. Observations and infos of others need not be there.
        sample: sample actions as in training, instead of taking the most probable ones.
        seed: seed of what is sampled; None: that of the agent.

    Returns:
        A policy with a memory of its own, for one vector of environments.
    """
    player = agent.player(seed=seed)
    others = [(a, group) for group in player.groups for a in group.agents if a not in agents]
    if not others:
        return partial(player.select_action, sample=sample)

    def policy(observations: Any, infos: Mapping[str, Any]) -> dict[str, Any]:
        observations, infos = _with_nothing_of(others, observations, infos)
        chosen = player.select_action(observations, infos, sample=sample)
        return {agent: chosen[agent] for agent in agents}

    return policy


def _with_nothing_of(
    others: list[tuple[str, GroupSpec]], observations: Any, infos: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let some agents see zeros, be allowed nothing, and wait: whatever they do is not used."""
    active = infos["active"]
    n_envs = len(next(iter(active.values())))
    observations, waiting, masks = {**observations}, {**active}, {**infos.get("action_mask", {})}
    for agent, group in others:
        observations[agent] = zeros(group.observation_space, n_envs)
        waiting[agent] = np.zeros(n_envs, bool)
        known = [masks[mate] for mate in group.agents if mate in masks]
        if known:
            masks[agent] = np.zeros_like(known[0])
    return observations, {**infos, "active": waiting, "action_mask": masks}


def _host_seat(seat: Any, agents: tuple[str, ...], env: Any) -> HostSeat:
    """Make the seat that acts between two steps."""
    if seat == "random":
        return HostSeat(agents, partial(random_policy, only(env, agents)))
    if isinstance(seat, Frozen):
        policy = partial(policy_for, seat.player, agents, sample=seat.sample)
        return HostSeat(agents, lambda seed: policy(seed=seed))
    return HostSeat(agents, lambda seed: seat)


def _compiled_seat(seat: Any, agents: tuple[str, ...], game: Game) -> Seat:
    """Make the seat that acts inside a compiled game."""
    from kitae_envs.seats import Seat, random_seat

    if seat == "random":
        return random_seat(game, agents)
    player = seat.player
    choose = _policy_function(player, seat.sample)

    def act(key: Any, view: View, memory: Any, state: Any) -> tuple[dict[str, Any], Any]:
        observation, mask, active = _batch_of_one(game, player.groups, agents, view)
        inputs = observation, mask, memory, np.zeros(1, bool), active
        action, memory = choose(state, key, *inputs)
        members = [(g.name, i, a) for g in player.groups for i, a in enumerate(g.agents)]
        return {agent: action[name][0, i] for name, i, agent in members if agent in agents}, memory

    memory = player.algorithm.carry(player.groups, player.config)(1)
    return Seat(agents, act, memory, player.state)


def _batch_of_one(
    game: Game, groups: tuple[GroupSpec, ...], agents: tuple[str, ...], view: View
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Stack what some agents see as a policy of these groups wants it, zeros for the others.

    Returns:
        ``(observation, action_mask, active)``, all ``{group: [1, A, ...]}``.
    """
    import jax
    from kitae_envs.seats import take

    observations, masks, active = {}, {}, {}
    for group in groups:
        space = feature_space(group.observation_space)
        observations[group.name], masks[group.name] = zeros(space, 1, group.n_agents), ()
        active[group.name] = np.zeros((1, group.n_agents), bool)
        mine = [agent for agent in group.agents if agent in agents]
        if mine:
            rows = np.array([group.agents.index(agent) for agent in mine])

            def spread(leaf: Any, rows: Any = rows, n: int = group.n_agents) -> Any:
                empty = jax.numpy.zeros((1, n, *leaf.shape[1:]), leaf.dtype)
                return empty.at[0, rows].set(leaf)

            seen = without_mask(take(game, view.observation, mine))
            observations[group.name] = jax.tree.map(spread, seen)
            masks[group.name] = jax.tree.map(spread, take(game, view.action_mask, mine))
            active[group.name] = spread(take(game, view.active, mine))
    return observations, masks, active


def _policy_function(player: Player, sample: bool) -> Callable[..., tuple[Any, Any]]:
    """Return ``(state, key, observation, mask, carry, reset, active) -> (action, carry)``."""
    groups, config = player.groups, player.config
    vary = remember(player.algorithm.sampling(groups, config))
    select = remember(player.algorithm.select(groups, config))

    def choose(state: Any, key: Any, *inputs: Any) -> tuple[Any, Any]:
        return vary(state, key, *inputs) if sample else select(state, *inputs)

    return choose
