"""Checkpoints by Orbax: one RunState each, with a digest of every leaf. Arrays and JSON only."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kitae_marl.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIncompatibleError,
    CheckpointWriteError,
    NoCheckpointError,
)

KEEP = 3
"""Checkpoints kept in a run folder, the newest ones."""


class RunState(NamedTuple):
    """Everything a run needs to go on.

    Attributes:
        state: ``{group: TrainState}``.
        root_key: data of the run's root key, uint32.
        step: joint steps done, all of them learned from; int64 scalar.
        game: what the compiled loop carries of its games; ``()`` where games run in Python.
    """

    state: Any
    root_key: Any
    step: Any
    game: Any = ()


def describe(tree: Any) -> dict[str, dict[str, Any]]:
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


class RunCheckpointer:
    """Saves and restores RunStates in the ``checkpoints`` folder of a run.

    Args:
        folder: the folder; made at the first save.
        save_every: environment steps between two saves.
        num_envs: environment steps in one joint step.
    """

    def __init__(self, folder: Path, *, save_every: int, num_envs: int) -> None:
        self.folder = folder.resolve()
        self.save_every = save_every
        self.num_envs = num_envs
        self.saved_step = -1

    def save(self, step: int, agent: Any) -> bool:
        """Save the agent's run state if ``save_every`` environment steps have passed."""
        if self.saved_step < 0:  # newer ones than the step to save are damaged: they were not used
            self.saved_step = max((old for old in self.steps() if old < step), default=0)
        if (step - self.saved_step) * self.num_envs < self.save_every:
            return False
        self.write(agent.run_state())
        return True

    def write(self, run_state: RunState) -> Path:
        """Save one RunState now, in place of a damaged checkpoint of the same step.

        Returns:
            The folder of the checkpoint.

        Raises:
            CheckpointWriteError: if the disk refuses.
        """
        import orbax.checkpoint as ocp  # here: it costs a second, and only runs that save need it

        run_state = jax.tree.map(np.asarray, run_state)
        step = int(run_state.step)
        target = self.folder / str(step)
        if target.exists():
            if self._holds(run_state, step):
                self.saved_step = step
                return target
            shutil.rmtree(target)
        parts: dict[str, Any] = {"state": run_state._replace(game=())}
        if jax.tree.leaves(run_state.game):
            parts["game"] = _with_elements(run_state.game)
        manifest: dict[str, Any] = {name: describe(part) for name, part in parts.items()}
        manifest |= {"step": step, "sha256": _digest(manifest)}
        arguments = ocp.args.Composite(
            manifest=ocp.args.JsonSave(manifest),
            **{name: ocp.args.StandardSave(part) for name, part in parts.items()},
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
                checkpointer.save(target, args=arguments)
        except (OSError, ValueError) as error:
            raise CheckpointWriteError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {error}; "
                f"free bytes there: {shutil.disk_usage(self.folder.parent).free}.",
                str(target),
            ) from error
        self.saved_step = step
        for old in [old for old in self.steps() if old <= step][:-KEEP]:
            shutil.rmtree(self.folder / str(old))
        return target

    def _holds(self, run_state: RunState, step: int) -> bool:
        """Whether the checkpoint of a step can be read and is this very state."""
        try:
            return describe(self._read(run_state, step)) == describe(run_state)
        except CheckpointError:
            return False

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in ascending order."""
        if not self.folder.is_dir():
            return []
        found = (p for p in self.folder.iterdir() if p.name.isdigit() and (p / "manifest").is_dir())
        return sorted(int(p.name) for p in found)

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, None without one."""
        steps = self.steps()
        return steps[-1] if steps else None

    def restore(self, template: RunState, step: int | None = None) -> RunState:
        """Read a checkpoint back, every leaf verified.

        Args:
            template: a RunState of the same structure, shapes and dtypes; its values don't matter.
                The games are read back only where its ``game`` is not ``()``.
            step: joint step of the checkpoint; None: the newest that can be read, older ones being
                tried, with a warning each, where the newest is damaged.

        Raises:
            NoCheckpointError: if there is none, or all are damaged.
            CheckpointCorruptError: if ``step`` was named and is damaged.
            CheckpointIncompatibleError: if the checkpoint has other leaves than the template.
        """
        if step is not None:
            return self._read(template, step)
        for candidate in reversed(self.steps()):
            try:
                return self._read(template, candidate)
            except CheckpointCorruptError as error:
                warnings.warn(f"{error} The next older checkpoint is tried.", stacklevel=2)
        raise NoCheckpointError(f"no readable checkpoint in {self.folder}.", str(self.folder))

    def _read(self, template: RunState, step: int) -> RunState:
        """Read and verify one checkpoint."""
        import orbax.checkpoint as ocp

        path = self.folder / str(step)
        if step not in self.steps():
            raise NoCheckpointError(
                f"no checkpoint of step {step} in {self.folder}; there are {self.steps()}.",
                str(path),
            )
        parts: dict[str, Any] = {"state": template._replace(game=())}
        if jax.tree.leaves(template.game):
            parts["game"] = _with_elements(template.game)
        restored = {}
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            manifest = _load(checkpointer, path, {"manifest": ocp.args.JsonRestore()}, "manifest")
            _require_intact(manifest, path)
            for item, part in parts.items():
                part = jax.tree.map(np.asarray, part)
                leaves = _require_leaves(manifest, item, path)
                _require_compatible(part, leaves, path)
                arguments = {item: ocp.args.StandardRestore(part)}
                restored[item] = _load(checkpointer, path, arguments, item)
                _require_digests(restored[item], leaves, item, path)
        game = _put_back(template.game, restored["game"]) if "game" in restored else ()
        return restored["state"]._replace(game=game)


def _with_elements(tree: Any) -> dict[str, Any]:
    """Return the leaves that have elements, by path; Orbax refuses arrays of size zero."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if np.size(leaf)}


def _put_back(template: Any, leaves: dict[str, Any]) -> Any:
    """Build a tree like the template from what ``_with_elements`` returned."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaves.get(jax.tree_util.keystr(path), leaf), template
    )


def _load(checkpointer: Any, path: Path, arguments: dict[str, Any], item: str) -> Any:
    """Restore one item, any failure of the reader being a damaged checkpoint."""
    import orbax.checkpoint as ocp

    try:
        return checkpointer.restore(path, args=ocp.args.Composite(**arguments))[item]
    except Exception as error:  # Orbax and tensorstore raise many types on damaged files
        raise CheckpointCorruptError(
            f"{path}: {item} cannot be read: {type(error).__name__}: {str(error)[:300]}.",
            str(path),
            item,
            str(error)[:300],
        ) from error


def _require_digests(tree: Any, leaves: dict[str, Any], item: str, path: Path) -> None:
    """Compare every leaf with the digest taken when it was saved."""
    for name, found in describe(tree).items():
        if found["sha256"] != leaves[name]["sha256"]:
            raise CheckpointCorruptError(
                f"{path}: the values of {name} are not those that were saved.",
                str(path),
                item,
                f"digest of {name}",
            )


def _require_leaves(manifest: dict[str, Any], item: str, path: Path) -> dict[str, Any]:
    """Return the leaves of one item of an intact manifest."""
    if item not in manifest:
        raise CheckpointIncompatibleError(
            f"{path} was saved by the host loop and holds no games; resume it with the same "
            "environments as before.",
            str(path),
        )
    return manifest[item]


def _digest(items: dict[str, Any]) -> str:
    """Digest of the descriptions in a manifest, so that a damaged one is not taken for another."""
    return hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()


def _require_intact(manifest: Any, path: Path) -> None:
    """Refuse a manifest that is not as it was written."""
    items = manifest if isinstance(manifest, dict) else {}
    described = {name: part for name, part in items.items() if name not in ("step", "sha256")}
    if "state" not in described or items.get("sha256") != _digest(described):
        raise CheckpointCorruptError(f"{path}: damaged manifest.", str(path), "manifest", "digest")


def _require_compatible(template: Any, leaves: dict[str, Any], path: Path) -> None:
    """Compare shapes and dtypes with the template before anything is allocated."""
    wanted = describe(template)
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
