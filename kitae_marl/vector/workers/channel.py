"""This file is the language of the parent and a worker: commands, and frames over a socket.

A frame is a fixed header and a payload. Every command carries a sequence number and every answer
repeats it, so an answer to an older command can never be taken for one to a newer.
The parent may send pickles (of what its own user gave it); a worker answers with JSON and raw
bytes only.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from kitae_marl.vector.options import VectorOptions

HEADER = struct.Struct("<IBBHQ")
"""Payload bytes, kind, flags, reserved, sequence number."""
MAX_PAYLOAD = 1 << 30
"""Longer answers are refused; the largest legitimate one is a rendered frame."""

START, MAP, RESET, STEP, STATE, RENDER, CLOSE, OPTIONS = range(1, 9)
"""Commands. ``RESET`` also rebuilds environments that failed; ``OPTIONS`` are those of the episodes
that begin later."""

ENDED = 1
"""Flag of an answer: in some environment an episode ended."""
PAYLOAD = 2
"""Flag of an answer: a JSON report follows."""
MASKED = 4
"""Flag of an answer: infos of these environments carry action masks."""


class StartOrder(NamedTuple):
    """The order to make a worker's environments.

    Attributes:
        makers: what ``pack`` of ``kitae_marl.vector.workers.packing`` returned, or, within one
            process, the environments themselves.
        first: index of the first environment.
        number: which worker it is.
        options: the options of the vector.
    """

    makers: bytes | Sequence[Any]
    first: int
    number: int
    options: VectorOptions


class Frame(NamedTuple):
    """One message."""

    kind: int
    flags: int
    sequence: int
    payload: bytes | bytearray


def send(
    sock: socket.socket, kind: int, sequence: int, payload: bytes = b"", flags: int = 0
) -> None:
    """Send one frame, within the socket's timeout.

    Raises:
        OSError: if the other side is gone, or does not read in time.
    """
    header = HEADER.pack(len(payload), kind, flags, 0, sequence)
    if len(payload) > 65536:
        sock.sendall(header)
        sock.sendall(payload)
    else:
        sock.sendall(header + payload)


def receive(sock: socket.socket, header: bytes = b"") -> Frame:
    """Receive one frame, within the socket's timeout.

    Args:
        sock: the socket.
        header: what of the frame's header was read before.

    Raises:
        EOFError: if the other side is gone.
        OSError: if the connection broke or the rest of a frame does not come in time.
        ValueError: if the frame is longer than any legitimate one.
    """
    header = header or sock.recv(HEADER.size)
    if len(header) < HEADER.size:
        header += receive_exactly(sock, HEADER.size - len(header))
    length, kind, flags, _, sequence = HEADER.unpack(header)
    if length > MAX_PAYLOAD:
        raise ValueError(f"expected a frame of at most {MAX_PAYLOAD} bytes, got {length}.")
    return Frame(kind, flags, sequence, receive_exactly(sock, length) if length else b"")


def receive_exactly(sock: socket.socket, length: int) -> bytearray:
    """Receive this many bytes."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    filled = 0
    while filled < length:
        count = sock.recv_into(view[filled:])
        if count == 0:
            raise EOFError("the other side closed the connection.")
        filled += count
    return buffer
