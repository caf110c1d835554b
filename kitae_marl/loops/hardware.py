"""What depends on the kind of device: how much at a time, and how matrices are multiplied.

Nothing here changes a result beyond its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

BLOCK_ROWS = 1024
"""Rows that a CPU learns from at a time: their activations stay in the cache of its core."""


def on_cpu() -> bool:
    """Whether JAX computes on a CPU by default."""
    return jax.default_backend() == "cpu"


def n_blocks(n: int, weight: int = 1) -> int:
    """Return in how many equal blocks ``n`` rows are worked on, so that results are added up.

    On other devices than a CPU it is one. Blocks are larger than would be best, rather than much
    smaller, where ``n`` has few divisors.

    Args:
        n: rows to cut; the result divides it.
        weight: for how many rows of a network each of them stands: agents times time.
    """
    if not on_cpu():
        return 1
    small = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    sizes = {k: n * weight / k for k in [*small, *(n // k for k in small)]}
    whole = {k: size for k, size in sizes.items() if size >= BLOCK_ROWS / 2}
    return min(whole, key=lambda k: abs(math.log(whole[k] / BLOCK_ROWS)), default=1)


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
