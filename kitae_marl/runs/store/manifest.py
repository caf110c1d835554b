"""This file describes a checkpoint: its leaves with their digests, and where it was written."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxlib import version

from kitae_marl.errors import CheckpointCorruptError, CheckpointIncompatibleError
from kitae_marl.vector.options import n_cores

FORMAT = 1
"""Version of the layout of a checkpoint."""
MAX_BYTES = 64_000_000
"""Size of the largest manifest that is read."""
NOT_PARTS = ("format", "step", "sha256", "origin", "exact_resume")
"""Entries that describe no pytree."""


def describe_leaves(tree: Any) -> dict[str, dict[str, Any]]:
    """Return shape, dtype and SHA-256 of every leaf by its path in the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): {
            "shape": list(np.shape(leaf)),
            "dtype": str(np.asarray(leaf).dtype),
            "sha256": hashlib.sha256(np.ascontiguousarray(leaf).tobytes()).hexdigest(),
        }
        for path, leaf in leaves
    }


def origin() -> dict[str, str]:
    """Return what the last bit of a result depends on, beside config and seed.

    ``NPROC`` is the number of threads XLA computes with: as set, or the CPUs it may use.
    """
    return {
        "kitae_marl": importlib.metadata.version("kitae-marl"),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": version.__version__,
        "numpy": np.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": str(jax.device_count()),
        "NPROC": os.environ.get("NPROC") or str(n_cores()),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def origin_differences(manifest: dict[str, Any]) -> list[str]:
    """Say in what this process differs from the one that wrote a checkpoint."""
    stored = manifest.get("origin")
    stored = stored if isinstance(stored, dict) else {}
    return [
        f"{name}: {str(stored.get(name, 'unknown'))[:100]!r} there, {value!r} here"
        for name, value in origin().items()
        if stored.get(name) != value
    ]


def make_manifest(parts: dict[str, Any], step: int) -> dict[str, Any]:
    """Describe a checkpoint.

    Args:
        parts: its pytrees by name: ``state``, and ``game`` where the games are saved with it. Only
            then, or where none was begun, can a run go on to the bit.
        step: joint steps done.
    """
    manifest: dict[str, Any] = {name: describe_leaves(part) for name, part in parts.items()}
    manifest |= {"format": FORMAT, "step": step, "origin": origin()}
    manifest["exact_resume"] = "game" in parts or step == 0
    return {**manifest, "sha256": _digest(manifest)}


def _digest(manifest: dict[str, Any]) -> str:
    """Digest of all but itself, so that a damaged manifest is not taken for another one."""
    items = {name: item for name, item in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()


def _is_description(leaf: Any) -> bool:
    """Whether a leaf is described as ``describe_leaves`` does."""
    return isinstance(leaf, dict) and {"shape", "dtype", "sha256"} <= leaf.keys()


def require_intact(manifest: Any, path: Path) -> dict[str, Any]:
    """Return a manifest that is as it was written, by this version.

    Raises:
        CheckpointCorruptError: if it is damaged.
        CheckpointIncompatibleError: if another version wrote it.
    """
    items = manifest if isinstance(manifest, dict) else {}
    tables = [item for name, item in items.items() if name not in NOT_PARTS]
    sound = "state" in items and all(
        isinstance(table, dict) and all(_is_description(leaf) for leaf in table.values())
        for table in tables
    )
    if not sound or items.get("sha256") != _digest(items):
        raise CheckpointCorruptError(f"{path}: damaged manifest.", str(path), "manifest", "digest")
    if items.get("format") != FORMAT:
        raise CheckpointIncompatibleError(
            f"{path}: expected a checkpoint of format {FORMAT}, got {items.get('format')!r}; "
            "another version of kitae_marl wrote it.",
            str(path),
        )
    return items


def require_leaves(manifest: dict[str, Any], item: str, path: Path) -> dict[str, Any]:
    """Return the leaves of one item of an intact manifest."""
    if item not in manifest:
        raise CheckpointIncompatibleError(
            f"{path} was saved by the host loop and holds no games; resume it with the same "
            "environments as before.",
            str(path),
        )
    return manifest[item]


def require_compatible(template: Any, leaves: dict[str, Any], path: Path) -> None:
    """Compare shapes and dtypes with the template before anything is allocated."""
    wanted = describe_leaves(template)
    differences = [
        f"{name}: expected {want['dtype']}{want['shape']}, got "
        + (f"{leaves[name]['dtype']}{leaves[name]['shape']}" if name in leaves else "nothing")
        for name, want in wanted.items()
        if name not in leaves or any(leaves[name][key] != want[key] for key in ("shape", "dtype"))
    ]
    differences += [f"{name}: not expected" for name in leaves if name not in wanted]
    if differences:
        shown = "; ".join(differences[:8]) + ("; ..." if len(differences) > 8 else "")
        raise CheckpointIncompatibleError(
            f"{path} belongs to another configuration or other agents: {shown}.", str(path)
        )


def require_digests(tree: Any, leaves: dict[str, Any], item: str, path: Path) -> None:
    """Compare every leaf with the digest taken when it was saved."""
    for name, found in describe_leaves(tree).items():
        if found["sha256"] != leaves[name]["sha256"]:
            raise CheckpointCorruptError(
                f"{path}: the values of {name} are not those that were saved.",
                str(path),
                item,
                f"digest of {name}",
            )
