"""Learning from one rollout: epochs as scans over minibatches, guarded. Pure and jittable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from kitae_marl.config.run import Config
from kitae_marl.data.keys import UPDATE, key_for
from kitae_marl.loops.devices import spread_rows
from kitae_marl.types import Algorithm, GroupSpec

NONFINITE = "faults/nonfinite_update"
"""Metric of an update: 1 where it was skipped because it was not finite, else 0."""


def skip_nonfinite(learn: Callable[..., Any]) -> Callable[..., Any]:
    """Guard an update: where it leads to a state with NaN or infinity, the state stays as it was.

    Learning rates are annealed all the same, so that they end where the training does.

    Args:
        learn: ``(state, key, experience) -> (state, info)``, pure.

    Returns:
        The same function, its ``info`` with the metric ``faults/nonfinite_update``.
    """

    def guarded(state: Any, key: jax.Array, experience: Any) -> tuple[Any, dict[str, jax.Array]]:
        learned, info = learn(state, key, experience)
        learned = jax.tree.map(jnp.asarray, learned)  # a number of Python is an array from here on
        leaves = jax.tree.leaves(learned)
        # One vector and one branch are two dozen kernels less to compile than a test and a choice
        # of every leaf.
        numbers, _ = ravel_pytree([x for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)])
        finite = jnp.all(jnp.isfinite(numbers))
        kept = jax.lax.cond(finite, lambda: learned, lambda: all_but_schedule(state, learned))
        return kept, {**info, NONFINITE: 1.0 - finite.astype(jnp.float32)}

    return guarded


def learn_factory(
    algorithm: Algorithm, groups: tuple[GroupSpec, ...], config: Config
) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """Make ``learn(state, root_key, step, experience)``: one guarded update, for ``jax.jit``.

    It returns the state and the algorithm's metrics; ``step`` counts the joint steps before it.
    """
    learn = skip_nonfinite(algorithm.learn(groups, config))

    def guarded(
        state: Any, root_key: jax.Array, step: Any, experience: Any
    ) -> tuple[Any, dict[str, jax.Array]]:
        return learn(state, key_for(root_key, UPDATE, step), experience)

    return guarded


def all_but_schedule(old: Any, new: Any) -> Any:
    """Return an old state, but the steps of its learning rate counted as in the new one."""

    def is_schedule(tree: Any) -> bool:
        return isinstance(tree, optax.ScaleByScheduleState)

    return jax.tree.map(lambda a, b: b if is_schedule(a) else a, old, new, is_leaf=is_schedule)


def update_epoch(
    key: jax.Array,
    state: Any,
    experience: tuple[Any, ...],
    batchify_fn: Callable[[jax.Array, tuple[Any, ...], int], tuple[Any, ...]],
    update_batch_fn: Callable[[Any, jax.Array, Any], tuple[Any, dict[str, jax.Array]]],
    *,
    experience_type: Callable[..., Any],
    batch_size: int,
) -> tuple[Any, dict[str, jax.Array]]:
    """Learn once from every minibatch of an experience, by ``jax.lax.scan``.

    Args:
        key: key of the epoch; one part shuffles, the others go to one minibatch each.
        state: what learning changes, any pytree.
        experience: the fields of ``experience_type``, pytrees of arrays whose leaves share their
            first axis of ``N`` rows.
        batchify_fn: ``(key, experience, batch_size) -> batches``; the same fields with leaves of
            shape ``[N // batch_size, batch_size, ...]``.
        update_batch_fn: ``(state, key, batch) -> (state, info)``, one gradient step; ``info`` is a
            dict of scalars.
        experience_type: builds a batch from its fields, usually a NamedTuple class.
        batch_size: rows of a minibatch.

    Returns:
        The state after the last minibatch, and the mean of each info over the minibatches.

    Raises:
        ValueError: if the batches are empty or disagree about their number.
        TypeError: if a function is none, or returns something else than it should; JAX raises one
            where ``update_batch_fn`` changes the structure, a shape or a dtype of the state.
    """
    functions = {
        "batchify_fn": batchify_fn,
        "update_batch_fn": update_batch_fn,
        "experience_type": experience_type,
    }
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"expected a function as {name}, got {function!r}.")
    shuffle_key, batch_key = jax.random.split(key)
    batches = batchify_fn(shuffle_key, experience, batch_size)
    keys = jax.random.split(batch_key, _count(batches, batch_size))

    def update_batch(state: Any, key_and_batch: tuple[jax.Array, Any]) -> tuple[Any, Any]:
        key, batch = key_and_batch
        result = update_batch_fn(state, key, experience_type(*batch))
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise TypeError(
                "expected update_batch_fn to return (state, info) with info a dict of scalars, got "
                f"{type(result).__name__} of {jax.tree.structure(result)}."
            )
        return result[0], Bundle.of(result[1])

    state, infos = jax.lax.scan(update_batch, state, (keys, spread_rows(tuple(batches))))
    return state, mean(infos).arrays()


def mean(infos: Bundle) -> Bundle:
    """Return the means of infos that were stacked by a scan."""
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), infos)


def _count(batches: Any, batch_size: int) -> int:
    """Return the number of batches, the first axis of every leaf."""
    if not isinstance(batches, (tuple, list)):
        raise TypeError(
            f"expected batchify_fn to return a tuple of batches, one for each field of the "
            f"experience, got {type(batches).__name__}."
        )
    shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(batches)}
    lengths = {shape[0] if len(shape) > 1 else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"expected batchify_fn to return leaves [batches, rows, ...] with the same number of "
            f"batches, at least one; got the shapes {sorted(shapes)} with batch_size={batch_size}."
        )
    return lengths.pop()


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
