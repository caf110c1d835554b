"""Storage of experience, and how it is cut into minibatches."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from kitae_marl.data.spaces import feature_space, leaves
from kitae_marl.data.stacking import map_leaves
from kitae_marl.types import Experience, GroupSpec

_DTYPES = {"reward": np.float32}


class RolloutBuffer:
    """Rollout of ``n_steps`` joint steps in NumPy arrays ``{group: [T, E, A, ...]}``.

    Each step is one Experience ``[E, A, ...]``, which comes in two parts, since the environment
    overwrites what it has shown when it steps: ``begin`` copies what is known before, ``finish``
    what came of it. The arrays are made at the first step, from what comes, and used again after
    ``clear``.

    Attributes:
        n_steps: capacity.
        cursor: whole joint steps stored so far.
    """

    def __init__(self, n_steps: int) -> None:
        if n_steps < 1:
            raise ValueError(f"expected n_steps of at least 1, got {n_steps}.")
        self.n_steps = n_steps
        self.cursor = 0
        self._begun = False
        self._fields: dict[str, Any] = {}

    @property
    def full(self) -> bool:
        """Whether no further step fits."""
        return self.cursor == self.n_steps

    def begin(self, before: Experience) -> None:
        """Copy the fields known before the environment steps; those that are ``()`` are left out.

        Raises:
            RuntimeError: if the buffer is full, or the last step has not been finished.
        """
        if self.full:
            raise RuntimeError(f"the rollout of {self.n_steps} steps is full; call clear() first.")
        if self._begun:
            raise RuntimeError("expected finish(...) of the step that was begun, got another one.")
        self._store(before)
        self._begun = True

    def finish(self, after: Experience) -> None:
        """Copy the other fields of the step that was begun, and go to the next one.

        Raises:
            RuntimeError: if no step was begun.
        """
        if not self._begun:
            raise RuntimeError("expected a step that was begun by begin(...), got none.")
        self._store(after)
        self._begun = False
        self.cursor += 1

    def _store(self, part: Experience) -> None:
        """Copy the fields that are set into the current row."""
        for name, value in zip(Experience._fields, part, strict=True):
            if isinstance(value, tuple):
                continue
            if name not in self._fields:
                self._fields[name] = map_leaves(lambda x, n=name: self._allocate(n, x), value)
            try:
                map_leaves(self._put, self._fields[name], value)
            except ValueError:
                if name != "action_mask":
                    raise
                self._make_room_for_masks(value)
                map_leaves(self._put, self._fields[name], value)

    def _make_room_for_masks(self, masks: dict[str, Any]) -> None:
        """Take in groups that got their first masks now; before, they could do everything."""
        stored = self._fields["action_mask"]
        for group, mask in masks.items():
            if isinstance(stored[group], tuple) and not isinstance(mask, tuple):
                stored[group] = self._allocate("action_mask", mask)
                stored[group][: self.cursor] = 1

    def _allocate(self, name: str, leaf: Any) -> np.ndarray:
        """Make the array of one leaf."""
        dtype = _DTYPES.get(name, np.asarray(leaf).dtype)
        return np.zeros((self.n_steps, *np.shape(leaf)), dtype)

    def _put(self, array: np.ndarray, leaf: Any) -> None:
        """Copy one leaf into the current row."""
        array[self.cursor] = leaf

    def experience(self) -> Experience:
        """Return the stored rollout, arrays ``[T, E, A, ...]``; valid until the next ``begin``.

        Raises:
            RuntimeError: if the rollout is not complete.
        """
        if not self.full:
            raise RuntimeError(f"expected {self.n_steps} stored steps, got {self.cursor}.")
        return Experience(**self._fields)

    def clear(self) -> None:
        """Forget the stored steps; the memory is kept."""
        self.cursor, self._begun = 0, False


def rollout_bytes(groups: tuple[GroupSpec, ...], n_steps: int, n_envs: int) -> int:
    """Return what a rollout takes that is stored by a :class:`RolloutBuffer`, before it is made.

    What an algorithm stores beside each action is taken for one number, and memory of recurrent
    policies is left out: both are small beside observations.

    Example:
        >>> import gymnasium as gym
        >>> space, action = gym.spaces.Box(-1, 1, (6,)), gym.spaces.Discrete(5)
        >>> rollout_bytes((GroupSpec("a", ("a_0", "a_1"), space, action),), n_steps=8, n_envs=4)
        4416
    """
    row = 2 * sum(_space_bytes(group.state_space) for group in groups[:1]) + 2  # reset, next_reset
    for group in groups:
        seen = _space_bytes(feature_space(group.observation_space))  # and next, without the mask
        shown = _space_bytes(group.observation_space)
        numbers = np.dtype(np.float32).itemsize * 2  # the reward, and the log-probability
        flags = 4  # terminated, truncated, active, next_active
        done = _space_bytes(group.action_space)
        row += group.n_agents * (shown + seen + done + numbers + flags)
    return n_steps * n_envs * row


def _space_bytes(space: gym.Space[Any] | None) -> int:
    """Return the bytes of one value of a space; 0 for None."""
    if space is None:
        return 0
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves(space))


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
