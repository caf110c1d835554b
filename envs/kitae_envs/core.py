"""What a compiled game is, and how a batch of them is stepped.

A :class:`Game` is a handful of pure functions over **one** game. :func:`reset_batch` and
:func:`step_batch` map them over environments and start a new episode in the same step in which the
old one ends. Everything is stacked by agent group, ``{group: [A, ...]}`` for one game and
``{group: [E, A, ...]}`` for a batch.
"""

from __future__ import annotations

import abc
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_envs.grouping import agent_groups

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


class Game(abc.ABC):
    """The rules of one game as pure functions, with its agents and spaces.

    A subclass sets ``possible_agents`` before it returns from ``__init__`` and implements the
    abstract methods; ``init`` and ``step`` are final. Rules never change after construction.

    Attributes:
        id: the id that makes it, ``mpe/simple_spread-v3``.
        possible_agents: every agent, in the game's order.
        turn_based: one agent at a time is active.
        fixed_start: every episode starts alike, so that ``start`` need not be drawn anew.
    """

    id: ClassVar[str] = ""
    turn_based: ClassVar[bool] = False
    fixed_start: ClassVar[bool] = False
    possible_agents: tuple[str, ...]

    @property
    def version(self) -> str:
        """Version of the rules, the part of the id after the last dash (``v3``)."""
        return self.id.rpartition("-")[2]

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """``{group: its agents}``: agents of equal spaces and equal name before ``_number``."""
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

    def frame(self, state: State) -> np.ndarray:
        """Draw a state as uint8 ``[H, W, 3]``; the state may hold NumPy or JAX arrays."""
        raise NotImplementedError(f"{type(self).__name__} draws no frames; implement frame(state).")

    # --- final ------------------------------------------------------------------------------

    def init(self, key: jax.Array) -> tuple[State, TimeStep]:
        """Start an episode; rewards and flags of the first TimeStep are zero."""
        state = self.start(key)
        zeros = {name: np.zeros(len(agents), bool) for name, agents in self.groups.items()}
        reward = {name: jnp.zeros(z.shape, jnp.float32) for name, z in zeros.items()}
        flags = {name: jnp.asarray(z) for name, z in zeros.items()}
        return state, self._time_step(state, Outcome(reward, flags, flags), jnp.asarray(False))

    def step(self, key: jax.Array, state: State, action: ByGroup) -> tuple[State, TimeStep]:
        """Play one joint step of one game, without auto-reset."""
        alive = self.alive(state)
        state, outcome = self.transition(key, state, action)
        if alive is not None:
            outcome = Outcome(
                {name: jnp.where(alive[name], r, 0.0) for name, r in outcome.reward.items()},
                {name: alive[name] & flag for name, flag in outcome.terminated.items()},
                {name: alive[name] & flag for name, flag in outcome.truncated.items()},
            )
        out = [outcome.terminated[name] | outcome.truncated[name] for name in self.groups]
        if alive is not None:
            out = [o | ~alive[name] for name, o in zip(self.groups, out, strict=True)]
        over = jnp.all(jnp.concatenate(out))
        # so that XLA does not work the rules out again for every element of the observation
        state = jax.lax.optimization_barrier(state)
        return state, self._time_step(state, outcome, over)

    def _time_step(self, state: State, outcome: Outcome, over: jax.Array) -> TimeStep:
        view = self.observe(state)
        active = {name: to_act & ~over for name, to_act in view.active.items()}
        summary = self.global_state(state)
        return TimeStep(
            observation=view.observation,
            **outcome._asdict(),
            next_observation=view.observation,
            action_mask=view.action_mask,
            active=active,
            over=over,
            state=summary,
            next_state=summary,
        )


def reset_batch(game: Game, key: jax.Array, n_envs: int) -> tuple[State, TimeStep]:
    """Start ``n_envs`` episodes; states and TimeSteps get a leading axis ``E``.

    Args:
        game: the game.
        key: for the first states.
        n_envs: number of environments ``E``.

    """
    return jax.vmap(game.init)(jax.random.split(key, n_envs))


def step_batch(game: Game, key: jax.Array, state: State, action: ByGroup) -> tuple[State, TimeStep]:
    """Play one joint step in every environment; where an episode ends, the next one starts.

    Args:
        game: the game.
        key: for the chance of this step and for the new episodes.
        state: states with a leading axis ``E``.
        action: ``{group: [E, A, ...]}``.

    Returns:
        The states to act in next, and the TimeSteps (see there what belongs to which episode).
    """
    chance_key, start_key = jax.random.split(key)
    n_envs = jax.tree.leaves(action)[0].shape[0]
    keys = jax.random.split(chance_key, n_envs)
    state, step = jax.vmap(game.step)(keys, state, action)
    ended = (state, View(step.observation, step.action_mask, step.active), step.state)
    if game.fixed_start:
        first, fresh = game.init(start_key)
        started = (first, View(fresh.observation, fresh.action_mask, fresh.active), fresh.state)
        state, view, summary = jax.tree.map(
            lambda old, new: _select(step.over, new[None], old), ended, started
        )
    else:
        needed = _largest(step.over.sum())
        state, view, summary = jax.lax.cond(
            needed > 0,
            lambda: _restart(game, start_key, step.over, needed, state),
            lambda: ended,
        )
    return state, step._replace(**view._asdict(), state=summary)


def _restart(
    game: Game, key: jax.Array, over: jax.Array, needed: jax.Array, state: State
) -> tuple[State, View, Any]:
    """Replace the states of finished episodes by fresh starts, drawing about as many as needed.

    The r-th finished environment gets the start of ``fold_in(key, r)``; starts are drawn an eighth
    of the batch at a time, until all finished environments have one.

    Returns the states, what the agents see in them, and their global states.
    """
    chunk = max(1, over.shape[0] // 8)
    rank = jnp.cumsum(over) - 1

    def refill(i: jax.Array, state: State) -> State:
        place = rank - i * chunk
        fresh = jax.vmap(lambda r: game.start(jax.random.fold_in(key, r)))(
            i * chunk + jnp.arange(chunk)
        )
        mine = over & (place >= 0) & (place < chunk)
        place = jnp.clip(place, 0, chunk - 1)
        return jax.tree.map(lambda old, new: _select(mine, new[place], old), state, fresh)

    state = jax.lax.fori_loop(0, (needed + chunk - 1) // chunk, refill, state)
    return state, jax.vmap(game.observe)(state), jax.vmap(game.global_state)(state)


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
