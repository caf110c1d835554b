"""The options of a vector environment, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class VectorOptions:
    """See ``SubProcVecParallelEnv`` for each of them."""

    n_workers: int | None = None
    with_state: bool = False
    keep_infos: bool = False
    step_timeout: float = 60.0
    start_timeout: float = 120.0
    close_timeout: float = 5.0
    max_restarts: int = 3
    on_crash: str = "restart"
    on_exception: str = "raise"
    on_nonfinite: str = "raise"
    max_episode_steps: int | None = None
    strict_bounds: bool = True
    worker_env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_choice("on_crash", self.on_crash, "restart", "raise")
        _check_choice("on_exception", self.on_exception, "raise", "restart")
        _check_choice("on_nonfinite", self.on_nonfinite, "raise", "truncate")
        for name in ("step_timeout", "start_timeout", "close_timeout"):
            _check_positive(name, getattr(self, name))
        if self.max_episode_steps is not None:
            _check_positive("max_episode_steps", self.max_episode_steps)
        if self.max_restarts < 0:
            raise ValueError(f"expected max_restarts of at least 0, got {self.max_restarts}.")

    def count_workers(self, n_envs: int) -> int:
        """Return the number of worker processes for so many environments.

        Raises:
            ValueError: if there is no environment or the number asked for is negative.
        """
        if n_envs < 1:
            raise ValueError("expected at least one env_fn, got none.")
        if self.n_workers is None:
            return min(n_envs, _cores())
        if self.n_workers < 0:
            raise ValueError(f"expected n_workers of at least 0, got {self.n_workers}.")
        return min(n_envs, self.n_workers)


def _cores() -> int:
    """Count the cores that we may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_choice(name: str, value: str, *choices: str) -> None:
    """Refuse an unknown option."""
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {choices}, got {value!r}.")


def _check_positive(name: str, value: float) -> None:
    """Refuse numbers that are not above zero."""
    if not value > 0:
        raise ValueError(f"expected {name} above 0, got {value}.")
