"""This file writes JSON that every program reads, without NaN, and reads it within bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from kitae_marl.config.run import MAX_CONFIG_BYTES
from kitae_marl.errors import ConfigError


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON; numbers that JSON does not know (NaN, infinity) become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace what is not finite by None."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        ConfigError: if it is missing, over 1 MB, or not JSON.
    """
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise ConfigError(f"{path}: expected a file, got none.")
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes, got more.")
        return json.loads(path.read_text(encoding="utf-8"))
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a file in JSON: {error}") from None
