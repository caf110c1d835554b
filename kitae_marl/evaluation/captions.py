"""This file says in words by which settings runs were trained, to stand below a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kitae_marl.config.run import Config, flat
from kitae_marl.errors import ConfigError

ASIDE = ("seed", "backend", "n_workers", "save_every", "keep", "strict_bounds")
"""Settings that say where a run was computed or kept, not what it learned."""
MAIN = ("algo", "n_envs", "env_steps")
"""Settings that are said of runs in any case, where none are compared."""
OF_THE_GAME = ("env_id", "env_kwargs", "wrap", "max_episode_steps", "seats")
"""Settings that the title of a picture says."""


def settings_in_words(configs: Mapping[str, Config]) -> list[str]:
    """Say what runs have of their own, a line for each.

    Args:
        configs: settings by the name of the runs that have them.

    Returns:
        Of several the settings in which they differ; of one algorithm, environments, steps, and
        what is not as by default.

    Example:
        >>> settings_in_words({"a": Config(), "b": Config(n_envs=32)})
        ['a: n_envs 16', 'b: n_envs 32']
        >>> settings_in_words({"a": Config(env_steps=1000)})
        ['a: algo ippo, n_envs 16, env_steps 1000']
    """
    tables = {name: flat(config) for name, config in configs.items()}
    if len(tables) > 1:
        keys = _differing(list(tables.values()))
    else:
        given = [_differing([flat(config), _defaults(config)]) for config in configs.values()]
        keys = [key for key in dict.fromkeys([*MAIN, *given[0]]) if key not in OF_THE_GAME]
    lines = {name: _listed(table, keys) for name, table in tables.items()}
    return [f"{name}: {line}" for name, line in lines.items() if line]


def _defaults(config: Config) -> dict[str, Any]:
    """Return what the settings of a config would be had none been given."""
    try:
        return flat(Config(algo=config.algo))
    except ConfigError:  # an algorithm that is not registered here
        return flat(config)


def _differing(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all tables."""
    keys = dict.fromkeys(key for table in tables for key in table if key not in ASIDE)
    return [key for key in keys if any(t.get(key) != tables[0].get(key) for t in tables)]


def _listed(table: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Write some settings in a line."""
    return ", ".join(f"{key} {_text(table[key])}" for key in keys if key in table)


def _text(value: Any) -> str:
    """Write one value."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
