"""Observations on their way from the environments into shared memory, checked as they pass.

A worker first lets all its environments step, gathers what they returned in private arrays, checks
these, and only then copies them into the shared blocks. So a worker that dies inside an
environment's code leaves the observations of the step before untouched, and the checks run once
per worker and step, not once per agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from kitae_marl.groups import GroupSpec, map_leaves
from kitae_marl.vector.shared_memory import Blocks
from kitae_marl.vector.spaces import Leaf, leaves, tree

_kind_of = attrgetter("shape", "dtype")


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
        self.block, self.final = block, final
        self.stage = np.zeros(block.shape, block.dtype)
        self._count = block.shape[0] * block.shape[1]
        self._kind = (leaf.shape, block.dtype)
        self._joined = leaf.shape != ()
        self._flat = self.stage.reshape(-1, *leaf.shape[1:]) if self._joined else self.stage.ravel()
        self._real = block.dtype.kind == "f"
        self._finite = np.empty(block.shape, np.bool_) if self._real else None
        self._bounded = bool(np.any(leaf.low > _lowest(block.dtype))) or bool(
            np.any(leaf.high < _highest(block.dtype))
        )

    def values(self, observations: Sequence[Any]) -> list[Any]:
        """Pick this array out of every agent's observation."""
        for key in self.leaf.path:
            observations = [observation[key] for observation in observations]
        return list(observations)

    def fill(self, observations: Sequence[Any]) -> dict[int, DataFault]:
        """Gather one value per row and agent; return what is wrong, by row."""
        try:
            values = observations if not self.leaf.path else self.values(observations)
            if self._joined and list(map(_kind_of, values)).count(self._kind) == self._count:
                np.concatenate(values, out=self._flat)
                return {}
        except (KeyError, IndexError, TypeError, AttributeError):
            values = [self._pick(observation) for observation in observations]
        return self._fill_slowly(list(values))

    def _pick(self, observation: Any) -> Any:
        """Pick the value out of one observation, None where it is not there."""
        for key in self.leaf.path:
            try:
                observation = observation[key]
            except (KeyError, IndexError, TypeError):
                return None
        return observation

    def _fill_slowly(self, values: list[Any]) -> dict[int, DataFault]:
        """Convert value by value: scalars, lists, other dtypes, and whatever is wrong."""
        faults: dict[int, DataFault] = {}
        n_agents = self.group.n_agents
        flat = self.stage.reshape(self._count, *self.leaf.shape)
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
                row, column = divmod(k, n_agents)
                faults.setdefault(row, self._misfit(self.group.agents[column], value, array))
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
        if self._finite is None or np.isfinite(self.stage, out=self._finite).all():
            return {}
        return self._name_rows(~self._finite, "finite numbers")

    def out_of_bounds(self, in_game: np.ndarray) -> dict[int, DataFault]:
        """Find values outside the space, by row; agents out of the game do not count."""
        if not self._bounded:
            return {}
        bad = (self.stage < self.leaf.low) | (self.stage > self.leaf.high)
        if not bad.any():
            return {}
        bad &= in_game.reshape(*in_game.shape, *[1] * len(self.leaf.shape))
        return self._name_rows(bad, "values inside the space") if bad.any() else {}

    def _name_rows(self, bad: np.ndarray, expected: str) -> dict[int, DataFault]:
        """Describe the first bad value of every row that has one."""
        faults: dict[int, DataFault] = {}
        for index in np.argwhere(bad):
            row, column, *inside = index.tolist()
            if row in faults:
                continue
            value = self.stage[tuple(index)]
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

    def commit(self) -> None:
        """Copy the gathered values into shared memory."""
        self.block[...] = self.stage


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


class GroupStage:
    """All observation arrays of one group, and the observations that wait for them.

    Attributes:
        waiting: one observation per row and agent, row after row, filled anew on every step.
        nothing: the observation of an agent that is not in the game: zeros.
    """

    def __init__(self, group: GroupSpec, block: Any, final: Any, rows: slice) -> None:
        self.n_agents = group.n_agents
        self.waiting: list[Any] = []
        self._block = block
        self._first = rows.start
        self.leaves = [
            LeafStage(leaf, group, _at(block, leaf)[rows], _at(final, leaf)[rows])
            for leaf in leaves(group.observation_space)
        ]
        zeros = iter([np.zeros(leaf.shape, leaf.dtype) for leaf in leaves(group.observation_space)])
        self.nothing = tree(group.observation_space, zeros)

    def last(self, row: int) -> list[Any]:
        """Copy what the shared blocks hold for one row: the last observations delivered."""
        at = self._first + row
        return [
            map_leaves(lambda array, j=j: array[at, j].copy(), self._block)
            for j in range(self.n_agents)
        ]

    def put(self, row: int, observations: Sequence[Any]) -> None:
        """Set the waiting observations of one row."""
        n = self.n_agents
        self.waiting[row * n : (row + 1) * n] = observations


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
        self._only = self._groups[0][0] if len(self._groups) == 1 else None
        self.nothing = [group.nothing for group, _ in self._groups for _ in range(group.n_agents)]
        self._complained = False

    def begin(self) -> None:
        """Forget the step before."""
        for group, _ in self._groups:
            group.waiting.clear()

    def extend(self, observations: Sequence[Any]) -> None:
        """Let the observations of the next row wait, given by column."""
        if self._only is not None:
            self._only.waiting.extend(observations)
            return
        for group, columns in self._groups:
            group.waiting.extend(observations[columns])

    def replace(self, row: int, observations: Sequence[Any]) -> None:
        """Exchange the waiting observations of one row."""
        for group, columns in self._groups:
            group.put(row, observations[columns])

    def repeat(self, row: int) -> None:
        """Let the last observations delivered wait as those of the row that is filled now."""
        for group, _ in self._groups:
            del group.waiting[row * group.n_agents :]
            group.waiting.extend(group.last(row))

    def replace_by_last(self, row: int) -> None:
        """Exchange the waiting observations of one row for the last ones delivered."""
        for group, _ in self._groups:
            group.put(row, group.last(row))

    def fill(self) -> dict[int, DataFault]:
        """Gather everything that waits; return what has the wrong form, by row."""
        faults: dict[int, DataFault] = {}
        for group, _ in self._groups:
            for leaf in group.leaves:
                faults.update(leaf.fill(group.waiting))
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

    def complain(self) -> bool:
        """Whether nobody has complained yet; from now on somebody has."""
        first, self._complained = not self._complained, True
        return first

    def keep_final(self, row: int) -> None:
        """Copy a row into the final observations."""
        for leaf in self._leaves:
            leaf.final[row] = leaf.stage[row]

    def commit(self) -> None:
        """Copy the gathered values into shared memory."""
        for leaf in self._leaves:
            leaf.block[...] = leaf.stage


def read_rewards(
    rewards: list[Any],
    target: np.ndarray,
    names: tuple[str, ...],
    faults: dict[int, DataFault],
    infinite: dict[int, DataFault],
) -> None:
    """Turn the rewards of all rows and agents into numbers; add what is wrong to the faults."""
    if _NUMBERS.issuperset(map(type, rewards)):
        target[...] = np.array(rewards, np.float64).reshape(target.shape)
    else:
        _read_rewards_slowly(rewards, target, names, faults)
    if not np.isfinite(target).all():
        for row, column in np.argwhere(~np.isfinite(target)).tolist():
            got = str(target[row, column])
            infinite.setdefault(row, data_fault(names[column], "reward", "a finite number", got))


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
        array = np.asarray(reward)
        if array.shape == () and array.dtype.kind in "biuf":
            target[row, column] = array
        else:
            got = (
                "None"
                if reward is None
                else (f"{type(reward).__name__} of shape {array.shape}, dtype {array.dtype}")
            )
            target[row, column] = 0.0
            faults.setdefault(row, data_fault(names[column], "reward", "one number", got))


def _at(nested: Any, leaf: Leaf) -> np.ndarray:
    """Follow a leaf's path."""
    for key in leaf.path:
        nested = nested[key]
    return nested
