"""This file fills the seats that a config or the command line names.

A seat of a trained agent is part of the run: what it was when training began is copied into the
run's folder, and the run is evaluated, filmed and gone on with against that copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kitae_marl.config.run import FROZEN
from kitae_marl.errors import CheckpointCorruptError, UnsafePathError
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.store.folders import run_path
from kitae_marl.runs.store.search import find_run, hint_at_step, split_step
from kitae_marl.runs.store.seats import SeatCopy, state_digest
from kitae_marl.selfplay.seats import frozen, matches, with_seats


class SeatFiller:
    """Who plays the seats of a run, each trained agent loaded once and where it is needed.

    Args:
        seats: ``"random"``, ``"frozen:RUN"`` or ``"frozen:RUN@STEP"`` by pattern of names;
            ``"frozen:RUN@average"`` is the run's average policy.
        runs_dir: where a RUN is looked for, by its name (``x``, of a set ``x/seed_0``) alone: a
            text that may come from a run folder leads nowhere else.
        others: trained agents beside those of seats, likewise ``"frozen:RUN"``, for :meth:`load`.
        copies: what the run keeps of its own seats, by pattern: a copy, or None where it keeps none
            and the RUN plays as it is now, with a warning. Patterns that are not in it are those
            of others than the run.
        trust: called with the folder of each agent before it is loaded; it imports the algorithm
            that the run names as module:name, or raises.

    Attributes:
        loaded: the trained agents that play so far, by what the config calls them.
    """

    def __init__(
        self,
        seats: Mapping[str, str],
        runs_dir: str | Path,
        *,
        others: Sequence[str] = (),
        copies: Mapping[str, SeatCopy | None] | None = None,
        trust: Callable[[Path], None] = lambda run: None,
    ) -> None:
        self._seats, self._runs_dir, self._trust = seats, runs_dir, trust
        self._copies, self._others = copies or {}, {name: name for name in others}
        self._by_source: dict[str | Path, Agent] = {}
        self.loaded: dict[str, Agent] = {}

    def seat(self, env: Any) -> Any:
        """Return the environments with the seats filled; without seats ``env`` itself.

        Args:
            env: a vector of parallel environments; closed where this fails.

        Raises:
            ValueError: as ``with_seats``.
            UnsafePathError: if a RUN is no name.
            NoCheckpointError: if there is no such run or it has no readable checkpoint.
            CheckpointCorruptError: if a copy is not what was copied.
        """
        if not self._seats:
            return env
        try:
            # Patterns hidden behind earlier ones are left out: their runs need not be there.
            patterns = matches(env, self._seats)
            return with_seats(env, {pattern: self._player(pattern) for pattern in patterns})
        except BaseException:
            env.close()
            raise

    def _player(self, pattern: str) -> Any:
        """Return what ``with_seats`` takes for a pattern."""
        text = self._seats[pattern]
        if not text.startswith(FROZEN):
            return text
        return frozen(self._load(pattern, text))

    def load(self, name: str) -> Agent:
        """Return one of the trained agents beside those of seats; errors are those of ``seat``."""
        return self._load(name, self._others[name])

    def _load(self, pattern: str, text: str) -> Agent:
        """Load the agent of a seat, once: of the run's copy, or of the run that is named."""
        copy = self._copies.get(pattern)
        source = text if copy is None else copy.path
        if source not in self._by_source:
            agent = self._of_run(pattern, text) if copy is None else self._of_copy(copy, text)
            self._by_source[source] = agent
        self.loaded.setdefault(text, self._by_source[source])
        return self._by_source[source]

    def _of_copy(self, copy: SeatCopy, text: str) -> Agent:
        """Load what the run keeps of an opponent, sure to be what was copied."""
        self._trust(copy.path)
        agent = Agent.load(copy.path)
        if state_digest(agent.run_state()) != copy.sha256:
            raise CheckpointCorruptError(
                f"{copy.path}: expected the copy of {text} that was made when training began, "
                "got another agent; give the seat to another run (--seats).",
                str(copy.path),
            )
        return agent

    def _of_run(self, pattern: str, text: str) -> Agent:
        """Load the run that a seat names, as it is now or at its checkpoint."""
        name, step, policy = split_step(text.removeprefix(FROZEN))
        path = _named(str(name), self._runs_dir)
        if pattern in self._copies:
            warnings.warn(
                f"the run keeps no copy of {text}, as runs of earlier versions; it is played "
                f"by {name} as it is now.",
                stacklevel=2,
            )
        if path.is_dir():  # else ``Agent.load`` says that there is no such run
            self._trust(find_run(path))
        return Agent.load(path, step=step, policy=policy)


def _named(name: str, runs_dir: str | Path) -> Path:
    """Return the folder of the run that a seat names."""
    path = Path(runs_dir)
    try:
        for part in name.split("/", 1):
            path = run_path(path, part)
    except UnsafePathError as error:
        raise UnsafePathError(f"{error}{hint_at_step(name)}") from None
    return path
