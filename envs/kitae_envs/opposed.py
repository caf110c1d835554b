"""Games in whose batch others than the learner play: each kind of opponent has its environments.

A batch of ``E`` environments has sections. In those of the first section the learner plays all
agents; each further one belongs to an opponent, who plays all agents but those of one team. The
agents of opponents are never active for the learner, so what they do is learned by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kitae_envs.around import GameAround
from kitae_envs.core import ByGroup, Game, State, TimeStep, View
from kitae_envs.sampling import sample_actions
from kitae_envs.teams import NOBODY, Tally, Teams


class Opponent(NamedTuple):
    """Who plays in a section of environments, as pure functions over a batch.

    Attributes:
        act: ``(key, view, reset, memory, data) -> (action, memory)``: ``view`` is what all agents
            see, ``{group: [n, A, ...]}`` by groups of the game, so is the action; ``reset`` says
            where an episode begins, bool ``[n]``.
        memory: ``memory(n_envs)``, what it remembers before the first step, leaves ``[n, ...]``.
        data: what it plays by, such as parameters, a pytree of arrays; see ``Game.data``.
    """

    act: Callable[[jax.Array, View, jax.Array, Any, Any], tuple[ByGroup, Any]]
    memory: Callable[[int], Any] = lambda n_envs: ()
    data: Any = ()


def random_opponent(game: Game) -> Opponent:
    """Return the opponent that draws every legal action with equal probability."""

    def act(
        key: jax.Array, view: View, reset: jax.Array, memory: Any, data: Any
    ) -> tuple[ByGroup, Any]:
        del reset, data
        return sample_actions(game, key, view), memory

    return Opponent(act)


class OpposedState(NamedTuple):
    """A batch of games and of who plays them, leading axis ``E``.

    Attributes:
        game: states of the games.
        view: what all agents see.
        reset: bool ``[E]``, an episode begins.
        team: int32 ``[E]``, the number of the learner's team, the next one in each new game;
            ``NOBODY``: it plays all agents.
        memory: what the opponents remember, each for all environments.
        returns: ``{group: [E, A]}``, undiscounted rewards of the running episodes.
        tally: sums over the games that are over, ``[E, T]`` by the learner's team.
    """

    game: State
    view: View
    reset: Any
    team: Any
    memory: tuple[Any, ...]
    returns: ByGroup
    tally: Tally


class OpposedGame(GameAround):
    """A game that is stepped as a batch, with opponents in sections of it.

    Spaces, agents and rules are those of the game. A batch starts with the learner playing
    everywhere; :meth:`seat` gives the opponents their places. Where several devices share a batch,
    each has the same sections.

    Args:
        game: the game.
        teams: agents that one player plays; each agent is in one team, of two or more.
        sections: number of environments of a batch (of the part of each device) and who plays
            there; those left over, at the beginning, are the learner's alone.
        changing: number of the section whose opponent plays by other data now and then.

    Attributes:
        game: the game.
        teams: who plays together.
    """

    def __init__(
        self,
        game: Game,
        teams: Sequence[Sequence[str]],
        sections: Sequence[tuple[int, Opponent]],
        changing: int | None = None,
    ) -> None:
        super().__init__(game)
        self.teams, self._changing = Teams(teams), changing
        self._sizes = [n_envs for n_envs, _ in sections]
        self._opponents = [opponent for _, opponent in sections]
        self.data = (game.data, tuple(opponent.data for opponent in self._opponents))
        self._learns = {name: self.teams.learns(agents) for name, agents in self.groups.items()}

    def learns(self, team: jax.Array) -> ByGroup:
        """Return who plays for the learner, bool ``{group: [E, A]}``, where it has these teams."""
        return {name: jnp.asarray(table)[team] for name, table in self._learns.items()}

    def changed_data(self, data: Any) -> Any:
        """Return ``data`` of this game with those of the opponent that changes in it."""
        own, others = self.data
        return own, tuple(data if i == self._changing else x for i, x in enumerate(others))

    def start_batch(self, key: jax.Array, n_envs: int) -> tuple[OpposedState, TimeStep]:
        """Start a batch in which the learner plays all agents."""
        games, step = self.game.start_batch(key, n_envs)
        zeros = jnp.zeros((n_envs, len(self.teams)), jnp.float32)
        state = OpposedState(
            game=games,
            view=View(step.observation, step.action_mask, step.active),
            reset=jnp.ones((n_envs,), bool),
            team=jnp.full((n_envs,), NOBODY, jnp.int32),
            memory=tuple(opponent.memory(n_envs) for opponent in self._opponents),
            returns=jax.tree.map(jnp.zeros_like, step.reward),
            tally=Tally(*(zeros for _ in Tally._fields)),
        )
        return state, step

    def step_batch(
        self, key: jax.Array, state: OpposedState, action: ByGroup, first: int | jax.Array = 0
    ) -> tuple[OpposedState, TimeStep]:
        """Ask the opponents, then play one joint step everywhere.

        Of the TimeStep, only ``active`` is another one than the game's: opponents never are.
        """
        key, game_key = jax.random.split(key)
        own, of_opponents = self.data
        joint, memory = self._joint(jax.random.fold_in(key, first), state, action, of_opponents)
        game = self.game.with_data(own)
        games, step = game.step_batch(game_key, state.game, joint, first)
        returns = jax.tree.map(jnp.add, state.returns, step.reward)
        over, tally = step.over, self._counted(state, returns, step.over)
        next_team = (state.team + 1) % len(self.teams)
        team = jnp.where(over & (state.team != NOBODY), next_team, state.team)
        state = OpposedState(
            game=games,
            view=View(step.observation, step.action_mask, step.active),
            reset=over,
            team=team,
            memory=memory,
            returns=jax.tree.map(lambda r: jnp.where(over[:, None], 0.0, r), returns),
            tally=tally,
        )
        learns = self.learns(team)
        active = {name: flags & learns[name] for name, flags in step.active.items()}
        return state, step._replace(active=active)

    def _joint(
        self, key: jax.Array, state: OpposedState, action: ByGroup, of_opponents: Sequence[Any]
    ) -> tuple[ByGroup, tuple[Any, ...]]:
        """Put the actions of the learner and of the opponents together; return their memory."""
        n_envs = state.team.shape[0]
        ends = list(accumulate(self._sizes, initial=n_envs - sum(self._sizes)))
        learns = self.learns(state.team)
        parts = [jax.tree.map(lambda x: x[: ends[0]], action)]
        memories = []
        for i, opponent in enumerate(self._opponents):
            rows = slice(ends[i], ends[i + 1])

            def some(tree: Any, rows: slice = rows) -> Any:
                return jax.tree.map(lambda x: x[rows], tree)

            chosen, memory = opponent.act(
                jax.random.fold_in(key, i),
                some(state.view),
                state.reset[rows],
                some(state.memory[i]),
                of_opponents[i],
            )
            mine = some(learns)
            parts.append(
                {
                    name: jax.tree.map(
                        lambda own, other, mine=mine[name]: jnp.where(
                            mine.reshape(mine.shape + (1,) * (own.ndim - 2)), own, other
                        ),
                        some(action[name]),
                        chosen[name],
                    )
                    for name in action
                }
            )
            put = jax.tree.map(
                lambda x, new, rows=rows: x.at[rows].set(new), state.memory[i], memory
            )
            memories.append(put)
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts), tuple(memories)

    def _counted(self, state: OpposedState, returns: ByGroup, over: jax.Array) -> Tally:
        """Count the games that have ended."""
        agents = [agent for agents in self.groups.values() for agent in agents]
        by_agent = jnp.concatenate([returns[name] for name in self.groups], axis=1)
        counts = self.teams.tally(agents, by_agent, state.team)
        mine = jnp.arange(len(self.teams))[None] == state.team[:, None]
        counted = (over & counts.games)[:, None] & mine
        return jax.tree.map(
            lambda sums, x: sums + jnp.where(counted, x[:, None], 0.0), state.tally, counts
        )

    def seat(self, state: OpposedState, team: jax.Array) -> OpposedState:
        """Let the learner play these teams from here on, int32 ``[E]``, and count games anew."""
        return state._replace(team=team, tally=jax.tree.map(jnp.zeros_like, state.tally))
