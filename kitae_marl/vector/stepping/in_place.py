"""This file is the interface of games that write what agents see into the collector's arrays.

The usual way, ``step`` returns five dicts of fresh arrays, which the collector takes apart and
copies together. A small game spends more time on that than on its rules. One that implements
:class:`InPlaceEnv` is given its rows of the collector's arrays instead, and changes there only what
a move has changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class RowArrays(NamedTuple):
    """The arrays that one environment writes to.

    Attributes:
        observations: by agent, what it sees, nested as its space is; the arrays keep what a move
            left in them until the next one.
        idle: ``[N]``, who is in the game and not to act.
        columns: by agent, its index in ``idle`` and in actions and rewards.
    """

    observations: Mapping[str, Any]
    idle: np.ndarray
    columns: Mapping[str, int]


class PlayResult(NamedTuple):
    """What a step returns beside the observations that it has written.

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

    From :meth:`use_arrays` on only :meth:`begin` and :meth:`play` are called, no longer ``reset``
    and ``step``.
    """

    def can_write_in_place(self) -> bool:
        """Whether ``begin`` and ``play`` still do what ``reset`` and ``step`` do.

        They do not where somebody has changed one of these alone, in a subclass or in one object.
        """
        classes = type(self).__mro__
        for called, instead in (("reset", "begin"), ("step", "play")):
            if called in vars(self):
                return False
            owner = next(c for c in classes if called in vars(c) or instead in vars(c))
            if instead not in vars(owner):
                return False
        return True

    @abstractmethod
    def use_arrays(self, arrays: RowArrays) -> bool:
        """Write to these arrays from the next ``begin`` on; False if this game cannot do so."""

    @abstractmethod
    def begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """Start an episode: write everything anew, whatever the arrays hold."""

    @abstractmethod
    def play(self, actions: Sequence[Any]) -> PlayResult | None:
        """Step with these actions, by column; None if the game goes on and nobody is rewarded.

        On the last step nobody is to act.
        """
