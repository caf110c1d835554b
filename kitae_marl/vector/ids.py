"""This file reads ids of environments, lists the known ones, and finds those near a misspelt one.

An id is one of

* ``family/name-vN``: ``mpe/simple_spread-v3``, ``butterfly/pistonball-v6``, ``atari/pong-v3``;
  ``_v3`` is read like ``-v3``, and without a version the newest is meant;
* ``gymnasium:ID``, ``envpool:ID``, ``openspiel:GAME``, ``mamujoco:SCENARIO/PARTITION``;
* ``module:function``, a callable of the user's own that returns an environment or a compiled game.

Nothing here but ``imported`` imports a game: the packages are looked at from outside.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import re
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kitae_marl.errors import UnknownEnvironmentError

PREFIXES = ("gymnasium", "envpool", "openspiel", "mamujoco")
"""Families written with a colon, because their names are another package's business."""

MAMUJOCO = ("Ant/2x4", "Ant/4x2", "HalfCheetah/2x3", "HalfCheetah/6x1", "Hopper/3x1",
            "Humanoid/9|8", "ManySegmentSwimmer/2x1", "Reacher/2x1", "Swimmer/2x1",
            "Walker2d/2x3")  # fmt: skip
"""Scenarios of multi-agent MuJoCo, each with a partition of its joints among the agents."""

_INSTALL = {
    "mpe": "mpe2",
    "butterfly": "kitae-marl[butterfly]",
    "sisl": "kitae-marl[sisl]",
    "classic": "kitae-marl[classic]",
    "atari": "kitae-marl[atari]",
    "magent": "magent2",
    "mamujoco": "gymnasium-robotics",
    "openspiel": "shimmy open_spiel",
    "envpool": "kitae-marl[envpool]",
}
_GAMES_OF = {"mpe": "mpe2", "magent": "magent2.environments"}
_VERSION = re.compile(r"[-_]v(\d+)$")
_IMPORT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class EnvId:
    """A parsed id.

    Attributes:
        text: the canonical spelling, ``mpe/simple_spread-v3``.
        family: ``mpe``, ``butterfly``, ..., one of the prefixes, or ``import`` for a callable.
        name: what follows the family, with the version: ``simple_spread-v3``, ``CartPole-v1``.
    """

    text: str
    family: str
    name: str

    @property
    def module_name(self) -> str:
        """The name the way Python modules spell it: ``simple_spread_v3``."""
        return self.name.replace("-v", "_v")


def parse_id(id: str) -> EnvId:
    """Read an id, or say which ones are near.

    Args:
        id: the id as the user wrote it.

    Returns:
        The family, the name with its version, and the canonical spelling.

    Raises:
        UnknownEnvironmentError: if nothing is called so.
        TypeError: if it is no text.

    Example:
        >>> parse_id("mpe/simple_spread_v3").text
        'mpe/simple_spread-v3'
    """
    if not isinstance(id, str):
        raise TypeError(
            f"expected the id of a game as text, got {type(id).__name__}; a vector of functions "
            "that make games is SubProcVecParallelEnv([make] * 4)."
        )
    id = id.strip()
    prefix, colon, rest = id.partition(":")
    if colon and prefix in PREFIXES and rest:
        return EnvId(id, prefix, rest)
    if _IMPORT.fullmatch(id):
        return EnvId(id, "import", id)
    canonical = _with_version(_VERSION.sub(r"-v\1", id))
    if canonical.startswith("mpe2/"):
        canonical = _with_version("mpe/" + canonical.removeprefix("mpe2/"))
    if canonical not in known_ids():
        raise UnknownEnvironmentError(_unknown(id))
    family, _, name = canonical.rpartition("/")
    return EnvId(canonical, family, name)


def imports_code(id: str) -> bool:
    """Whether making this id imports a module that the id itself names (``module:function``)."""
    family, _, name = id.strip().partition(":")
    if family == "gymnasium":  # whose own ids may be ``module:Task-v0``
        return ":" in name
    return family not in PREFIXES and bool(_IMPORT.fullmatch(id.strip()))


def imported(id: str) -> Any:
    """Import what an id names, ``module:function``.

    Raises:
        UnknownEnvironmentError: if there is no such module, or nothing of this name in it.
    """
    module_name, _, attributes = id.strip().partition(":")
    if not all(part.isidentifier() for part in f"{module_name}.{attributes}".split(".")):
        raise UnknownEnvironmentError(f"{id!r}: expected module:name, such as mine:Thing.")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UnknownEnvironmentError(
                f"{id!r}: importing {module_name} raised {type(error).__name__}: {error}; install "
                "what it needs, or put it where Python looks."
            ) from error
        raise UnknownEnvironmentError(
            f"{id!r}: there is no module {error.name!r} where Python looks for modules; "
            "if it stands in this folder, put PYTHONPATH=. before the command."
        ) from error
    except (Exception, SystemExit) as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = (error.filename, error.lineno) if isinstance(error, SyntaxError) else at[:2]
        raise UnknownEnvironmentError(
            f"{id!r}: importing {module_name} raised {type(error).__name__}: {error} "
            f"({where[0]}, line {where[1]})."
        ) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise UnknownEnvironmentError(f"{id!r}: {found!r} has no {attribute!r}.")
        found = getattr(found, attribute)
    return found


@lru_cache
def known_ids() -> tuple[str, ...]:
    """List every id of the families written with a slash, sorted.

    PettingZoo's own are always known, and ours, ``kitae/kuhn_poker-v0``; ``magent/`` and ``mpe/``
    where their packages are installed.
    """
    import kitae_envs
    import pettingzoo

    ids = {*pettingzoo.aec_registry, *pettingzoo.parallel_registry}
    ids.update(id for id in kitae_envs.ids() if id.startswith("kitae/"))
    for family, package in _GAMES_OF.items():
        ids.update(f"{family}/{name}" for name in _versioned_modules(package))
    return tuple(sorted(ids))


def install_hint(family: str) -> str:
    """Give the ``pip install`` that brings a family's games, or an empty text if none is known."""
    package = _INSTALL.get(family, "")
    return " ".join(["pip install", *(f'"{part}"' for part in package.split())]) if package else ""


def nearest_ids(id: str, candidates: tuple[str, ...] | None = None, n: int = 3) -> list[str]:
    """Find the known ids most like this one, by the whole id and by its name alone."""
    ids = known_ids() if candidates is None else candidates
    by_name: dict[str, list[str]] = {}
    for known in ids:
        by_name.setdefault(_stem(known), []).append(known)
    near = difflib.get_close_matches(id, ids, n, 0.7)
    for stem in difflib.get_close_matches(_stem(id), by_name, n, 0.6):
        near.extend(known for known in by_name[stem] if known not in near)
    return near[:n]


def gymnasium_ids() -> tuple[str, ...]:
    """List the ids in Gymnasium's registry."""
    import gymnasium

    return tuple(gymnasium.registry)


def _stem(id: str) -> str:
    """Drop family and version and level the case: ``mpe/Simple_v3`` gives ``simple``."""
    return _VERSION.sub("", id.rpartition("/")[2].rpartition(":")[2]).lower()


def _with_version(id: str) -> str:
    """Complete an id that names no version by the newest one that is known."""
    if _VERSION.search(id):
        return id
    versions = [known for known in known_ids() if _VERSION.sub("", known) == id]
    return max(versions, key=lambda known: int(known.rpartition("-v")[2]), default=id)


def _versioned_modules(package: str) -> list[str]:
    """Find the modules ``name_vN`` of a package without importing them."""
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        return []
    spec = importlib.util.find_spec(package.partition(".")[0])
    roots = list(spec.submodule_search_locations or []) if spec else []
    folders = [str(Path(root, *package.split(".")[1:])) for root in roots]
    names = [module.name for module in pkgutil.iter_modules(folders)]
    return [_VERSION.sub(r"-v\1", name) for name in names if _VERSION.search(name)]


def _unknown(id: str) -> str:
    """Say what is wrong with an id and what to write or install instead."""
    family = id.partition("/")[0]
    if (
        family in _GAMES_OF
        and importlib.util.find_spec(_GAMES_OF[family].partition(".")[0]) is None
    ):
        return f"{id!r} needs a package that is not installed: {install_hint(family)}."
    if family in PREFIXES and "/" in id:
        return f"no environment is called {id!r}; write a colon: {id.replace('/', ':', 1)!r}."
    near = nearest_ids(id)
    near.extend(f"gymnasium:{known}" for known in nearest_ids(id, gymnasium_ids(), 1))
    listed = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
    return (
        f"no environment is called {id!r}; {listed or 'no known id is near.'} "
        "`kitae-marl list` shows all ids; gymnasium:ID, envpool:ID, openspiel:GAME and "
        "module:function are understood too."
    )
