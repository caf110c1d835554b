"""What a compiled game is, and how a batch of them is stepped.

A :class:`Game` is a handful of pure functions over **one** game. :func:`reset_batch` and
:func:`step_batch` map them over environments and start a new episode in the same step in which the
old one ends. Everything is stacked by agent group, ``{group: [A, ...]}`` for one game and
``{group: [E, A, ...]}`` for a batch.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.grouping import agent_groups

__all__ = [
    "ByGroup",
    "Game",
    "Outcome",
    "State",
    "Symmetry",
    "TimeStep",
    "View",
    "reset_batch",
    "step_batch",
]


class Symmetry(NamedTuple):
    """One way in which a game is the same when it is seen otherwise, as in a mirror.

    Attributes:
        observation: maps what any agent sees (of a Dict the part ``observation``), an array with
            any leading axes; pure.
        actions: the action that stands for each action then; a permutation.
    """

    observation: Callable[[jax.Array], jax.Array]
    actions: tuple[int, ...]


class Game(abc.ABC):
    """The rules of one game as pure functions, with its agents and spaces.

    A subclass sets ``possible_agents`` before it returns from ``__init__`` and implements the
    abstract methods; ``init`` and ``step`` are final. Rules never change after construction.

    Attributes:
        id: the id that makes it, ``mpe/simple_spread-v3``.
        possible_agents: every agent, in the game's order.
        turn_based: one agent at a time is active.
        fixed_start: every episode starts alike, so that ``start`` need not be drawn anew.
        perfect_information: all that was done is seen by all before they act again, and after the
            start nothing is left to chance; where players take turns, it has ``state_of``.
        zero_sum: the rewards of all agents add up to zero in every step in which all moves are
            legal.
        unseen: what agents know and their observations do not hold, and how to get it: a sentence
            that is said where training begins; empty where nothing is missing.
        symmetries: the ways in which the game stays the same, that in which nothing changes left
            out; they let an algorithm learn more from a position.
        data: arrays that ``transition`` reads, such as the parameters of opponents; a pytree.
            Programs take them as an argument, and bind them by :meth:`with_data`: another game
            that differs in them alone runs in the same program. None of most games.
    """

    id: ClassVar[str] = ""
    turn_based: ClassVar[bool] = False
    fixed_start: ClassVar[bool] = False
    perfect_information: bool = False
    zero_sum: bool = False
    unseen: str = ""
    symmetries: tuple[Symmetry, ...] = ()
    data: Any = ()
    possible_agents: tuple[str, ...]

    @property
    def version(self) -> str:
        """Version of the rules, the part of the id after the last dash (``v3``)."""
        return self.id.rpartition("-")[2]

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """``{group: its agents}``: agents of equal spaces and equal name before a number."""
        return agent_groups(
            self.possible_agents, lambda a: (self.observation_space(a), self.action_space(a))
        )

    # --- what a game implements -------------------------------------------------------------

    @abc.abstractmethod
    def observation_space(self, agent: str) -> gym.Space:
        """Return the space that the agent observes."""

    @abc.abstractmethod
    def action_space(self, agent: str) -> gym.Space:
        """Return the space that the agent acts in."""

    @property
    def state_space(self) -> gym.Space | None:
        """Space of :meth:`global_state`, None where the game has none."""
        return None

    @abc.abstractmethod
    def start(self, key: jax.Array) -> State:
        """Draw the first state of an episode."""

    def starts(self) -> tuple[State, np.ndarray] | None:
        """Return every first state ``[N, ...]``, and the probability of each ``[N]``.

        None: they are too many, or unknown. Exact answers (``kitae_envs.trees``) ask for them.
        """
        if not self.fixed_start:
            return None
        return jax.tree.map(lambda x: x[None], self.start(jax.random.key(0))), np.ones(1)

    @abc.abstractmethod
    def transition(self, key: jax.Array, state: State, action: ByGroup) -> tuple[State, Outcome]:
        """Play one joint step.

        Args:
            key: for the game's chance.
            state: the state to act in.
            action: ``{group: [A, ...]}``; actions of inactive agents mean nothing.

        Returns:
            The next state (no reset) and what the agents get for it.
        """

    @abc.abstractmethod
    def observe(self, state: State) -> View:
        """Return what the agents see in a state."""

    def alive(self, state: State) -> ByGroup | None:
        """Return ``{group: [A]}`` bool, who is still in the game; None: all, to the end.

        Only games whose agents leave one by one need it. It must turn False for an agent in the
        state after the one step that flags it.
        """
        return None

    def global_state(self, state: State) -> Any:
        """Return the state as a central critic may see it, ``()`` where the game has none."""
        return ()

    def state_of(self, observation: Any, seat: jax.Array | int) -> State:
        """Return the state of one game from what one agent sees in it; the inverse of ``observe``.

        Search knows a position by it, wherever the game itself is played. Games of perfect
        information have it.

        Args:
            observation: what the agent sees, nested like its observation space; its
                ``action_mask`` may be left out.
            seat: the agent's number among ``possible_agents``, an int32.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not tell its state by what an agent sees; implement "
            "state_of(observation, seat) where agents see everything."
        )

    def frame(self, state: State) -> np.ndarray:
        """Draw a state as uint8 ``[H, W, 3]``; the state may hold NumPy or JAX arrays."""
        raise NotImplementedError(f"{type(self).__name__} draws no frames; implement frame(state).")

    def with_data(self, data: Any) -> Game:
        """Return this game with other data, which may be traced."""
        other = copy.copy(self)
        other.data = data
        return other

    def start_batch(self, key: jax.Array, n_envs: int) -> tuple[State, TimeStep]:
        """Start ``n_envs`` episodes; see :func:`reset_batch`."""
        return reset_batch(self, key, n_envs)

    def step_batch(
        self, key: jax.Array, state: State, action: ByGroup, first: int | jax.Array = 0
    ) -> tuple[State, TimeStep]:
        """Play one joint step in every environment; see :func:`step_batch`.

        Games whose environments depend on each other, such as those that share opponents, have
        their own.
        """
        return step_batch(self, key, state, action, first)

    # --- final ------------------------------------------------------------------------------

    def init(self, key: jax.Array) -> tuple[State, TimeStep]:
        """Start an episode; rewards and flags of the first TimeStep are zero."""
        state = self.start(key)
        zeros = {name: np.zeros(len(agents), bool) for name, agents in self.groups.items()}
        reward = {name: jnp.zeros(z.shape, jnp.float32) for name, z in zeros.items()}
        flags = {name: jnp.asarray(z) for name, z in zeros.items()}
        sight = _look(self, state)
        return state, _time_step(Outcome(reward, flags, flags), jnp.asarray(False), sight, sight)

    def step(self, key: jax.Array, state: State, action: ByGroup) -> tuple[State, TimeStep]:
        """Play one joint step of one game, without auto-reset."""
        state, outcome, over = _advance(self, key, state, action)
        view, summary = _look(self, state)
        active = {name: to_act & ~over for name, to_act in view.active.items()}
        sight = view._replace(active=active), summary
        return state, _time_step(outcome, over, sight, sight)


def _advance(
    game: Game, key: jax.Array, state: State, action: ByGroup
) -> tuple[State, Outcome, jax.Array]:
    """Play one joint step; leave out agents that are out; say whether the episode is over."""
    alive = game.alive(state)
    state, outcome = game.transition(key, state, action)
    out = {name: outcome.terminated[name] | outcome.truncated[name] for name in game.groups}
    if alive is not None:
        outcome = Outcome(
            {name: jnp.where(alive[name], r, 0.0) for name, r in outcome.reward.items()},
            {name: alive[name] & flag for name, flag in outcome.terminated.items()},
            {name: alive[name] & flag for name, flag in outcome.truncated.items()},
        )
        out = {name: flag | ~alive[name] for name, flag in out.items()}
    return state, outcome, jnp.all(jnp.concatenate(list(out.values())))


def _look(game: Game, state: State) -> Sight:
    """Return what the agents and a central critic see."""
    return game.observe(state), game.global_state(state)


def _time_step(outcome: Outcome, over: jax.Array, sight: Sight, next_sight: Sight) -> TimeStep:
    """Put a TimeStep together."""
    (view, summary), (next_view, next_summary) = sight, next_sight
    return TimeStep(
        **view._asdict(),
        **outcome._asdict(),
        next_observation=next_view.observation,
        over=over,
        state=summary,
        next_state=next_summary,
    )


def reset_batch(game: Game, key: jax.Array, n_envs: int) -> tuple[State, TimeStep]:
    """Start ``n_envs`` episodes; states and TimeSteps get a leading axis ``E``.

    Args:
        game: the game.
        key: for the first states.
        n_envs: number of environments ``E``.

    """
    return jax.vmap(game.init)(jax.random.split(key, n_envs))


def step_batch(
    game: Game, key: jax.Array, state: State, action: ByGroup, first: int | jax.Array = 0
) -> tuple[State, TimeStep]:
    """Play one joint step in every environment; where an episode ends, the next one starts.

    What chance does in an environment depends on the key and on the environment's number alone.

    Args:
        game: the game.
        key: for the chance of this step and for the new episodes.
        state: states with a leading axis ``E``.
        action: ``{group: [E, A, ...]}``.
        first: number of the first environment, where these are a part of a larger batch.

    Returns:
        The states to act in next, and the TimeSteps (see there what belongs to which episode).
    """
    chance_key, start_key = jax.random.split(key)
    numbers = first + jnp.arange(jax.tree.leaves(action)[0].shape[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(chance_key, numbers)
    state, outcome, over = jax.vmap(partial(_advance, game))(keys, state, action)
    look = jax.vmap(partial(_look, game))

    def restart() -> tuple[State, Sight, Sight]:
        if game.fixed_start:
            opening = game.start(start_key)
            ended, fresh = (state, look(state)), (opening, _look(game, opening))
            new = jax.tree.map(lambda old, start: _select(over, start[None], old), ended, fresh)
            return *new, ended[1]
        new = _start_finished(game, start_key, over, needed, state, first)
        return new, look(new), look(state)

    def go_on() -> tuple[State, Sight, Sight]:
        sight = look(state)
        return state, sight, sight

    # Observations are made inside of the branches: their operand, the state, is then computed
    # once. Outside, XLA on a CPU works the rules out again for every element of an observation.
    needed = _largest(over.sum())
    state, sight, next_sight = jax.lax.cond(needed > 0, restart, go_on)
    return state, _time_step(outcome, over, sight, next_sight)


def _start_finished(
    game: Game,
    key: jax.Array,
    over: jax.Array,
    needed: jax.Array,
    state: State,
    first: int | jax.Array,
) -> State:
    """Replace the states of finished episodes by fresh starts, drawing about as many as needed.

    Environment ``n`` gets the start of ``fold_in(key, n)``; starts are drawn for an eighth of the
    batch at a time, in the order of finished environments, until all of these have one.
    """
    chunk = max(1, over.shape[0] // 8)
    order = true_first(over)

    def refill(i: jax.Array, state: State) -> State:
        which = jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk)  # the last may overlap
        fresh = jax.vmap(lambda n: game.start(jax.random.fold_in(key, n)))(first + which)

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            return old.at[which].set(_select(over[which], new, old[which]))

        return jax.tree.map(put, state, fresh)

    return jax.lax.fori_loop(0, (needed + chunk - 1) // chunk, refill, state)


def _select(over: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Take ``new`` in the environments where ``over`` holds."""
    return jnp.where(over.reshape(over.shape + (1,) * (old.ndim - 1)), new, old)


@jax.custom_batching.custom_vmap
def _largest(count: jax.Array) -> jax.Array:
    """Return the count; mapped over seeds, the largest of all, unmapped.

    A ``lax.cond`` on it stays a branch under ``vmap``, where it would become a select otherwise.
    """
    return count


@_largest.def_vmap
def _largest_of_batch(
    axis_size: int, in_batched: list[bool], count: jax.Array
) -> tuple[jax.Array, bool]:
    return _largest(count.max()), False


ByGroup = dict[str, Any]
"""One entry for each agent group."""


State = Any
"""A pytree of arrays; each game has a type of its own."""


class View(NamedTuple):
    """What the agents see in a state.

    Attributes:
        observation: ``{group: [A, ...]}``, nested where the observation space is a Dict or Tuple.
        action_mask: ``{group: [A, n]}`` int8, 1 where an action is legal; ``()`` for a group
            without masks.
        active: ``{group: [A]}`` bool, the agent is in the game and to act now.
    """

    observation: ByGroup
    action_mask: ByGroup
    active: ByGroup


Sight = tuple[View, Any]
"""What the agents see, and the global state."""


class Outcome(NamedTuple):
    """What one step gives the agents, each ``{group: [A]}``.

    Attributes:
        reward: float32.
        terminated: bool, the game is over for this agent.
        truncated: bool, the agent was cut off by a limit outside the game.
    """

    reward: ByGroup
    terminated: ByGroup
    truncated: ByGroup


class TimeStep(NamedTuple):
    """One step of one game (or of a batch, with a leading axis ``E``).

    After an auto-reset ``observation``, ``action_mask``, ``active`` and ``state`` are the new
    episode's first; the other fields belong to the episode that ended. Without one, ``observation``
    and ``next_observation`` are the same, and so are ``state`` and ``next_state``.

    Attributes:
        observation: ``{group: [A, ...]}``, what to act on.
        reward: ``{group: [A]}`` float32.
        terminated: ``{group: [A]}`` bool, True on the step where the agent's flag rises.
        truncated: ``{group: [A]}`` bool, likewise.
        next_observation: ``{group: [A, ...]}``, what this step led to, before any auto-reset.
        action_mask: ``{group: [A, n]}`` int8, or ``()`` for a group without masks.
        active: ``{group: [A]}`` bool, the agent is in the game and to act on ``observation``.
        over: bool ``[]``, the episode ended with this step.
        state: the game's global state ``[S]`` (no agent axis), ``()`` where it has none.
        next_state: the global state before any auto-reset.
    """

    observation: ByGroup
    reward: ByGroup
    terminated: ByGroup
    truncated: ByGroup
    next_observation: ByGroup
    action_mask: ByGroup
    active: ByGroup
    over: Any
    state: Any = ()
    next_state: Any = ()


def true_first(flags: jax.Array) -> jax.Array:
    """Return the indices ``[N]`` of flags ``[N]``, those that are True first, each part in order.

    A stable ``argsort(~flags)``, as a sort of plain numbers: sorting pairs takes a CPU four times
    as long.

    Example:
        >>> true_first(jnp.array([False, True, False, True])).tolist()
        [1, 3, 0, 2]
    """
    last, numbers = jnp.uint32(2**31), jnp.arange(flags.size, dtype=jnp.uint32)
    order = jnp.sort(jnp.where(flags, numbers, numbers | last), stable=False)
    return (order & ~last).astype(jnp.int32)
