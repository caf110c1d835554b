"""Whether a compiled game can stand in for a game of Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kitae_envs


def twin_serves(
    env_id: str, env_kwargs: Mapping[str, Any], refused: Callable[[str], None] = lambda reason: None
) -> bool:
    """Return whether a game has a compiled twin that takes its arguments.

    It imports JAX where there is a twin.

    Args:
        env_id: id of the game.
        env_kwargs: arguments of the game.
        refused: told why, where there is a twin that does not take these arguments.

    Example:
        >>> twin_serves("classic/rps", {}), twin_serves("classic/rps", {"stock": True})
        (True, False)
    """
    if kitae_envs.resolve(env_id) is None:
        return False
    try:
        kitae_envs.make(env_id, **env_kwargs)
    except (TypeError, ValueError) as error:
        refused(str(error))
        return False
    return True
