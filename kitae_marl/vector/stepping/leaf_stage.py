"""This file takes one array of observations into shared memory and checks it on the way."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from kitae_marl.data.spaces import Leaf
from kitae_marl.vector.stepping.casting import (
    first_outside,
    integer_range,
    is_kind_of,
    learnable_range,
    may_wrap,
)
from kitae_marl.vector.stepping.faults import DataFault, data_fault

LARGE = 4096
"""Values of so many bytes, such as images, are not copied twice: they wait as they are."""

_kind_of = attrgetter("shape", "dtype")


class LeafStage:
    """One array of what agents observe: ``[rows, A, ...]`` of one worker.

    Args:
        leaf: path, shape, dtype and bounds.
        agents: whose values they are, along axis A.
        block: the rows of the shared array that this worker owns.
        final: the same rows of the array of final observations.
        what: what the values are, for messages.
    """

    def __init__(
        self,
        leaf: Leaf,
        agents: tuple[str, ...],
        block: np.ndarray,
        final: np.ndarray,
        what: str = "observation",
    ) -> None:
        self.leaf, self._agents = leaf, agents
        self._field = f"{what}{leaf.name}"
        self._block, self._final = block, final
        self._count = block.shape[0] * block.shape[1]
        self._kind = (leaf.shape, block.dtype)
        self._joined = leaf.shape != ()
        real = block.dtype.kind == "f"
        size = int(np.prod(leaf.shape, dtype=np.int64)) * block.dtype.itemsize
        self._large = self._joined and not real and size >= LARGE
        self._values: list[np.ndarray] = []
        target = block if self._large else np.zeros(block.shape, block.dtype)
        self._stage = target
        first = leaf.shape[0] if self._joined else 1
        self._flat = target.reshape(self._count * first, *leaf.shape[1:])
        self._finite = np.empty(block.shape, np.bool_) if real else None
        self._exact = _exact_range(leaf)
        self._bounded = bool(np.any(leaf.low > _lowest(block.dtype))) or bool(
            np.any(leaf.high < _highest(block.dtype))
        )

    def values(self, observations: Sequence[Any]) -> list[Any]:
        """Pick this array out of every agent's observation."""
        for key in self.leaf.path:
            observations = [observation[key] for observation in observations]
        return list(observations)

    def fill(self, observations: Sequence[Any], row: int | None = None) -> dict[int, DataFault]:
        """Gather one value per row and agent; return what is wrong, by row.

        Args:
            observations: of all rows and agents, row after row, or of one row's agents.
            row: which row; the others stay as they were gathered before.
        """
        n_agents = len(self._agents)
        at = slice(0, self._count) if row is None else slice(row * n_agents, (row + 1) * n_agents)
        try:
            values = self.values(observations)
            if self._joined and self._take(values, at):
                return {}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            values = [self._pick(observation) for observation in observations]
        return self._fill_slowly(values, at)

    def _take(self, values: list[Any], at: slice) -> bool:
        """Gather arrays that are as they should be; False or an error if some are not."""
        if self._large:
            if list(map(_kind_of, values)).count(self._kind) != len(values):
                return False
            self._values[at] = values
            return True
        first = self.leaf.shape[0]
        if set(map(len, values)) != {first}:  # all else is checked by the concatenation
            return False
        target = self._flat[at.start * first : at.stop * first]
        np.concatenate(values, out=target, casting="no")
        return True

    def _pick(self, observation: Any) -> Any:
        """Pick the value out of one observation, None where it is not there."""
        for key in self.leaf.path:
            try:
                observation = observation[key]
            except (KeyError, IndexError, TypeError):
                return None
        return observation

    def _fill_slowly(self, values: list[Any], at: slice) -> dict[int, DataFault]:
        """Convert value by value: scalars, lists, other dtypes, and whatever is wrong."""
        faults: dict[int, DataFault] = {}
        n_agents, dtype = len(self._agents), self._kind[1]
        stage = np.zeros_like(self._block) if self._large else self._stage
        flat = stage.reshape(self._count, *self.leaf.shape)[at]
        doubtful: dict[int, np.ndarray] = {}
        with np.errstate(over="ignore"):  # infinity is found where what is not finite is looked for
            for k, value in enumerate(values):
                try:
                    array = np.asarray(value)
                except Exception:  # of what has no array; it is named below
                    array = np.asarray(None)
                if array.shape == self.leaf.shape and is_kind_of(array.dtype, dtype):
                    flat[k] = array
                    if may_wrap(array.dtype, dtype):
                        doubtful[k] = array
                else:
                    row, column = divmod(at.start + k, n_agents)
                    faults.setdefault(row, self._misfit(self._agents[column], value, array))
        # All at once: games that return wider integers than they declare do so on every step.
        if doubtful and (np.stack([*doubtful.values()]) != flat[[*doubtful]]).any():
            for k, array in doubtful.items():
                row, column = divmod(at.start + k, n_agents)
                fault = self._wrapped(self._agents[column], array)
                if fault is not None:
                    faults.setdefault(row, fault)
        if self._large:
            self._values[at] = list(flat)
        return faults

    def _misfit(self, agent: str, value: Any, array: np.ndarray) -> DataFault:
        """Say what is wrong with the form of a value."""
        expected = f"an array of shape {self.leaf.shape} and dtype {self._kind[1]}"
        if value is None:
            return data_fault(agent, self._field, expected, "nothing (None or a missing key)")
        if isinstance(value, int):  # which no integer dtype can hold
            return data_fault(agent, self._field, expected, str(value))
        kind = "objects" if array.dtype == object else f"shape {array.shape}, dtype {array.dtype}"
        return data_fault(agent, self._field, expected, f"{type(value).__name__} of {kind}")

    def _wrapped(self, agent: str, array: np.ndarray) -> DataFault | None:
        """Say which integer is none of the dtype; None if all are."""
        low, high = integer_range(self._kind[1])
        place = first_outside(array, low, high)
        if place is None:
            return None
        got = f"{array[place]}{_at(place)}"
        expected = f"integers in [{low}, {high}], as its space of {self._kind[1]} says"
        return data_fault(agent, self._field, expected, got)

    @property
    def is_exact(self) -> bool:
        """Whether some of the numbers that the array can hold would be taken for others."""
        return self._exact is not None

    @property
    def tells_amounts(self) -> bool:
        """Whether a number outside the bounds is still an amount, as in a Box."""
        return self.leaf.choices is None and not self.leaf.binary

    def misread(self) -> dict[int, DataFault]:
        """Find numbers that would be taken for others: choices there are not, wide integers."""
        if self._exact is None:
            return {}
        low, high = self._exact
        stage = self._gathered()
        bad = (stage < low) | (stage > high)
        return self._name_rows(stage, bad, low, high) if bad.any() else {}

    def _gathered(self) -> np.ndarray:
        """What was gathered, in one array."""
        return np.stack(self._values).reshape(self._stage.shape) if self._large else self._stage

    def nonfinite(self) -> dict[int, DataFault]:
        """Find NaN and infinities, by row."""
        if self._finite is None or np.isfinite(self._stage, out=self._finite).all():
            return {}
        return self._name_rows(self._stage, ~self._finite)

    def out_of_bounds(self, in_game: np.ndarray) -> dict[int, DataFault]:
        """Find values outside the space, by row; agents out of the game do not count."""
        if not self._bounded:
            return {}
        stage = self._gathered()
        bad = (stage < self.leaf.low) | (stage > self.leaf.high)
        if not bad.any():
            return {}
        bad &= in_game.reshape(*in_game.shape, *[1] * len(self.leaf.shape))
        return self._name_rows(stage, bad, self.leaf.low, self.leaf.high) if bad.any() else {}

    def _name_rows(
        self, stage: np.ndarray, bad: np.ndarray, low: Any = None, high: Any = None
    ) -> dict[int, DataFault]:
        """Describe the first bad value of every row that has one; without bounds: not finite."""
        faults: dict[int, DataFault] = {}
        for index in np.argwhere(bad):
            row, column, *inside = index.tolist()
            if row in faults:
                continue
            value = stage[tuple(index)]
            expected = "finite numbers"
            if low is not None:
                least, most = (self._bound(bound, inside) for bound in (low, high))
                expected = f"values in [{least}, {most}]"
            faults[row] = data_fault(
                self._agents[column],
                self._field,
                expected,
                f"{value}{_at(inside)}",
            )
        return faults

    def _bound(self, bound: Any, inside: list[int]) -> Any:
        """Look up one bound of one element."""
        return np.broadcast_to(bound, self.leaf.shape)[tuple(inside)]

    def array_of(self, row: int, column: int) -> np.ndarray | None:
        """The array in which one agent's value is gathered; None where values wait instead."""
        return None if self._large else self._stage[row, column, ...]

    def restore(self, row: int) -> None:
        """Gather what the shared block holds for a row: what was delivered last."""
        self._stage[row] = self._block[row]

    def keep_final(self, row: int) -> None:
        """Copy a row into the final observations."""
        if not self._large:
            self._final[row] = self._stage[row]
            return
        n = len(self._agents)
        for j, value in enumerate(self._values[row * n : (row + 1) * n]):
            self._final[row, j] = value

    def commit(self) -> None:
        """Copy the gathered values into shared memory."""
        if self._large:
            np.concatenate(self._values, out=self._flat)
            self._values = []
        else:
            self._block[...] = self._stage


def _exact_range(leaf: Leaf) -> tuple[Any, Any] | None:
    """Return the range that numbers of an array must not leave on any step; None for most arrays.

    Zero is in it, as agents that are not in the game observe it.
    """
    if leaf.choices is not None:
        return np.minimum(leaf.low, 0), np.maximum(leaf.high, 0)
    return learnable_range(leaf.dtype)


def _at(place: Sequence[int]) -> str:
    """Say where in an array a value stands."""
    return f" at {list(place)}" if place else ""


def _lowest(dtype: np.dtype) -> Any:
    """Return the smallest value of a dtype."""
    return -np.inf if dtype.kind == "f" else integer_range(dtype)[0]


def _highest(dtype: np.dtype) -> Any:
    """Return the largest value of a dtype."""
    return np.inf if dtype.kind == "f" else integer_range(dtype)[1]
