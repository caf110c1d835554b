"""This file checks that a run may go on, and loads its checkpoint."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

from kitae_marl.config.run import Config, differences
from kitae_marl.errors import CheckpointIncompatibleError, ConfigError
from kitae_marl.runs.store import contents
from kitae_marl.runs.store.manifest import origin_differences
from kitae_marl.runs.terminal import say
from kitae_marl.types import Run

FIXED = ("env_id", "env_kwargs", "wrap", "opponents", "groups", "algo", "seed", "n_envs")
"""Settings that every run keeps, beside those that its algorithm declares ``FIXED``."""


def load(
    agent: Run, path: Path, *, step: int | Literal["best"] | None, exact: bool, show: bool
) -> None:
    """Load a checkpoint into an agent that is to go on with a run.

    Args:
        agent: made with the settings to go on with.
        path: the run folder.
        step: environment step of the checkpoint; None: the newest.
        exact: refuse what the last bit could suffer from.
        show: whether to print which settings differ.
    """
    contents.require_plain(path)
    _compare(agent.config, contents.read_config(path), show)
    _compare_origin(agent.load_checkpoint(path, step), path, exact)


def is_complete(agent: Run, summary: dict[str, Any]) -> bool:
    """Whether a loaded agent has done all steps, and its run was ended in order."""
    done = agent.learned_step == agent.config.n_joint_steps and bool(summary.get("complete"))
    return done and summary["env_steps"] == agent.env_steps


def _compare(own: Config, stored: Config, show: bool) -> None:
    """Say how the settings differ from those of the stored run.

    Raises:
        ConfigError: if one of them may not change.
    """
    changed = differences(stored, own)
    changed.pop("backend", None)  # the place where the games run is chosen for each part of a run
    keeps = {*FIXED, *map(own.learner.key, own.learner.FIXED)}
    fixed = sorted(keeps & changed.keys())
    lines = {key: f"{key}: the run was trained with {old!r}" for key, (old, _) in changed.items()}
    if fixed:
        listed = "; ".join(f"{lines[key]}, got {changed[key][1]!r}" for key in fixed)
        raise ConfigError(
            f"{listed}; a run goes on with these as it began: leave them out or start a new run.",
            fixed[0],
        )
    for key, (_, new) in changed.items():
        if show:
            say(f"{lines[key]}, goes on with {new!r}")


def _compare_origin(manifest: dict[str, Any], path: Path, exact: bool) -> None:
    """Warn where a continuation will not be what an uninterrupted run would have been.

    Raises:
        CheckpointIncompatibleError: with ``exact``, instead of the warning, and where the games of
            the run were not saved.
    """
    found = origin_differences(manifest)
    if exact and not manifest["exact_resume"]:
        found.append("its games run in Python and begin new episodes")
    if found and exact:
        raise CheckpointIncompatibleError(
            f"{path} cannot go on exactly: {'; '.join(found)}; leave out --exact to go on.",
            str(path),
        )
    if found:
        warnings.warn(
            f"{path} was saved elsewhere: {'; '.join(found)}. It goes on, with numbers that may "
            "differ from those of a run without interruption.",
            stacklevel=2,
        )
