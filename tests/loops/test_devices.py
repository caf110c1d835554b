"""Several devices and processes learn what one does; the kind of device changes only rounding."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compiling import flags

from kitae_marl import Agent
from kitae_marl.errors import ConfigError
from kitae_marl.loops import devices
from kitae_marl.loops.devices import (
    BLOCK_ROWS,
    convolution,
    dense_product,
    n_blocks,
    rows_of_pictures,
)

pytestmark = pytest.mark.usefixtures("quickest_compilation")
SCRIPT = Path(__file__).parents[1] / "helpers" / "sharding_script.py"
ROWS = (((1,), (0,)), ((), ()))


class Alone(NamedTuple):
    """A run on one device: its settings in the script, and its parameters."""

    variant: str
    out: Path


def start(out: Path, n_devices: int, *arguments: Any) -> subprocess.Popen:
    xla_flags = f"{flags()} --xla_force_host_platform_device_count={n_devices}"
    environment = {**os.environ, "XLA_FLAGS": xla_flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), str(out), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def assert_same(one: Path, other: Path, n_devices: int, n_processes: int) -> None:
    with np.load(one) as expected, np.load(other) as got:
        assert (expected["n_devices"], expected["n_processes"]) == (1, 1)
        assert (got["n_devices"], got["n_processes"]) == (n_devices, n_processes)
        leaves = [name for name in expected.files if name.startswith("arr")]
        assert len(leaves) > 20
        for name in leaves:
            # The critic's zero is a mean of targets some twenty times as large as its unit, whose
            # rounding depends on who added up what.
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=["plain", pytest.param("all", marks=pytest.mark.slow)])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    out = tmp_path_factory.mktemp("alone") / "one.npz"
    finish(start(out, 1, request.param))
    return Alone(request.param, out)


def test_four_devices_learn_what_one_does(alone: Alone, tmp_path: Path) -> None:
    out = tmp_path / "four.npz"
    finish(start(out, 4, alone.variant))
    assert_same(alone.out, out, n_devices=4, n_processes=1)
    Agent.load(f"{out}.run")


def test_devices_play_on_their_own(tmp_path: Path) -> None:
    out = tmp_path / "exchanges.json"
    finish(start(out, 4, "exchanges"))
    counts = json.loads(out.read_text())
    assert counts["instructions of play"] > 100
    assert counts["play"] == 0
    assert counts["update"] >= 1


@pytest.mark.slow
def test_many_runs_on_four_devices_learn_what_they_do_on_one(tmp_path: Path) -> None:
    one, four = tmp_path / "one.npz", tmp_path / "four.npz"
    finish(start(one, 1, "many"))
    finish(start(four, 4, "many"))
    assert_same(one, four, n_devices=4, n_processes=1)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(alone: Alone, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    outs = [tmp_path / f"{i}.npz" for i in range(2)]
    processes = [start(out, 2, alone.variant, address, 2, i) for i, out in enumerate(outs)]
    for process in processes:
        finish(process)
    for out in outs:
        assert_same(alone.out, out, n_devices=4, n_processes=2)
    assert Agent.load(f"{outs[0]}.run").learned_step == 52
    assert not Path(f"{outs[1]}.run").exists()


def test_environments_that_cannot_be_split_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from kitae_marl.loops.devices import environment_mesh

    monkeypatch.setattr("jax.devices", lambda: [object()] * 4)
    with pytest.raises(ConfigError, match=r"multiple of the 4 devices, got 18; 16 would do"):
        environment_mesh(18)
    with pytest.raises(ConfigError, match=r"got 3; 4 would do"):
        environment_mesh(3)


def test_only_process_0_keeps_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kitae_marl.config.run import Config
    from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

    env = CompiledVecParallelEnv("mpe/simple-v3", 4)
    agent = Agent(env, Config(n_envs=4))
    monkeypatch.setattr("kitae_marl.loops.devices.process_index", lambda: 1)
    with pytest.raises(ConfigError, match="run_dir: expected None in process 1"):
        agent.train(env, tmp_path / "run")
    assert env.closed
    assert not (tmp_path / "run").exists()


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


class TestConvolution:
    @pytest.mark.parametrize(
        ("picture", "kernel", "stride", "padding"),
        [
            ((84, 84, 4), (8, 8), 4, "VALID"),
            ((87, 85, 3), (8, 8), 4, "VALID"),
            ((20, 20, 8), (4, 4), 2, "VALID"),
            ((9, 9, 8), (3, 3), 1, "VALID"),
            ((8, 6, 1), (3, 3), 1, "SAME"),
            ((8, 7, 2), (3, 3), 2, "SAME"),
            ((9, 9, 2), (4, 4), 2, "SAME"),
            ((10, 12, 2), (4, 2), 2, ((1, 0), (2, 3))),
        ],
    )
    def test_it_is_that_of_xla_with_its_gradients(self, picture, kernel, stride, padding):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(2, *picture)), jnp.float32)
        weights = jnp.asarray(rng.normal(size=(*kernel, picture[2], 5)), jnp.float32)
        numbers = ("NHWC", "HWIO", "NHWC")
        ways = (convolution, jax.lax.conv_general_dilated)

        def of(way: Any, x: Any, weights: Any) -> Any:
            return way(x, weights, (stride, stride), padding, dimension_numbers=numbers)

        ours, xlas = (jax.jit(of, static_argnums=0)(way, x, weights) for way in ways)
        assert ours.shape == xlas.shape
        scale = float(jnp.abs(xlas).max())
        np.testing.assert_allclose(ours, xlas, atol=1e-6 * scale)
        ours, xlas = (
            jax.jit(jax.grad(lambda *args, way=way: jnp.sum(of(way, *args) ** 2), (0, 1)))(
                x, weights
            )
            for way in ways
        )
        for mine, other in zip(ours, xlas, strict=True):
            np.testing.assert_allclose(mine, other, atol=2e-6 * float(jnp.abs(other).max()))

    def test_other_devices_use_that_of_xla(self, monkeypatch):
        monkeypatch.setattr(devices, "on_cpu", lambda: False)
        x, weights = jnp.ones((1, 8, 8, 1)), jnp.ones((3, 3, 1, 2))
        rest = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        lowered = jax.jit(lambda *a: convolution(*a, (1, 1), "SAME", **rest)).lower(x, weights)
        assert "convolution" in lowered.as_text()


class TestRowsOfPictures:
    def test_a_block_holds_a_few_dozen_pictures_and_as_many_numbers_as_before(self):
        picture, numbers = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8), gym.spaces.Discrete(3)
        assert rows_of_pictures(numbers) == 1
        weight = rows_of_pictures(gym.spaces.Dict({"eye": picture, "hand": numbers}))
        assert 16 <= 1024 // n_blocks(1024, weight) <= 64
