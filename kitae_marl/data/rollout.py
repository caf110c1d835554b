"""Storage of experience, and how it is cut into minibatches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kitae_marl.data.stacking import map_leaves
from kitae_marl.types import Experience

BEFORE = ("observation", "action", "log_prob", "action_mask", "active", "state", "carry", "reset")
"""Fields known before the environment steps."""
AFTER = (
    "reward", "terminated", "truncated", "next_observation", "next_active", "next_state",
    "next_reset",
)  # fmt: skip
"""Fields known after the environment has stepped."""
_DTYPES = {"reward": np.float32}


class RolloutBuffer:
    """Rollout of ``n_steps`` joint steps in NumPy arrays ``{group: [T, E, A, ...]}``.

    The arrays are made at the first step, from what comes, and used again after ``clear``. What is
    added is copied, so live views of an environment's shared memory may be passed.

    Attributes:
        n_steps: capacity.
        cursor: joint steps stored so far.
    """

    def __init__(self, n_steps: int) -> None:
        if n_steps < 1:
            raise ValueError(f"expected n_steps of at least 1, got {n_steps}.")
        self.n_steps = n_steps
        self.cursor = 0
        self._fields: dict[str, Any] = {}

    @property
    def full(self) -> bool:
        """Whether no further step fits."""
        return self.cursor == self.n_steps

    def add(self, part: Mapping[str, Any]) -> None:
        """Copy fields of the current step, each ``{group: [E, A, ...]}``, ``[E, ...]`` or ``()``.

        Call it with the fields of ``BEFORE`` first, then with those of ``AFTER`` and ``advance``.

        Raises:
            RuntimeError: if the buffer is full.
        """
        if self.full:
            raise RuntimeError(f"the rollout of {self.n_steps} steps is full; call clear() first.")
        for name, value in part.items():
            if isinstance(value, tuple):
                continue
            if name not in self._fields:
                self._fields[name] = map_leaves(lambda x, n=name: self._allocate(n, x), value)
            map_leaves(self._store, self._fields[name], value)

    def advance(self) -> None:
        """Go to the next joint step."""
        self.cursor += 1

    def _allocate(self, name: str, leaf: Any) -> np.ndarray:
        """Make the array of one leaf."""
        dtype = _DTYPES.get(name, np.asarray(leaf).dtype)
        return np.zeros((self.n_steps, *np.shape(leaf)), dtype)

    def _store(self, array: np.ndarray, leaf: Any) -> None:
        """Copy one leaf into the current row."""
        array[self.cursor] = leaf

    def experience(self) -> Experience:
        """Return the stored rollout, arrays ``[T, E, A, ...]``; valid until the next ``add``.

        Raises:
            RuntimeError: if the rollout is not complete.
        """
        if not self.full:
            raise RuntimeError(f"expected {self.n_steps} stored steps, got {self.cursor}.")
        return Experience(**self._fields)

    def clear(self) -> None:
        """Forget the stored steps; the memory is kept."""
        self.cursor = 0


def cut_sequences(tree: Any, length: int) -> Any:
    """Cut a rollout into sequences of consecutive steps, for back-propagation through time.

    Args:
        tree: pytree of leaves ``[T, E, ...]``.
        length: steps of a sequence; must divide ``T``.

    Returns:
        The same pytree with leaves ``[T // length * E, length, ...]``.

    Example:
        >>> cut_sequences(jnp.arange(8).reshape(4, 2), 2).tolist()
        [[0, 2], [1, 3], [4, 6], [5, 7]]
    """

    def cut(leaf: jax.Array) -> jax.Array:
        n_steps, n_envs, *rest = leaf.shape
        chunks = leaf.reshape(n_steps // length, length, n_envs, *rest)
        return jnp.swapaxes(chunks, 1, 2).reshape(-1, length, *rest)

    return jax.tree.map(cut, tree)


def batchify_and_randomize(
    key: jax.Array, experience: tuple[Any, ...], batch_size: int
) -> tuple[Any, ...]:
    """Shuffle rows and cut them into minibatches.

    Args:
        key: key of the shuffle.
        experience: pytrees whose leaves share their first axis ``N``.
        batch_size: rows of a minibatch; must divide ``N``.

    Returns:
        The same pytrees with leaves ``[N // batch_size, batch_size, ...]``, every row once.

    Raises:
        ValueError: if ``batch_size`` does not divide ``N``, or the leaves do not share ``N``.
        TypeError: if ``batch_size`` is no integer.

    Example:
        >>> batches = batchify_and_randomize(jax.random.key(0), (jnp.arange(6),), 2)
        >>> batches[0].shape, sorted(batches[0].ravel().tolist())
        ((3, 2), [0, 1, 2, 3, 4, 5])
    """
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(experience)}
    lengths = {shape[:1] for shape in shapes}
    if len(lengths) != 1 or () in lengths:  # XLA would repeat the last row where rows are missing
        raise ValueError(
            f"expected arrays with one number of rows as their first axis, got the shapes "
            f"{sorted(shapes)}; give every field of the experience the same rows."
        )
    ((n_rows,),) = lengths
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
        raise TypeError(f"expected an integer batch_size, got {batch_size!r}.")
    if batch_size < 1 or n_rows % batch_size:
        raise ValueError(f"expected a batch_size that divides {n_rows} rows, got {batch_size}.")
    order = _shuffled(key, n_rows)

    def cut(leaf: jax.Array) -> jax.Array:
        return leaf[order].reshape(n_rows // batch_size, batch_size, *leaf.shape[1:])

    return jax.tree.map(cut, tuple(experience))


def _shuffled(key: jax.Array, n: int) -> jax.Array:
    """Return the numbers below ``n`` in random order.

    They are sorted by random bits. Up to a million of them lie in the low bits of what is sorted,
    below at least 12 random ones: so a CPU sorts plain numbers, four times as fast as pairs.
    """
    bits = jax.random.bits(key, (n,))
    n_low = (n - 1).bit_length()
    if n_low > 20:
        return jnp.argsort(bits)
    low = jnp.uint32(2**n_low - 1)
    return jnp.sort(bits & ~low | jnp.arange(n, dtype=jnp.uint32), stable=False) & low
