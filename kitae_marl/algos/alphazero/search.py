"""This file searches: what a network thinks of positions, made better by looking ahead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kitae_marl.algos.alphazero.rules import Rules
from kitae_marl.config.alphazero import AlphaZeroConfig

LEAST_LOGIT = -1e9
"""Logit of a move that is not allowed; finite, so that a position without moves gives no NaN."""
Judge = Callable[[Any, Array, Array], tuple[Array, Array]]
"""``(params, seen [B, ...], mask [B, K]) -> (logits [B, K], value [B])``, of those to move."""


class Found(NamedTuple):
    """What a search, or the network alone, says of positions.

    Attributes:
        action: the move to make.
        policy: how good each move is, as probabilities.
        value: what the agent to move can expect, in [-1, 1] times the rewards of the game.
    """

    action: Int[Array, " B"]
    policy: Float[Array, "B K"]
    value: Float[Array, " B"]


def masked(logits: Float[Array, "B K"], mask: Int[Array, "B K"]) -> Float[Array, "B K"]:
    """Let moves that are not allowed have no probability."""
    return jnp.where(mask != 0, logits, LEAST_LOGIT)


def bare_factory(rules: Rules, judge: Judge) -> Callable[..., Found]:
    """Make ``bare(params, key, features, mask)``: the network alone; its move is the likeliest.

    With a key the move is drawn; None: the likeliest.
    """

    def bare(params: Any, key: Any, features: Any, mask: Any) -> Found:
        sight = rules.sight(features, mask)
        logits, value = judge(params, sight.seen, sight.mask)
        drawn = jnp.argmax(logits, -1) if key is None else jax.random.categorical(key, logits)
        return Found(jnp.asarray(drawn, jnp.int32), jax.nn.softmax(logits), value)

    return bare


def search_factory(
    rules: Rules, judge: Judge, settings: AlphaZeroConfig, simulations: int
) -> Callable[..., Found]:
    """Make ``search(params, key, features, mask, gumbel_scale)``: Gumbel search at the root.

    Danihelka et al. 2022: of the moves that are the best by logits and Gumbel noise the better
    halves are looked at again and again; what is learned is the softmax of logits and completed
    values, ``logits + (50 + max_b N(b)) * value_scale * q``. Features and masks are those of both
    agents, ``[B, 2, ...]``.
    """
    import mctx  # here, for other algorithms need not wait for it

    # Dataclasses of chex, which pyright cannot read.
    root_output, step_output = cast(Any, mctx.RootFnOutput), cast(Any, mctx.RecurrentFnOutput)
    policy_of = cast(Any, mctx.gumbel_muzero_policy)

    # The values are of games that end with -1, 0 or 1: as they are, and not stretched to [0, 1],
    # by which differences that are noise would count as much as a game won or lost.
    completed = partial(
        mctx.qtransform_completed_by_mix_value,
        value_scale=settings.value_scale,
        rescale_values=False,
    )

    def expand(params: Any, key: jax.Array, move: jax.Array, states: Any) -> Any:
        states, step, sight = rules.play(key, states, move)
        logits, value = judge(params, sight.seen, sight.mask)
        out = step_output(
            reward=step.reward, discount=step.discount, prior_logits=logits, value=value
        )
        return out, states

    def search(
        params: Any, key: jax.Array, features: Any, mask: jax.Array, gumbel_scale: float
    ) -> Found:
        sight = rules.sight(features, mask)
        logits, value = judge(params, sight.seen, sight.mask)
        states = rules.states(features, sight.mover)
        found = policy_of(
            params,
            key,
            root_output(prior_logits=logits, value=value, embedding=states),
            expand,
            simulations,
            invalid_actions=sight.mask == 0,
            qtransform=completed,
            max_num_considered_actions=settings.considered_actions,
            gumbel_scale=gumbel_scale,
        )
        policy, summary = found.action_weights, found.search_tree.summary()
        known = jnp.where(summary.visit_counts > 0, summary.qvalues, value[:, None])
        return Found(found.action.astype(jnp.int32), policy, jnp.sum(policy * known, axis=-1))

    return search
