"""This file makes compiled games by their ids, and says whether one stands in for a Python game."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import kitae_envs

from kitae_marl.vector.ids import imported, imports_code

if TYPE_CHECKING:
    from kitae_envs.core import Game


def make_game(env_id: str, **kwargs: Any) -> Game:
    """Make a compiled game: ours by its id, the user's own by ``module:function``.

    Raises:
        UnknownEnvironmentError: if there is nothing of that name to import.
        ValueError: if there is no such game, or an argument is out of its range.
        TypeError: if the game does not take an argument, or takes another kind of value.
    """
    own = _own(env_id)
    return kitae_envs.make(env_id, **kwargs) if own is None else own(**kwargs)


def _own(env_id: str) -> Any:
    """Import what ``module:function`` names; None for ids of other kinds."""
    own = imports_code(env_id) and not env_id.startswith("gymnasium:")
    return imported(env_id) if own else None


def is_game(made: Any) -> bool:
    """Whether something is a class of compiled games."""
    core: Any = sys.modules.get("kitae_envs.core")  # which such a class has imported
    return core is not None and isinstance(made, type) and issubclass(made, core.Game)


def twin_serves(
    env_id: str, env_kwargs: Mapping[str, Any], refused: Callable[[str], None] = lambda reason: None
) -> bool:
    """Return whether a game has a compiled twin that takes its arguments, or is a compiled one.

    It imports JAX where there is a twin, and what ``module:Class`` names: a class of games is one.

    Args:
        env_id: id of the game.
        env_kwargs: arguments of the game.
        refused: told why, where there is a twin that does not take these arguments.

    Example:
        >>> twin_serves("classic/rps", {}), twin_serves("classic/rps", {"stock": True})
        (True, False)
    """
    if kitae_envs.resolve(env_id) is None and not is_game(_own(env_id)):
        return False
    try:
        make_game(env_id, **env_kwargs)
    except (TypeError, ValueError) as error:
        refused(str(error))
        return False
    return True
