"""What tests ask of whole pytrees: the same to the bit, finite."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def same_bits(left: Any, right: Any) -> bool:
    left, right = jax.tree.map(np.asarray, (left, right))
    assert jax.tree.structure(left) == jax.tree.structure(right)
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def finite(tree: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))
