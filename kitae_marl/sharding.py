"""Environments split over all devices of the process (or of all processes), all else replicated.

With one device nothing here does anything. With several, the compiled loop's arrays that have an
environment axis lie in slices on the devices, and XLA makes of the same program one that runs on
all of them. Several hosts work alike: each process calls ``jax.distributed.initialize`` before
anything else and runs the same script with the same arguments; ``jax.devices()`` are then the
devices of all of them. Only one process should be given a run folder.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Give every device the whole of each array; without a mesh return the tree itself."""
    if mesh is None:
        return tree
    return jax.device_put(tree, replicated(mesh))


def whole(tree: Any, mesh: Mesh | None) -> Any:
    """Bring arrays together on one device of this process; the opposite of all splitting.

    Every process must call it alike. Without a mesh the tree itself is returned.
    """
    if mesh is None:
        return tree
    gathered = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), gathered)


def agree(*numbers: int) -> tuple[int, ...]:
    """Return the numbers that process 0 gave, in every process; they steer what runs next."""
    if jax.process_count() == 1:
        return numbers
    from jax.experimental import multihost_utils

    shared = multihost_utils.broadcast_one_to_all(np.array(numbers, np.int32))
    return tuple(int(number) for number in shared)
