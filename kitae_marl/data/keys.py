"""Random keys by purpose and step: no key is stored, changed or used twice."""

import jax

EXPLORE = 0
"""Sampling actions while training; the step counts joint steps of the vector environment."""
UPDATE = 1
"""Shuffling in an update; the step counts updates."""
INIT = 2
"""Drawing the first parameters; step 0."""
EVALUATE = 3
"""Sampling actions to play; the step counts such calls of one agent."""
ENVIRONMENT = 4
"""Chance inside compiled games; the step counts joint steps."""
REMATCH = 5
"""First states of games that begin against new opponents; the step counts joint steps."""


def key_for(root: jax.Array, purpose: int | jax.Array, step: int | jax.Array) -> jax.Array:
    """Derive the key of one purpose at one step: ``fold_in(fold_in(root, purpose), step)``.

    Args:
        root: the key of the run, made once from its seed.
        purpose: one of the constants of this module; may be traced.
        step: what the purpose counts, at least 0; may be traced.

    Returns:
        A key that no other (purpose, step) of this root has.
    """
    return jax.random.fold_in(jax.random.fold_in(root, purpose), step)
