"""This file stands between the trainer's dicts by agent and the arrays stacked by group.

On the way to the games :class:`ActionWriter` checks actions in the parent, before anything is sent,
and :class:`ActionReader` takes them out in a worker. On the way back :class:`Views` shows what the
workers wrote, by agent and without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kitae_marl.data.spaces import Leaf, leaves
from kitae_marl.data.stacking import AgentDict, map_leaves
from kitae_marl.types import GroupSpec
from kitae_marl.vector.stepping.blocks import Blocks, observed_mask
from kitae_marl.vector.stepping.casting import is_kind_of


class ActionWriter:
    """Writes ``{agent: [E, ...]}`` into arrays stacked by group.

    Args:
        groups: which agents are stacked together.
        action: where to write, ``{group: [E, A, ...]}``, nested as the action space is.
        active: who is to act now, ``{group: [E, A]}``; read at every :meth:`write`.
    """

    def __init__(
        self,
        groups: Iterable[GroupSpec],
        action: Mapping[str, Any],
        active: Mapping[str, np.ndarray],
    ) -> None:
        self._writers = [
            _LeafWriter(group, leaf, leaf.of(action[group.name]), active[group.name])
            for group in groups
            for leaf in leaves(group.action_space)
        ]

    def write(self, actions: Mapping[str, Any]) -> None:
        """Check and write the actions of all groups; nothing is written if one is wrong.

        Raises:
            ValueError: if an agent is missing, or an action has the wrong shape or dtype, is not
                finite or lies outside its space, and the agent is active.
        """
        blocks = actions.blocks if isinstance(actions, AgentDict) else None
        gathered = []
        for writer in self._writers:
            block = None
            if blocks is not None and isinstance(actions, AgentDict):
                block = actions.stacked(writer.group.name, writer.group.agents)
            gathered.append(writer.gather(actions) if block is None else writer.take(block))
        for writer, values in zip(self._writers, gathered, strict=True):
            writer.block[...] = values


class _LeafWriter:
    """One array of the actions of one group: all of them, or a part of Dicts or Tuples."""

    def __init__(self, group: GroupSpec, leaf: Leaf, block: np.ndarray, active: np.ndarray) -> None:
        self.group, self.block, self.active = group, block, active
        self._leaf, self._what = leaf, f"actions{leaf.name}"
        self._low, self._high = leaf.low, leaf.high
        if block.dtype.kind == "f":  # infinity is in no space, and a float64 may become it
            most = np.finfo(block.dtype).max
            self._low, self._high = np.maximum(leaf.low, -most), np.minimum(leaf.high, most)
        self._scalar = np.ndim(leaf.low) == 0
        self._filler = np.broadcast_to(np.asarray(leaf.low, block.dtype), leaf.shape)
        if block.dtype.kind == "f" and not np.isfinite(self._filler).all():
            self._filler = np.zeros(leaf.shape, block.dtype)

    def take(self, values: Any) -> np.ndarray:
        """Check a stacked block ``[E, A, ...]``."""
        values = np.asarray(self._leaf.of(values))
        if values.shape != self.block.shape:
            raise ValueError(
                f"expected {self._what} of shape {self.block.shape} for group "
                f"{self.group.name!r}, got {values.shape}."
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
            given = np.asarray(self._leaf.of(actions[agent]))
            if given.shape != expected:
                raise ValueError(
                    f"expected {self._what} of shape {expected} for agent {agent!r}, got "
                    f"{given.shape}; axis 0 is the environment."
                )
            if given.dtype != self.block.dtype:  # it must fit before it is cast
                given = self._check(given[:, None], slice(i, i + 1))[:, 0]
            values[:, i] = given
        return self._check(values)

    def _check_dtype(self, values: np.ndarray) -> None:
        """Refuse casts that lose what was meant, such as floats for a Discrete space."""
        dtype = self.block.dtype
        if not is_kind_of(values.dtype, dtype):
            raise ValueError(
                f"expected {self._what} of dtype {dtype} for group {self.group.name!r}, got "
                f"{values.dtype}."
            )

    def _check(self, values: np.ndarray, columns: slice = slice(None)) -> np.ndarray:
        """Check kind and bounds, then cast; actions of inactive agents may be any of the kind."""
        if values.dtype != self.block.dtype:
            self._check_dtype(values)
        # The bounds come before the cast: after it an integer too large may lie inside.
        if self._scalar and values.size:
            inside = bool(values.min() >= self._low and values.max() <= self._high)
        else:
            inside = bool(((values >= self._low) & (values <= self._high)).all())
        return (values if inside else self._judge(values, columns)).astype(
            self.block.dtype, copy=False
        )

    def _judge(self, values: np.ndarray, columns: slice) -> np.ndarray:
        """Find the action that is wrong, or replace those that nobody will use."""
        inside = (values >= self._low) & (values <= self._high)
        inside = inside.reshape(*values.shape[:2], -1).all(axis=2)
        wrong = np.argwhere(~inside & self.active[:, columns])
        if len(wrong):
            env, i = wrong[0].tolist()
            raise ValueError(
                f"expected {self._what} inside {self.group.action_space}, got {values[env, i]} for "
                f"agent {self.group.agents[columns][i]!r} of env {env}; clip or mask them first."
            )
        return np.where(
            inside.reshape(*inside.shape, *[1] * (values.ndim - 2)), values, self._filler
        )


class ActionReader:
    """Reads the actions of one worker's rows, in the worker."""

    def __init__(self, blocks: Blocks, rows: slice) -> None:
        self._blocks = [
            map_leaves(lambda x: x[rows], blocks.action[group.name]) for group in blocks.groups
        ]

    def read(self) -> list[list[Any]]:
        """Return every row's actions by column: Python numbers, or arrays the game may keep."""
        parts = [_by_row(block) for block in self._blocks]
        if len(parts) == 1:
            return parts[0]
        return [[a for part in row for a in part] for row in zip(*parts, strict=True)]


def _by_row(block: Any) -> list[list[Any]]:
    """Return what agents of one group do, ``[E][A]``, nested as the block is."""
    if isinstance(block, dict):
        of = {key: _by_row(part) for key, part in block.items()}
        return [
            [dict(zip(of, values, strict=True)) for values in zip(*rows, strict=True)]
            for rows in zip(*of.values(), strict=True)
        ]
    if isinstance(block, tuple):
        parts = [_by_row(part) for part in block]
        return [list(zip(*rows, strict=True)) for rows in zip(*parts, strict=True)]
    return block.tolist() if block.ndim == 2 else [list(row) for row in block.copy()]


class Views:
    """The per-agent dicts over the shared blocks.

    Every dict is made once; a step only changes the memory behind its arrays.
    """

    def __init__(self, blocks: Blocks, with_state: bool) -> None:
        self._blocks = blocks
        self._agents = {group.name: group.agents for group in blocks.groups}
        self._with_state = with_state
        self.observation = AgentDict(blocks.observation, self._agents)
        self.reward = self._numbers(blocks.reward)
        self.terminated = self._numbers(blocks.terminated)
        self.truncated = self._numbers(blocks.truncated)
        self._active = self._numbers(blocks.active)
        self._final = AgentDict(blocks.final, self._agents)
        self._return = self._numbers(blocks.episode_return)
        self._length = self._numbers(blocks.episode_length)
        self._mask: AgentDict | None = None
        self._unmasked: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.find_masks()

    def _numbers(self, numbers: np.ndarray) -> AgentDict:
        """Split ``[E, N]`` numbers by agent."""
        return AgentDict(self._blocks.per_group(numbers), self._agents)

    def find_masks(self) -> None:
        """Collect the groups that have action masks; called again when a worker met the first."""
        blocks = self._blocks
        masks, self._unmasked = {}, []
        active = blocks.per_group(blocks.active)
        for i, group in enumerate(blocks.groups):
            mask = observed_mask(group, blocks.observation[group.name])
            if mask is not None:
                masks[group.name] = mask
            elif blocks.masked[:, i].any():
                masks[group.name] = blocks.mask[group.name]
                if not blocks.masked[:, i].all():
                    self._unmasked.append((blocks.mask[group.name], active[group.name], i))
        self._mask = AgentDict(masks, self._agents) if masks else None

    def infos(self, ended: bool) -> dict[str, Any]:
        """Return the infos of one step."""
        infos: dict[str, Any] = {"active": self._active}
        if self._mask is not None:
            for block, active, i in self._unmasked:
                rows = ~self._blocks.masked[:, i]
                block[rows] = active[rows][..., None]
            infos["action_mask"] = self._mask
        if ended:
            self._add_final(infos)
        return infos

    def _add_final(self, infos: dict[str, Any]) -> None:
        """Add what belongs to episodes that ended on this step."""
        blocks = self._blocks
        infos["_final_observation"] = blocks.ended.copy()
        infos["final_observation"] = self._final
        if self._with_state and blocks.final_state is not None:
            infos["final_state"] = blocks.final_state
        infos["_episode"] = blocks.finished.copy()
        infos["episode"] = {"return": self._return, "length": self._length}

    def interrupt(self, rows: list[int], in_game: np.ndarray) -> None:
        """Turn rows of environments that were started again into the end of an episode.

        Args:
            rows: the environments; their final observations have been kept before.
            in_game: which agents ``[E, N]`` were in the game when it was lost.
        """
        blocks = self._blocks
        blocks.reward[rows] = 0.0
        blocks.terminated[rows] = False
        blocks.truncated[rows] = in_game[rows]
        blocks.ended[rows] = True
        blocks.finished[rows] = False

    def keep_final(self, rows: list[int]) -> None:
        """Copy the observations delivered last into the final ones."""
        blocks = self._blocks

        def keep(final: np.ndarray, block: np.ndarray) -> None:
            final[rows] = block[rows]

        for name, block in blocks.observation.items():
            map_leaves(keep, blocks.final[name], block)
        if blocks.final_state is not None and blocks.state is not None:
            blocks.final_state[rows] = blocks.state[rows]
