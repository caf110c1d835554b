"""This file knows the versions of the games that the rewritten parts of them are equal to.

Where the lean construction computes something by itself that a game computes too, it does so only
if the game's source is the one it was compared with. With any other the game's own code runs:
slower, never wrong. The same holds where users have put functions of their own in the place of
the game's, in its class or in one object. After an update of a game, run the differential tests,
then renew its line.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from functools import lru_cache
from types import FunctionType
from typing import Any

FINGERPRINTS = {
    "rlcard.utils.seeding": "aeac4a3793dbedd0",
    "rlcard.envs.env": "27a02a5ee0ae3124",
    "rlcard.envs.leducholdem": "222c02ca3d206228",
    "rlcard.games.leducholdem.game": "b96ebba64821d5a1",
    "rlcard.games.leducholdem.player": "8ce2597cc5c32d0c",
    "rlcard.games.leducholdem.round": "880a1dc0181d6c39",
    "rlcard.games.limitholdem.game": "3a1a4bed8ff31a68",
    "rlcard.games.limitholdem.round": "be21753b92bbc9a2",
    "pettingzoo.classic.rlcard_envs.leduc_holdem": "e06b10e6a734e709",
    "pettingzoo.classic.rlcard_envs.rlcard_base": "0b99f6a20b800aaf",
    "pettingzoo.classic.rlcard_envs.texas_holdem": "147283ea8b9d79fc",
    "pettingzoo.classic.rlcard_envs.texas_holdem_no_limit": "74baccb44fd804ff",
    "pettingzoo.classic.tictactoe.board": "7704a475dd40df9c",
    "pettingzoo.classic.tictactoe.tictactoe": "8b90b2f34a5800c2",
    "pettingzoo.sisl.multiwalker.multiwalker_base": "75f761ae9d855679",
    "pettingzoo.sisl.pursuit.pursuit_base": "8463f56071efa0d9",
    "pettingzoo.classic.connect_four.connect_four": "316a2930e2026709",
    "pettingzoo.butterfly.pistonball.pistonball": "77491d5d0b29d344",
    "pettingzoo.butterfly.cooperative_pong.cooperative_pong": "d30ac44d13b7d7a8",
    "mpe2._mpe_utils.core": "5578e48334bff321",
    "mpe2._mpe_utils.simple_env": "ac5753a926e2dde4",
    "mpe2.simple_spread.simple_spread": "64b46b03533ae82a",
}
"""Sources of games that parts of them were rewritten from: first digits of their SHA-256."""


def is_known_source(name: str) -> bool:
    """Whether a game's module is the very one that this was written and tested against."""
    return _has_known_source(name) and all(
        method.__globals__ is vars(sys.modules[name])
        for made in vars(sys.modules[name]).values()
        if isinstance(made, type) and made.__module__ == name
        for method in vars(made).values()
        if isinstance(method, FunctionType)
    )


def is_as_written(game: Any) -> bool:
    """Whether no method of this object was replaced: it does what its class says."""
    replaced = (name for name, value in vars(game).items() if callable(value))
    return not any(hasattr(type(game), name) for name in replaced)


@lru_cache
def _has_known_source(name: str) -> bool:
    """Whether a module's text is the one of which the fingerprint was taken."""
    try:
        source = inspect.getsource(importlib.import_module(name))
    except OSError:  # installed without sources: cannot be told
        return False
    return FINGERPRINTS.get(name) == hashlib.sha256(source.encode()).hexdigest()[:16]
