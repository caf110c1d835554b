"""This file lets several members play at once, each in a block of environments of its own.

Their parameters are one argument, stacked ``[K, ...]``: other members of the same sizes play by the
same program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from kitae_envs.core import Game, View
from kitae_envs.opposed import Opponent

from kitae_marl.data.keys import EVALUATE, key_for
from kitae_marl.data.lifting import regroup, remember, stacked
from kitae_marl.data.stacking import (
    AgentDict,
    active_agents,
    map_leaves,
    split_masks,
    starts,
    unstack,
    without_mask,
)
from kitae_marl.players.player import Player
from kitae_marl.types import Run


def over_slots(actor: Player | Run, n_slots: int) -> Callable[..., tuple[Any, Any]]:
    """Return ``act(states, key, observation, action_mask, carry, reset, active)``, pure.

    It samples as ``Algorithm.sample``, but ``states`` has an axis of slots, ``[K, ...]``; of the
    other arrays, ``[E, ...]``, the first ``E / K`` rows are those of the first slot, and so on. It
    returns the actions and the memory.

    Args:
        actor: whose algorithm, groups and settings it is.
        n_slots: how many slots ``K`` there are; divides ``E``.
    """
    sample = remember(actor.algorithm.sampling(actor.groups, actor.config))

    def act(states: Any, key: jax.Array, *inputs: Any) -> tuple[Any, Any]:
        cut = jax.tree.map(lambda x: x.reshape(n_slots, -1, *x.shape[1:]), inputs)
        action, carry = jax.vmap(sample)(states, jax.random.split(key, n_slots), *cut)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (action, carry))

    return act


def compiled_opponent(game: Game, actor: Player | Run, n_slots: int, states: Any) -> Opponent:
    """Return slots as the opponent in a section of compiled games.

    Args:
        game: the rules.
        actor: whose algorithm, groups and settings it is; it knows all agents of the game.
        n_slots: how many slots there are.
        states: who plays at first, acting states ``[K, ...]``.
    """
    choose = over_slots(actor, n_slots)
    groups = {group.name: group.agents for group in actor.groups}

    def act(
        key: jax.Array, view: View, reset: jax.Array, memory: Any, data: Any
    ) -> tuple[dict[str, Any], Any]:
        observation, mask, active = (regroup(x, game.groups, groups) for x in view)
        seen = {name: without_mask(part) for name, part in observation.items()}
        action, memory = choose(data, key, seen, mask, memory, reset, active)
        return regroup(action, groups, game.groups), memory

    return Opponent(act, actor.algorithm.carry(actor.groups, actor.config), states)


class SlotPolicy:
    """Slots as a policy on the host, one environment each: members change where a game ends.

    Args:
        actor: whose algorithm, groups and settings it is.
        n_slots: how many slots, and environments, there are.
        seed: of what is sampled.
    """

    def __init__(self, actor: Player | Run, n_slots: int, seed: int) -> None:
        self._groups, self._n_slots = actor.groups, n_slots
        self._carry = actor.algorithm.carry(actor.groups, actor.config)(n_slots)
        self._root, self._step = jax.random.key(seed), 0
        self._states: Any = None
        choose = over_slots(actor, n_slots)

        def act(states: Any, root: jax.Array, step: Any, *inputs: Any) -> tuple[Any, Any]:
            return choose(states, key_for(root, EVALUATE, step), *inputs)

        self._act = jax.jit(act)
        self._put = jax.jit(
            lambda states, i, one: jax.tree.map(lambda all, x: all.at[i].set(x), states, one),
            donate_argnums=0,
        )

    def seat(self, slot: int, state: Any) -> None:
        """Let a member play in a slot from here on; ``state`` is its acting state."""
        if self._states is None:
            self._states = jax.tree.map(jax.numpy.asarray, stacked([state] * self._n_slots))
        self._states = self._put(self._states, np.int32(slot), state)

    def __call__(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> AgentDict:
        """Choose actions, ``{agent: [E, ...]}``; all slots have been seated before."""
        features, masks = split_masks(observations, infos, self._groups)
        memory: tuple[Any, ...] = (self._carry, starts(infos, self._n_slots))
        active = active_agents(infos, self._groups, self._n_slots)
        step, self._step = np.uint32(self._step), self._step + 1
        action, self._carry = self._act(
            self._states, self._root, step, features, masks, *memory, active
        )
        fetched = {name: map_leaves(np.asarray, x) for name, x in action.items()}
        return unstack(fetched, self._groups)
