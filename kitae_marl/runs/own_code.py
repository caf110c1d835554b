"""This file imports the code that a run names as module:name, where somebody has allowed that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.contents import read_config


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

    named = named_code(config)
    if named and not allow_import:
        raise ConfigError(
            f"algo: the run {path.name} was trained with {' and '.join(named)}, which is a module "
            "to import; add --allow-import if you trust it.",
            "algo",
        )
    import_registered(config)
