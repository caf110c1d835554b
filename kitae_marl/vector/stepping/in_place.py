"""Environments that write what has changed to where the collector wants it.

The usual way, ``step`` returns five dicts of fresh arrays, which the collector takes apart and
copies together. A small game spends more time on that than on its rules. One that implements
:class:`InPlaceEnv` is given its rows of the collector's arrays instead, and changes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Place(NamedTuple):
    """The arrays of one environment.

    Attributes:
        observations: what each agent sees, nested as its space is; views that hold until the next
            move what the last one left in them.
        idle: ``[N]``, who is in the game and not to act.
        columns: by agent, its index in ``idle`` and in actions and rewards.
    """

    observations: Mapping[str, Any]
    idle: np.ndarray
    columns: Mapping[str, int]


class Told(NamedTuple):
    """What a step says beside its observations.

    Attributes:
        rewards: by column.
        terminated: whether the game has ended, for everybody.
        truncated: whether it was broken off, for everybody.
    """

    rewards: Sequence[Any]
    terminated: bool
    truncated: bool


class InPlaceEnv(ABC):
    """An environment whose agents are all there from the start to the end of an episode.

    Between :meth:`move_in` and the end of its life it is only begun and played, unless somebody
    has changed ``reset`` or ``step`` alone, in a subclass or in one object.
    """

    def may_move_in(self) -> bool:
        """Whether ``reset`` and ``step`` are still what ``begin`` and ``play`` stand for."""
        classes = type(self).__mro__
        for called, instead in (("reset", "begin"), ("step", "play")):
            if called in vars(self):
                return False
            owner = next(c for c in classes if called in vars(c) or instead in vars(c))
            if instead not in vars(owner):
                return False
        return True

    @abstractmethod
    def move_in(self, place: Place) -> bool:
        """Take these arrays from the next ``begin`` on; False if this game cannot be played so."""

    @abstractmethod
    def begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """Start an episode: write everything anew, whatever the arrays hold."""

    @abstractmethod
    def play(self, actions: Sequence[Any]) -> Told | None:
        """Step with these actions, by column; None if the game goes on and nobody is rewarded.

        On the last step nobody is to act.
        """
