"""This file takes observations from the environments into shared memory and checks them on the way.

A worker first lets all its environments step, gathers what they returned in private arrays, checks
these, and only then copies them into the shared blocks. So a worker that dies inside an
environment's code leaves the observations of the step before untouched, and the checks run once
per worker and step, not once per agent.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from kitae_marl.data.spaces import Leaf, leaves, nest, zeros
from kitae_marl.data.stacking import map_leaves
from kitae_marl.types import GroupSpec
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.faults import DataFault, data_fault

LARGE = 4096
"""Values of so many bytes, such as images, are not copied twice: they wait as they are."""

_kind_of = attrgetter("shape", "dtype")


class ObservationStage:
    """The observations of one worker's rows, all groups together.

    Attributes:
        nothing: by column, what an absent agent observes.
    """

    def __init__(self, blocks: Blocks, rows: slice) -> None:
        self._groups = [
            (
                GroupStage(g, blocks.observation[g.name], blocks.final[g.name], rows),
                blocks.columns[g.name],
            )
            for g in blocks.groups
        ]
        self._leaves = [leaf for group, _ in self._groups for leaf in group.leaves]
        self._n_rows = rows.stop - rows.start
        self._only = self._groups[0][0] if len(self._groups) == 1 else None
        self._in_place: set[int] = set()
        self.nothing = [group.nothing for group, _ in self._groups for _ in range(group.n_agents)]
        self.begin()

    def begin(self) -> None:
        """Forget the step before."""
        if len(self._in_place) < self._n_rows:
            for group, _ in self._groups:
                group.begin()

    def arrays_of(self, row: int) -> dict[str, Any] | None:
        """By agent, the arrays in which a row is gathered; None where large ones wait instead."""
        arrays = {
            agent: group.arrays_of(row, column)
            for group, _ in self._groups
            for column, agent in enumerate(group.spec.agents)
        }
        return None if any(array is None for array in arrays.values()) else arrays

    def set_in_place(self, row: int, in_place: bool) -> None:
        """Say whether a row's game writes into :meth:`arrays_of` it, or lets observations wait."""
        if in_place:
            self._in_place.add(row)
        else:
            self._in_place.discard(row)

    def put(self, row: int, observations: Sequence[Any]) -> None:
        """Let the observations of a row wait, given by column."""
        if self._only is not None:
            self._only.waiting[row] = observations
            return
        for group, columns in self._groups:
            group.waiting[row] = observations[columns]

    def repeat(self, row: int) -> None:
        """Go back to the last observations delivered for a row."""
        if row in self._in_place:
            for leaf in self._leaves:
                leaf.restore(row)
            return
        for group, _ in self._groups:
            group.waiting[row] = group.last(row)

    def fill(self, rows: Sequence[int] | None = None) -> dict[int, DataFault]:
        """Gather what waits; return what has the wrong form, by row.

        Args:
            rows: only these are new since everything was gathered; None: all are.
        """
        if self._in_place:
            rows = range(self._n_rows) if rows is None else rows
            rows = [row for row in rows if row not in self._in_place]
        elif rows is not None and 3 * len(rows) > self._n_rows:
            rows = None  # all at once is cheaper
        faults: dict[int, DataFault] = {}
        for group, _ in self._groups:
            faults.update(group.fill(rows))
        return faults

    def nonfinite(self) -> dict[int, DataFault]:
        """Find rows with NaN or infinity."""
        faults: dict[int, DataFault] = {}
        for leaf in self._leaves:
            faults.update(leaf.nonfinite())
        return faults

    def out_of_bounds(self, in_game: np.ndarray) -> dict[int, DataFault]:
        """Find rows with values outside their space."""
        faults: dict[int, DataFault] = {}
        for group, columns in self._groups:
            for leaf in group.leaves:
                faults.update(leaf.out_of_bounds(in_game[:, columns]))
        return faults

    def keep_final(self, row: int) -> None:
        """Copy a row into the final observations."""
        for leaf in self._leaves:
            leaf.keep_final(row)

    def commit(self) -> None:
        """Copy the gathered values into shared memory and let the games' own arrays go."""
        for leaf in self._leaves:
            leaf.commit()
        self.begin()


class GroupStage:
    """All observation arrays of one group, and the observations that wait for them.

    Attributes:
        waiting: by row, one observation per agent, set anew on every step.
        nothing: the observation of an agent that is not in the game: zeros.
    """

    def __init__(self, group: GroupSpec, block: Any, final: Any, rows: slice) -> None:
        self.spec, self.n_agents = group, group.n_agents
        self.waiting: list[Sequence[Any]] = []
        self._block = block
        self._first, self._n_rows = rows.start, rows.stop - rows.start
        self.leaves = [
            LeafStage(leaf, group, leaf.of(block)[rows], leaf.of(final)[rows])
            for leaf in leaves(group.observation_space)
        ]
        self.nothing = zeros(group.observation_space)

    def last(self, row: int) -> list[Any]:
        """Copy what the shared blocks hold for one row: the last observations delivered."""
        at = self._first + row
        return [
            map_leaves(lambda array, j=j: array[at, j].copy(), self._block)
            for j in range(self.n_agents)
        ]

    def begin(self) -> None:
        """Forget the step before."""
        self.waiting = [()] * self._n_rows

    def arrays_of(self, row: int, column: int) -> Any:
        """The arrays in which an agent's observation is gathered; None if some wait instead."""
        arrays = [leaf.array_of(row, column) for leaf in self.leaves]
        if any(array is None for array in arrays):
            return None
        return nest(self.spec.observation_space, arrays)

    def fill(self, rows: Sequence[int] | None) -> dict[int, DataFault]:
        """Gather what waits, of some rows or all at once (None); return what is wrong, by row."""
        faults: dict[int, DataFault] = {}
        if rows is None:
            observations = list(itertools.chain.from_iterable(self.waiting))
            for leaf in self.leaves:
                faults.update(leaf.fill(observations))
            return faults
        for row in rows:
            for leaf in self.leaves:
                faults.update(leaf.fill(self.waiting[row], row))
        return faults


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
