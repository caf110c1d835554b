"""The training loop on the host: one vector environment, one agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

from kitae_marl.data.stacking import (
    STARTS,
    AgentDict,
    active_agents,
    map_leaves,
    split_masks,
    stack,
    starts,
)
from kitae_marl.loops.clock import COMPILE, GAMES, POLICY, REST, STORE, UPDATE, Clock
from kitae_marl.loops.compiling import FirstAnnounced
from kitae_marl.loops.metrics import (
    as_run_writer,
    count_skipped,
    log_env,
    log_episodes,
    log_update,
)
from kitae_marl.types import (
    AgentPyTree,
    AlgoType,
    Buffer,
    Checkpointer,
    Closing,
    Experience,
    GroupSpec,
    HasAlgorithm,
    IAgent,
    LearnsInside,
    Recurrent,
    RunWriter,
    Stoppable,
    Writer,
    opposition_of,
)
from kitae_marl.vector.adapters.as_parallel import as_parallel
from kitae_marl.vector.adapters.supersuit import is_supersuit_vector
from kitae_marl.vector.make import as_vector, vector_of_supersuit
from kitae_marl.vector.protocol import VecParallelEnv


@overload
def check_env(env: ParallelEnv[str, Any, Any]) -> ParallelEnv[str, Any, Any]: ...
@overload
def check_env(env: gym.Env[Any, Any]) -> ParallelEnv[str, Any, Any]: ...
@overload
def check_env(env: VecParallelEnv | gym.vector.VectorEnv[Any, Any, Any]) -> VecParallelEnv: ...
@overload
def check_env(env: Any) -> Any: ...
def check_env(env: Any) -> Any:
    """Return the environment itself, or a compatible parallel one around it.

    Args:
        env: a PettingZoo ``ParallelEnv`` or a vector of them (``SubProcVecParallelEnv``), returned
            as they are; a Gymnasium ``Env``, which becomes a ``ParallelEnv`` with the one agent
            ``agent_0``; a Gymnasium ``VectorEnv`` or an EnvPool, which becomes a vector of
            one-agent parallel environments; a ``MarkovVectorEnv`` or ``ConcatVecEnv`` of
            SuperSuit's, which becomes a vector of the games in it.

    Raises:
        TypeError: for anything else.
        ValueError: for a vector environment that does not reset finished environments by itself.
    """
    return vector_of_supersuit(env) if is_supersuit_vector(env) else as_parallel(env)


def vectorized_train(
    seed: int,
    agent: IAgent,
    env: Any,
    n_env_steps: int,
    algo_type: AlgoType,
    *,
    start_step: int = 1,
    checkpointer: Checkpointer | None = None,
    writer: Writer | None = None,
) -> None:
    """Train an agent on a vector of environments; the environment is closed at the end.

    Args:
        seed: environment i is seeded ``seed + i``; a run that continues (``start_step`` above 1)
            plays new episodes from seeds drawn from ``(seed, start_step)``.
        agent: explores and learns. Where its attribute ``stopping`` (``types.Stoppable``) becomes
            true, the loop ends before the next step; that of a compiled game ends with its chunk of
            updates, or gives the chunk up where that takes too long, and its updates are lost.
        env: a vector of parallel environments, or anything that ``check_env`` accepts; a single
            environment becomes a vector of one. A vector of your own needs ``num_envs``,
            ``possible_agents``, the spaces, ``reset``, ``step`` and ``close``; where its infos are
            silent, all agents act all the time, final observations are those that the step
            returned, and no returns are logged. One in which opponents play (``oppose``) says so
            itself.
        n_env_steps: joint steps of the whole run, each of them a step of every environment. What is
            left at the end and fills no rollout is not learned from.
        algo_type: that of the agent's algorithm. The loop is the same for both: an off-policy
            algorithm keeps its replay in its own state.
        start_step: the first joint step, 1 for a new run.
        checkpointer: its ``save(step, agent)`` is called after every update that was not skipped;
            of compiled games between two chunks of updates.
        writer: gets the returns of finished episodes and, after every update, the metrics that
            ``agent.update`` returns; where it has ``flush_step(step)``, that is called then. A
            ``types.RunWriter`` gets the returns of compiled games as the means of an update.

    Raises:
        ValueError: if ``start_step`` is not in ``[1, n_env_steps + 1]`` or the algorithm is of
            another type.
        TrainingDivergedError: after 10 updates in a row that were not finite; each was skipped.
    """
    closing = env  # until there is a vector around it
    try:
        with_state = agent.groups[0].state_space is not None
        closing = vec_env = as_vector(check_env(env), with_state=with_state)
        _require_type(agent, algo_type)
        if not 1 <= start_step <= n_env_steps + 1:
            raise ValueError(
                f"expected a start_step in [1, {n_env_steps + 1}], got {start_step}; the run of "
                f"{n_env_steps} joint steps cannot start there."
            )
        run_writer = as_run_writer(writer)
        if vec_env.game is not None and isinstance(agent, LearnsInside):
            from kitae_marl.loops.chunks import train_in_chunks  # only where there is a twin

            run: Any = agent  # a Run, as what learns inside is
            train_in_chunks(
                [seed],
                [run],
                vec_env,
                n_env_steps,
                start_step,
                [checkpointer],
                [run_writer],
            )
        else:
            _train(
                seed,
                agent,
                vec_env,
                n_env_steps,
                start_step,
                checkpointer,
                run_writer,
            )
    finally:
        if isinstance(closing, Closing):
            closing.close()


def _require_type(agent: IAgent, algo_type: AlgoType) -> None:
    """Refuse an algorithm type that is none, or not that of the agent's algorithm."""
    if not isinstance(algo_type, AlgoType):
        raise ValueError(f"expected an AlgoType, got {algo_type!r}.")
    own = agent.algorithm.algo_type if isinstance(agent, HasAlgorithm) else algo_type
    if own is not algo_type:
        raise ValueError(f"expected {own}, the type of the agent's algorithm, got {algo_type}.")


def _train(
    seed: int,
    agent: IAgent,
    env: VecParallelEnv,
    n_env_steps: int,
    start_step: int,
    checkpointer: Checkpointer | None,
    writer: RunWriter | None,
) -> None:
    """Step, store and update until the end or until the agent is told to stop."""
    buffer: Buffer = agent.make_buffer(env.num_envs)
    groups = agent.groups
    with_state = groups[0].state_space is not None
    if with_state and not env.with_state:
        raise ValueError(
            "expected a vector that delivers the global state, which the critic sees; make it with "
            "with_state=True (make_vec_env(..., vector_options={'with_state': True}))."
        )
    stoppable = agent if isinstance(agent, Stoppable) else None
    recurrent = agent if isinstance(agent, Recurrent) else None
    explore = FirstAnnounced(agent.explore, "the policy", writer)
    update = FirstAnnounced(agent.update, "the update", writer)
    clock, skipped, learned = Clock(), 0, start_step - 1
    opposition = opposition_of(env)
    table: Any = env  # which seats opponents, where there are some
    if opposition is not None:
        opposition.begin(learned, agent, table)
    observations, infos = env.reset(seed=first_seed(seed, start_step))
    clock.lap(GAMES)
    for step in range(start_step, n_env_steps + 1):
        if stoppable is not None and stoppable.stopping:
            break
        global_step = step * env.num_envs
        carry = () if recurrent is None else recurrent.carry
        actions, extras = explore(observations, infos)
        clock.lap(COMPILE if explore.has_compiled else POLICY)
        before = _before(observations, actions, extras, infos, groups, env.num_envs)
        state = env.state() if with_state else ()
        buffer.begin(before._replace(carry=carry, state=state))  # copied: ``step`` overwrites it
        clock.lap(STORE)
        observations, rewards, terminated, truncated, infos = env.step(actions)
        clock.lap(GAMES)
        infos = _with_ends(infos, terminated, truncated)
        true_next = process_termination(global_step, observations, infos, writer)
        after = _after(true_next, rewards, terminated, truncated, infos, groups, env.num_envs)
        next_state = _true_next_state(env, infos) if with_state else ()
        buffer.finish(after._replace(next_state=next_state))
        clock.lap(STORE)
        if agent.should_update(step, buffer):
            metrics = update(buffer)
            clock.lap(COMPILE if update.has_compiled else UPDATE)
            if writer is not None:
                log_env(env, global_step, writer)
                clock.log(global_step, writer)
                log_update(metrics, global_step, writer)
            skipped = count_skipped(metrics, skipped, global_step)
            if checkpointer is not None and not skipped:
                checkpointer.save(step, agent)
            learned = step
            if opposition is not None:
                opposition.after(step, agent, table)
            clock.lap(REST)  # which the next row says: this one is written
    if opposition is not None:
        opposition.end(learned, agent, table)


def first_seed(seed: int, start_step: int) -> int:
    """Seed of the first episodes: ``seed`` for a new run, else one that no earlier part used."""
    if start_step == 1:
        return seed
    words = np.random.SeedSequence((seed, start_step)).generate_state(1)
    return int(words[0]) % (2**31 - 2**20)


def _with_ends(
    infos: Mapping[str, Any], terminated: AgentPyTree, truncated: AgentPyTree
) -> Mapping[str, Any]:
    """Say where new episodes begin, for a vector that does not say who is active.

    Such a one has all agents at play all the time: an episode has ended where each has a flag up.
    """
    if "active" in infos or any(name in infos for name in STARTS):
        return infos
    ended = [np.logical_or(terminated[agent], truncated[agent]) for agent in terminated]
    return {**infos, "reset": np.all(ended, axis=0)}


def _before(
    observations: AgentPyTree,
    actions: AgentPyTree,
    extras: AgentPyTree,
    infos: Mapping[str, Any],
    groups: tuple[GroupSpec, ...],
    n_envs: int,
) -> Experience:
    """What is known before the environment steps, stacked by group."""
    features, masks = split_masks(observations, infos, groups)
    return Experience(
        observation=features,
        action=stack(actions, groups),
        extras=stack(extras, groups) if extras else (),
        action_mask=masks,
        active=active_agents(infos, groups, n_envs),
        reset=starts(infos, n_envs),
    )


def _after(
    next_observations: AgentPyTree,
    rewards: AgentPyTree,
    terminated: AgentPyTree,
    truncated: AgentPyTree,
    infos: Mapping[str, Any],
    groups: tuple[GroupSpec, ...],
    n_envs: int,
) -> Experience:
    """What is known after the environment has stepped, stacked by group."""
    features, _ = split_masks(next_observations, infos, groups)
    return Experience(
        reward=stack(rewards, groups),
        terminated=stack(terminated, groups),
        truncated=stack(truncated, groups),
        next_observation=features,
        next_active=active_agents(infos, groups, n_envs),
        next_reset=starts(infos, n_envs),
    )


def _true_next_state(env: VecParallelEnv, infos: Mapping[str, Any]) -> np.ndarray:
    """The global states that the step led to, where an episode ended its last one."""
    if "final_state" not in infos:
        return env.state()
    ended = np.asarray(infos["_final_observation"], bool)
    state = env.state()
    return np.where(ended.reshape(-1, *(1,) * (state.ndim - 1)), infos["final_state"], state)


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
    if not isinstance(writer, Writer):
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
