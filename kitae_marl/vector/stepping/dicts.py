"""Actions on their way from the trainer to the games, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kitae_marl.data.groups import GroupSpec
from kitae_marl.data.stacking import AgentDict
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.spaces import action_leaf


class ActionReader:
    """Reads the actions of one worker's rows, in the worker."""

    def __init__(self, blocks: Blocks, rows: slice) -> None:
        self._blocks = [blocks.action[group.name][rows] for group in blocks.groups]

    def read(self) -> list[list[Any]]:
        """Return every row's actions by column: Python numbers, or arrays the game may keep."""
        parts = [
            block.tolist() if block.ndim == 2 else [list(row) for row in block.copy()]
            for block in self._blocks
        ]
        if len(parts) == 1:
            return parts[0]
        return [[a for part in row for a in part] for row in zip(*parts, strict=True)]


class ActionWriter:
    """Writes ``{agent: [E, ...]}`` into the blocks ``{group: [E, A, ...]}``."""

    def __init__(self, blocks: Blocks) -> None:
        active = blocks.per_group(blocks.active)
        self._groups = [
            _GroupWriter(group, blocks.action[group.name], active[group.name])
            for group in blocks.groups
        ]

    def write(self, actions: Mapping[str, Any]) -> None:
        """Check and write the actions of all groups; nothing is written if one is wrong.

        Raises:
            ValueError: if an agent is missing, or an action has the wrong shape or dtype, is not
                finite or lies outside its space, and the agent is active.
        """
        blocks = actions.blocks if isinstance(actions, AgentDict) else None
        gathered = []
        for writer in self._groups:
            block = None
            if blocks is not None and isinstance(actions, AgentDict):
                block = actions.stacked(writer.group.name, writer.group.agents)
            gathered.append(writer.gather(actions) if block is None else writer.take(block))
        for writer, values in zip(self._groups, gathered, strict=True):
            writer.block[...] = values


class _GroupWriter:
    """The actions of one group."""

    def __init__(self, group: GroupSpec, block: np.ndarray, active: np.ndarray) -> None:
        leaf = action_leaf(group.action_space)
        self.group, self.block, self.active = group, block, active
        self._low, self._high = leaf.low, leaf.high
        self._scalar = np.ndim(leaf.low) == 0
        self._filler = np.broadcast_to(np.asarray(leaf.low, block.dtype), leaf.shape)
        if block.dtype.kind == "f" and not np.isfinite(self._filler).all():
            self._filler = np.zeros(leaf.shape, block.dtype)

    def take(self, values: Any) -> np.ndarray:
        """Check a stacked block ``[E, A, ...]``."""
        values = np.asarray(values)
        if values.shape != self.block.shape:
            raise ValueError(
                f"expected actions of shape {self.block.shape} for group {self.group.name!r}, got "
                f"{values.shape}."
            )
        return self._check(values)

    def gather(self, actions: Mapping[str, Any]) -> np.ndarray:
        """Stack and check the actions given by agent."""
        values = np.empty_like(self.block)
        expected = (self.block.shape[0], *self.block.shape[2:])
        for i, agent in enumerate(self.group.agents):
            if agent not in actions:
                if self.active[:, i].any():
                    raise ValueError(
                        f"expected an action for agent {agent!r}, got actions for "
                        f"{list(actions)[:20]}."
                    )
                values[:, i] = self._filler
                continue
            given = np.asarray(actions[agent])
            if given.shape != expected:
                raise ValueError(
                    f"expected actions of shape {expected} for agent {agent!r}, got "
                    f"{given.shape}; axis 0 is the environment."
                )
            self._check_dtype(given)
            values[:, i] = given
        return self._check(values)

    def _check_dtype(self, values: np.ndarray) -> None:
        """Refuse casts that lose what was meant, such as floats for a Discrete space."""
        dtype = self.block.dtype
        if values.dtype is not dtype and not np.can_cast(values.dtype, dtype, "same_kind"):
            raise ValueError(
                f"expected actions of dtype {dtype} for group {self.group.name!r}, got "
                f"{values.dtype}."
            )

    def _check(self, values: np.ndarray) -> np.ndarray:
        """Check dtype and bounds; actions of inactive agents may be anything in the dtype."""
        if values.dtype != self.block.dtype:
            self._check_dtype(values)
            values = values.astype(self.block.dtype)
        if self._scalar and values.size:
            if values.min() >= self._low and values.max() <= self._high:
                return values
        elif ((values >= self._low) & (values <= self._high)).all():
            return values
        return self._judge(values)

    def _judge(self, values: np.ndarray) -> np.ndarray:
        """Find the action that is wrong, or replace those that nobody will use."""
        inside = (values >= self._low) & (values <= self._high)
        inside = inside.reshape(*values.shape[:2], -1).all(axis=2)
        wrong = np.argwhere(~inside & self.active)
        if len(wrong):
            env, i = wrong[0].tolist()
            raise ValueError(
                f"expected actions inside {self.group.action_space}, got {values[env, i]} for "
                f"agent {self.group.agents[i]!r} of env {env}; clip or mask them first."
            )
        return np.where(
            inside.reshape(*inside.shape, *[1] * (values.ndim - 2)), values, self._filler
        )
