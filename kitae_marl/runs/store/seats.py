"""This file keeps copies of the trained agents that play seats of a run, in the run's own folder.

``seats/0``, ``seats/1`` and so on are run folders of one checkpoint each; ``seats.json`` says whose
copies they are, and the digests of what was copied.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitae_marl.config.run import FROZEN
from kitae_marl.errors import ConfigError
from kitae_marl.runs.store import contents
from kitae_marl.runs.store.files import write_text
from kitae_marl.runs.store.folders import run_path
from kitae_marl.runs.store.strict_json import read_json
from kitae_marl.types import Run


@dataclass(frozen=True)
class SeatCopy:
    """A trained agent as it was when the training against it began; equal if the digests are."""

    seat: str
    """What the config calls it, ``frozen:RUN``."""
    env_step: int
    """Environment steps that it had learned from."""
    sha256: str
    """Digest of its parameters and of all else that it had learned."""
    path: Path = field(compare=False)
    """Folder of the copy."""


def read_copies(run: Path) -> dict[str, SeatCopy]:
    """Return the copies that a run keeps, by what the config calls them; none in older runs.

    Raises:
        ConfigError: if the file that lists them is damaged.
        UnsafePathError: if a copy is a link that leads elsewhere.
    """
    file = run / contents.SEATS_FILE
    if not file.exists():
        return {}
    data = read_json(file)
    entries = data.get("seats") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise ConfigError(f"{file}: expected copies of seats, got a damaged file.")
    return {
        entry["seat"]: SeatCopy(**entry, path=run_path(run / contents.SEATS, str(number)))
        for number, entry in enumerate(entries)
    }


def seat_copies(path: Path, seats: Mapping[str, str]) -> dict[str, SeatCopy | None]:
    """Return the copies that a run keeps of its trained opponents, by pattern; None where none."""
    frozen = {pattern: seat for pattern, seat in seats.items() if seat.startswith(FROZEN)}
    kept = read_copies(path) if frozen else {}
    return {pattern: kept.get(seat) for pattern, seat in frozen.items()}


def _is_entry(entry: Any) -> bool:
    """Whether an entry of ``seats.json`` is one of ours."""
    kinds = {"seat": str, "env_step": int, "sha256": str}
    return (
        isinstance(entry, dict)
        and entry.keys() == kinds.keys()
        and all(type(entry[name]) is kind for name, kind in kinds.items())
    )


def write_copies(run: Path, opponents: Mapping[str, Run]) -> None:
    """Keep copies of trained agents, beside those that the run keeps already.

    Args:
        run: the run folder.
        opponents: the agents, by what the config calls them; one of which there is a copy stays as
            it was when its copy was made.

    Raises:
        CheckpointWriteError: if the disk refuses.
    """
    from kitae_marl.runs.store.checkpoint import RunCheckpointer  # here: it imports JAX

    kept = read_copies(run) if opponents else {}
    for seat, agent in opponents.items():
        if seat in kept:
            continue
        path, state = run / contents.SEATS / str(len(kept)), agent.run_state()._replace(game=())
        shutil.rmtree(path, ignore_errors=True)  # what a process left that was killed right here
        path.mkdir(parents=True)
        contents.write_config(path, agent.config)
        contents.write_groups(path, agent.possible_agents, agent.groups)
        n_envs = agent.config.n_envs
        RunCheckpointer(path / contents.CHECKPOINTS, save_every=1, num_envs=n_envs).write(state)
        kept[seat] = SeatCopy(seat, agent.env_steps, state_digest(state), path)
        entries = [
            {"seat": copy.seat, "env_step": copy.env_step, "sha256": copy.sha256}
            for copy in kept.values()
        ]
        write_text(run / contents.SEATS_FILE, json.dumps({"seats": entries}, indent=2) + "\n")


def state_digest(run_state: Any) -> str:
    """Return one digest of all that a run has learned, whatever games it was playing.

    Args:
        run_state: a RunState.
    """
    from kitae_marl.runs.store.manifest import describe_leaves  # here: it imports JAX

    leaves = describe_leaves(run_state._replace(game=()))
    return hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()
