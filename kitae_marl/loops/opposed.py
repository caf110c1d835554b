"""Opponents in the compiled loop, between two chunks: who sits where, what came of the games."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kitae_envs.opposed import OpposedGame
from kitae_envs.teams import NOBODY, Tally

from kitae_marl.data.lifting import behind, regroup, stacked
from kitae_marl.loops.compiled import LoopState
from kitae_marl.loops.program import CompiledLoop
from kitae_marl.types import GroupSpec, Result, Seating


class CompiledTable:
    """The compiled loop's opponents; the :class:`~kitae_marl.types.Table` of compiled games.

    Args:
        loop: the loop of one run.
        game: its game.
        groups: of agents that learn.

    Attributes:
        goes_on: whether the games are those of a checkpoint.
    """

    def __init__(
        self, loop: CompiledLoop, game: OpposedGame, groups: tuple[GroupSpec, ...]
    ) -> None:
        self._loop, self._game = loop, game
        self.goes_on = loop.goes_on
        self._names: list[str] = []
        self._restart = jax.jit(partial(restarted, game, groups), out_shardings=loop.rest_places)

    def results(self) -> list[Result]:
        """Return what came of the games since opponents were seated last."""
        if not self._names:  # the games of a checkpoint, before anybody has been seated
            return []
        counted = self._loop.whole(self._loop.loop.game.tally)
        tally = np.stack([np.asarray(counts) for counts in counted], axis=-1)
        return [
            Result(name, team, Tally(*numbers))
            for name, of_teams in zip(self._names, tally.tolist(), strict=True)
            for team, numbers in enumerate(of_teams)
            if name and numbers[0]
        ]

    def sit(self, seating: Seating) -> bool:
        """Say who sits where in the games of a checkpoint; return whether they were played so.

        They were not where the run went on with another number of devices.
        """
        team = np.asarray(self._loop.whole(self._loop.loop.game.team))
        alone = np.array([not name for name in seating.names])
        if not np.array_equal(team == NOBODY, alone):
            return False
        self._take_places(seating)
        return True

    def seat(self, seating: Seating) -> None:
        """Give opponents their seats from here on; their games begin."""
        self._take_places(seating)
        loop = self._loop.loop
        fresh = self._loop.fresh()
        rows = np.array([bool(name) for name in seating.names])
        rest = self._restart(loop._replace(state=()), fresh._replace(state=()), rows, seating.team)
        self._loop.loop = rest._replace(state=loop.state)

    def _take_places(self, seating: Seating) -> None:
        """Let members of the pool play by what they have learned."""
        self._names = seating.names
        if seating.states:
            self._loop.data = self._loop.placed(self._game.changed_data(stacked(seating.states)))


def restarted(
    game: OpposedGame,
    groups: tuple[GroupSpec, ...],
    loop: LoopState,
    fresh: LoopState,
    rows: jax.Array,
    team: jax.Array,
) -> LoopState:
    """Let the games of some environments begin, with the learner in other teams.

    Args:
        game: the rules.
        groups: of agents that learn.
        loop: the loop, without its state.
        fresh: one whose games begin.
        rows: which environments, bool ``[E]``.
        team: of all environments, int32 ``[E]``.
    """

    def pick(name: str) -> Any:
        return jax.tree.map(
            lambda new, old: jnp.where(behind(rows, new), new, old),
            getattr(fresh, name),
            getattr(loop, name),
        )

    own = {group.name: group.agents for group in groups}
    learns = regroup(game.learns(team), game.groups, own)
    view = pick("view")
    view["active"] = {name: active & learns[name] for name, active in view["active"].items()}
    return loop._replace(
        game=game.seat(pick("game"), team),
        view=view,
        returns=pick("returns"),
        length=pick("length"),
    )
