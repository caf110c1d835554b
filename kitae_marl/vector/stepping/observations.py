"""This file takes observations from the environments into shared memory and checks them on the way.

A worker first lets all its environments step, gathers what they returned in private arrays, checks
these, and only then copies them into the shared blocks. So a worker that dies inside an
environment's code leaves the observations of the step before untouched, and the checks run once
per worker and step, not once per agent.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from kitae_marl.data.spaces import leaves, nest, zeros
from kitae_marl.data.stacking import map_leaves
from kitae_marl.types import GroupSpec
from kitae_marl.vector.stepping.blocks import Blocks
from kitae_marl.vector.stepping.faults import DataFault
from kitae_marl.vector.stepping.leaf_stage import LeafStage


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
        self._exact = [leaf for leaf in self._leaves if leaf.is_exact]
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
        for leaf in self._exact:
            for row, fault in leaf.misread().items():
                faults.setdefault(row, fault)
        return faults

    def nonfinite(self) -> dict[int, DataFault]:
        """Find rows with NaN or infinity."""
        faults: dict[int, DataFault] = {}
        for leaf in self._leaves:
            faults.update(leaf.nonfinite())
        return faults

    def out_of_bounds(
        self, in_game: np.ndarray
    ) -> tuple[dict[int, DataFault], dict[int, DataFault]]:
        """Find rows with values outside their space.

        Returns:
            Those with numbers that say nothing, such as the sixth of five choices, and those with
            amounts that are larger or smaller than the space says.
        """
        wrong: dict[int, DataFault] = {}
        amounts: dict[int, DataFault] = {}
        for group, columns in self._groups:
            for leaf in group.leaves:
                told = amounts if leaf.tells_amounts else wrong
                told.update(leaf.out_of_bounds(in_game[:, columns]))
        return wrong, amounts

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
            LeafStage(leaf, group.agents, leaf.of(block)[rows], leaf.of(final)[rows])
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
