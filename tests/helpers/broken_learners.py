"""Learners with one bug each, made by changing what a sound one is given.

A learner with a bug must fail the probe of what the bug is about; that shows that the probes bite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kitae_marl.algos import ALGORITHMS
from kitae_marl.types import Algorithm, Experience

Change = Callable[[Experience], Experience]


def learning_from(change: Change, algo: str = "ippo") -> Algorithm:
    """An algorithm that learns from a changed experience, and acts as ever."""
    sound = ALGORITHMS[algo]

    def learn_factory(groups: Any, config: Any) -> Any:
        learn = sound.learn(groups, config)
        return lambda state, key, experience: learn(state, key, change(experience))

    return sound._replace(learn=learn_factory)


def by_group(function: Callable[..., Any], *fields: Any) -> dict[str, Any]:
    """Apply a function to the fields of each group."""
    return {name: function(*(f[name] for f in fields)) for name in fields[0]}


def done_for_terminated(e: Experience) -> Experience:
    """Take a time limit for the end of the game."""
    return e._replace(
        terminated=by_group(jnp.logical_or, e.terminated, e.truncated),
        truncated=by_group(jnp.zeros_like, e.truncated),
    )


def terminated_for_truncated(e: Experience) -> Experience:
    """Take the end of the game for a time limit."""
    return e._replace(
        truncated=by_group(jnp.logical_or, e.terminated, e.truncated),
        terminated=by_group(jnp.zeros_like, e.terminated),
    )


def inactive_rows_count(e: Experience) -> Experience:
    """Take every row for a decision."""
    return e._replace(
        active=by_group(jnp.ones_like, e.active), next_active=by_group(jnp.ones_like, e.active)
    )


def movers_sign_flipped(e: Experience) -> Experience:
    """Give whoever has just moved the reward of the other side."""
    flip = by_group(lambda r, on: jnp.where(on, -r, r), e.reward, e.active)
    return e._replace(reward=flip)


def only_the_mover_is_paid(e: Experience) -> Experience:
    """Lose what is paid to an agent that waits."""
    return e._replace(reward=by_group(lambda r, on: jnp.where(on, r, 0.0), e.reward, e.active))


def rewards_are_shared(e: Experience) -> Experience:
    """Pay every agent of a group the group's mean."""
    mean = by_group(lambda r: jnp.broadcast_to(r.mean(-1, keepdims=True), r.shape), e.reward)
    return e._replace(reward=mean)


def memory_is_kept(e: Experience) -> Experience:
    """Learn as if memory went on from one episode to the next."""
    return e._replace(reset=jnp.zeros_like(e.reset))


def mask_ignored(algo: str = "ippo") -> Algorithm:
    """An algorithm that acts as if every action were allowed."""
    sound = ALGORITHMS[algo]

    def explore_factory(groups: Any, config: Any) -> Any:
        explore = sound.explore(groups, config)

        def careless(state: Any, key: Any, observation: Any, mask: Any, carry: Any) -> Any:
            return explore(state, key, observation, jax.tree.map(jnp.ones_like, mask), carry)

        return careless

    return sound._replace(explore=explore_factory)


BROKEN_LEARNERS: list[tuple[str, Change]] = [
    ("truncation", done_for_terminated),
    ("early death", terminated_for_truncated),
    ("late join", inactive_rows_count),
    ("turn-based", inactive_rows_count),
    ("turn-based", movers_sign_flipped),
    ("turn-based", only_the_mover_is_paid),
    ("own reward", rewards_are_shared),
]
"""Probes, and the bugs that must fail them."""
