"""This file imports the code that a run names as module:name, where somebody has allowed that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.contents import read_config


def require_allowed(
    named: Mapping[str, Iterable[str]], allow_import: bool, whose: str = "the run"
) -> None:
    """Raise a ConfigError where code is to be imported that nobody has allowed.

    Args:
        named: what a run's settings name as code to import, by setting.
        allow_import: whether the user trusts it.
        whose: the run, in words.
    """
    if allow_import:
        return
    for key, texts in named.items():
        for text in texts:
            raise ConfigError(
                f"{key}: {whose} was trained with {text}, which is a module to import; add "
                "--allow-import (in Python allow_import=True) if you trust it.",
                key,
            )


def truster(allow_import: bool) -> Callable[[Path], None]:
    """Return :func:`trust_own_code` for runs whose agents are to be loaded."""
    return lambda path: trust_own_code(path, allow_import)


def trust_own_code(path: Path, allow_import: bool) -> None:
    """Import the algorithm and the network that a run names as module:name, if that was allowed.

    Raises:
        ConfigError: if it names some that are not registered, and it was not.
    """
    config = read_config(path)
    from kitae_marl.algos import import_registered, named_code  # here: it imports JAX

    require_allowed({"algo": named_code(config)}, allow_import, f"the run {path.name}")
    import_registered(config)
