"""One array of the observations of a worker's environments, gathered and checked."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from kitae_marl.data.groups import GroupSpec
from kitae_marl.vector.stepping.spaces import Leaf

_kind_of = attrgetter("shape", "dtype")

LARGE = 4096
"""Values of so many bytes, such as images, are not copied twice: they wait as they are."""


class DataFault(Exception):
    """An environment named agents or returned data that it must not; becomes a named error.

    Args:
        error: name of the class in ``kitae_marl.errors`` that the parent raises.
        message: what was expected, what came and what to do.
        detail: ``agent``, ``field``, ``expected`` and ``got`` of an ``EnvDataError``.
    """

    def __init__(self, error: str, message: str, **detail: str) -> None:
        super().__init__(message)
        self.error = error
        self.detail = detail


def data_fault(agent: str, field: str, expected: str, got: str, advice: str = "") -> DataFault:
    """Describe one wrong value of one agent."""
    message = f"{field} of agent {agent!r}: expected {expected}, got {got}" + (
        f"; {advice}." if advice else "."
    )
    return DataFault("EnvDataError", message, agent=agent, field=field, expected=expected, got=got)


class LeafStage:
    """One array of one group's observations: ``[rows, A, ...]`` of one worker.

    Args:
        leaf: path, shape, dtype and bounds.
        group: whose observations they are.
        block: the rows of the shared array that this worker owns.
        final: the same rows of the array of final observations.
    """

    def __init__(self, leaf: Leaf, group: GroupSpec, block: np.ndarray, final: np.ndarray) -> None:
        self.leaf, self.group = leaf, group
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
        n_agents = self.group.n_agents
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
        n_agents = self.group.n_agents
        stage = np.zeros_like(self._block) if self._large else self._stage
        flat = stage.reshape(self._count, *self.leaf.shape)[at]
        for k, value in enumerate(values):
            try:
                array = np.asarray(value)
            except ValueError:
                array = np.asarray(None)
            fits = array.shape == self.leaf.shape and array.dtype.kind in "biufc"
            if fits and np.can_cast(array.dtype, self._kind[1], "same_kind"):
                with np.errstate(over="ignore"):
                    flat[k] = array
            else:
                row, column = divmod(at.start + k, n_agents)
                faults.setdefault(row, self._misfit(self.group.agents[column], value, array))
        if self._large:
            self._values[at] = list(flat)
        return faults

    def _misfit(self, agent: str, value: Any, array: np.ndarray) -> DataFault:
        """Say what is wrong with the form of a value."""
        field = f"observation{self.leaf.name}"
        expected = f"an array of shape {self.leaf.shape} and dtype {self._kind[1]}"
        if value is None:
            return data_fault(agent, field, expected, "nothing (None or a missing key)")
        kind = "objects" if array.dtype == object else f"shape {array.shape}, dtype {array.dtype}"
        return data_fault(agent, field, expected, f"{type(value).__name__} of {kind}")

    def nonfinite(self) -> dict[int, DataFault]:
        """Find NaN and infinities, by row."""
        if self._finite is None or np.isfinite(self._stage, out=self._finite).all():
            return {}
        return self._name_rows(self._stage, ~self._finite, "finite numbers")

    def out_of_bounds(self, in_game: np.ndarray) -> dict[int, DataFault]:
        """Find values outside the space, by row; agents out of the game do not count."""
        if not self._bounded:
            return {}
        stage = self._stage
        if self._large:
            stage = np.stack(self._values).reshape(stage.shape)
        bad = (stage < self.leaf.low) | (stage > self.leaf.high)
        if not bad.any():
            return {}
        bad &= in_game.reshape(*in_game.shape, *[1] * len(self.leaf.shape))
        return self._name_rows(stage, bad, "values inside the space") if bad.any() else {}

    def _name_rows(self, stage: np.ndarray, bad: np.ndarray, expected: str) -> dict[int, DataFault]:
        """Describe the first bad value of every row that has one."""
        faults: dict[int, DataFault] = {}
        for index in np.argwhere(bad):
            row, column, *inside = index.tolist()
            if row in faults:
                continue
            value = stage[tuple(index)]
            place = f" at {inside}" if inside else ""
            if expected != "finite numbers":
                low, high = (self._bound(b, inside) for b in (self.leaf.low, self.leaf.high))
                expected = f"values in [{low}, {high}]"
            faults[row] = data_fault(
                self.group.agents[column],
                f"observation{self.leaf.name}",
                expected,
                f"{value}{place}",
            )
        return faults

    def _bound(self, bound: Any, inside: list[int]) -> Any:
        """Look up one bound of one element."""
        return np.broadcast_to(bound, self.leaf.shape)[tuple(inside)]

    def place(self, row: int, column: int) -> np.ndarray | None:
        """Where a value is gathered: it may be written there too. None where values wait."""
        return None if self._large else self._stage[row, column, ...]

    def restore(self, row: int) -> None:
        """Gather what the shared block holds for a row: what was delivered last."""
        self._stage[row] = self._block[row]

    def keep_final(self, row: int) -> None:
        """Copy a row into the final observations."""
        if not self._large:
            self._final[row] = self._stage[row]
            return
        n = self.group.n_agents
        for j, value in enumerate(self._values[row * n : (row + 1) * n]):
            self._final[row, j] = value

    def commit(self) -> None:
        """Copy the gathered values into shared memory."""
        if self._large:
            np.concatenate(self._values, out=self._flat)
            self._values = []
        else:
            self._block[...] = self._stage


def _lowest(dtype: np.dtype) -> Any:
    """Return the smallest value of a dtype."""
    return -np.inf if dtype.kind == "f" else _integer_range(dtype)[0]


def _highest(dtype: np.dtype) -> Any:
    """Return the largest value of a dtype."""
    return np.inf if dtype.kind == "f" else _integer_range(dtype)[1]


def _integer_range(dtype: np.dtype) -> tuple[int, int]:
    """Return smallest and largest value of an integer dtype or of bool."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
