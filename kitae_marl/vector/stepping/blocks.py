"""The memory that the parent and its workers share, and where everything lies in it.

On Linux it is one ``memfd`` per vector environment: it has no name, so nothing can be left behind
in ``/dev/shm`` however the processes end. Elsewhere it is a named block of
``multiprocessing.shared_memory``, removed by ``close``; if the parent is killed with SIGKILL the
resource tracker removes it, and if that is killed as well the block stays until the next boot.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from multiprocessing import resource_tracker, shared_memory
from typing import Any

import numpy as np
from gymnasium import spaces

from kitae_marl.data.groups import GroupSpec, group_specs
from kitae_marl.vector.stepping.spaces import Description, action_leaf, leaves, tree

ALIGNMENT = 64


class Memory:
    """A block of bytes: private, shared through a descriptor, or shared by name.

    Args:
        kind: ``"private"``, ``"memfd"`` or ``"named"``; None picks memfd where there is one.
    """

    def __init__(self, kind: str | None = None) -> None:
        self.kind = kind or ("memfd" if hasattr(os, "memfd_create") else "named")
        self.fd = os.memfd_create("kitae_marl") if self.kind == "memfd" else -1
        self._named: shared_memory.SharedMemory | None = None

    @property
    def name(self) -> str:
        """Name to attach to, empty unless the block is named."""
        return self._named.name if self._named else ""

    def allocate(self, size: int) -> np.ndarray:
        """Return ``size`` zero bytes. Pages take no room until they are written."""
        if self.kind == "private":
            return np.zeros(size, np.uint8)
        if self.kind == "memfd":
            os.ftruncate(self.fd, size)
            return map_descriptor(self.fd, size)
        self._named = shared_memory.SharedMemory(create=True, size=size)
        return _bytes_of(self._named, size)

    def close(self) -> None:
        """Give back descriptor and name. Arrays that are still held stay readable."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._named is not None:
            self._named.unlink()
            _forget(self._named)
            self._named = None


def attach(fd: int, name: str, size: int) -> np.ndarray:
    """Return the bytes of the parent's block, in a worker."""
    if not name:
        return map_descriptor(fd, size)
    block = shared_memory.SharedMemory(name=name)
    # Before Python 3.13 attaching also registers, and a leaving worker would remove the block.
    resource_tracker.unregister(block._name, "shared_memory")  # pyright: ignore[reportAttributeAccessIssue]
    array = _bytes_of(block, size)
    _forget(block)
    return array


def _bytes_of(block: shared_memory.SharedMemory, size: int) -> np.ndarray:
    """Return a named block as an array."""
    if block.buf is None:
        raise RuntimeError("expected an open block of shared memory, got a closed one.")
    return np.frombuffer(block.buf, np.uint8, size)


def _forget(block: shared_memory.SharedMemory) -> None:
    """Leave the mapping to the arrays that look into it; close only the descriptor."""
    block._buf = None  # pyright: ignore[reportAttributeAccessIssue]
    block._mmap = None  # pyright: ignore[reportAttributeAccessIssue]
    block.close()


class _Mapping:
    """A mapping that lives as long as an array looks into it.

    ``mmap.mmap`` duplicates the descriptor and keeps it as long; a closed vector environment whose
    last observations are still held would then cost a descriptor.
    """

    def __init__(self, fd: int, size: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        address = libc.mmap(None, size, protection, mmap.MAP_SHARED, fd, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            code = ctypes.get_errno()
            raise OSError(code, f"cannot map {size} bytes of shared memory: {os.strerror(code)}")
        self._address, self._size, self._munmap = address, size, libc.munmap
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
        }

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            self._munmap(self._address, self._size)


def map_descriptor(fd: int, size: int) -> np.ndarray:
    """Map a descriptor as an array of bytes."""
    return np.asarray(_Mapping(fd, size))


class Blocks:
    """Every array of a vector environment, as views into one block of bytes.

    Parent and workers build it from the same description, so they agree on every offset. Blocks
    of a group are ``[E, A, ...]``; per-agent numbers are columns of one ``[E, N]`` array, group
    after group, so that one copy serves all groups.

    Args:
        description: agents and spaces.
        n_envs: number of environments.
        buffer: the bytes, of the size that :meth:`size` gives; None only measures.
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
        self.action: dict[str, np.ndarray] = {}
        self.mask: dict[str, np.ndarray] = {}
        self.columns: dict[str, slice] = {}
        self._allocate_groups()
        self._allocate_numbers()
        state = description.state_space
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
                target[group.name] = tree(
                    space, (self._array((*rows, *leaf.shape), leaf.dtype) for leaf in leaves(space))
                )
            action = action_leaf(group.action_space)
            self.action[group.name] = self._array((*rows, *action.shape), action.dtype)
            n = mask_width(group)
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
        self.ended = self._array(envs, flag)
        self.finished = self._array(envs, flag)
        self.seconds = self._array(envs, real)
        self.steps = self._array(envs, count)  # of the running episode
        self.episode = self._array(envs, count)  # its number
        self.cancelled = self._array(
            envs, flag
        )  # by worker: it was given up, nothing may be written
        self.committed = self._array(envs, count)  # by worker: 1 + flags of the answer to a step
        self.masked = self._array((self.n_envs, len(self.groups)), flag)
        self.current = self._array(envs, count)  # by worker: 1 + environment whose code is running

    def _array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Take the next array."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        start = self._offset
        self._offset += -(-size // ALIGNMENT) * ALIGNMENT
        if self._buffer is None:
            return np.broadcast_to(np.zeros((), dtype), shape)
        return self._buffer[start : start + size].view(dtype).reshape(shape)

    def per_group(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Split ``[E, N]`` numbers into ``{group: [E, A]}`` views."""
        return {group.name: numbers[:, self.columns[group.name]] for group in self.groups}


def mask_width(group: GroupSpec) -> int:
    """Length of the group's action masks, 0 where its actions cannot be masked."""
    space = group.action_space
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return int(space.nvec.sum()) if isinstance(space, spaces.MultiDiscrete) else 0


def observed_mask(group: GroupSpec, observation: Any) -> np.ndarray | None:
    """Return the mask inside a group's observation as an int8 view, or None if it has none."""
    mask = observation.get("action_mask") if isinstance(observation, dict) else None
    n = mask_width(group)
    if not isinstance(mask, np.ndarray) or not n or mask.shape[2:] != (n,):
        return None
    return mask.view(np.int8) if mask.dtype.itemsize == 1 else None


def make_blocks(
    description: Description, n_envs: int, allocate: Callable[[int], np.ndarray]
) -> Blocks:
    """Measure the layout, get that many bytes, and lay it out in them."""
    return Blocks(description, n_envs, allocate(max(1, Blocks(description, n_envs).size)))
