"""This file chooses what XLA reads from the environment, before JAX is imported."""

from __future__ import annotations

import os
from pathlib import Path


def set_up_xla() -> None:
    """Choose what XLA reads from the environment, where the user has not.

    One thread: networks of the usual size gain nothing from more, and results depend on the number.
    Programs are kept in the user's cache folder, so a second start need not compile.
    """
    os.environ.setdefault("NPROC", "1")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "kitae_marl" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
