"""This file says what a run folder holds, and reads and writes what is in JSON there.

It holds ``config.json``, ``agents.json`` (groups and spaces), ``summary.json``, ``metrics.csv``,
``logs/`` (TensorBoard) and ``checkpoints/``; where trained agents play seats, ``seats.json`` and
``seats/``; where it began with the networks of another run, ``init.json``. While a trainer is at
work, ``.lock`` keeps others off. What is no JSON is owned by ``metrics``, ``checkpoint``,
``seats``, ``files`` (the lock) and, one room above, ``logger`` (TensorBoard).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitae_marl.config.run import Config
from kitae_marl.data.space_json import space_from_json, space_to_json
from kitae_marl.errors import ConfigError, UnsafePathError
from kitae_marl.runs.store.best import as_best
from kitae_marl.runs.store.files import write_text
from kitae_marl.runs.store.metrics import METRICS_FILE
from kitae_marl.runs.store.strict_json import json_text, read_json
from kitae_marl.types import GroupSpec

CONFIG_FILE = "config.json"
"""The file that makes a folder a run; only such a folder, or a set, is ever overwritten."""
AGENTS_FILE = "agents.json"
"""The file with the agents, their groups and their spaces."""
SUMMARY_FILE = "summary.json"
"""The file that says what a run came to, while nobody trains it."""
CHECKPOINTS = "checkpoints"
"""The folder of the checkpoints, each in a folder that is named by its environment step."""
STEP_FOLDER = re.compile(r"(step_)?(0|[1-9][0-9]*)")
"""Names of such folders; without ``step_`` they are of older runs, and count joint steps."""
BOARD = "logs"
"""The folder of the TensorBoard files."""
SEATS = "seats"
"""The folder of copies of the trained agents that play seats of the run, each a run folder."""
SEATS_FILE = "seats.json"
"""The file that says whose copies they are, with their digests."""


INIT_FILE = "init.json"
"""The file that says whose networks the run began with, where it did not draw its own."""


def is_run(path: Path) -> bool:
    """Whether a folder holds a run: a ``config.json`` that is one of ours."""
    try:
        read_config(path)
    except ConfigError:
        return False
    return True


def read_config(path: Path) -> Config:
    """Read the configuration of a run folder.

    Raises:
        ConfigError: if the folder holds no run, or its configuration is damaged.
    """
    return Config.from_json(json.dumps(read_json(path / CONFIG_FILE)))


def write_config(path: Path, config: Config) -> None:
    """Store the configuration, which makes a folder a run."""
    write_text(path / CONFIG_FILE, config.to_json())


def write_init(path: Path, origin: Mapping[str, Any]) -> None:
    """Store whose networks the run began with."""
    write_text(path / INIT_FILE, json.dumps(dict(origin), indent=2) + "\n")


def write_groups(path: Path, possible_agents: list[str], groups: tuple[GroupSpec, ...]) -> None:
    """Store agents, groups and spaces in ``agents.json``."""
    write_text(path / AGENTS_FILE, json.dumps(groups_to_json(possible_agents, groups)) + "\n")


def read_groups(path: Path) -> tuple[list[str], tuple[GroupSpec, ...]]:
    """Read what ``write_groups`` stored: the agents in the game's order, and the groups.

    Raises:
        ConfigError: if the file is damaged.
    """
    file = path / AGENTS_FILE
    data = read_json(file)
    try:
        return groups_from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file}: expected groups of agents and their spaces, got damaged ones: {error!r}"
        ) from None


def groups_to_json(possible_agents: list[str], groups: tuple[GroupSpec, ...]) -> dict[str, Any]:
    """Describe agents, in the game's order, and their groups."""
    return {
        "possible_agents": possible_agents,
        "groups": [
            {
                "name": group.name,
                "agents": list(group.agents),
                "share_params": group.share_params,
                "observation_space": space_to_json(group.observation_space),
                "action_space": space_to_json(group.action_space),
                "state_space": group.state_space and space_to_json(group.state_space),
            }
            for group in groups
        ],
    }


def groups_from_json(data: Any) -> tuple[list[str], tuple[GroupSpec, ...]]:
    """Read what ``groups_to_json`` made: the agents in the game's order, and the groups.

    Raises:
        ConfigError, KeyError, TypeError, ValueError: for anything else.
    """
    groups = tuple(
        GroupSpec(
            group["name"],
            tuple(group["agents"]),
            space_from_json(group["observation_space"]),
            space_from_json(group["action_space"]),
            group["share_params"],
            space_from_json(group["state_space"]) if group.get("state_space") else None,
        )
        for group in data["groups"]
    )
    possible_agents = list(data["possible_agents"])
    grouped = [agent for group in groups for agent in group.agents]
    if not groups or not all(isinstance(name, str) for name in (*grouped, *possible_agents)):
        raise TypeError("expected names of agents")
    if sorted(possible_agents) != sorted(grouped) or not all(group.agents for group in groups):
        raise ValueError("expected every agent in one group")
    if not all(isinstance(g.name, str) and isinstance(g.share_params, bool) for g in groups):
        raise TypeError("expected groups with a name, that share parameters or not")
    return possible_agents, groups


SOMETIMES = ("compile_s", "win_rates_step")
"""Numbers of a summary that older runs, or games without sides, have not."""
COUNTS = ("env_steps", "agent_steps", "wall_s", "env_steps_per_s", "agent_steps_per_s")
"""The numbers of a summary."""


def read_summary(path: Path) -> dict[str, Any]:
    """Return the summary of a run, empty where it has none that can be read."""
    try:
        summary = read_json(path / SUMMARY_FILE)
    except ConfigError:
        return {}
    if not isinstance(summary, dict) or not isinstance(summary.get("returns"), dict):
        return {}
    numbers = [summary.get(name) for name in COUNTS] + list(summary["returns"].values())
    numbers += [summary[name] for name in SOMETIMES if name in summary]
    rates = summary.get("win_rates", {})
    if not isinstance(rates, dict) or ("best" in summary and as_best(summary["best"]) is None):
        return {}
    sound = all(type(number) in (int, float) for number in [*numbers, *rates.values()])
    return summary if sound and type(summary.get("complete")) is bool else {}


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Store the summary of a run."""
    write_text(path / SUMMARY_FILE, json_text(summary, indent=2) + "\n")


def has_checkpoints(path: Path) -> bool:
    """Whether a run folder holds anything that a checkpoint has left, be it damaged."""
    folder = path / CHECKPOINTS
    return folder.is_dir() and any(STEP_FOLDER.fullmatch(part.name) for part in folder.iterdir())


def step_folder(env_step: int) -> str:
    """Return the name of a new checkpoint's folder."""
    return f"step_{env_step}"


def step_of_folder(name: str, num_envs: int) -> int | None:
    """Return the environment step that a checkpoint's folder is named by, None for other names.

    Args:
        name: ``step_`` and an environment step, or, in older runs, a joint step alone.
        num_envs: environment steps in one joint step of the run.
    """
    match = STEP_FOLDER.fullmatch(name)
    return match and int(match[2]) * (1 if match[1] else num_envs)


def require_plain(path: Path) -> None:
    """Make sure that what a run goes on writing are files and folders of its own.

    Raises:
        UnsafePathError: if one is a link or a pipe, as a run folder from elsewhere may hold.
    """
    files = CONFIG_FILE, AGENTS_FILE, SUMMARY_FILE, METRICS_FILE, SEATS_FILE
    for name in (*files, BOARD, CHECKPOINTS, SEATS):
        part = path / name
        if part.is_symlink() or (part.exists() and not part.is_file() and not part.is_dir()):
            raise UnsafePathError(
                f"{part}: expected a file or folder of the run, got a link; remove it."
            )
