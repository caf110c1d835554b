"""Learning algorithms and networks by name: those of the package, and those that users register."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from kitae_marl.algos import checking
from kitae_marl.algos.alphazero.algorithm import alphazero
from kitae_marl.algos.nets.networks import NETWORKS, may_make_networks
from kitae_marl.algos.ppo.algorithm import ippo, mappo
from kitae_marl.algos.table import table
from kitae_marl.config.learner import DECLARED, Declared, LearnerConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, UnknownEnvironmentError
from kitae_marl.types import Algorithm, GroupSpec
from kitae_marl.vector.ids import imported

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm for algorithm in (ippo, mappo, table, alphazero)
}
"""Every algorithm that ``--algo`` and ``Config.algo`` may name."""
_OURS = frozenset(ALGORITHMS)


def get_algorithm(name: str) -> Algorithm:
    """Return the algorithm of a name.

    Raises:
        ConfigError: if there is none; the message lists the names. Nothing is imported to find it:
            a name may come from a run folder of somebody else.
    """
    if name not in ALGORITHMS:
        raise ConfigError(
            f"algo: expected one of {sorted(ALGORITHMS)}, got {name!r}; register it by "
            "kitae_marl.register before, or give --allow-import to commands that play a run of "
            "module:name.",
            "algo",
        )
    return ALGORITHMS[name]


def require_sound(algorithm: Algorithm, groups: tuple[GroupSpec, ...], config: Config) -> None:
    """Raise an AlgorithmError where a user's algorithm takes or returns what it should not.

    Those of the package are tested; tracing them once more would take time.
    """
    if algorithm.name not in _OURS:
        checking.require_sound(algorithm, groups, config)


def register(thing: Algorithm | Callable[..., Any], name: str | None = None) -> None:
    """Make an algorithm or a network of your own known, in this process, by a name.

    An algorithm is trained by ``Config(algo=name, own=YourSettings(...))``; a network takes the
    place of encoder and hidden layers by ``PPOConfig(network=name)``. On the command line neither
    needs to be registered: ``--algo module:name`` and ``--ppo.network module:name`` find it, where
    Python finds the module.

    Args:
        thing: an :class:`Algorithm`; or what makes a flax module for an observation space, such as
            the class of a module whose first field is the space.
        name: the name; None: that of the algorithm, or of the class or function. Registering a name
            of your own anew replaces what it meant.

    Raises:
        TypeError: for anything else, for an algorithm whose settings are no LearnerConfig or have
            another ``SECTION`` than ``"own"``.
        ConfigError: for a name of the package's own algorithms, and where there is none, as of a
            lambda.
    """
    if isinstance(thing, Algorithm):
        _register_algorithm(thing, thing.name if name is None else name)
    elif may_make_networks(thing):
        own = str(getattr(thing, "__name__", ""))
        NETWORKS[_checked((own if own.isidentifier() else "") if name is None else name)] = thing
    else:
        kind = f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__
        raise TypeError(
            "expected a kitae_marl.Algorithm, or what makes a flax module for an observation space "
            f"(a function, or a class of modules), got {kind}."
        )


def _register_algorithm(algorithm: Algorithm, name: str) -> None:
    """Add an algorithm, and what settings need to know of it."""
    settings = algorithm.settings
    if not (isinstance(settings, type) and issubclass(settings, LearnerConfig)):
        raise TypeError(
            f"expected settings of {name!r} that are a class derived from "
            f"kitae_marl.LearnerConfig, got {settings!r}."
        )
    parameters = vars(settings).get("__dataclass_params__")
    if settings is not LearnerConfig and not (parameters and parameters.frozen):
        raise TypeError(
            f"expected {settings.__name__} as a frozen dataclass, got a class that is none; write "
            "@dataclass(frozen=True) above it."
        )
    fields = dataclasses.fields(settings)
    missing = dataclasses.MISSING
    bare = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    if bare:
        raise TypeError(
            f"expected a default for every field of {settings.__name__}, got none for {bare}."
        )
    named = {*settings.TRACED, *settings.FIXED, *settings.SIZES, *settings.REGISTERED}
    unknown = sorted(named - {f.name for f in fields})
    if unknown:
        raise TypeError(
            f"expected TRACED, FIXED, SIZES and REGISTERED of {settings.__name__} to name its "
            f"fields, got {unknown}."
        )
    if settings.SECTION != LearnerConfig.SECTION:
        raise TypeError(
            f"expected {settings.__name__}.SECTION as 'own', where the Config holds the settings "
            f"of registered algorithms, got {settings.SECTION!r}; leave it out."
        )
    if name in _OURS:
        raise ConfigError(
            f"algo: {name!r} is one of the package's own algorithms; register yours under another "
            "name.",
            "algo",
        )
    ALGORITHMS[_checked(name)] = algorithm
    DECLARED[name] = Declared(settings, algorithm.central)


def _checked(name: Any) -> str:
    """Return a name that is one.

    Raises:
        ConfigError: if it is empty or no text.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"name: expected a name to register by, got {name!r}; give one.", "name")
    return name


def import_registered(config: Config) -> None:
    """Import and register what the settings of a run name as ``module:name``.

    Call it only for settings that a person gave, or trusts: it runs the code of the module.

    Raises:
        ConfigError: if there is no such module, or nothing of that name in it.
        TypeError: if it can be no algorithm and no network.
    """
    _import_named("algo", config.algo, ALGORITHMS)
    learner = config.learner  # known from here on
    for name in learner.REGISTERED:
        _import_named(learner.key(name), getattr(learner, name), NETWORKS)


def named_code(config: Config) -> list[str]:
    """Return what the settings of a run name as ``module:name`` and is not registered yet."""
    return [name for name in config.modules if name not in {*ALGORITHMS, *NETWORKS}]


def _import_named(key: str, text: str, known: dict[str, Any]) -> None:
    """Import and register one name, unless it names no module or is known."""
    if ":" not in text or text in known:
        return
    try:
        found = imported(text)
    except UnknownEnvironmentError as error:  # its words fit whatever is named so
        raise ConfigError(f"{key}: {error}", key) from None
    if isinstance(found, Algorithm) is not (known is ALGORITHMS):
        wanted = "a kitae_marl.Algorithm" if known is ALGORITHMS else "what makes a flax module"
        raise TypeError(f"{key}: expected {text} to be {wanted}, got {type(found).__name__}.")
    register(found, text)
