"""This file allocates the memory that the parent and its workers share, and maps it in workers.

On Linux it is one ``memfd`` per vector environment: it has no name, so nothing can be left behind
in ``/dev/shm`` however the processes end. Elsewhere it is a named block of
``multiprocessing.shared_memory``, removed by ``close``; if the parent is killed with SIGKILL the
resource tracker removes it, and if that is killed as well the block stays until the next boot.
What lies in it is the business of :mod:`kitae_marl.vector.stepping.blocks`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from multiprocessing import resource_tracker, shared_memory

import numpy as np


class Memory:
    """A block of bytes: private, shared through a descriptor, or shared by name.

    Args:
        kind: ``"private"``, ``"memfd"`` or ``"named"``; None picks memfd where there is one.

    Attributes:
        array: the bytes, once they are allocated and until the block is closed.
    """

    def __init__(self, kind: str | None = None) -> None:
        self.kind = kind or ("memfd" if hasattr(os, "memfd_create") else "named")
        self.fd = os.memfd_create("kitae_marl") if self.kind == "memfd" else -1
        self.array: np.ndarray | None = None
        self._named: shared_memory.SharedMemory | None = None

    @property
    def name(self) -> str:
        """Name to attach to, empty unless the block is named."""
        return self._named.name if self._named else ""

    def allocate(self, size: int) -> np.ndarray:
        """Return ``size`` zero bytes. Pages take no room until they are written."""
        if self.kind == "private":
            self.array = np.zeros(size, np.uint8)
        elif self.kind == "memfd":
            os.ftruncate(self.fd, size)
            self.array = map_descriptor(self.fd, size)
        else:
            self._named = shared_memory.SharedMemory(create=True, size=size)
            self.array = _bytes_of(self._named, size)
        return self.array

    def close(self) -> None:
        """Give back descriptor and name. Arrays that are still held stay readable."""
        self.array = None
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
        self._address = 0
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
        if self._address:
            self._munmap(self._address, self._size)


def map_descriptor(fd: int, size: int) -> np.ndarray:
    """Map a descriptor as an array of bytes."""
    return np.asarray(_Mapping(fd, size))
