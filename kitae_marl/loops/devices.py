"""Environments split over all devices of the process (or of all processes), all else replicated.

With one device nothing here does anything. With several, the compiled loop's arrays that have an
environment axis lie in slices on the devices, and XLA makes of the same program one that runs on
all of them. Several hosts work alike: each process calls ``jax.distributed.initialize`` before
anything else and runs the same script with the same arguments; ``jax.devices()`` are then the
devices of all of them. Process 0 keeps the run: the others train with ``run_dir=None``, and to go
on with a run they call ``agent.load_checkpoint(run_dir)`` before.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from kitae_marl.data.spaces import leaves
from kitae_marl.errors import ConfigError

AXIS = "environment"
"""Name of the mesh's only axis."""


def environment_mesh(n_envs: int) -> Mesh | None:
    """Return the mesh of all devices, None where there is only one.

    Raises:
        ConfigError: if the environments cannot be split evenly.
    """
    devices = jax.devices()
    if len(devices) == 1:
        return None
    if n_envs % len(devices):
        fits = max(1, n_envs // len(devices)) * len(devices)
        raise ConfigError(
            f"n_envs: expected a multiple of the {len(devices)} devices, got {n_envs}; "
            f"{fits} would do.",
            "n_envs",
        )
    return Mesh(np.array(devices), (AXIS,))


def split(mesh: Mesh, axis: int) -> NamedSharding:
    """How an array lies whose axis ``axis`` counts environments."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """How an array lies that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def place(tree: Any, where: Any) -> Any:
    """Lay arrays onto the devices; every process holds them whole before.

    Args:
        tree: arrays, or keys.
        where: a sharding for all of them, or a tree of shardings; None leaves the tree as it is.
    """
    if where is None:
        return tree
    if isinstance(where, NamedSharding):
        return jax.tree.map(lambda leaf: _place(leaf, where), tree)
    return jax.tree.map(_place, tree, where)


def _place(leaf: Any, where: NamedSharding) -> jax.Array:
    """Lay one array onto the devices."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_place(jax.random.key_data(leaf), where))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, where, lambda index: values[index])


def spread_rows(batches: Any) -> Any:
    """Split minibatches ``[N, B, ...]`` along ``B`` over the devices of the mesh that is set.

    Without a mesh, and where the devices do not divide ``B``, nothing changes.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.axis_names:
        return batches
    n_devices = mesh.shape[AXIS]

    def spread(leaf: jax.Array) -> jax.Array:
        if leaf.shape[1] % n_devices:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(None, AXIS))

    return jax.tree.map(spread, batches)


def over_rows(
    function: Callable[..., Any], whole: Any, rows: Any, axes: Any = 0
) -> tuple[Any, Any]:
    """Call ``function(whole, rows) -> (sums, results)`` on each device, with the rows it has.

    What is added up over rows is brought together once, at the end. Without a mesh, and where the
    devices do not divide the rows, it is one plain call.

    Args:
        function: pure; its first result is a sum over rows, its second has them
            on the axis ``axes`` (the first of them where there are several).
        whole: pytree that every device sees whole.
        rows: pytree of arrays of which each device has a part.
        axes: which of their axes is split; one for all, or a tuple for a tuple of pytrees.

    Returns:
        The sums over all rows, and the results of all of them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    first = axes[0] if isinstance(axes, tuple) else axes
    n_rows = jax.tree.leaves(rows)[0].shape[first]
    if AXIS not in mesh.axis_names or n_rows % mesh.shape[AXIS]:
        return function(whole, rows)

    def of_one_device(whole: Any, rows: Any) -> tuple[Any, Any]:
        sums, results = function(whole, rows)
        return jax.lax.psum(sums, AXIS), results

    def parts(axis: int) -> PartitionSpec:
        return PartitionSpec(*(None,) * axis, AXIS)

    return jax.shard_map(
        of_one_device,
        in_specs=(PartitionSpec(), jax.tree.map(parts, axes)),
        out_specs=(PartitionSpec(), parts(first)),
        check_vma=False,
    )(whole, rows)


def over_environments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``function(key, *arrays, first)`` work on each device on the environments it has.

    No device waits for another one. Without a mesh it is one plain call.

    Args:
        function: pure; takes pytrees of arrays ``[E, ...]`` and returns some; ``first`` is the
            number of the first environment, on which (and on the key) its chance depends.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.axis_names:
        return lambda key, *arrays: function(key, *arrays, first=0)

    def of_one_device(key: jax.Array, *arrays: Any) -> Any:
        n_envs = jax.tree.leaves(arrays)[0].shape[0]
        return function(key, *arrays, first=jax.lax.axis_index(AXIS) * n_envs)

    def mapped(key: jax.Array, *arrays: Any) -> Any:
        where = PartitionSpec(AXIS)
        specs = (PartitionSpec(), *(where for _ in arrays))
        return jax.shard_map(of_one_device, in_specs=specs, out_specs=where, check_vma=False)(
            key, *arrays
        )

    return mapped


def whole(tree: Any, mesh: Mesh | None) -> Any:
    """Bring arrays together on one device of this process; the opposite of all splitting.

    Every process must call it alike. Without a mesh the tree itself is returned.
    """
    if mesh is None:
        return tree
    gathered = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), gathered)


def process_index() -> int:
    """Return the number of this process among those that train together; 0 if it is alone."""
    return jax.process_index()


def agree(*numbers: int) -> tuple[int, ...]:
    """Return the numbers that process 0 gave, in every process; they steer what runs next."""
    if jax.process_count() == 1:
        return numbers
    from jax.experimental import multihost_utils

    shared = multihost_utils.broadcast_one_to_all(np.array(numbers, np.int32))
    return tuple(int(number) for number in shared)


BLOCK_ROWS = 1024
"""Rows that a CPU learns from at a time: their activations stay in the cache of its core."""


PIXELS_OF_ROW = 256
"""Pixels of a picture whose activations take the memory of one row of numbers."""


def on_cpu() -> bool:
    """Whether JAX computes on a CPU by default."""
    return jax.default_backend() == "cpu"


def n_blocks(n: int, weight: int = 1) -> int:
    """Return in how many equal blocks ``n`` rows are worked on, so that results are added up.

    On other devices than a CPU it is one. Blocks are larger than would be best, rather than much
    smaller, where ``n`` has few divisors.

    Args:
        n: rows to cut; the result divides it.
        weight: for how many rows of a network each of them stands: agents times time, times
            ``rows_of_pictures``.
    """
    if not on_cpu():
        return 1
    small = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    sizes = {k: n * weight / k for k in [*small, *(n // k for k in small)]}
    whole = {k: size for k, size in sizes.items() if size >= BLOCK_ROWS / 2}
    return min(whole, key=lambda k: abs(math.log(whole[k] / BLOCK_ROWS)), default=1)


def rows_of_pictures(space: gym.Space[Any]) -> int:
    """Return for how many rows of numbers one observation of a space stands, at least 1.

    A block of pictures is then a few dozen of 84 by 84 pixels.
    """
    pictures = [leaf for leaf in leaves(space) if leaf.is_image]
    n_pixels = sum(leaf.shape[0] * leaf.shape[1] for leaf in pictures)
    return max(1, n_pixels // PIXELS_OF_ROW)


def over_runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function of one run over runs, the leading axis of all that it takes and returns.

    A CPU works on one after another: each then computes what it would alone, and memory is that of
    one. Other devices work on all at once, by ``jax.vmap``.
    """
    if not on_cpu():
        return jax.vmap(function)
    return lambda *runs: jax.lax.map(lambda one: function(*one), runs)


def n_at_a_time(n_runs: int) -> int:
    """Return how many of the runs of ``over_runs`` are in memory at a time."""
    return 1 if on_cpu() else n_runs


def dense_product(
    x: Float[Array, "*B K"], kernel: Float[Array, "K N"], *dimensions: Any, **precision: Any
) -> Float[Array, "*B N"]:
    """Multiply rows by a kernel, with a gradient that is fast on a CPU; ``dot_general`` of a layer.

    On a CPU the kernel's gradient, a sum over rows, takes half of the time with the narrower of its
    factors on the left and transposed in memory.
    """
    if on_cpu():
        return _product(x, kernel)
    return jax.lax.dot_general(x, kernel, *dimensions, **precision)


@jax.custom_vjp
def _product(x: Array, kernel: Array) -> Array:
    """Multiply rows by a kernel."""
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    """Multiply, and keep what the gradient needs."""
    return x @ kernel, (x, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Gradients of rows and kernel; the barriers keep XLA from undoing the transpositions."""
    x, kernel = kept
    hold = jax.lax.optimization_barrier
    n_in, n_out = kernel.shape
    rows, out = x.reshape(-1, n_in), gradient.reshape(-1, n_out)
    narrow = n_out <= n_in
    of_kernel = hold(hold(out.T) @ rows).T if narrow else hold(rows.T) @ out
    return gradient @ kernel.T, of_kernel


_product.defvjp(_forward, _backward)


def convolution(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "KH KW C N"],
    strides: Sequence[int],
    padding: Any,
    **rest: Any,
) -> Float[Array, "B H2 W2 N"]:
    """Convolve pictures; ``conv_general_dilated`` of a layer without dilation and groups.

    XLA's convolution inside a loop or a branch on a CPU is some ten times slower than outside.
    Products of matrices, one for each offset of the kernel, are as fast inside, in both
    directions. Where the stride divides the kernel, squares of ``stride`` pixels a side are made
    the channels of one pixel first, so that there are fewer and larger products (an 8 by 8 kernel
    with stride 4: 4 in place of 64). Adding the products up is faster than one product over
    patches put side by side, which are several times as large as the pictures.
    """
    if not on_cpu():
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **rest)
    height, width, channels, n_out = kernel.shape
    pads = padding
    if isinstance(padding, str):
        pads = jax.lax.padtype_to_pads(x.shape[1:3], (height, width), strides, padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    n = strides[0]
    if n > 1 and all(s == n for s in strides) and height % n == width % n == 0:
        rows, columns = (size - size % n for size in x.shape[1:3])
        x = x[:, :rows, :columns].reshape(-1, rows // n, n, columns // n, n, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:2], columns // n, -1)
        kernel = kernel.reshape(height // n, n, width // n, n, channels, n_out)
        kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(height // n, width // n, -1, n_out)
        strides = (1, 1)
    down, right = (
        [slice(at, at + s * ((length - k) // s) + 1, s) for at in range(k)]
        for length, k, s in zip(x.shape[1:3], kernel.shape[:2], strides, strict=True)
    )
    products = [
        _product(x[:, i, j], of_offset)
        for i, of_row in zip(down, kernel, strict=True)
        for j, of_offset in zip(right, of_row, strict=True)
    ]
    return functools.reduce(jnp.add, products)


def board_convolution(
    x: Float[Array, "B H W C"], kernel: Float[Array, "K K C N"], *rest: Any, **more: Any
) -> Float[Array, "B H W N"]:
    """Convolve boards that keep their size, zeros around them; ``conv_general_dilated`` of a layer.

    The kernel is of an odd size, the stride 1. On a CPU the boards' gradient is such a convolution,
    too, and the kernel's one product of matrices. Inside a loop that is faster than sums of
    products (``convolution``), for boards of 6 by 7 with 32 channels some three times; XLA's own
    gradients are far slower there.
    """
    del rest, more
    return _convolved(x, kernel) if on_cpu() else _plain_convolution(x, kernel)


def _plain_convolution(x: Array, kernel: Array) -> Array:
    """Convolve, by XLA."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


@jax.custom_vjp
def _convolved(x: Array, kernel: Array) -> Array:
    """Convolve, with gradients that are fast on a CPU."""
    return _plain_convolution(x, kernel)


def _convolved_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    """Convolve, and keep what the gradient needs."""
    return _plain_convolution(x, kernel), (x, kernel)


def _convolved_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Gradients of boards and kernel.

    The kernel's is ``sum_p x[p] g[p - offset]``: shifted copies of ``g`` lie side by side, so that
    it is one product. The barrier keeps XLA from undoing the transposition.
    """
    x, kernel = kept
    size, _, n_in, n_out = kernel.shape
    height, width = x.shape[1:3]
    border = size // 2
    around = jnp.pad(gradient, ((0, 0), (border, border), (border, border), (0, 0)))
    shifts = [(size - 1 - i, size - 1 - j) for i in range(size) for j in range(size)]
    shifted = jnp.concatenate([around[:, i : i + height, j : j + width] for i, j in shifts], -1)
    columns = jax.lax.optimization_barrier(x.reshape(-1, n_in).T)
    of_kernel = (columns @ shifted.reshape(-1, size * size * n_out)).reshape(n_in, size, size, -1)
    of_boards = _plain_convolution(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
    return of_boards, of_kernel.transpose(1, 2, 0, 3)


_convolved.defvjp(_convolved_forward, _convolved_backward)
