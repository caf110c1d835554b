"""This file reads what a user wrote to name a wrapper: ``pictures:42,42,skip=4``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from kitae_marl.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def parse_wrapper(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Read a wrapper's name, its arguments and its keyword arguments.

    Values are read as JSON; what is no JSON is text.

    Raises:
        ConfigError: if it has another form.

    Example:
        >>> parse_wrapper("supersuit.color_reduction_v0:mode=B")
        ('supersuit.color_reduction_v0', [], {'mode': 'B'})
        >>> parse_wrapper("pictures:42,42,skip=4")
        ('pictures', [42, 42], {'skip': 4})
    """
    name, _, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    expected = "pictures:84,84 or module.name:value,name=value"
    known = name == "pictures" or "." in name
    if not _NAME.fullmatch(name) or not known:
        raise ConfigError(f"wrap: expected {expected}, got {text!r}.", "wrap")
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        keyword = _KEYWORD.fullmatch(part)
        if keyword:
            kwargs[keyword[1]] = _value(keyword[2])
        elif kwargs or not part:
            raise ConfigError(f"wrap: expected {expected}, got {text!r}.", "wrap")
        else:
            args.append(_value(part))
    return name, args, kwargs


def require_wrappers(wrap: Any) -> tuple[str, ...]:
    """Return wrappers as they are kept, the first innermost.

    Raises:
        ConfigError: if it is no list of names of wrappers with their arguments.
    """
    if not isinstance(wrap, list | tuple):
        raise ConfigError(f"wrap: expected a list of wrappers, got {wrap!r}.", "wrap")
    for text in wrap:
        parse_wrapper(text)
    return tuple(wrap)


def imports_wrappers(wrap: Iterable[str]) -> list[str]:
    """Return the wrappers whose code is neither ours nor SuperSuit's."""
    return [text for text in wrap if text.split(":")[0].split(".")[0] not in TRUSTED]


TRUSTED = ("pictures", "supersuit")
"""Where wrappers come from that a run from elsewhere may name."""


def _value(text: str) -> Any:
    """Read one value."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)
