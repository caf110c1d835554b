"""Games some of whose agents are played by given policies: an opponent is part of the game."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.around import GameAround
from kitae_envs.core import ByGroup, Game, Outcome, State, View
from kitae_envs.sampling import sample_actions


class Seat(NamedTuple):
    """A policy that plays for some agents of one game, as a pure function.

    Attributes:
        agents: whom it plays for.
        act: ``(key, view, memory, data) -> ({agent: action}, memory)``; ``view`` is what all agents
            of the game see in the state to act in, ``{group: [A, ...]}``.
        memory: what it remembers at the start of an episode, a pytree of arrays.
        data: what it plays by, such as parameters, a pytree of arrays; see ``Game.data``.
    """

    agents: tuple[str, ...]
    act: Callable[[jax.Array, View, Any, Any], tuple[dict[str, Any], Any]]
    memory: Any = ()
    data: Any = ()


def columns_of(game: Game, agents: Sequence[str]) -> tuple[str, np.ndarray]:
    """Return the group that holds all of these agents, and their places in it.

    Raises:
        ValueError: if no group of the game holds all of them.
    """
    for name, members in game.groups.items():
        if set(agents) <= set(members):
            return name, np.array([members.index(agent) for agent in agents])
    raise ValueError(
        f"expected agents of one group of {game.groups}, got {list(agents)}; give seats to agents "
        "of the game, and play them with policies made for their spaces."
    )


def take(game: Game, by_group: ByGroup, agents: Sequence[str]) -> Any:
    """Return the values of agents with equal spaces, ``[A, ...]`` in their order."""
    parts = {name: [a for a in members if a in agents] for name, members in game.groups.items()}
    parts = {name: members for name, members in parts.items() if members}
    if len(parts) > 1:  # agents whom a policy stacks together, and the game does not
        values = [take(game, by_group, members) for members in parts.values()]
        order = [agent for members in parts.values() for agent in members]
        rows = np.array([order.index(agent) for agent in agents])
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[rows], *values)
    name, columns = columns_of(game, agents)
    if tuple(agents) == game.groups[name]:
        return by_group[name]
    return jax.tree.map(lambda leaf: leaf[columns], by_group[name])


def random_seat(game: Game, agents: Sequence[str]) -> Seat:
    """Return the seat whose agents draw every legal action with equal probability."""
    places = {agent: columns_of(game, [agent]) for agent in agents}

    def act(key: jax.Array, view: View, memory: Any, data: Any) -> tuple[dict[str, Any], Any]:
        del data
        drawn = sample_actions(game, key, jax.tree.map(lambda leaf: leaf[None], view))
        return {agent: drawn[name][0, i[0]] for agent, (name, i) in places.items()}, memory

    return Seat(tuple(agents), act)


class SeatedState(NamedTuple):
    """State of the game, and what the seats remember."""

    game: State
    memory: tuple[Any, ...]


class SeatedGame(GameAround):
    """A game of fewer agents: the others have seats, whose policies act inside every transition.

    Spaces, observations, masks, rewards and flags of the agents that are left are those of the
    game; an episode ends when none of them is in it any more.

    Args:
        game: the game.
        seats: who plays for whom.

    Attributes:
        game: the game.
        seats: who plays for whom.

    Raises:
        ValueError: if an agent of a seat is not in the game or has two seats, or none is left.
    """

    def __init__(self, game: Game, seats: Sequence[Seat]) -> None:
        seated = [agent for seat in seats for agent in seat.agents]
        if not set(seated) < set(game.possible_agents) or len(set(seated)) < len(seated):
            raise ValueError(
                f"expected seats for some of {list(game.possible_agents)}, one each, got {seated}; "
                "leave at least one agent without."
            )
        super().__init__(game)
        self.seats = tuple(seats)
        self.possible_agents = tuple(a for a in game.possible_agents if a not in seated)
        self.data = (game.data, tuple(seat.data for seat in self.seats))

    def start(self, key: jax.Array) -> SeatedState:
        """Start the game; the seats remember nothing yet."""
        memory = tuple(jax.tree.map(jnp.asarray, seat.memory) for seat in self.seats)
        return SeatedState(self.game.start(key), memory)

    def transition(
        self, key: jax.Array, state: SeatedState, action: ByGroup
    ) -> tuple[SeatedState, Outcome]:
        """Ask the seats, then play one joint step."""
        game_key, *keys = jax.random.split(key, 1 + len(self.seats))
        own, of_seats = self.data
        view = self.game.observe(state.game)
        chosen: dict[str, Any] = {}
        memories = []
        for seat, *given in zip(self.seats, keys, state.memory, of_seats, strict=True):
            seat_key, memory, data = given
            actions, memory = seat.act(seat_key, view, memory, data)
            chosen |= {agent: actions[agent] for agent in seat.agents}
            memories.append(memory)
        game, joint = self.game.with_data(own), self._joint(action, chosen)
        after, outcome = game.transition(game_key, state.game, joint)
        return SeatedState(after, tuple(memories)), Outcome(*map(self._kept, outcome))

    def _joint(self, action: ByGroup, chosen: dict[str, Any]) -> ByGroup:
        """Put everybody's actions together, ``{group of the game: [A, ...]}``."""
        for name, agents in self.groups.items():
            chosen |= {agent: action[name][i] for i, agent in enumerate(agents)}
        return {
            name: jnp.stack([chosen[agent] for agent in agents])
            for name, agents in self.game.groups.items()
        }

    def _kept(self, by_group: ByGroup) -> ByGroup:
        """Leave out the agents that have seats."""
        return {name: take(self.game, by_group, agents) for name, agents in self.groups.items()}

    def observe(self, state: SeatedState) -> View:
        """Return what the agents without a seat see."""
        return View(*map(self._kept, self.game.observe(state.game)))

    def alive(self, state: SeatedState) -> ByGroup | None:
        """Return who is still in the game, of those without a seat."""
        alive = self.game.alive(state.game)
        return None if alive is None else self._kept(alive)

    def global_state(self, state: SeatedState) -> Any:
        """Return the global state of the game."""
        return self.game.global_state(state.game)

    def frame(self, state: SeatedState) -> np.ndarray:
        """Draw the game."""
        return self.game.frame(state.game)
