"""Run folders: their names, their files, and nothing outside them.

A run folder holds ``config.json``, ``agents.json`` (groups and spaces), ``summary.json``,
``metrics.csv``, ``logs/`` (TensorBoard) and ``checkpoints/``. A set of runs that differ in their
seed is a folder with ``seeds.json`` and one run folder ``seed_<seed>`` for each. While a trainer is
at work, ``.lock`` in the folder keeps others off.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from kitae_marl.config.run import MAX_CONFIG_BYTES, Config
from kitae_marl.data.space_json import space_from_json, space_to_json
from kitae_marl.errors import ConfigError, NoCheckpointError, RunExistsError, UnsafePathError
from kitae_marl.runs.store.files import LOCK, replacing, require_folder
from kitae_marl.types import GroupSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
WINDOW = 100
"""Episodes in the running mean of the returns that summary and terminal show."""
MARKER = "config.json"
"""The file that makes a folder a run; only such a folder, or a set, is ever overwritten."""
SET_MARKER = "seeds.json"
"""The file that makes a folder a set of runs."""


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


def default_name(config: Config, n_seeds: int = 1) -> str:
    """Name a run by game, algorithm and seed: ``simple_spread-v3-ippo-0``, or ``...-0-to-4``."""
    game = re.sub(r"[^A-Za-z0-9._-]+", "_", config.env_id.rsplit("/", 1)[-1]).strip("._-")
    last = f"-to-{config.seed + n_seeds - 1}" if n_seeds > 1 else ""
    return f"{game[:80] or 'run'}-{config.algo}-{config.seed}{last}"


def is_run(path: Path) -> bool:
    """Whether a folder holds a run: a ``config.json`` that is one of ours."""
    try:
        read_config(path)
    except ConfigError:
        return False
    return True


def is_set(path: Path) -> bool:
    """Whether a folder holds a set of runs."""
    try:
        read_set(path)
    except ConfigError:
        return False
    return True


def require_free(path: Path, *, overwrite: bool = False) -> None:
    """Make sure that a run may be made in a folder; nothing is changed.

    Raises:
        RunExistsError: if the folder holds a run and ``overwrite`` is False, or holds other things.
        ValueError: if it may not be written, or made.
    """
    if path.exists() and not path.is_dir():
        raise RunExistsError(f"{path} is a file; choose another name or remove it yourself.")
    require_folder(path)
    held = {part.name for part in path.iterdir()} - {LOCK} if path.exists() else set()
    if not held or (held == {SET_MARKER} and is_set(path)):  # a set that began nothing is free
        return
    if not is_run(path) and not is_set(path):
        raise RunExistsError(
            f"{path} is not empty and holds no run; choose another name or empty it yourself."
        )
    if not overwrite:
        raise RunExistsError(
            f"{path} already holds a run; continue it (--resume, Agent.resume), replace it "
            "(--overwrite, overwrite=True), or choose another name (--run)."
        )


def create_run(path: Path, *, overwrite: bool = False) -> None:
    """Make an empty run folder, in place of the run it holds if ``overwrite`` is set.

    Raises:
        RunExistsError: as ``require_free``.
    """
    require_free(path, overwrite=overwrite)
    path.mkdir(parents=True, exist_ok=True)
    last = (MARKER, SET_MARKER)  # until they go, what is left can be overwritten again
    for part in sorted(path.iterdir(), key=lambda part: part.name in last):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        elif part.name != LOCK:
            part.unlink()


def require_plain(path: Path) -> None:
    """Make sure that what a run goes on writing are files and folders of its own.

    Raises:
        UnsafePathError: if one is a link or a pipe, as a run folder from elsewhere may hold.
    """
    for name in (MARKER, "agents.json", "summary.json", "metrics.csv", "logs", "checkpoints"):
        part = path / name
        if part.is_symlink() or (part.exists() and not part.is_file() and not part.is_dir()):
            raise UnsafePathError(
                f"{part}: expected a file or folder of the run, got a link; remove it."
            )


def write_set(path: Path, seeds: list[int]) -> None:
    """Make a folder a set of runs with these seeds."""
    write_text(path / SET_MARKER, json.dumps({"seeds": seeds}) + "\n")


def read_set(path: Path) -> list[int]:
    """Return the seeds of a set of runs, in ascending order.

    Raises:
        ConfigError: if the folder holds no set, or a damaged one.
    """
    data = read_json(path / SET_MARKER)
    seeds = data.get("seeds") if isinstance(data, dict) else None
    good = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not isinstance(seeds, list) or not good or not seeds:
        raise ConfigError(f"{path / SET_MARKER}: expected seeds, got a damaged file.")
    return sorted(set(seeds))


def member_name(seed: int) -> str:
    """Name the run of a set that has this seed."""
    return f"seed_{seed}"


def member(path: Path, seed: int) -> Path:
    """Return the folder of one run of a set, made sure to lie in that of the set."""
    return run_path(path, member_name(seed))


def has_checkpoints(path: Path) -> bool:
    """Whether a run folder holds anything that a checkpoint has left, be it damaged."""
    folder = path / "checkpoints"
    return folder.is_dir() and any(is_step(part.name) for part in folder.iterdir())


def is_step(name: str) -> bool:
    """Whether a folder in ``checkpoints`` has the name of a step."""
    return name.isascii() and name.isdecimal()


def find_runs(run: str | Path, runs_dir: str | Path = "runs") -> list[Path]:
    """Return the folders of a run, or of all runs of a set that have been started, by seed.

    Args:
        run: path of a folder, or its name in ``runs_dir``.
        runs_dir: folder that holds the runs.

    Raises:
        NoCheckpointError: if there is no run; the message lists those there are.
    """
    for path in _candidates(run, runs_dir):
        if is_set(path):
            started = _started(path)
            if started:
                return started
    return [find_run(run, runs_dir)]


def _started(path: Path) -> list[Path]:
    """Return the folders of those runs of a set that have been started, by seed."""
    members = [member(path, seed) for seed in read_set(path)]
    return [found for found in members if (found / MARKER).is_file()]


def _candidates(run: str | Path, runs_dir: str | Path) -> list[Path]:
    """Folders that a path or a name (``x``, ``x/seed_0``) may mean."""
    named = all(NAME.fullmatch(part) for part in str(run).split("/"))
    return [Path(run), Path(runs_dir) / run] if named else [Path(run)]


def find_run(run: str | Path, runs_dir: str | Path = "runs") -> Path:
    """Return the folder of an existing run, given its path or its name in ``runs_dir``.

    Raises:
        NoCheckpointError: if there is no run, or a set of them; the message lists those there are.
    """
    for path in _candidates(run, runs_dir):
        try:
            found = (path / MARKER).is_file()
        except PermissionError:
            raise
        except OSError:  # a name too long to be one
            found = False
        if found:
            return path.resolve()
        if is_set(path):
            begun = ", ".join(f"{run}/{part.name}" for part in _started(path)) or "none"
            raise NoCheckpointError(
                f"expected one run, got the set {str(run)!r}; begun are {begun}.", str(run)
            )
    for path in _candidates(run, runs_dir):
        if names := held(path):
            folder = shlex.quote(str(path))
            raise NoCheckpointError(
                f"{str(run)!r} is a folder of runs ({', '.join(names)}): name one of them, such as "
                f"{path / names[0]} (for train: --runs-dir {folder} --run {names[0]}); "
                f"`kitae-marl runs --runs-dir {folder}` shows them.",
                str(run),
            )
    listed = ", ".join(held(Path(runs_dir))) or "none"
    raise NoCheckpointError(f"no run at {str(run)!r}; runs in {runs_dir}: {listed}.", str(run))


def held(folder: Path) -> list[str]:
    """Return the names of the runs and sets of runs that stand in a folder, none if it is none."""
    if not os.path.isdir(folder):  # which takes a name too long to be one, too
        return []
    markers = (MARKER, SET_MARKER)
    return sorted({p.parent.name for marker in markers for p in folder.glob(f"*/{marker}")})


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON; numbers that JSON does not know (NaN, infinity) become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace what is not finite by None."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


COUNTS = ("env_steps", "agent_steps", "wall_s", "env_steps_per_s", "agent_steps_per_s")
"""The numbers of a summary."""


def read_summary(path: Path) -> dict[str, Any]:
    """Return the summary of a run, empty where it has none that can be read."""
    try:
        summary = read_json(path / "summary.json")
    except ConfigError:
        return {}
    if not isinstance(summary, dict) or not isinstance(summary.get("returns"), dict):
        return {}
    numbers = [summary.get(name) for name in COUNTS] + list(summary["returns"].values())
    sound = all(type(number) in (int, float) for number in numbers)
    return summary if sound and type(summary.get("complete")) is bool else {}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, its line ends as they are."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        ConfigError: if it is missing, over 1 MB, or not JSON.
    """
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise ConfigError(f"{path}: expected a file, got none.")
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
    write_text(path / "agents.json", json.dumps(groups_to_json(possible_agents, groups)) + "\n")


def read_groups(path: Path) -> tuple[list[str], tuple[GroupSpec, ...]]:
    """Read what ``write_groups`` stored: the agents in the game's order, and the groups.

    Raises:
        ConfigError: if the file is damaged.
    """
    file = path / "agents.json"
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
