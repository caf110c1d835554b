"""This file checks what the environments of one worker returned, all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kitae_marl.vector.stepping.faults import DataFault, data_fault
from kitae_marl.vector.stepping.observations import ObservationStage

BOUNDED_STEPS = 100
"""The first so many steps are checked against the bounds of the spaces, then every 1000th, so that
a look at each is not paid for by every game; choices are checked on every step."""

LARGEST = float(np.finfo(np.float32).max)
"""Rewards are learned from as float32, where what is larger is infinite."""

Faults = dict[int, DataFault]


class Inspector:
    """Looks at observations and rewards; says what is wrong, by row.

    Args:
        stage: the observations.
        names: agents by column.
        strict: values outside their Box are faults, and looked for on every step.
    """

    def __init__(self, stage: ObservationStage, names: tuple[str, ...], strict: bool) -> None:
        self._stage, self._names, self._strict = stage, names, strict
        self._n_steps = 0

    @property
    def looks(self) -> bool:
        """Whether this step is one of those on which what is rarely wrong is looked at."""
        return self._n_steps <= BOUNDED_STEPS or not self._n_steps % 1000

    def inspect_step(
        self, rewards: list[Any], target: np.ndarray, in_game: np.ndarray
    ) -> tuple[Faults, Faults, Faults]:
        """Gather and check observations and rewards of a step.

        Args:
            rewards: rewards of all rows and agents.
            target: where they go, ``[rows, N]``.
            in_game: which agents are in the game.

        Returns:
            What is wrong, what is not finite, and what lies outside its Box and is let pass.
        """
        self._n_steps += 1
        faults = self._stage.fill()
        infinite = self._stage.nonfinite()
        read_rewards(rewards, target, self._names, faults, infinite)
        return faults, infinite, self._inspect_bounds(in_game, faults, infinite)

    def inspect_first(
        self, in_game: np.ndarray, rows: Sequence[int] | None = None
    ) -> tuple[Faults, Faults]:
        """Gather and check first observations; there is no episode yet that could be cut.

        Args:
            in_game: which agents are in the game.
            rows: whose observations are new; None: all are.

        Returns:
            What is wrong, and what lies outside its Box and is let pass.
        """
        faults = self._stage.fill(rows)
        for row, fault in self._stage.nonfinite().items():
            faults.setdefault(row, fault)
        outside = self._inspect_bounds(in_game, faults, {})
        return faults, outside if rows is None else {r: outside[r] for r in rows if r in outside}

    def _inspect_bounds(self, in_game: np.ndarray, faults: Faults, infinite: Faults) -> Faults:
        """Compare observations with the bounds of their spaces, now and then; add to the faults.

        Returns:
            What lies outside and is let pass.
        """
        if not self._strict and not self.looks:
            return {}
        wrong, outside = self._stage.out_of_bounds(in_game)
        if self._strict:
            wrong, outside = {**outside, **wrong}, {}
        for row, fault in wrong.items():
            if row not in infinite:
                faults.setdefault(row, fault)
        return {r: f for r, f in outside.items() if r not in faults and r not in infinite}


def read_rewards(
    rewards: list[Any],
    target: np.ndarray,
    names: tuple[str, ...],
    faults: dict[int, DataFault],
    infinite: dict[int, DataFault],
) -> None:
    """Turn the rewards of all rows and agents into numbers; add what is wrong to the faults."""
    if _NUMBERS.issuperset(map(type, rewards)):
        if rewards.count(0) == len(rewards):  # so it is on most steps of many games
            target[...] = 0.0
            return
        try:
            numbers = np.array(rewards, np.float64)
        except OverflowError:  # for a whole number that is larger than any float
            _read_rewards_slowly(rewards, target, names, faults)
            return
        target[...] = numbers.reshape(target.shape)
        # The fastest test of a few numbers; NaN is in no range.
        if -LARGEST < sum(numbers.tolist()) < LARGEST:
            return
    else:
        _read_rewards_slowly(rewards, target, names, faults)
    bad = ~(np.abs(target) < LARGEST)
    if bad.any():
        for row, column in np.argwhere(bad).tolist():
            got = str(target[row, column])
            infinite.setdefault(row, data_fault(names[column], "reward", "a finite float32", got))


_NUMBERS = frozenset(
    (
        float,
        int,
        bool,
        np.float64,
        np.float32,
        np.float16,
        np.int64,
        np.int32,
        np.int16,
        np.int8,
        np.uint8,
        np.bool_,
    )
)


def _read_rewards_slowly(
    rewards: list[Any], target: np.ndarray, names: tuple[str, ...], faults: dict[int, DataFault]
) -> None:
    """Turn rewards of other types than plain numbers into numbers, one by one."""
    for k, reward in enumerate(rewards):
        row, column = divmod(k, len(names))
        try:
            array = np.asarray(reward)
        except Exception:  # of what has no array; it is named below
            array = np.asarray(None)
        if array.size == 1 and array.dtype.kind in "biuf":  # also an array or a list of one
            target[row, column] = array.item()
        else:
            got = f"{type(reward).__name__} of shape {array.shape}, dtype {array.dtype}"
            if reward is None or array.dtype == object:
                got = "None" if reward is None else repr(reward)[:100]
            target[row, column] = 0.0
            advice = "return a float for every agent"
            faults.setdefault(row, data_fault(names[column], "reward", "one number", got, advice))
