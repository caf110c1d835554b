"""Learning algorithms by name."""

from kitae_marl.algos.ppo.algorithm import ippo, mappo
from kitae_marl.errors import ConfigError
from kitae_marl.types import Algorithm

ALGORITHMS: dict[str, Algorithm] = {algorithm.name: algorithm for algorithm in (ippo, mappo)}
"""Every algorithm that ``--algo`` and ``Config.algo`` may name."""


def get_algorithm(name: str) -> Algorithm:
    """Return the algorithm of a name.

    Raises:
        ConfigError: if there is none; the message lists the names.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"algo: expected one of {sorted(ALGORITHMS)}, got {name!r}.", "algo")
    return ALGORITHMS[name]
