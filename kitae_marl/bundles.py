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
        layout: ``(name, dtype, shape)`` of each array, in the order of the names.

    Example:
        >>> rows = jax.lax.map(lambda x: Bundle.of({"x": x, "half": x / 2}), jnp.arange(3.0))
        >>> rows.vectors["float32"].shape, rows.arrays()["half"].tolist()
        ((3, 2), [0.0, 0.5, 1.0])
    """

    def __init__(
        self, vectors: dict[str, Any], layout: tuple[tuple[str, str, tuple[int, ...]], ...]
    ) -> None:
        self.vectors, self.layout = vectors, layout

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Bundle:
        """Bundle the arrays of a dict, in the order of their names, as JAX keeps dicts."""
        parts: dict[str, list[jax.Array]] = {}
        layout = []
        for name, value in sorted(arrays.items()):
            array = jnp.asarray(value)
            parts.setdefault(array.dtype.name, []).append(array.reshape(-1))
            layout.append((name, array.dtype.name, array.shape))
        return cls({dtype: jnp.concatenate(x) for dtype, x in parts.items()}, tuple(layout))

    def arrays(self) -> dict[str, Any]:
        """Return the arrays, behind the axes that the vectors have got before their own."""
        at = dict.fromkeys(self.vectors, 0)
        result = {}
        for name, dtype, shape in self.layout:
            vector, start = self.vectors[dtype], at[dtype]
            at[dtype] = end = start + int(np.prod(shape))
            result[name] = vector[..., start:end].reshape(*vector.shape[:-1], *shape)
        return result

    def tree_flatten(self) -> tuple[tuple[dict[str, Any]], Any]:
        """Split into what JAX maps over, and the rest."""
        return (self.vectors,), self.layout

    @classmethod
    def tree_unflatten(cls, layout: Any, children: tuple[dict[str, Any]]) -> Bundle:
        """Undo ``tree_flatten``."""
        return cls(children[0], layout)
