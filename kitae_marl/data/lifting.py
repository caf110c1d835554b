"""From one to many: functions of one network for a group of agents, arrays by other groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from kitae_envs.core import true_first

from kitae_marl.data.stacking import map_leaves
from kitae_marl.types import GroupSpec


def regroup(
    stacked: Mapping[str, Any], old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Stack ``{group: [E, A, ...]}`` by other groups of the same agents; free for equal ones.

    Args:
        stacked: arrays, or nested dicts or tuples of arrays, ``()`` stays so.
        old: agents of the groups they are stacked by.
        new: agents of the groups to stack by, each of them with equal shapes.

    Example:
        >>> x = {"a": jnp.array([[1, 2, 3]])}
        >>> split = {"b": ("a_0", "a_2"), "c": ("a_1",)}
        >>> regroup(x, {"a": ("a_0", "a_1", "a_2")}, split)["b"].tolist()
        [[1, 3]]
    """
    place = {agent: (name, i) for name, agents in old.items() for i, agent in enumerate(agents)}

    def pick(agents: Sequence[str]) -> Any:
        sources = dict.fromkeys(place[agent][0] for agent in agents)
        if [tuple(old[name]) for name in sources] == [tuple(agents)]:
            return stacked[next(iter(sources))]
        order = [agent for name in sources for agent in old[name]]
        rows = np.array([order.index(agent) for agent in agents])
        parts = [stacked[name] for name in sources]
        return map_leaves(lambda *xs: jnp.concatenate(xs, axis=1)[:, rows], *parts)

    return {name: pick(agents) for name, agents in new.items()}


def over_agents(
    function: Callable[..., Any],
    group: GroupSpec,
    agent_axis: int | Sequence[int | None],
    out_axes: Any,
) -> Callable[..., Any]:
    """Apply a function of one set of parameters to a whole group: the only ``vmap`` over agents.

    Args:
        function: takes ``(first, *arrays)``: ``first`` belongs to one set of parameters (the
            parameters themselves, or a TrainState), the arrays are data.
        group: says whether its agents share parameters.
        agent_axis: which axis of the arrays is ``A``; or one for each array, None for arrays
            without.
        out_axes: where ``A`` shall stand in the outputs if each agent has its own parameters; as
            of ``jax.vmap``.

    Returns:
        With shared parameters the function itself: it is called once, with ``A`` still among the
        arrays' axes. With independent parameters the function mapped over axis 0 of ``first`` and
        ``agent_axis`` of the arrays. Compile time grows with the number of agents in neither.
    """
    if group.share_params:
        return function

    def mapped(first: Any, *arrays: Any) -> Any:
        axes = (agent_axis,) * len(arrays) if isinstance(agent_axis, int) else agent_axis
        in_axes = (0, *axes)
        return jax.vmap(function, in_axes=in_axes, out_axes=out_axes)(first, *arrays)

    return mapped


def apply_where(
    function: Callable[[Any], Any], rows: Any, needed: Bool[Array, "*N"], block: int
) -> Float[Array, ...]:
    """Apply a function to the rows that need it, in blocks; the others are 0.

    What it costs grows with the number of rows that need it, not with that of all rows.

    Args:
        function: maps a pytree of leaves ``[block, ...]`` to an array ``[block, *B]``.
        rows: pytree of leaves ``[*N, ...]``.
        needed: which rows to compute.
        block: rows computed at a time.

    Example:
        >>> apply_where(lambda x: 2 * x, jnp.arange(4), jnp.array([0, 1, 0, 1], bool), 1).tolist()
        [0, 2, 0, 6]
    """
    lead, n = needed.shape, needed.size
    flat = needed.reshape(-1)
    rows = jax.tree.map(lambda x: x.reshape(n, *x.shape[len(lead) :]), rows)
    order = true_first(flat)

    def compute(i: jax.Array) -> tuple[jax.Array, Any]:
        which = jax.lax.dynamic_slice_in_dim(order, i * block, block)  # the last may overlap
        return which, function(jax.tree.map(lambda x: x[which], rows))

    def body(i: jax.Array, out: jax.Array) -> jax.Array:
        which, values = compute(i)
        return out.at[which].set(values)

    shape = jax.eval_shape(lambda: compute(jnp.zeros((), jnp.int32)))[1]
    out = jnp.zeros((n, *shape.shape[1:]), shape.dtype)
    n_blocks = (jnp.sum(flat) + block - 1) // block
    out = jax.lax.fori_loop(0, n_blocks, body, out)
    kept = jnp.where(flat.reshape(n, *(1,) * (out.ndim - 1)), out, 0)
    return kept.reshape(*lead, *out.shape[1:])


def remember(act: Callable[..., Any]) -> Callable[..., Any]:
    """Let memory begin anew with each episode and advance only at own decisions.

    Args:
        act: ``(state, key, observation, action_mask, carry) -> (action, extras, carry)``, memory
            ``{group: [E, A, ...]}``, ``()`` for none.

    Returns:
        The same with two more arguments, ``reset`` (bool ``[E]``: the observation is the first of
        an episode) and ``active`` (bool ``{group: [E, A]}``): memory is emptied before acting where
        ``reset``, and stays as it was for agents that are not active.
    """

    def empty(reset: Array, carry: Any) -> Any:
        return jax.tree.map(lambda x: jnp.where(behind(reset, x), 0, x), carry)

    def keep(active: Array, new: Any, old: Any) -> Any:
        return jax.tree.map(lambda n, o: jnp.where(behind(active, n), n, o), new, old)

    def remembering(*inputs: Any) -> Any:
        *rest, carry, reset, active = inputs
        if isinstance(carry, tuple):
            return act(*rest, carry)
        carry = empty(reset, carry)
        *acted, new = act(*rest, carry)
        return *acted, {name: keep(active[name], new[name], carry[name]) for name in carry}

    return remembering


def no_memory(groups: Any, config: Any) -> Callable[[int], tuple[()]]:
    """Make ``carry(n_envs)`` of algorithms whose policies remember nothing."""
    return lambda n_envs: ()


def stacked(trees: Sequence[Any]) -> Any:
    """Stack the leaves of equal trees along a new first axis, as NumPy arrays."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def behind(flag: Array, x: Array) -> Array:
    """Give a flag of leading axes as many axes as ``x`` has.

    Example:
        >>> behind(jnp.ones(3), jnp.ones((3, 2))).shape
        (3, 1)
    """
    return flag.reshape(flag.shape + (1,) * (x.ndim - flag.ndim))
