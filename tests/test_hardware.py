"""What depends on the kind of device changes nothing but rounding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitae_marl.loops import devices
from kitae_marl.loops.devices import BLOCK_ROWS, dense_product, n_blocks

ROWS = (((1,), (0,)), ((), ()))


@pytest.mark.parametrize(
    ("n", "weight", "blocks"),
    [
        (BLOCK_ROWS, 1, 1),
        (BLOCK_ROWS // 8, 8, 1),
        (8 * BLOCK_ROWS, 1, 8),
        (8 * BLOCK_ROWS, 3, 24 * 4 // 3),
        (3, 1, 1),
        (8209, 1, 1),  # a prime: one block, not one for each row
        (3, 100 * BLOCK_ROWS, 3),
        (1021, 48, 1),  # another prime, of sequences
        (2 * 503, 48, 2),
    ],
)
def test_blocks_are_equal_and_about_as_large_as_caches_like(
    n: int, weight: int, blocks: int
) -> None:
    assert n_blocks(n, weight) == blocks
    assert n % blocks == 0


def test_only_a_cpu_works_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert n_blocks(2**20) == 1


@pytest.mark.parametrize("shape", [(7, 3, 5), (7, 5, 3), (6, 4, 1), (6, 4, 4)])
def test_products_and_gradients_are_the_usual_ones(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    n, n_in, n_out = shape
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel, scale = (
        jax.random.normal(key, size)
        for key, size in zip(keys, [(n, n_in), (n_in, n_out), (n, n_out)], strict=True)
    )

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(scale * dense_product(x, kernel, ROWS, precision=None) ** 2)

    def both() -> list[jax.Array]:
        one = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(x, kernel)
        several = jax.vmap(jax.grad(loss, argnums=1), in_axes=(None, 0))
        return jax.tree.leaves((one, several(x, jnp.stack([kernel, 2 * kernel]))))

    quick = both()
    monkeypatch.setattr(devices, "on_cpu", lambda: False)
    for got, expected in zip(quick, both(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
