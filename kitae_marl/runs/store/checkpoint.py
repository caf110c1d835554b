"""This file saves and restores checkpoints by Orbax: arrays and JSON alone, every leaf verified."""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kitae_marl.config.counts import NEWEST, Kept, whole
from kitae_marl.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointWriteError,
    NoCheckpointError,
)
from kitae_marl.runs.store.best import BEST, Best, forget_best, read_best, write_best
from kitae_marl.runs.store.contents import step_folder, step_of_folder
from kitae_marl.runs.store.manifest import (
    MAX_BYTES,
    describe_leaves,
    make_manifest,
    require_compatible,
    require_digests,
    require_intact,
    require_leaves,
)
from kitae_marl.types import TrainState

KEEP = NEWEST
"""Checkpoints kept in a run folder where nothing else is said, the newest ones."""
NEWEST_ONES = Kept(KEEP)
"""The setting that says so."""
ADDED = ("actors",)
"""Fields of a TrainState that earlier versions do not have: where they hold nothing, checkpoints
are without them, as those of earlier versions are."""
INCOMPLETE = ".orbax-checkpoint-tmp"
"""Part of the name of a checkpoint that is being written, or was when its process ended."""


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


class RunCheckpointer:
    """Saves and restores RunStates in the ``checkpoints`` folder of a run.

    A save is done when it returns: written under another name, renamed, read back and compared.
    Only then are older ones removed, so at every moment there is one that can be read. One process
    at a time may write. Steps are environment steps here, as in the names of the folders
    (``step_20480``); folders of older runs, named by joint steps alone, are read and removed alike.

    Args:
        folder: the folder; made at the first save.
        save_every: environment steps between two saves.
        num_envs: environment steps in one joint step of the run.
        keep: which checkpoints stay; the one that was evaluated best stays beside them.
        on_failure: called with the number of saves that have failed so far, at each that fails.

    Attributes:
        manifest: what the checkpoint that was last read says of itself.
        pinned: environment steps of checkpoints that stay beside those of ``keep``: the snapshots
            that a run plays against.
    """

    def __init__(
        self,
        folder: Path,
        *,
        save_every: int,
        num_envs: int,
        keep: Kept = NEWEST_ONES,
        on_failure: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.folder = folder.resolve()
        self.save_every = save_every
        self.num_envs = num_envs
        self.keep = keep
        self.on_failure = on_failure
        self.pinned: set[int] = set()
        self._failures = 0
        self._tried_step = -1  # that of the last save that was due, also of one that failed
        self.manifest: dict[str, Any] = {}

    def save(self, step: int, agent: Any) -> bool:
        """Save the agent's run state if ``save_every`` environment steps have passed.

        Where the first at or after each multiple is kept, that one is saved, too. Where the disk
        refuses there is a warning, and the next try after as many steps.

        Args:
            step: joint steps done, as the loops count them.
            agent: whose ``run_state()`` is saved.

        Returns:
            Whether a checkpoint was written.
        """
        env_step = step * self.num_envs
        if self._tried_step < 0:  # those of later steps are damaged, or the run would be there
            self._tried_step = max((old for old in self.steps() if old < env_step), default=0)
        every = self.keep.every
        passed = every is not None and env_step // every > self._tried_step // every
        if env_step - self._tried_step < self.save_every and not passed:
            return False
        self._tried_step = env_step
        return self.try_to_write(agent) is not None

    def save_best(self, step: int, agent: Any, metric: str, value: float) -> bool:
        """Save the agent's run state if no evaluation before was better; it stays while it is best.

        Args:
            step: joint steps done.
            agent: whose ``run_state()`` is saved.
            metric: what evaluations are compared by.
            value: what this one came to; larger is better.

        Returns:
            Whether it is the best one, and was written; where the disk refuses there is a warning.
        """
        best, env_step = self.best(), step * self.num_envs
        # One of a later step is of what the run has gone back behind.
        if best and best.env_step <= env_step and not best.is_beaten(metric, value):
            return False
        if self.try_to_write(agent) is None:
            return False
        try:
            write_best(self.folder, Best(env_step, metric, value))
            self._remove_others(self._by_step(), env_step)  # the best before, if it is old
        except OSError as error:
            warnings.warn(f"the best checkpoint could not be named: {error}.", stacklevel=2)
            return False
        return True

    def best(self) -> Best | None:
        """Return the best evaluation, None where there is none or its checkpoint has gone."""
        best = read_best(self.folder)
        return best if best is not None and best.env_step in self._by_step() else None

    def step_of(self, step: int | str) -> int:
        """Return the environment step that a person means: a number, or ``best``.

        Raises:
            NoCheckpointError: for ``best`` where no evaluation during training has named one.
            ValueError: for anything else.
        """
        step = whole(step)
        if isinstance(step, int | np.integer) and not isinstance(step, bool):
            return int(step)
        if step != BEST:
            raise ValueError(f"expected an environment step or {BEST!r}, got {step!r}.")
        best = self.best()
        if best is None:
            raise NoCheckpointError(
                f"no best checkpoint in {self.folder}: training names one where it evaluates "
                f"(--eval-every); there are {self.steps()}.",
                str(self.folder),
            )
        return best.env_step

    def try_to_write(self, agent: Any) -> Path | None:
        """Save the agent's run state; where the disk refuses, warn and return None."""
        try:
            return self.write(agent.run_state())
        except CheckpointWriteError as error:
            self._failures += 1
            warnings.warn(f"{error} Training goes on.", stacklevel=2)
            self.on_failure(self._failures)
            return None

    def write(self, run_state: RunState) -> Path:
        """Save one RunState now, in place of a damaged checkpoint of the same step.

        Checkpoints of later steps are removed: the run went back, and will come to other ones.

        Returns:
            The folder of the checkpoint.

        Raises:
            CheckpointWriteError: if the disk refuses; what was there before is still there.
        """
        run_state = jax.tree.map(np.asarray, run_state)
        step = int(run_state.step) * self.num_envs
        if not self._holds(run_state, step):
            target = self.folder / step_folder(step)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._remove_incomplete()
                self._write(run_state, target)
                if not self._holds(run_state, step):
                    shutil.rmtree(target, ignore_errors=True)
                    raise OSError("what was written could not be read back")
            except (OSError, ValueError, RuntimeError) as error:  # TensorStore raises all of them
                self._remove_incomplete()
                raise CheckpointWriteError(self._refusal(run_state, error), str(target)) from error
        complete = self._by_step()
        self._remove_others(complete, step)
        return complete[step]

    def _remove_others(self, complete: dict[int, Path], step: int) -> None:
        """Remove the checkpoints that need not stay, and those after this step."""
        kept = self.keep.of([old for old in complete if old <= step]) | self.pinned
        best = read_best(self.folder)
        if best is not None and best.env_step > step:
            forget_best(self.folder)
        elif best is not None:
            kept.add(best.env_step)
        for old, path in self._complete():
            if old not in kept or path != complete[old]:
                shutil.rmtree(path, ignore_errors=True)

    def _write(self, run_state: RunState, target: Path) -> None:
        """Write a checkpoint and rename it."""
        import orbax.checkpoint as ocp  # here: it costs a second, and only runs that save need it

        parts: dict[str, Any] = {"state": run_state._replace(game=())}
        if jax.tree.leaves(run_state.game):
            parts["game"] = _with_elements(run_state.game)
        manifest = make_manifest(parts, int(run_state.step))
        arguments = ocp.args.Composite(
            manifest=ocp.args.JsonSave(manifest),
            **{name: ocp.args.StandardSave(_written(part)) for name, part in parts.items()},
        )
        if target.is_symlink() or target.is_file():  # no checkpoint, and in the way of one
            target.unlink()
        elif target.exists():
            shutil.rmtree(target)
        with _quiet(), _checkpointer() as checkpointer:
            checkpointer.save(target, args=arguments)

    def _remove_incomplete(self) -> None:
        """Remove what a failed save, or a killed process, left unfinished."""
        for path in self.folder.glob(f"*{INCOMPLETE}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _refusal(self, run_state: RunState, error: Exception) -> str:
        """Say why a checkpoint could not be written, and how much space it takes."""
        code = re.search(r"os_error_code='(\d+)'", str(error))
        reason = os.strerror(int(code[1])) if code else str(error)[:300]
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(run_state))
        step = int(run_state.step) * self.num_envs
        return (
            f"the checkpoint of step {step} could not be written to {self.folder}: "
            f"{reason}; bytes needed: {needed}, free: {shutil.disk_usage(there).free}."
        )

    def _holds(self, run_state: RunState, step: int) -> bool:
        """Whether the checkpoint of a step can be read, and is equal to this state in every bit."""
        try:
            return describe_leaves(self._read(run_state, step)) == describe_leaves(run_state)
        except CheckpointError:
            return False

    def _half_written(self, after: int) -> str:
        """Say which folders of later steps hold no whole checkpoint; empty where there are none.

        A copy of the run that was cut short leaves such ones; a save is renamed when it is whole.
        """
        if not self.folder.is_dir():
            return ""
        named = ((step_of_folder(p.name, self.num_envs), p) for p in self.folder.iterdir())
        later = sorted((n, p) for n, p in named if n is not None and n > after and p.is_dir())
        names = [path.name for _, path in later if not (path / "manifest").is_dir()]
        kind = "is empty or half-written" if len(names) == 1 else "are empty or half-written"
        return f"{', '.join(names)} {kind}" if names else ""

    def _complete(self) -> list[tuple[int, Path]]:
        """Environment step and folder of every complete checkpoint, in ascending order.

        Of two folders of one step, the one with the older kind of name comes first: digits sort
        before letters.
        """
        if not self.folder.is_dir():
            return []
        named = ((step_of_folder(p.name, self.num_envs), p) for p in self.folder.iterdir())
        return sorted((n, p) for n, p in named if n is not None and (p / "manifest").is_dir())

    def _by_step(self) -> dict[int, Path]:
        """Folders of the complete checkpoints by environment step; the newer kind of name wins."""
        return dict(self._complete())

    def steps(self) -> list[int]:
        """Environment steps of the complete checkpoints, in ascending order."""
        return list(self._by_step())

    def oldest_of_newest(self) -> int:
        """Return the environment step of the oldest of those that stay as the newest; 0 if none."""
        steps = self.steps()
        return steps[-min(len(steps), self.keep.newest or len(steps))] if steps else 0

    def latest(self) -> int | None:
        """Environment step of the newest complete checkpoint, None without one."""
        return max(self._by_step(), default=None)

    def latest_path(self) -> str:
        """Path of the newest complete checkpoint, empty without one."""
        step = self.latest()
        return "" if step is None else str(self.path(step))

    def path(self, step: int) -> Path:
        """Return the folder of the complete checkpoint of an environment step.

        Raises:
            NoCheckpointError: if there is none.
        """
        complete = self._by_step()
        if step not in complete:
            raise NoCheckpointError(
                f"no checkpoint of step {step} in {self.folder}; there are {list(complete)}.",
                str(self.folder / step_folder(step)),
            )
        return complete[step]

    def restore(self, template: RunState, step: int | str | None = None) -> RunState:
        """Read a checkpoint back, every leaf verified.

        Args:
            template: a RunState of the same structure, shapes and dtypes; its values don't matter.
                The games are read back only where its ``game`` is not ``()``.
            step: environment step of the checkpoint, or ``best``; None: the newest that can be
                read, older ones being tried, with a warning each, where the newest is damaged.

        Raises:
            NoCheckpointError: if there is none, or all are damaged.
            CheckpointCorruptError: if ``step`` was named and is damaged.
            CheckpointIncompatibleError: if the checkpoint has other leaves than the template.
        """
        if step is not None:
            return self._read(template, self.step_of(step))
        steps = self.steps()
        half = self._half_written(after=max(steps, default=-1))
        if half and steps:
            warnings.warn(
                f"{self.folder}: {half}; the checkpoint of step {steps[-1]} is used.", stacklevel=2
            )
        for candidate in reversed(steps):
            try:
                return self._read(template, candidate)
            except CheckpointCorruptError as error:
                warnings.warn(f"{error} The next older checkpoint is tried.", stacklevel=2)
        why = f": {half}" if half else ""
        raise NoCheckpointError(f"no readable checkpoint in {self.folder}{why}.", str(self.folder))

    def restore_state(self, agent: Any, step: int) -> Any:
        """Read what learning had changed at the checkpoint of an environment step.

        Args:
            agent: whose ``run_state()`` has the same structure, shapes and dtypes.
            step: environment step of the checkpoint.

        Raises:
            NoCheckpointError, CheckpointCorruptError: as ``restore``.
        """
        template = jax.tree.map(np.asarray, agent.run_state()._replace(game=()))
        return self._read(template, step).state

    def _read(self, template: RunState, step: int) -> RunState:
        """Read and verify one checkpoint."""
        import orbax.checkpoint as ocp

        path = self.path(step)
        parts: dict[str, Any] = {"state": template._replace(game=())}
        if jax.tree.leaves(template.game):
            parts["game"] = _with_elements(template.game)
        restored = {}
        _require_small(path)
        with _quiet(), _checkpointer() as checkpointer:
            manifest = _load(checkpointer, path, {"manifest": ocp.args.JsonRestore()}, "manifest")
            manifest = require_intact(manifest, path)
            for item, part in parts.items():
                part = jax.tree.map(np.asarray, part)
                leaves = require_leaves(manifest, item, path)
                require_compatible(part, leaves, path)
                arguments = {item: ocp.args.StandardRestore(_written(part))}
                restored[item] = _read_back(part, _load(checkpointer, path, arguments, item))
                require_digests(restored[item], leaves, item, path)
        self.manifest = manifest
        game = _put_back(template.game, restored["game"]) if "game" in restored else ()
        return restored["state"]._replace(game=game)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax from printing the tracebacks of errors that it raises as well."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _checkpointer() -> Any:
    """Return Orbax's checkpointer, for this process alone: others that train with it don't save."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    options = ocp.CompositeOptions(multiprocessing_options=alone)
    handler = ocp.CompositeCheckpointHandler(composite_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _require_small(path: Path) -> None:
    """Refuse a manifest that is too large to be one of ours, before it is read into memory."""
    size = sum(p.stat().st_size for p in (path / "manifest").rglob("*") if p.is_file())
    if size > MAX_BYTES:
        raise CheckpointCorruptError(
            f"{path}: expected a manifest of at most {MAX_BYTES} bytes, got {size}.",
            str(path),
            "manifest",
            "size",
        )


def _is_train_state(tree: Any) -> bool:
    """Whether a tree is what one group has learned."""
    return isinstance(tree, TrainState)


def _written(tree: Any) -> Any:
    """Return a tree as Orbax writes it: without the fields of ``ADDED`` that hold nothing.

    To Orbax a NamedTuple and a dict of its fields are the same.
    """

    def fields(part: Any) -> Any:
        if not _is_train_state(part):
            return part
        named = part._asdict().items()
        return {name: value for name, value in named if name not in ADDED or value != ()}

    return jax.tree.map(fields, tree, is_leaf=_is_train_state)


def _read_back(template: Any, found: Any) -> Any:
    """Undo ``_written``; the template has the same structure as what was written."""

    def whole(part: Any, values: Any) -> Any:
        return TrainState(**values) if _is_train_state(part) else values

    return jax.tree.map(whole, template, found, is_leaf=_is_train_state)


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
