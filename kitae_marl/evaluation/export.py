"""This file exports trained policies, for use without JAX and without this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from kitae_marl.runs.store.files import replacing, require_output

if TYPE_CHECKING:
    from kitae_marl.runs.agent import Agent

SOURCE = Path(__file__).parent / "exported_policy.py"


def export_policy(agent: Agent, out: str | Path) -> tuple[Path, Path]:
    """Write the policies of all agents as arrays, and beside them the module that acts with them.

    Args:
        agent: the trained agent.
        out: path ending in ``.npz``; the module gets the same name with ``.py``.

    Returns:
        Paths of both files.

    Raises:
        ValueError: as ``require_outputs``, and for an algorithm or a network that has no export.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from kitae_marl import Agent, Config, make_vec_env
        >>> env = make_vec_env("gymnasium:CartPole-v1", 1, n_workers=0)
        >>> agent = Agent(env, Config(env_id="gymnasium:CartPole-v1"))
        >>> with TemporaryDirectory() as folder:
        ...     paths = export_policy(agent, f"{folder}/policy.npz")
        >>> env.close()
        >>> [path.name for path in paths]
        ['policy.npz', 'policy.py']
    """
    out, module = require_outputs(out)
    with replacing(out) as temporary:
        write_arrays(agent, temporary)
    with replacing(module) as temporary:
        temporary.write_text(SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    return out, module


def write_arrays(agent: Agent, file: Path | IO[bytes]) -> None:
    """Write the policies of all agents as arrays, what ``exported_policy.Policy`` reads.

    Raises:
        ValueError: for an algorithm or a network that has no export.
    """
    export = agent.algorithm.export
    if export is None:
        raise ValueError(
            f"expected an algorithm whose policies can be exported, got {agent.config.algo}; its "
            "record (kitae_marl.Algorithm) has no export."
        )
    about: dict[str, Any] = {"format": 2, "agents": {}, "groups": {}}
    arrays: dict[str, np.ndarray] = {}
    for number, group in enumerate(agent.groups):
        prefix = f"group_{number}"
        described, parts = export(group, agent.config, agent.state)
        about["groups"][group.name] = {"prefix": prefix, **described}
        arrays |= {f"{prefix}/{name}": np.asarray(array) for name, array in parts.items()}
    for name in agent.possible_agents:
        (group,) = (group for group in agent.groups if name in group.agents)
        about["agents"][name] = {"group": group.name, "index": group.agents.index(name)}
    np.savez(file, about=np.array(json.dumps(about)), **arrays)  # pyright: ignore[reportArgumentType]


def require_outputs(out: str | Path) -> tuple[Path, Path]:
    """Return the paths of arrays and module, sure to be free or an older export's.

    Raises:
        ValueError: as ``require_output``, or if a file that is no exported module has its name.
    """
    out = require_output(out, (".npz",))
    module = out.with_suffix(".py")
    require_output(module, (".py",))
    first_line = SOURCE.read_text(encoding="utf-8").partition("\n")[0]
    if module.exists() and not module.read_text(errors="replace").startswith(first_line):
        raise ValueError(
            f"{module} is in the way: the module that acts gets this name; choose another --out."
        )
    return out, module
