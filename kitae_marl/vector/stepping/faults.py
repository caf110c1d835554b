"""This file says how a worker reports faults: by plain texts and numbers, never by objects.

An exception of an environment may not be picklable, may be huge, or may be made to harm whoever
unpickles it; so only its type's name, its text and its traceback travel, cut to a sane length.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kitae_marl import errors
from kitae_marl.errors import printable

MESSAGE_LIMIT = 4096
TRACEBACK_LIMIT = 16384
BAD_INPUT: dict[str, Callable[[str], errors.KitaeError]] = {
    "UnknownEnvironmentError": errors.UnknownEnvironmentError,
    "ConfigError": partial(errors.ConfigError, key="env_kwargs"),
}
"""What ``make_parallel_env`` says of an id or of arguments; no fault of one environment."""

RULES: dict[str, type[errors.GameRuleError]] = {
    "AgentSetError": errors.AgentSetError,
    "GameRuleError": errors.GameRuleError,
    "NoGameError": errors.NoGameError,
}
"""Errors that tell no more than their text and their place."""


DETAIL = ("agent", "field", "expected", "got")
"""What an ``EnvDataError`` tells beside its text and its place."""


def report_exception(
    error: BaseException, *, env_index: int, phase: str, step: int, seed: int
) -> dict[str, Any]:
    """Describe an exception as JSON data."""
    report: dict[str, Any] = {
        "error": "EnvError",
        "env_index": env_index,
        "phase": phase,
        "step": step,
        "seed": seed,
        "type": type(error).__qualname__,
        "message": _cut(_text(error), MESSAGE_LIMIT),
        "traceback": "",
        "detail": {},
    }
    if isinstance(error, DataFault):
        report["error"], report["detail"] = error.error, error.detail
    elif isinstance(error, errors.GameRuleError) and phase == "start":  # of ``as_parallel``
        report["error"] = type(error).__name__
        if isinstance(error, errors.EnvDataError):
            report["detail"] = {name: getattr(error, name) for name in DETAIL}
    else:
        lines = traceback.format_exception(error)
        text = "".join(_cut(line, MESSAGE_LIMIT) for line in lines)
        report["traceback"] = text[-TRACEBACK_LIMIT:]
        if phase == "start" and type(error) in (errors.UnknownEnvironmentError, errors.ConfigError):
            report["error"] = type(error).__name__
    return report


def _text(error: BaseException) -> str:
    """Return an exception's text, even if it has none to give."""
    try:
        return str(error)
    except Exception as second:
        return f"(no text: str() of it raised {type(second).__name__})"


def _cut(text: str, limit: int) -> str:
    """Shorten a text and say so."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def where(report: dict[str, Any], pid: int) -> str:
    """Say which environment a report is about."""
    if report["phase"] == "start":
        return f"env {report['env_index']} (pid {pid}, while it was made)"
    if report["phase"] == "reset":
        return f"env {report['env_index']} (pid {pid}, in reset, seed {report['seed']})"
    place = f"step {report['step']} of its episode, seed {report['seed']}"
    return f"env {report['env_index']} (pid {pid}, {place})"


def error_from(reports: list[tuple[dict[str, Any], int, int]]) -> errors.KitaeError:
    """Build the named error for ``(report, pid, restarts)`` of every environment that failed.

    The first decides the class; all are listed, unless they are bad input to all alike.
    """
    reports = sorted(reports, key=lambda item: item[0]["env_index"])
    report, pid, restarts = reports[0]
    message = f"{where(report, pid)}: {_summary(report)}"
    if report["traceback"]:
        message += "\n\nTraceback in the worker:\n" + report["traceback"].rstrip()
    if len(reports) > 1:
        message += "\n\nAlso failed:\n" + "\n".join(_others(reports))
    place: dict[str, Any] = {
        "env_index": report["env_index"],
        "pid": pid,
        "phase": report["phase"],
        "restarts": restarts,
    }
    message = printable(message)
    if report["error"] == "EnvDataError":
        return errors.EnvDataError(message, **report["detail"], **place)
    if report["error"] in RULES:
        return RULES[report["error"]](message, **place)
    error = errors.EnvError(
        message,
        remote_type=printable(report["type"]),
        remote_message=printable(report["message"]),
        remote_traceback=printable(report["traceback"]),
        **place,
    )
    if report["error"] not in BAD_INPUT:
        return error
    bad_input = BAD_INPUT[report["error"]](error.remote_message)
    bad_input.__cause__ = error
    return bad_input


def _others(reports: list[tuple[dict[str, Any], int, int]]) -> list[str]:
    """Say what failed beside the first; of those that say the same, how many more there are."""
    alike: dict[str, list[str]] = {_summary(reports[0][0]): []}
    for report, pid, _ in reports[1:]:
        alike.setdefault(_summary(report), []).append(where(report, pid))
    lines = []
    for i, (summary, places) in enumerate(alike.items()):
        if i == 0 and places:
            lines.append(f"and {len(places)} more, with the same error")
        elif places:
            more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
            lines.append(f"{places[0]}: {summary}{more}")
    return lines


def _summary(report: dict[str, Any]) -> str:
    """One report without its place."""
    if report["error"] == "EnvError":
        return f"{report['type']}: {report['message']}"
    return report["message"]


def plain(value: Any) -> Any:
    """Turn infos into JSON data; NumPy numbers and arrays become numbers and lists.

    Raises:
        TypeError: if something in it is neither a number, a text, a list nor a dict of these.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"expected JSON-like infos, got {type(value).__name__}.")


def public_error(fault: DataFault) -> errors.GameRuleError:
    """Build the named error of a fault of a game that is not in a vector yet."""
    place: dict[str, Any] = {"env_index": 0, "pid": os.getpid(), "phase": "start"}
    text = printable(str(fault))
    if fault.error == "EnvDataError":
        return errors.EnvDataError(text, **fault.detail, **place)
    return RULES[fault.error](text, **place)


class DataFault(Exception):
    """An environment named agents or returned data that it must not; becomes a named error.

    Args:
        error: name of the class in ``kitae_marl.errors`` that the parent raises.
        message: what was expected, what came and what to do.
        detail: ``agent``, ``field``, ``expected`` and ``got`` of an ``EnvDataError``.
    """

    def __init__(self, error: str, message: str, **detail: str) -> None:
        super().__init__(message)
        self.error = error
        self.detail = detail


def data_fault(agent: str, field: str, expected: str, got: str, advice: str = "") -> DataFault:
    """Describe one wrong value of one agent, or of the game itself where ``agent`` is empty."""
    whose = f"{field} of agent {agent!r}" if agent else field
    message = f"{whose}: expected {expected}, got {got}" + (f"; {advice}." if advice else ".")
    return DataFault("EnvDataError", message, agent=agent, field=field, expected=expected, got=got)
