"""Many small arrays as one vector of each dtype: one kernel, not one each, to store or add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_pytree_node_class
class Bundle:
    """A dict of arrays of any shapes, held as one vector of each dtype; a pytree of the vectors.

    What is mapped, scanned or stored of a bundle is these vectors; they may get axes before their
    own, or lose them again, and change their dtype, as by a mean.

    Attributes:
        vectors: ``{dtype: [..., n]}``, by the name of the dtype that the arrays had.
        layout: the structure of the dict, and ``(dtype, shape)`` of each array.

    Example:
        >>> rows = jax.lax.map(lambda x: Bundle.of({"x": x, "half": x / 2}), jnp.arange(3.0))
        >>> rows.vectors["float32"].shape, rows.arrays()["half"].tolist()
        ((3, 2), [0.0, 0.5, 1.0])
    """

    def __init__(self, vectors: dict[str, Any], layout: tuple[Any, tuple[Any, ...]]) -> None:
        self.vectors, self.layout = vectors, layout

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Bundle:
        """Bundle the arrays of a dict, which may hold dicts in turn."""
        leaves, structure = jax.tree.flatten(dict(arrays))
        parts: dict[str, list[jax.Array]] = {}
        kinds = []
        for array in map(jnp.asarray, leaves):
            parts.setdefault(array.dtype.name, []).append(array.reshape(-1))
            kinds.append((array.dtype.name, array.shape))
        vectors = {dtype: jnp.concatenate(x) for dtype, x in parts.items()}
        return cls(vectors, (structure, tuple(kinds)))

    def arrays(self) -> dict[str, Any]:
        """Return the arrays, behind the axes that the vectors have got before their own."""
        at = dict.fromkeys(self.vectors, 0)
        leaves = []
        structure, kinds = self.layout
        for dtype, shape in kinds:
            vector, start = self.vectors[dtype], at[dtype]
            at[dtype] = end = start + int(np.prod(shape))
            leaves.append(vector[..., start:end].reshape(*vector.shape[:-1], *shape))
        return jax.tree.unflatten(structure, leaves)

    def tree_flatten(self) -> tuple[tuple[dict[str, Any]], Any]:
        """Split into what JAX maps over, and the rest."""
        return (self.vectors,), self.layout

    @classmethod
    def tree_unflatten(cls, layout: Any, children: tuple[dict[str, Any]]) -> Bundle:
        """Undo ``tree_flatten``."""
        return cls(children[0], layout)
