"""This file holds the options of a vector in worker processes, and counts its workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field


def n_cores() -> int:
    """Count the cores that this process may use, which in a container may be fewer than there are.

    Outside Linux the system does not tell, and all cores count.
    """
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


PROCESSES = os.name == "posix"
"""Whether there can be worker processes: they are spoken to by means of POSIX alone."""


@dataclass(frozen=True, kw_only=True)
class VectorOptions:
    """The keyword arguments of :class:`kitae_marl.SubProcVecParallelEnv`.

    Raises:
        ValueError: if one of them is unknown or out of its range.
    """

    n_workers: int | None = None
    """Worker processes, by default one per core (at most one per environment); 0 steps everything
    in this process, as Windows always does."""
    with_state: bool | None = False
    """Deliver ``final_state`` and make ``state()`` free, for games that have a global state. None:
    where the game has one."""
    keep_infos: bool = False
    """Deliver ``infos["env_infos"]``, the JSON-like part of the games' infos."""
    step_timeout: float = 60.0
    """Seconds that a worker may take for one step or reset of its environments."""
    start_timeout: float = 120.0
    """Seconds that it may take to make them."""
    close_timeout: float = 5.0
    """Seconds that they may take to close; what then still runs is killed."""
    max_restarts: int = 3
    """How often one environment may be restarted; 10 000 steps forgive one."""
    on_crash: str = "restart"
    """What to do when a worker dies or hangs: ``"restart"`` its environments, each at a new
    episode, or ``"raise"``."""
    on_exception: str = "raise"
    """What to do when an environment raises an exception, of the same two."""
    on_nonfinite: str = "raise"
    """``"raise"`` on NaN or infinity in an observation or reward, or ``"truncate"`` the episode
    before it."""
    max_episode_steps: int | None = None
    """Truncate episodes of that many steps; None: they end by themselves."""
    strict_bounds: bool = False
    """Raise when an observation lies outside its Box, looked for on every step; else there is one
    warning, and the metric ``faults/out_of_bounds`` counts what is seen now and then."""
    worker_env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for the workers, over ours."""

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
            return min(n_envs, n_cores()) if PROCESSES else 0
        if self.n_workers < 0:
            raise ValueError(f"expected n_workers of at least 0, got {self.n_workers}.")
        if self.n_workers and not PROCESSES:
            raise ValueError(
                f"expected n_workers=0 on Windows, got {self.n_workers}: workers need a POSIX "
                "system; there all games are stepped in this process (or use WSL)."
            )
        return min(n_envs, self.n_workers)


def _check_choice(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {choices}, got {value!r}.")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"expected {name} above 0, got {value}.")
