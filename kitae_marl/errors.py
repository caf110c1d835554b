"""Every exception the package raises for reasons of its own.

Bad arguments are plain ``ValueError`` or ``TypeError``; the classes here are for faults that a
program may want to tell apart: what a worker did, what a checkpoint held, what a config said.
"""

import re
from typing import Any

OWN_CODE = "raised in the user's code:"
"""How the note on an error begins that a callback or an evaluation raised."""


class KitaeError(Exception):
    """Base of the package's own errors."""


class ConfigError(KitaeError, ValueError):
    """A configuration value is unknown or out of range. ``key`` is its dotted name."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class NoWinnerError(KitaeError, ValueError):
    """Nobody wins or loses in this game, so that players cannot be rated by it."""


class AlgorithmError(KitaeError, TypeError):
    """A user's algorithm or network does not take or return what it should."""


class UnknownEnvironmentError(KitaeError, ValueError):
    """No environment has this id, or the package that holds it is not installed."""


class RenderError(KitaeError, ValueError):
    """The game gives no pictures."""


class UnsafePathError(KitaeError, ValueError):
    """A name would lead outside the folder it belongs to."""


class RunExistsError(KitaeError, FileExistsError):
    """The run folder already holds a run and neither resume nor overwrite was asked for."""


class RunLockedError(KitaeError, RuntimeError):
    """Another trainer is at work in the run folder."""


class ClosedError(KitaeError, RuntimeError):
    """The environment was used after ``close()``."""


class VectorEnvError(KitaeError, RuntimeError):
    """Something failed in one environment of a vector of environments.

    Attributes:
        env_index: index of the environment, or of the first one where several failed.
        pid: process id of the worker that held it (our own for the in-process vector).
        phase: ``"start"``, ``"reset"``, ``"step"`` or ``"close"``.
        restarts: how often this environment was restarted before.
    """

    def __init__(
        self, message: str, *, env_index: int, pid: int, phase: str, restarts: int = 0
    ) -> None:
        super().__init__(message)
        self.env_index = env_index
        self.pid = pid
        self.phase = phase
        self.restarts = restarts


class EnvError(VectorEnvError):
    """The environment raised. Type, message and traceback are texts from the worker."""

    def __init__(
        self,
        message: str,
        *,
        remote_type: str,
        remote_message: str,
        remote_traceback: str,
        **where: Any,
    ) -> None:
        super().__init__(message, **where)
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback


class WorkerDiedError(VectorEnvError):
    """The worker process ended by itself. ``signal_name`` is empty where it exited with a code."""

    def __init__(
        self, message: str, *, exitcode: int | None, signal_name: str = "", **where: Any
    ) -> None:
        super().__init__(message, **where)
        self.exitcode = exitcode
        self.signal_name = signal_name


class WorkerTimeoutError(VectorEnvError, TimeoutError):
    """The worker did not answer within ``timeout`` seconds; ``stack`` is what it was doing."""

    def __init__(self, message: str, *, timeout: float, stack: str = "", **where: Any) -> None:
        super().__init__(message, **where)
        self.timeout = timeout
        self.stack = stack


class GameRuleError(VectorEnvError):
    """A game breaks a rule that training relies on; the message says which and what to do."""


class NoGameError(GameRuleError, TypeError):
    """What was given, or what a function made, is no game."""


class SpaceMismatchError(GameRuleError):
    """Two environments of one vector differ in agents or spaces."""


class AgentSetError(GameRuleError):
    """An environment named an agent that it must not name."""


class EnvDataError(GameRuleError):
    """An environment returned data that its spaces do not allow.

    ``agent`` is empty where it is the game itself that returned them, as its global state.
    """

    def __init__(
        self, message: str, *, agent: str, field: str, expected: str, got: str, **where: Any
    ) -> None:
        super().__init__(message, **where)
        self.agent = agent
        self.field = field
        self.expected = expected
        self.got = got


class CheckpointError(KitaeError, RuntimeError):
    """A checkpoint could not be written or read. ``path`` is its folder."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class NoCheckpointError(CheckpointError):
    """The run has no checkpoint that can be read."""


class CheckpointCorruptError(CheckpointError):
    """What lies on the disk is not what was written. ``file`` and ``reason`` say where and why."""

    def __init__(self, message: str, path: str = "", file: str = "", reason: str = "") -> None:
        super().__init__(message, path)
        self.file = file
        self.reason = reason


class CheckpointIncompatibleError(CheckpointError):
    """The checkpoint belongs to another configuration, other agents or another version."""


class CheckpointWriteError(CheckpointError, OSError):
    """The disk refused the checkpoint."""


class TrainingDivergedError(KitaeError, ArithmeticError):
    """Update after update was not finite.

    Attributes:
        path: the last good checkpoint, or empty.
        runs: which of the runs of one program, by their place.
    """

    def __init__(self, message: str, path: str = "", runs: tuple[int, ...] = (0,)) -> None:
        super().__init__(message)
        self.path, self.runs = path, runs


COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What terminals take for the colour of the text that follows."""


def printable(text: str) -> str:
    r"""Leave out colours and escape other control characters: no text shall steer the terminal.

    Example:
        >>> print(printable("\x1b[33mhot\x1b[0m \x07"))
        hot \x07
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in COLOUR.sub("", text)
    )
