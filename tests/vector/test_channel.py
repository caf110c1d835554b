"""Frames between parent and workers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from vector_games import CountGame

from kitae_marl.errors import printable
from kitae_marl.vector.stepping.faults import plain
from kitae_marl.vector.workers import channel
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    a, b = socket.socketpair()
    a.settimeout(1)
    b.settimeout(1)
    with a, b:
        yield a, b


@pytest.mark.parametrize("length", [0, 5, 70_000])
def test_round_trip(pair: Pair, length: int) -> None:
    payload = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    channel.send(pair[0], channel.RESET, 2**40, payload, flags=3)
    assert channel.receive(pair[1]) == (channel.RESET, 3, 2**40, payload)


def test_a_closed_connection_is_the_end(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        channel.receive(pair[1])


def test_half_a_frame_times_out(pair: Pair) -> None:
    pair[1].settimeout(0.1)
    pair[0].sendall(channel.HEADER.pack(10, 1, 0, 0, 1) + b"abc")
    with pytest.raises(TimeoutError):
        channel.receive(pair[1])


def test_frames_that_are_too_long_are_refused(pair: Pair) -> None:
    pair[0].sendall(channel.HEADER.pack(2**31, 1, 0, 0, 1))
    with pytest.raises(ValueError, match="at most"):
        channel.receive(pair[1])


def test_an_answer_to_an_older_command_is_never_taken() -> None:
    """Ctrl-C while waiting leaves an answer in the socket; the next call must not read it."""
    with SubProcVecParallelEnv([CountGame] * 2, n_workers=1) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(2, int) for agent in vec.possible_agents}
        vec.step_async(zeros)
        vec._state = "failed"  # as after an interrupted step_wait
        observations, _ = vec.reset(seed=1)
        assert observations["a_0"][:, :2].tolist() == [[1, 0], [2, 0]]
        assert vec.step(zeros)[1]["a_0"].tolist() == [1, 1]


def test_infos_become_json() -> None:
    value = {"a": np.float32(0.5), "b": (1, np.arange(2)), 3: {"c": None}, "d": np.bool_(True)}
    assert json.loads(json.dumps(plain(value))) == {
        "a": 0.5,
        "b": [1, [0, 1]],
        "3": {"c": None},
        "d": True,
    }
    for wrong in (object(), {1, 2}, np.array([object()])):
        with pytest.raises(TypeError, match="JSON-like"):
            plain(wrong)


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b]0;x\x07\n\tü") == "a\\x1b]0;x\\x07\n\tü"
