"""Run folders: their names, their files, and nothing outside them.

A run folder holds ``config.json``, ``agents.json`` (groups and spaces), ``summary.json``,
``metrics.csv``, ``logs/`` (TensorBoard), ``checkpoints/`` and ``videos/``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kitae_marl.config import MAX_CONFIG_BYTES, Config
from kitae_marl.errors import ConfigError, NoCheckpointError, RunExistsError, UnsafePathError
from kitae_marl.groups import GroupSpec
from kitae_marl.spaces import space_from_json, space_to_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
WINDOW = 100
"""Episodes in the running mean of the returns that summary and terminal show."""
MARKER = "config.json"
"""The file that makes a folder a run; only such a folder is ever overwritten."""


def run_path(runs_dir: str | Path, name: str) -> Path:
    """Return the folder of a run, made sure to lie in ``runs_dir``.

    Raises:
        UnsafePathError: if the name is not letters, digits, ``.``, ``_`` and ``-`` (up to 100, the
            first a letter or digit), or leads out of ``runs_dir`` by a symbolic link.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UnsafePathError(
            "expected a run name of 1 to 100 letters, digits, '.', '_' and '-', the first a letter "
            f"or a digit; got {name!r}."
        )
    root = Path(runs_dir).resolve()
    path = (root / name).resolve()
    if path.parent != root:
        raise UnsafePathError(f"the run {name!r} leads outside {root}, to {path}; remove the link.")
    return path


def default_name(config: Config) -> str:
    """Name a run by game, algorithm and seed: ``simple_spread-v3-ippo-0``."""
    game = re.sub(r"[^A-Za-z0-9._-]+", "_", config.env_id.rsplit("/", 1)[-1]).strip("._-")
    return f"{game[:80] or 'run'}-{config.algo}-{config.seed}"


def create_run(path: Path, *, overwrite: bool = False) -> None:
    """Make an empty run folder.

    Raises:
        RunExistsError: if the folder holds a run and ``overwrite`` is False, or holds other things.
    """
    if path.exists() and not path.is_dir():
        raise RunExistsError(f"{path} is a file; choose another name or remove it yourself.")
    if path.exists() and any(path.iterdir()):
        if not (path / MARKER).is_file():
            raise RunExistsError(
                f"{path} is not empty and holds no run; choose another name or empty it yourself."
            )
        if not overwrite:
            raise RunExistsError(
                f"{path} already holds a run; add --resume to continue it, --overwrite to replace "
                "it, or choose another name by --run."
            )
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)


def find_run(run: str | Path, runs_dir: str | Path = "runs") -> Path:
    """Return the folder of an existing run, given its path or its name in ``runs_dir``.

    Raises:
        NoCheckpointError: if there is no run; the message lists those there are.
    """
    candidates = [Path(run)]
    if NAME.fullmatch(str(run)):
        candidates.append(Path(runs_dir) / run)
    for path in candidates:
        if (path / MARKER).is_file():
            return path.resolve()
    root = Path(runs_dir)
    names = sorted(p.parent.name for p in root.glob(f"*/{MARKER}")) if root.is_dir() else []
    listed = ", ".join(names) or "none"
    raise NoCheckpointError(f"no run at {run}; runs in {root}: {listed}.", str(run))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary name, then renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        ConfigError: if it is missing, over 1 MB, or not JSON.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes, got more.")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a file in JSON: {error}") from None


def read_config(path: Path) -> Config:
    """Read the configuration of a run folder."""
    return Config.from_json(json.dumps(read_json(path / MARKER)))


def write_groups(path: Path, possible_agents: list[str], groups: tuple[GroupSpec, ...]) -> None:
    """Store agents, groups and spaces in ``agents.json``."""
    data = {
        "possible_agents": possible_agents,
        "groups": [
            {
                "name": group.name,
                "agents": list(group.agents),
                "share_params": group.share_params,
                "observation_space": space_to_json(group.observation_space),
                "action_space": space_to_json(group.action_space),
            }
            for group in groups
        ],
    }
    write_text(path / "agents.json", json.dumps(data) + "\n")


def read_groups(path: Path) -> tuple[list[str], tuple[GroupSpec, ...]]:
    """Read what ``write_groups`` stored: the agents in the game's order, and the groups.

    Raises:
        ConfigError: if the file is damaged.
    """
    data = read_json(path / "agents.json")
    try:
        groups = tuple(
            GroupSpec(
                str(group["name"]),
                tuple(map(str, group["agents"])),
                space_from_json(group["observation_space"]),
                space_from_json(group["action_space"]),
                bool(group["share_params"]),
            )
            for group in data["groups"]
        )
        return [str(agent) for agent in data["possible_agents"]], groups
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path / 'agents.json'}: expected groups of agents: {error!r}") from None
