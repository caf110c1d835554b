"""The end of episodes on the host: what is logged, and the observations that learning needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kitae_marl.data.stacking import AgentDict, map_leaves
from kitae_marl.loops.metrics import log_episodes
from kitae_marl.types import AgentPyTree, Writer


def process_termination(
    global_step: int,
    next_observations: AgentPyTree,
    infos: Mapping[str, Any],
    writer: Writer | None,
) -> AgentPyTree:
    """Log the episodes that ended in this step and return the true next observations.

    Where an environment was reset in the step that ended its episode, ``next_observations`` holds
    the first observation of the new episode; learning needs the last one of the old.

    Args:
        global_step: environment steps so far, all environments together.
        next_observations: ``{agent: [E, ...]}`` as the step returned them.
        infos: as the step returned them: ``final_observation`` (or Gymnasium's ``final_obs``) with
            its mask ``_final_observation``; ``episode`` with ``return`` and ``length`` by agent,
            and its mask ``_episode``.
        writer: gets, for each finished episode, ``return/<agent>``, ``return/mean`` (over agents),
            ``return/team`` (their sum), ``return/group/<group>`` where there are several groups
            (mean over its agents), and ``episode/length``; None: nothing is logged.

    Returns:
        ``next_observations`` with the final observations put in. The arguments stay as they are;
        where no episode ended, ``next_observations`` itself is returned.

    Raises:
        TypeError: if the infos, the observations or the writer are of the wrong kind.
        ValueError: if the infos of ended episodes lack something, or do not fit the observations.
        Exception: what the writer raises.
    """
    if not isinstance(infos, Mapping):
        raise TypeError(f"expected infos as the step returned them, a dict, got {infos!r}.")
    if writer is not None and "return" in (infos.get("episode") or {}):
        _check_episodes(infos, writer)
        log_episodes(global_step, infos, writer)
    for key in ("final_observation", "final_obs"):
        if key in infos:
            return _with_finals(next_observations, infos, key)
    return next_observations


def _check_episodes(infos: Mapping[str, Any], writer: Writer) -> None:
    """Refuse infos that do not say which episodes ended and how long they were."""
    if not hasattr(writer, "add_scalar"):
        raise TypeError(f"expected a writer with add_scalar, or None, got {writer!r}.")
    episode = infos["episode"]
    if not episode["return"] or not episode.get("length"):
        raise ValueError(
            f"expected 'return' and 'length' of finished episodes by agent, got {episode!r}."
        )
    rows = _mask(infos, "_episode")
    for name in ("return", "length"):
        for agent, values in episode[name].items():
            if np.shape(values) != rows.shape:
                raise ValueError(
                    f"expected the {name} of {agent} in {len(rows)} environments, as many as "
                    f"infos['_episode'] has, got an array of shape {np.shape(values)}."
                )


def _mask(infos: Mapping[str, Any], name: str) -> np.ndarray:
    """Return a mask of environments ``[E]``."""
    rows = np.asarray(infos.get(name))
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise ValueError(
            f"expected infos[{name!r}], the mask [E] of infos[{name[1:]!r}], got "
            f"{infos.get(name)!r}."
        )
    return rows.astype(bool)


def _with_finals(observations: AgentPyTree, infos: Mapping[str, Any], key: str) -> AgentPyTree:
    """Put final observations into copies of the arrays."""
    finals: Any = infos[key]
    if not isinstance(observations, Mapping):
        raise TypeError(f"expected observations by agent, a dict, got {observations!r}.")
    if isinstance(finals, np.ndarray):  # Gymnasium's form: an object array of dicts or None
        return _with_object_finals(observations, finals)
    if not isinstance(finals, Mapping):
        raise TypeError(f"expected infos[{key!r}] by agent, a dict, got {finals!r}.")
    rows = _mask(infos, f"_{key}")
    if isinstance(observations, AgentDict) and isinstance(finals, AgentDict):
        ours, theirs = observations.intact_blocks(), finals.intact_blocks()
        if ours is not None and theirs is not None:
            return AgentDict(_merged(ours, theirs, rows), observations.agents_of)
    return _merged(observations, finals, rows)


def _merged(
    observations: Mapping[str, Any], finals: Mapping[str, Any], rows: np.ndarray
) -> dict[str, Any]:
    """Copy the observations and replace rows of them, by agent or by group."""

    def replace(leaf: np.ndarray, final: np.ndarray) -> np.ndarray:
        if np.shape(final) != leaf.shape or leaf.shape[:1] != rows.shape:
            raise ValueError(
                f"expected final observations of shape {leaf.shape}, as the observations, and a "
                f"mask of as many rows, got {np.shape(final)} and {rows.shape}."
            )
        leaf = leaf.copy()
        leaf[rows] = final[rows]
        return leaf

    missing = [name for name in observations if name not in finals]
    if missing:
        raise ValueError(
            f"expected final observations of {list(observations)}, got {list(finals)}; "
            f"missing: {missing}."
        )
    return {name: map_leaves(replace, obs, finals[name]) for name, obs in observations.items()}


def _with_object_finals(observations: AgentPyTree, finals: np.ndarray) -> AgentPyTree:
    """Put in final observations that come as one dict per environment."""
    result = {agent: map_leaves(np.copy, obs) for agent, obs in observations.items()}

    def put(i: int) -> Any:
        def replace(leaf: np.ndarray, final: Any) -> None:
            if len(leaf) != len(finals) or np.shape(final) != leaf.shape[1:]:
                raise ValueError(
                    f"expected a final observation of shape {leaf.shape[1:]} in one of {len(leaf)} "
                    f"environments, got {np.shape(final)} in one of {len(finals)}."
                )
            leaf[i] = final

        return replace

    for i, final in enumerate(finals):
        if final is None:
            continue
        if not isinstance(final, Mapping) or not set(final) <= set(result):
            raise ValueError(
                f"expected the final observation of env {i} as a dict of some of the agents "
                f"{list(result)}, got {final!r}."
            )
        for agent, value in final.items():
            map_leaves(put(i), result[agent], value)
    return result
