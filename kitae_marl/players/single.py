"""One observation of one agent in, one action out, as PettingZoo's own loop asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import jax
import numpy as np

from kitae_marl.data.masks import described, fits, leave_action, mask_text
from kitae_marl.data.spaces import (
    Leaf,
    feature_space,
    has_mask,
    leaves,
    mask_width,
    nest,
    space_text,
    zeros,
)
from kitae_marl.data.stacking import map_leaves, mask_in, without_mask
from kitae_marl.types import GroupSpec


class Single:
    """Acts for one agent at a time, with functions of all agents of many environments.

    What is compiled, once for each group, gets zeros in the place of all other agents: XLA leaves
    out what other groups would compute, and a group's networks are small beside the call itself.

    Args:
        groups: how agents are stacked.
        select: ``(state, observation, action_mask, carry) -> (action, carry)``.
        vary: ``(state, key, observation, action_mask, carry) -> (action, carry)``, the key as data.
        judge: ``(state, observation, action_mask) -> (probabilities, value)``, where there is one.
    """

    def __init__(
        self,
        groups: tuple[GroupSpec, ...],
        select: Callable[..., Any],
        vary: Callable[..., Any],
        judge: Callable[..., Any] | None = None,
    ) -> None:
        self._place = {a: (g, i) for g in groups for i, a in enumerate(g.agents)}
        self._seen = {g.name: feature_space(g.observation_space) for g in groups}
        self._seen_leaves = {name: leaves(space) for name, space in self._seen.items()}
        self._acted_leaves = {g.name: leaves(g.action_space) for g in groups}
        functions = select, vary, judge
        self._compiled = {g.name: _compiled(g, groups, *functions) for g in groups}

    def _placed(self, agent: Any) -> tuple[GroupSpec, int]:
        """Return the group of an agent and its place there; ids of games may be numbers."""
        place = self._place.get(str(agent))
        if place is None:
            raise ValueError(
                f"expected one of the agents {list(self._place)[:20]}, got {agent!r}; ask for an "
                "agent of the game that was trained."
            )
        return place

    def act(
        self, state: Any, agent: Any, observation: Any, mask: Any, key: np.ndarray | None
    ) -> Any:
        """Return the action of one agent: the most probable one, or with a key a sampled one.

        Args:
            state: what acting reads, ``{group: TrainState}``.
            agent: its name.
            observation: nested like its observation space; a Dict may hold an ``action_mask``.
            mask: which actions it may take now, where the observation does not say so.
            key: data of a random key, to sample.

        Raises:
            ValueError: for an unknown agent, and for an observation or a mask that is none of its.
        """
        group, inputs = self._inputs(agent, observation, mask)
        inputs = inputs if key is None else (*inputs, key)
        action = self._compiled[group.name][key is not None](state, *inputs)
        of_leaf = self._acted_leaves[group.name]
        return nest(group.action_space, [_as_the_game_takes_it(leaf, action) for leaf in of_leaf])

    def judge(self, state: Any, agent: Any, observation: Any, mask: Any) -> tuple[Any, float]:
        """Return what one agent thinks: probabilities of its actions, and the value it expects.

        Args and errors as of ``act``; only where there is a function that judges.
        """
        group, inputs = self._inputs(agent, observation, mask)
        probabilities, value = self._compiled[group.name][2](state, *inputs)
        return np.asarray(probabilities), float(value)

    def _inputs(self, agent: Any, observation: Any, mask: Any) -> tuple[GroupSpec, tuple[Any, ...]]:
        """Return the group of an agent, and its place, what it sees and what it may do."""
        group, row = self._placed(agent)
        mask = mask_in(observation) if mask is None else mask
        seen = self._checked(agent, group, without_mask(observation))
        return group, (row, seen, _checked_mask(agent, group, mask))

    def _checked(self, agent: Any, group: GroupSpec, observation: Any) -> Any:
        """Return an observation in the dtypes of its space.

        Raises:
            ValueError: naming the agent and what its observation should be.
        """
        space = self._seen[group.name]
        arrays = []
        for leaf in self._seen_leaves[group.name]:
            try:
                arrays.append(_checked_array(leaf, leaf.of(observation)))
            except ValueError as error:
                raise ValueError(
                    f"agent {agent!r}: expected one observation of {space_text(space)}, without "
                    f"an axis of environments: {error}"
                ) from None
        return nest(space, arrays)


def _compiled(
    group: GroupSpec,
    groups: tuple[GroupSpec, ...],
    select: Callable[..., Any],
    vary: Callable[..., Any],
    judge: Callable[..., Any] | None,
) -> tuple[Callable[..., Any], ...]:
    """Jit ``most_probable(state, row, seen, mask)``, ``sampled(..., key)`` and ``judged(...)``."""

    def placed(space: gym.Space[Any], group: GroupSpec) -> Any:
        return zeros(space, 1, group.n_agents)

    def inputs(row: Any, seen: Any, mask: Any) -> tuple[Any, Any]:
        observation = {g.name: placed(feature_space(g.observation_space), g) for g in groups}
        masks: dict[str, Any] = {g.name: _all_allowed(g) for g in groups}
        observation[group.name] = map_leaves(
            lambda whole, x: jax.numpy.asarray(whole).at[0, row].set(x),
            observation[group.name],
            seen,
        )
        if mask is None:
            masks[group.name] = ()
        else:
            shape = (1, group.n_agents, mask.shape[0])
            # The others wait: a mask that allows nothing says so, as wherever agents wait.
            masks[group.name] = jax.numpy.zeros(shape, mask.dtype).at[0, row].set(mask)
        return observation, masks

    def picked(action: Mapping[str, Any], row: Any) -> Any:
        return map_leaves(lambda x: x[0, row], action[group.name])

    def most_probable(state: Any, row: Any, seen: Any, mask: Any) -> Any:
        return picked(select(state, *inputs(row, seen, mask), ())[0], row)

    def sampled(state: Any, row: Any, seen: Any, mask: Any, key: Any) -> Any:
        return picked(vary(state, key, *inputs(row, seen, mask), ())[0], row)

    def judged(state: Any, row: Any, seen: Any, mask: Any) -> Any:
        assert judge is not None  # it is asked for only where it is there
        probabilities, value = judge(state, *inputs(row, seen, mask))
        return picked(probabilities, row), picked(value, row)

    return jax.jit(most_probable), jax.jit(sampled), jax.jit(judged)


def _all_allowed(group: GroupSpec) -> Any:
    """Masks of a group that nobody asks about, ``[1, A, K]``; () where its game gives none."""
    if not has_mask(group.observation_space):
        return ()
    return np.ones((1, group.n_agents, mask_width(group.action_space)), np.int8)


def _checked_array(leaf: Leaf, value: Any) -> np.ndarray:
    """Return one array of an observation in its dtype.

    Raises:
        ValueError: if its shape, its kind or a number is not one that its space holds.
    """
    array = np.asarray(value)
    place = f" at {leaf.name}" if leaf.path else ""
    kinds = "fiub" if leaf.dtype.kind == "f" else "iub"
    if array.shape != leaf.shape or array.dtype.kind not in kinds:
        raise ValueError(
            f"expected {leaf.dtype} of shape {leaf.shape}{place}, got {array.dtype} of shape "
            f"{array.shape}."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers{place}, got {str(array)[:200]}.")
    if leaf.choices is not None and not ((array >= leaf.low) & (array <= leaf.high)).all():
        raise ValueError(f"expected {leaf.low} to {leaf.high}{place}, got {str(array)[:200]}.")
    return array.astype(leaf.dtype, copy=False)


def _checked_mask(agent: Any, group: GroupSpec, mask: Any) -> np.ndarray | None:
    """Return a mask as numbers 0 and 1; None where there is none and none is needed.

    Raises:
        ValueError: if it is missing, of another form, or allows nothing.
    """
    space = group.action_space
    if mask is None:
        if has_mask(group.observation_space):
            raise ValueError(
                f"agent {agent!r}: expected an action_mask in the observation or as mask=, "
                f"{mask_text(space)}, got none; give the one of the game."
            )
        return None
    if not fits(space, mask):
        raise ValueError(
            f"agent {agent!r}: expected as mask {mask_text(space)}, got {described(mask)}."
        )
    allowed = (np.asarray(mask) != 0).astype(np.int8)
    if not leave_action(space, allowed):
        raise ValueError(
            f"agent {agent!r}: expected a mask that allows an action, got {str(mask)[:200]}; an "
            "agent that waits or is gone is not asked."
        )
    return allowed


def _as_the_game_takes_it(leaf: Leaf, action: Any) -> Any:
    """Return one array of an action in the dtype of its space, an ``int`` of a Discrete."""
    value = np.asarray(leaf.of(action))
    return int(value) if leaf.kind == "Discrete" else value.astype(leaf.dtype)
