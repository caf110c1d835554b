"""A trained policy of the PPO family as arrays, to be played without JAX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from kitae_envs.spaces import flat_space

from kitae_marl.algos.nets.distributions import bounds_in_float32, network_units
from kitae_marl.algos.nets.normalization import Moments, standard_deviation
from kitae_marl.algos.ppo.units import Units
from kitae_marl.config.run import Config
from kitae_marl.data.space_json import space_to_json
from kitae_marl.data.spaces import feature_space, has_mask
from kitae_marl.types import GroupSpec, TrainState


def export_group(
    group: GroupSpec, config: Config, state: Mapping[str, TrainState]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the policies of one group for play without JAX; ``Algorithm.export``.

    Args:
        group: the group.
        config: settings of the run.
        state: ``{group: TrainState}``.

    Returns:
        How the arrays are put together, as JSON; and the arrays by name: parameters, moments of
        observations, bounds of actions. The critic is among them where it sees what its agent sees.

    Raises:
        ValueError: for a network of the user's own, which only its module can compute.
    """
    if config.ppo.network:
        raise ValueError(
            f"expected a policy of the package's own networks to export, got ppo.network = "
            f"{config.ppo.network!r}; play it by Agent.load(run).select_action."
        )
    return _describe(group, config), dict(_arrays(group, config, state[group.name]))


def _describe(group: GroupSpec, config: Config) -> dict[str, Any]:
    """Say how the arrays of a group are put together."""
    ppo = config.ppo
    return {
        "share_params": group.share_params,
        "n_agents": group.n_agents,
        "agent_id": ppo.agent_id and group.share_params and group.n_agents > 1,
        "masked": has_mask(group.observation_space),
        "space": space_to_json(feature_space(group.observation_space)),
        "action_space": space_to_json(group.action_space),
        "n_layers": len(ppo.hidden_sizes),
        "activation": ppo.activation,
        "gru_size": ppo.gru_size,
        "critic": _critic_kind(config),
    }


def _critic_kind(config: Config) -> str | None:
    """Say what the critic sees: "own" layers, the "shared" ones, or None: the whole game."""
    if config.central:
        return None
    return "shared" if config.ppo.shared_trunk else "own"


def _arrays(group: GroupSpec, config: Config, state: TrainState) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a group by name: parameters, moments of observations, bounds."""
    yield from _flat(state.params["actor"]["params"], "")
    if config.ppo.normalize_observation:
        yield from _flat(state.moments["observation"], "moments/")
    if _critic_kind(config):
        yield from _flat(state.params["critic"]["params"], "critic/")
        yield from _units(config, state)
    for path, space in flat_space(group.action_space):
        place = "".join(f"{key}/" for key in ("bound", *path))
        if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating):
            yield from _bounds(space, place)
        elif isinstance(space, gym.spaces.Box):
            yield f"{place}low", space.low.astype(np.int64)
            yield f"{place}high", space.high.astype(np.int64)


def _units(config: Config, state: TrainState) -> Iterator[tuple[str, np.ndarray]]:
    """Yield zero and size of the critic's units, in rewards."""
    shape = np.shape(state.n_updates)  # () or, with a network for each agent, [A]
    zero, size = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    if config.ppo.normalize_return:
        zero, size = Units.of(state.moments["target"])
    yield "value/zero", np.reshape(zero, shape)
    yield "value/size", np.reshape(size, shape)


def _bounds(space: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the bounds of actions, and what the network's -1 and 1 stand for."""
    low, high = bounds_in_float32(space)
    middle, half = network_units(low, high)
    yield f"{path}low", low
    yield f"{path}high", high
    yield f"{path}half", half
    yield f"{path}middle", middle


def _flat(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dicts and tuples, names joined by ``/``."""
    if isinstance(tree, Moments):
        yield f"{path}mean", tree.mean
        yield f"{path}deviation", standard_deviation(tree)
    elif isinstance(tree, Mapping | tuple):
        pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for name, part in pairs:
            yield from _flat(part, f"{path}{name}/")
    else:
        yield path.rstrip("/"), tree
