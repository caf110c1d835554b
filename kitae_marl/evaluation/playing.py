"""This file plays whole episodes: by one policy, by each side against another, and for pictures."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kitae_marl.data.stacking import active_agents, map_leaves, stack, starts
from kitae_marl.errors import RenderError
from kitae_marl.evaluation.films import TextPainter
from kitae_marl.evaluation.results import Evaluation, is_zero_sum, joined
from kitae_marl.players.policies import seated
from kitae_marl.types import AgentPyTree, Policy
from kitae_marl.vector.adapters.as_parallel import require_vector
from kitae_marl.vector.protocol import VecParallelEnv

MAX_STEPS = 200_000
"""Joint steps after which an episode counts as one without end; the longest games, Atari's, are cut
after half as many."""
ENDLESS_SECONDS, ENDLESS_STEPS = 5.0, 500
"""So long, and so many joint steps, without the end of any episode deserve a word."""


def evaluate(
    policy: Policy,
    env: VecParallelEnv,
    n_episodes: int,
    *,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
) -> Evaluation:
    """Play whole episodes and collect every agent's return.

    Each environment plays its fixed share of the episodes, so short episodes are not counted more
    often than long ones.

    Args:
        policy: chooses the actions of all agents.
        env: vector environment; it is left open.
        n_episodes: episodes to play, at least 1.
        seed: environment i starts with seed ``seed + i``.
        max_steps: joint steps in which every episode must end.

    Raises:
        ValueError: if ``n_episodes`` is below 1, the vector does not report the returns of an
            episode that ends, or one does not end within ``max_steps``.

    Example:
        >>> from kitae_marl import make_vec_env, random_policy
        >>> env = make_vec_env("gymnasium:CartPole-v1", 2, n_workers=0)
        >>> result = evaluate(random_policy(env), env, n_episodes=5)
        >>> env.close()
        >>> result.n_episodes, bool((result.returns["agent_0"] == result.lengths).all())
        (5, True)
    """
    env = _require_playable(env, n_episodes, policy)
    left = _shares(n_episodes, env.num_envs)
    returns: dict[str, list[float]] = {agent: [] for agent in env.possible_agents}
    lengths: list[int] = []
    marks: list[int] = []
    observations, infos = env.reset(seed=seed)
    watch, marker = _EndsWatch(env, max_steps), _Marker(env)
    while left.any():
        # before the step, which writes into the same memory
        marker.see(observations, infos, left > 0)
        actions = policy(observations, infos)
        observations, rewards, terminated, truncated, infos = env.step(actions)
        marker.get(rewards, left > 0)
        watch.step(terminated, truncated, infos, left > 0)
        if "episode" not in infos:
            continue
        for i in np.flatnonzero(infos["_episode"] & (left > 0)):
            left[i] -= 1
            for agent, values in infos["episode"]["return"].items():
                returns[agent].append(float(values[i]))
            lengths.append(max(int(v[i]) for v in infos["episode"]["length"].values()))
            marks.append(marker.end(int(i)))
    arrays = {agent: np.asarray(values) for agent, values in returns.items()}
    groups = {group.name: group.agents for group in env.groups}
    by_agent = dict.fromkeys(arrays, np.asarray(marks, np.int64))
    zero_sum = is_zero_sum(arrays)
    return Evaluation(arrays, np.asarray(lengths), groups, zero_sum, marks=by_agent)


class _Marker:
    """Gives every episode a number that is the same for episodes that are the same.

    What the agents see when they are to act and what they get goes into it, so that deterministic
    players who repeat one game are found out. What waiting agents are shown or draw does not count.
    """

    def __init__(self, env: VecParallelEnv) -> None:
        self._groups, self._marks = env.groups, [0] * env.num_envs

    def see(self, observations: AgentPyTree, infos: Mapping[str, Any], awaited: np.ndarray) -> None:
        """Add what is acted on, in the environments that are awaited, ``[E]``."""
        active = active_agents(infos, self._groups, len(awaited))
        for name, seen in stack(observations, self._groups).items():
            acting, all_act = active[name], active[name].all()

            def add(leaf: np.ndarray, acting: Any = acting, all_act: bool = all_act) -> None:
                lead = acting.reshape(*acting.shape, *(1,) * (leaf.ndim - acting.ndim))
                self._add(leaf if all_act else np.where(lead, leaf, 0), awaited)

            map_leaves(add, seen)

    def get(self, rewards: AgentPyTree, awaited: np.ndarray) -> None:
        """Add rewards."""
        for values in stack(rewards, self._groups).values():
            self._add(values, awaited)

    def _add(self, values: np.ndarray, awaited: np.ndarray) -> None:
        """Add values ``[E, A, ...]``."""
        for i in np.flatnonzero(awaited).tolist():
            self._marks[i] = hash((self._marks[i], values[i].tobytes()))

    def end(self, i: int) -> int:
        """Return the number of an episode that has ended, and begin with the next one."""
        mark, self._marks[i] = self._marks[i], 0
        return mark


def _shares(n_episodes: int, n_envs: int) -> np.ndarray:
    """Episodes that each environment is to play, ``[E]``, in all ``n_episodes``."""
    shares = np.full(n_envs, n_episodes // n_envs)
    shares[: n_episodes % n_envs] += 1
    return shares


class _EndsWatch:
    """Watches that episodes end, and that the vector reports their returns when they do.

    A user's own vector may do neither, and then whoever counts episodes would wait for ever.
    """

    def __init__(self, env: VecParallelEnv, max_steps: int) -> None:
        self._env, self._max_steps = env, max_steps
        self._steps = np.zeros(env.num_envs, np.int64)
        self._says_at = time.monotonic() + ENDLESS_SECONDS
        self._flagged = np.zeros((len(env.possible_agents), env.num_envs), np.bool_)

    def step(
        self,
        terminated: AgentPyTree,
        truncated: AgentPyTree,
        infos: Mapping[str, Any],
        awaited: np.ndarray,
    ) -> None:
        """Look at a step; ``awaited`` are the environments whose episodes are counted, ``[E]``.

        Raises:
            ValueError: if an episode that is counted ended without a report, or does not end.
        """
        self._steps += 1
        for flagged, agent in zip(self._flagged, self._env.possible_agents, strict=True):
            flagged |= terminated[agent] | truncated[agent]
        reported, begun = {"episode", "_episode"} <= infos.keys(), starts(infos, len(awaited))
        if not reported and ((begun | self._revived(infos)) & awaited).any():
            raise ValueError(
                "expected infos['episode'] ('return' and 'length' by agent) and its mask "
                f"infos['_episode'] where an episode ends, got infos of {sorted(infos)}; make the "
                "vector by make_vec_env, or wrap it by check_env."
            )
        if reported:
            self._steps[infos["_episode"]] = 0
            begun = begun | infos["_episode"]
            self._says_at = math.inf
        self._flagged[:, begun] = False
        steps = np.where(awaited, self._steps, 0)
        if steps.max() >= ENDLESS_STEPS and time.monotonic() > self._says_at:
            self._says_at = math.inf
            warnings.warn(
                f"no episode has ended in {ENDLESS_SECONDS:.0f} s, the longest has taken "
                f"{steps.max()} steps; if the game never ends by itself, stop and play it with "
                f"--max-episode-steps {ENDLESS_STEPS} or so (in Python max_episode_steps).",
                stacklevel=3,
            )
        if steps.max() >= self._max_steps:
            raise ValueError(
                f"expected every episode to end within {self._max_steps} steps, got one of "
                f"environment {steps.argmax()} that goes on; give the game a limit "
                "(max_episode_steps, or an argument of its own), or a larger max_steps."
            )

    def _revived(self, infos: Mapping[str, Any]) -> np.ndarray:
        """Where all agents were flagged and yet one is to act, ``[E]``: a new episode has begun.

        That all were flagged is no end by itself: agents that the vector does not show, such as
        those in seats, may play on.
        """
        revived = np.logical_and.reduce(self._flagged)
        if revived.any():
            active = active_agents(infos, self._env.groups, len(revived))
            revived &= np.any([rows.any(axis=1) for rows in active.values()], axis=0)
        return revived


def _require_playable(env: Any, n_episodes: Any, *policies: Any) -> VecParallelEnv:
    """Return the vector, sure to speak the whole protocol, if episodes can be played with these.

    Raises:
        ValueError: for another number of episodes than 1, 2, ...
        TypeError: for what is no policy or no vector.
    """
    if not isinstance(n_episodes, int) or n_episodes < 1:
        raise ValueError(f"expected a whole number of episodes, at least one, got {n_episodes!r}.")
    for policy in policies:
        if not callable(policy):
            raise TypeError(
                "expected a function (observations, infos) -> actions, got "
                f"{type(policy).__name__}; of an Agent pass agent.select_action."
            )
    return require_vector(env)


def evaluate_sides(
    policy: Policy,
    opponent: Policy,
    env: VecParallelEnv,
    n_episodes: int,
    *,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
) -> Evaluation:
    """Play each side of a game against an opponent, as many episodes each.

    The sides are the groups of agents; where there is one group, each agent is a side.

    Args:
        policy: plays one side after the other.
        opponent: plays all other agents.
        env: vector environment; it is left open.
        n_episodes: episodes for each side.
        seed: as for ``evaluate``; the same for each side.
        max_steps: as for ``evaluate``.

    Returns:
        The returns that the agents had when ``policy`` played them.

    Raises:
        ValueError: for a game of one agent, and as ``evaluate``.

    Example:
        >>> from kitae_marl import make_vec_env, random_policy
        >>> env = make_vec_env("classic/rps-v2", 2, n_workers=0)
        >>> result = evaluate_sides(random_policy(env, 0), random_policy(env, 1), env, 4)
        >>> env.close()
        >>> {agent: len(returns) for agent, returns in result.returns.items()}, result.joint
        ({'player_0': 4, 'player_1': 4}, False)
    """
    env = _require_playable(env, n_episodes, policy, opponent)
    played = {}
    for side in sides_of(env):
        seats = {a: policy if a in side else opponent for a in env.possible_agents}
        played[side] = evaluate(seated(seats), env, n_episodes, seed=seed, max_steps=max_steps)
    return joined(played)


def sides_of(env: VecParallelEnv) -> list[tuple[str, ...]]:
    """Return the agents of each side: the groups, or each agent where there is one group.

    Raises:
        ValueError: for a game of one agent.
    """
    agents = env.possible_agents
    if len(agents) < 2:
        raise ValueError(f"expected a game of two agents or more, got one of {agents}.")
    groups = [group.agents for group in env.groups]
    return groups if len(groups) > 1 else [(agent,) for agent in agents]


def evaluation_of(
    env: VecParallelEnv, n_episodes: int, *, seed: int = 0
) -> Callable[[Any], dict[str, float]]:
    """Return an evaluation for ``Agent.train(evaluate=...)``: whole episodes, likeliest actions.

    Args:
        env: vector environment of its own, not the one that is trained on; it is left open.
        n_episodes: episodes to play each time.
        seed: environment i starts each time with seed ``seed + i``, so that evaluations differ by
            the agent alone.

    Returns:
        ``evaluate(agent) -> metrics``: the means of ``return/<agent>``, ``return/mean`` (over
        agents) and ``episode/length``; nothing where training is to end meanwhile.

    Raises:
        ValueError: for another number of episodes than 1, 2, ...
        TypeError: for what is no vector.
    """
    env = _require_playable(env, n_episodes)

    class Stopped(Exception):
        """Nobody waits for the rest of the episodes."""

    def evaluate_agent(agent: Any) -> dict[str, float]:
        player = agent.player()

        def policy(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
            if agent.stopping:
                raise Stopped
            return player.select_action(observations, infos)

        try:
            outcome = evaluate(policy, env, n_episodes, seed=seed)
        except Stopped:
            return {}
        means = {f"return/{name}": float(x.mean()) for name, x in outcome.returns.items()}
        mean = sum(means.values()) / len(means)
        return {**means, "return/mean": mean, "episode/length": float(outcome.lengths.mean())}

    return evaluate_agent


class Shot(NamedTuple):
    """One frame of an episode.

    Attributes:
        frame: the picture, uint8 ``[H, W, 3]``.
        episode: number of the episode, from 0 on.
        step: joint steps taken in it.
        returns: every agent's sum of rewards in it so far.
    """

    frame: np.ndarray
    episode: int
    step: int
    returns: dict[str, float]


def play_frames(
    policy: Policy,
    env: VecParallelEnv,
    *,
    n_episodes: int = 1,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
) -> Iterator[Shot]:
    """Play in environment 0 and yield a picture before each step, and the returns at each end.

    Args:
        policy: chooses the actions.
        env: vector environment whose games render ``rgb_array``, or ``ansi``, which is drawn.
        n_episodes: episodes of environment 0 to show.
        seed: seed of its first episode.
        max_steps: as for ``evaluate``.

    Raises:
        ValueError: as ``evaluate``.
        RenderError: if the game gives no picture.
    """
    if n_episodes < 1:
        raise ValueError(f"expected at least one episode, got {n_episodes}.")
    observations, infos = env.reset(seed=seed)
    painter = TextPainter()
    shot = Shot(_picture(env, painter), 0, 0, dict.fromkeys(env.possible_agents, 0.0))
    watch, awaited = _EndsWatch(env, max_steps), np.arange(env.num_envs) == 0
    while True:
        yield shot
        observations, rewards, terminated, truncated, infos = env.step(policy(observations, infos))
        watch.step(terminated, truncated, infos, awaited)
        returns = {a: total + float(rewards[a][0]) for a, total in shot.returns.items()}
        shot = shot._replace(step=shot.step + 1, returns=returns)
        if "_final_observation" in infos and infos["_final_observation"][0]:
            yield shot  # the picture is that before the last step: the game has reset itself
            if shot.episode + 1 == n_episodes:
                return
            shot = Shot(shot.frame, shot.episode + 1, 0, dict.fromkeys(returns, 0.0))
        shot = shot._replace(frame=_picture(env, painter))


def _picture(env: VecParallelEnv, painter: TextPainter) -> np.ndarray:
    """Draw environment 0."""
    try:
        frame: Any = env.render(0)
        if isinstance(frame, str):
            frame = painter(frame)
    except Exception as error:
        raise RenderError(f"expected a picture from render(), got an error: {error}") from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.dtype != np.uint8:
        kind = type(frame).__name__ if not isinstance(frame, np.ndarray) else frame.shape
        raise RenderError(
            f"expected a picture [H, W, 3] of uint8 from render(), got {kind}; the game does not "
            "render, or not with render_mode='rgb_array'."
        )
    return frame
