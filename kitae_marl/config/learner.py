"""What may be asked of the settings of any algorithm, and which algorithms there are by name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

from kitae_marl.config.checks import require, require_count
from kitae_marl.config.described import described

PLAIN = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}
"""What a setting of a plain type may be, by the type's name."""
WhichPolicy: TypeAlias = Literal["last", "average"]
"""Which policy of a training plays: the newest one, or the average of those there were."""
Sharing: TypeAlias = bool | dict[str, Literal["shared", "independent"]]
"""Whether agents of a group share parameters: all or none, or by patterns of agents' names."""


@described
@dataclass(frozen=True)
class LearnerConfig:
    """Settings of a learning algorithm: derive the frozen dataclass of your own from this one.

    Drivers, run folders and the command line read these two fields and what the class declares;
    everything else is the algorithm's own business. A setting is called ``SECTION.name`` in
    messages and options.
    """

    n_steps: int = 128
    """Joint steps of the vector environment between two updates."""
    share_params: Sharing = True
    """One network for all agents of a group, or one for each; or by patterns of agents' names."""

    SECTION: ClassVar[str] = "own"
    """Field of the Config that holds these settings; those of your own algorithms: ``own``."""
    TRACED: ClassVar[tuple[str, ...]] = ()
    """Settings in which runs of one compiled program may differ: numbers that ``learn`` reads."""
    FIXED: ClassVar[tuple[str, ...]] = ("n_steps", "share_params")
    """Settings that a run keeps: they say what its parameters mean or how its steps are counted."""
    SIZES: ClassVar[tuple[str, ...]] = ()
    """Settings to lower where parameters do not fit into memory."""
    REGISTERED: ClassVar[tuple[str, ...]] = ()
    """Settings that name something registered, such as a network; empty where they name nothing."""
    SIMULATIONS: ClassVar[str] = ""
    """Setting that says how many positions a search looks at before a move when it plays; empty for
    algorithms that do not search."""

    def __post_init__(self) -> None:
        require_count(self.key("n_steps"), self.n_steps)
        kinds, value = ("shared", "independent"), self.share_params
        good = isinstance(value, bool) or (
            isinstance(value, dict)
            and bool(value)
            and all(isinstance(pattern, str) for pattern in value)
            and all(kind in kinds for kind in value.values())
        )
        expected = f"true, false, or one of {kinds} by pattern of agent names"
        require(good, self.key("share_params"), expected, value)
        if self.SECTION == LearnerConfig.SECTION:
            self._require_types()

    def _require_types(self) -> None:
        """Check settings of a plain type, for authors who check nothing themselves."""
        for field in dataclasses.fields(self):
            kind = field.type if isinstance(field.type, str) else field.type.__name__
            value = getattr(self, field.name)
            if kind in PLAIN:
                good = isinstance(value, PLAIN[kind])
                good &= kind == "bool" or not isinstance(value, bool)
                require(good, self.key(field.name), f"a value of type {kind}", value)

    @classmethod
    def key(cls, name: str) -> str:
        """Return the dotted name of a setting."""
        return f"{cls.SECTION}.{name}"

    def require_rollout(self, n_envs: int) -> None:
        """Raise a ConfigError unless rollouts of so many environments can be learned from."""

    def in_effect(self, progress: float) -> dict[str, float]:
        """Return settings that change during a run, as they are after a share of its updates.

        They are logged with each update. Override it where something is annealed.
        """
        del progress
        return {}

    def traced(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with some values that may be traced arrays, which no check could read."""
        other = copy.copy(self)
        other.__dict__.update(values)
        return other


class Declared(NamedTuple):
    """What settings need to know of an algorithm, without the algorithm itself, which imports JAX.

    Attributes:
        settings: the class of its settings.
        central: whether it learns from the game's global state, where the game has one.
        compiled: whether it learns on compiled games alone.
    """

    settings: type[LearnerConfig]
    central: bool = False
    compiled: bool = False


DECLARED: dict[str, Declared] = {}
"""Algorithms by name; ``kitae_marl.register`` adds those of your own."""
