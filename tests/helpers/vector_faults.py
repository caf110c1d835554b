"""Faults of games for the tests: ways to die, to hang and to raise. Imports no pytest."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from kitae_marl import errors

AT = 3
"""Time within the episode at which faults strike."""


def kill(game: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(game: Any) -> None:
    ctypes.string_at(0)


def leave(game: Any) -> None:
    sys.exit(7)


def leave_at_once(game: Any) -> None:
    os._exit(9)


def sleep_here(game: Any) -> None:
    time.sleep(60)


def boom_here(game: Any) -> None:
    while True:
        game.t += 0


def hold_the_gil(game: Any) -> None:
    ctypes.PyDLL(None).sleep(60)


def once(fault: Callable[[Any], None], at: int = AT) -> Callable[[Any], None]:
    """Let a fault strike in the first episode only."""

    def strike(game: Any) -> None:
        if game.t == at and game.n_resets == 1 and game.seed < 1000:
            fault(game)

    return strike


class TwoArguments(Exception):
    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")


def raise_plain(game: Any) -> None:
    raise ValueError("plain trouble")


def raise_local(game: Any) -> None:
    class Local(Exception):
        pass

    raise Local("local trouble")


class ConfigError(Exception):
    """A game's own, which is called as one of ours."""


def raise_namesake(game: Any) -> None:
    raise ConfigError("a game's own trouble")


def raise_ours(game: Any) -> None:
    raise errors.ConfigError("settings of a game within the game")


def raise_two(game: Any) -> None:
    raise TwoArguments(1, 2)


def raise_group(game: Any) -> None:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


def raise_long(game: Any) -> None:
    raise ValueError("x" * 10_000_000)


def raise_escape(game: Any) -> None:
    raise ValueError("\x1b]0;owned\x07")


def fork_and_die(game: Any) -> None:
    if os.fork() == 0:
        time.sleep(1.5)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def raise_bomb(path: str) -> None:
    """Raise an exception that creates a file when it is unpickled."""

    class Bomb(Exception):
        def __reduce__(self) -> tuple:
            return open, (path, "w")

    raise Bomb(path)
