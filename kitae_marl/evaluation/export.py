"""This file exports trained policies, for use without JAX and without this package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from kitae_marl.algos.nets.distributions import bounds_in_float32, network_units
from kitae_marl.algos.nets.normalization import Moments, standard_deviation
from kitae_marl.data.space_json import space_to_json
from kitae_marl.data.spaces import feature_space, has_mask
from kitae_marl.runs.store.files import replacing, require_output

if TYPE_CHECKING:
    from kitae_marl.runs.agent import Agent
    from kitae_marl.types import GroupSpec

SOURCE = Path(__file__).parent / "exported_policy.py"


def export_policy(agent: Agent, out: str | Path) -> tuple[Path, Path]:
    """Write the policies of all agents as arrays, and beside them the module that acts with them.

    Args:
        agent: the trained agent.
        out: path ending in ``.npz``; the module gets the same name with ``.py``.

    Returns:
        Paths of both files.

    Raises:
        ValueError: as ``require_outputs``.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from kitae_marl import Agent, Config, make_vec_env
        >>> env = make_vec_env("gymnasium:CartPole-v1", 1, n_workers=0)
        >>> agent = Agent(env, Config(env_id="gymnasium:CartPole-v1"))
        >>> with TemporaryDirectory() as folder:
        ...     paths = export_policy(agent, f"{folder}/policy.npz")
        >>> env.close()
        >>> [path.name for path in paths]
        ['policy.npz', 'policy.py']
    """
    out, module = require_outputs(out)
    about: dict[str, Any] = {"format": 2, "agents": {}, "groups": {}}
    arrays: dict[str, np.ndarray] = {}
    for number, group in enumerate(agent.groups):
        prefix = f"group_{number}"
        about["groups"][group.name] = {"prefix": prefix, **_about_group(group, agent)}
        for name, array in _arrays(group, agent):
            arrays[f"{prefix}/{name}"] = np.asarray(array)
    for name in agent.possible_agents:
        (group,) = (group for group in agent.groups if name in group.agents)
        about["agents"][name] = {"group": group.name, "index": group.agents.index(name)}
    with replacing(out) as temporary:
        np.savez(temporary, about=np.array(json.dumps(about)), **arrays)  # pyright: ignore[reportArgumentType]
    with replacing(module) as temporary:
        temporary.write_text(SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    return out, module


def require_outputs(out: str | Path) -> tuple[Path, Path]:
    """Return the paths of arrays and module, sure to be free or an older export's.

    Raises:
        ValueError: as ``require_output``, or if a file that is no exported module has its name.
    """
    out = require_output(out, (".npz",))
    module = out.with_suffix(".py")
    require_output(module, (".py",))
    first_line = SOURCE.read_text(encoding="utf-8").partition("\n")[0]
    if module.exists() and not module.read_text(errors="replace").startswith(first_line):
        raise ValueError(
            f"{module} is in the way: the module that acts gets this name; choose another --out."
        )
    return out, module


def _about_group(group: GroupSpec, agent: Agent) -> dict[str, Any]:
    """Say how the arrays of a group are put together."""
    ppo = agent.config.ppo
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
    }


def _arrays(group: GroupSpec, agent: Agent) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a group by name: parameters, moments of observations, bounds."""
    state = agent.state[group.name]
    yield from _flat(state.params["actor"]["params"], "")
    if agent.config.ppo.normalize_observation:
        yield from _flat(state.moments["observation"], "moments/")
    if isinstance(group.action_space, gym.spaces.Box):
        yield from _bounds(group.action_space)


def _bounds(space: gym.spaces.Box) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the bounds of actions, and what the network's -1 and 1 stand for."""
    low, high = bounds_in_float32(space)
    middle, half = network_units(low, high)
    yield "bound/low", low
    yield "bound/high", high
    yield "bound/half", half
    yield "bound/middle", middle


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
