"""This file says where everything lies in the memory that the parent and its workers share.

The layout follows from the agents and spaces alone. So these are all that parent and workers tell
each other, as text (:func:`describe_env`), and each side lays the same arrays over the same bytes.

Who writes what, and when: the parent writes ``action`` before it sends a step. A worker writes its
own rows of everything else, at the end of the step, when no code of a game runs any more (see
:meth:`Collector._commit`); only what tells about the running step (``seconds``, ``steps``,
``running_return``, ``current``) it writes at once. Two workers never write the same bytes, so there
are no locks; the message that a step is done orders the writes before the parent's reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from kitae_envs.spaces import map_space

from kitae_marl.data.groups import group_specs
from kitae_marl.data.masks import wrong_mask_space
from kitae_marl.data.space_json import space_from_json, space_to_json
from kitae_marl.data.spaces import mask_width
from kitae_marl.data.stacking import mask_in
from kitae_marl.types import GroupSpec
from kitae_marl.vector.stepping.faults import DataFault, data_fault

ALIGNMENT = 64
"""Every array begins on a cache line of its own, so that NumPy's loops read whole vectors."""


class Blocks:
    """Every array of a vector environment, as views into one block of bytes.

    Parent and workers build it from the same description, so they agree on every offset. Blocks
    of a group are ``[E, A, ...]``; per-agent numbers are columns of one ``[E, N]`` array, group
    after group, so that one copy serves all groups.

    Args:
        description: agents and spaces.
        n_envs: number of environments.
        buffer: the bytes, of the size that ``size`` gives; None only measures.

    Attributes:
        groups, names, n_envs: how agents are stacked, their names by column, and how many
            environments there are.
        observation, final, action: by group, nested as the space is: ``[E, A, ...]``.
        mask: by group, ``[E, A, n]``, for masks that do not stand in the observation.
        columns: by group, its columns of all arrays ``[E, N]``.
        state_space, state, final_state: of global states, and these ``[E, ...]``; None where the
            game has none.
        size: bytes of all arrays together.
    """

    def __init__(
        self, description: Description, n_envs: int, buffer: np.ndarray | None = None
    ) -> None:
        self.groups: tuple[GroupSpec, ...] = group_specs(
            description.agents,
            description.observation_spaces.__getitem__,
            description.action_spaces.__getitem__,
        )
        self.names = tuple(agent for group in self.groups for agent in group.agents)
        self.n_envs = n_envs
        self._buffer, self._offset = buffer, 0
        self.observation: dict[str, Any] = {}
        self.final: dict[str, Any] = {}
        self.action: dict[str, Any] = {}
        self.mask: dict[str, np.ndarray] = {}
        self.columns: dict[str, slice] = {}
        self._allocate_groups()
        self._allocate_numbers()
        state = self.state_space = description.state_space
        shape = () if state is None else (n_envs, *(state.shape or ()))
        self.state = None if state is None else self._array(shape, np.dtype(state.dtype))
        self.final_state = None if state is None else self._array(shape, np.dtype(state.dtype))
        self.size = self._offset

    def _allocate_groups(self) -> None:
        """Lay out what is stacked by group."""
        start = 0
        for group in self.groups:
            rows = (self.n_envs, group.n_agents)
            space = group.observation_space
            for target in (self.observation, self.final):
                target[group.name] = map_space(
                    lambda part, rows=rows: self._array((*rows, *part.shape), part.dtype), space
                )
            self.action[group.name] = map_space(
                lambda part, rows=rows: self._array((*rows, *part.shape), part.dtype),
                group.action_space,
            )
            n = mask_width(group.action_space)
            if n and observed_mask(group, self.observation[group.name]) is None:
                self.mask[group.name] = self._array((*rows, n), np.dtype(np.int8))
            self.columns[group.name] = slice(start, start + group.n_agents)
            start += group.n_agents

    def _allocate_numbers(self) -> None:
        """Lay out numbers per agent ``[E, N]`` and per environment ``[E]``."""
        agents, envs = (self.n_envs, len(self.names)), (self.n_envs,)
        flag, real, count = np.dtype(np.bool_), np.dtype(np.float64), np.dtype(np.int64)
        self.reward = self._array(agents, real)
        self.terminated = self._array(agents, flag)
        self.truncated = self._array(agents, flag)
        self.active = self._array(agents, flag)
        self.in_game = self._array(agents, flag)
        self.running_return = self._array(agents, real)
        self.episode_return = self._array(agents, real)
        self.episode_length = self._array(agents, count)
        self.ended = self._array(envs, flag)  # by a flag of the game, a limit, a cut or a restart
        self.finished = self._array(envs, flag)  # by the game or the limit: its return counts
        self.seconds = self._array(envs, real)  # of the last step
        self.steps = self._array(envs, count)  # of the running episode
        self.episode = self._array(envs, count)  # its number
        # The next three have an entry for each worker, of which there are at most as many.
        # cancelled: the parent has given the worker up, so it may no longer commit what it wrote.
        self.cancelled = self._array(envs, flag)
        # committed: 1 + flags of the answer to a step, 0 before it is complete. A worker that dies
        # after its commit and before its answer has stepped all the same.
        self.committed = self._array(envs, count)
        # masked: which groups' infos have carried a mask, by environment.
        self.masked = self._array((self.n_envs, len(self.groups)), flag)
        # current: 1 + environment whose code is running, so that a dead worker can be blamed on it.
        self.current = self._array(envs, count)

    def _array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Take the next array."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        start = self._offset
        # Rounded up, also when it only measures: both times the offsets must be the same.
        self._offset += -(-size // ALIGNMENT) * ALIGNMENT
        if self._buffer is None:
            return np.broadcast_to(np.zeros((), dtype), shape)
        return self._buffer[start : start + size].view(dtype).reshape(shape)

    def per_group(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Split ``[E, N]`` numbers into ``{group: [E, A]}`` views."""
        return {group.name: numbers[:, self.columns[group.name]] for group in self.groups}


def observed_mask(group: GroupSpec, observation: Any) -> np.ndarray | None:
    """Return the mask inside a group's observation as an int8 view, or None if it has none."""
    mask = mask_in(observation)
    n = mask_width(group.action_space)
    if not isinstance(mask, np.ndarray) or not n or mask.shape[2:] != (n,):
        return None
    return mask.view(np.int8) if mask.dtype.itemsize == 1 else None


def make_blocks(
    description: Description, n_envs: int, allocate: Callable[[int], np.ndarray]
) -> Blocks:
    """Measure the layout, get that many bytes, and lay it out in them."""
    return Blocks(description, n_envs, allocate(max(1, Blocks(description, n_envs).size)))


def describe_env(env: Any) -> str:
    """Describe a parallel environment as canonical JSON: equal texts mean equal agents and spaces.

    Raises:
        DataFault: if a space is none of those that :func:`space_to_json` knows, or another one when
            it is asked for again.
    """
    agents = [str(agent) for agent in env.possible_agents]
    observed: dict[int, tuple[gym.Space[Any], Any]] = {}
    acted: dict[int, tuple[gym.Space[Any], Any]] = {}  # with the space: ids of the dead repeat
    table: list[Any] = []
    numbers = []
    for agent in agents:
        observation = _same_space(env.observation_space, agent, "observation space")
        action = _same_space(env.action_space, agent, "action space")
        if id(observation) not in observed:
            what = f"an observation space of agent {agent!r}"
            observed[id(observation)] = observation, _described(space_to_json, observation, what)
        if id(action) not in acted:
            what = f"an action space of agent {agent!r}"
            acted[id(action)] = action, _described(space_to_json, action, what)
        _require_mask_of_choices(agent, observation, action)
        pair = [observed[id(observation)][1], acted[id(action)][1]]
        if pair not in table:
            table.append(pair)
        numbers.append(table.index(pair))
    state = getattr(env, "state_space", None)
    return json.dumps(
        {
            "agents": agents,
            "spaces": table,
            "of": numbers,
            "state": space_to_json(state) if isinstance(state, spaces.Box) else None,
        }
    )


def _same_space(ask: Callable[[str], Any], agent: str, field: str) -> gym.Space[Any]:
    """Ask for a space twice, as others will ask again."""
    space = ask(agent)
    advice = f"return one space from {field.replace(' ', '_')}(agent), the same on every call"
    if not isinstance(space, gym.Space):
        raise data_fault(agent, field, "a gymnasium.Space", repr(space)[:200], advice)
    again = ask(agent)
    if again is not space and again != space:
        got = f"{space} and then {again}"
        raise data_fault(agent, field, "the same space whenever it is asked for", got, advice)
    return space


def _described(describe: Callable[..., Any], space: gym.Space[Any], what: str) -> Any:
    """Describe a space; one of no known kind breaks a rule."""
    try:
        return describe(space, what)
    except TypeError as error:
        raise DataFault("GameRuleError", str(error)) from error


def _require_mask_of_choices(
    agent: str, observation: gym.Space[Any], action: gym.Space[Any]
) -> None:
    """Refuse an action mask in observations that is not as long as there are choices."""
    if (wrong := wrong_mask_space(observation, action)) is not None:
        raise data_fault(agent, "observation space['action_mask']", *wrong)


@dataclass(frozen=True)
class Description:
    """Agents and spaces of an environment, decoded from :func:`describe_env`."""

    agents: tuple[str, ...]
    observation_spaces: dict[str, gym.Space]
    action_spaces: dict[str, gym.Space]
    state_space: gym.Space | None


def decode(description: str) -> Description:
    """Turn the text of :func:`describe_env` back into spaces; agents alike share them."""
    data = json.loads(description)
    # A game made these spaces, so none is too large.
    table = [[space_from_json(space, None) for space in pair] for pair in data["spaces"]]
    pairs = dict(zip(data["agents"], (table[i] for i in data["of"]), strict=True))
    return Description(
        agents=tuple(data["agents"]),
        observation_spaces={agent: pair[0] for agent, pair in pairs.items()},
        action_spaces={agent: pair[1] for agent, pair in pairs.items()},
        state_space=data["state"] and space_from_json(data["state"], None),
    )
