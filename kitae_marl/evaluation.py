"""Playing with a trained agent: returns over whole episodes, and pictures of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from kitae_marl.types import AgentPyTree
from kitae_marl.vector import VecParallelEnv

Policy = Callable[[AgentPyTree, Mapping[str, Any]], AgentPyTree]
"""``(observations, infos) -> actions``, by agent, arrays ``[E, ...]``; ``Agent.select_action``."""

DEFINITION = (
    "undiscounted sum of an agent's rewards over one whole episode; mean: averaged over agents; "
    "team: summed over agents"
)


@dataclass(frozen=True)
class Evaluation:
    """Returns of whole episodes.

    Attributes:
        returns: ``{agent: [episodes]}``, undiscounted sums of rewards.
        lengths: steps of each episode, ``[episodes]``.
        groups: agents by group.
    """

    returns: dict[str, np.ndarray]
    lengths: np.ndarray
    groups: dict[str, tuple[str, ...]]

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    def mean_over_agents(self) -> np.ndarray:
        """Return of each episode, averaged over all agents."""
        return np.mean(list(self.returns.values()), axis=0)

    def summary(self) -> dict[str, Any]:
        """Return means with standard errors and 95 % intervals, as plain numbers.

        The interval is the mean plus and minus 1.96 standard errors over episodes.
        """
        rows = {agent: _interval(values) for agent, values in self.returns.items()}
        rows["mean"] = _interval(self.mean_over_agents())
        rows["team"] = _interval(np.sum(list(self.returns.values()), axis=0))
        for name, agents in self.groups.items():
            if len(self.groups) > 1:
                group_mean = np.mean([self.returns[agent] for agent in agents], axis=0)
                rows[f"group/{name}"] = _interval(group_mean)
        return {
            "episodes": self.n_episodes,
            "definition": DEFINITION,
            "length": float(np.mean(self.lengths)),
            "returns": rows,
        }


def _interval(values: np.ndarray) -> dict[str, float]:
    """Mean, standard error and 95 % interval of independent values."""
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return {
        "mean": mean,
        "stderr": error,
        "low": mean - 1.96 * error,
        "high": mean + 1.96 * error,
    }


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> dict[str, float]:
    """Mean over independent runs with its Student t interval.

    Args:
        values: one result of each run, for instance the mean return of one seed.
        confidence: probability that the interval is to cover, in (0, 1).

    Returns:
        ``mean``, ``low``, ``high``; the interval is NaN for a single run.

    Raises:
        ValueError: without values.

    Example:
        >>> {key: round(x, 3) for key, x in over_seeds([1.0, 2.0, 3.0]).items()}
        {'mean': 2.0, 'low': -0.484, 'high': 4.484}
    """
    if not len(values):
        raise ValueError("expected the result of at least one run, got none.")
    mean = float(np.mean(values))
    if len(values) == 1:
        return {"mean": mean, "low": math.nan, "high": math.nan}
    from scipy.stats import t  # comes with JAX; here, because it costs half a second

    n = len(values)
    half = float(t.ppf(0.5 + confidence / 2, n - 1) * np.std(values, ddof=1)) / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def evaluate(policy: Policy, env: VecParallelEnv, n_episodes: int, *, seed: int = 0) -> Evaluation:
    """Play whole episodes and collect every agent's return.

    Each environment plays its fixed share of the episodes, so short episodes are not counted more
    often than long ones.

    Args:
        policy: chooses the actions of all agents.
        env: vector environment; it is left open.
        n_episodes: episodes to play, at least 1.
        seed: environment i starts with seed ``seed + i``.

    Raises:
        ValueError: if ``n_episodes`` is below 1.
    """
    if not isinstance(n_episodes, int) or n_episodes < 1:
        raise ValueError(f"expected a whole number of episodes, at least one, got {n_episodes!r}.")
    if not callable(policy):
        raise TypeError(
            f"expected a function (observations, infos) -> actions, got {type(policy).__name__}; "
            "of an Agent pass agent.select_action."
        )
    if not hasattr(env, "num_envs") or not hasattr(env, "possible_agents"):
        raise TypeError(
            f"expected a vector of parallel environments, got {type(env).__name__}; make one by "
            "make_vec_env, or from Gymnasium's by check_env."
        )
    share = np.full(env.num_envs, n_episodes // env.num_envs)
    share[: n_episodes % env.num_envs] += 1
    returns: dict[str, list[float]] = {agent: [] for agent in env.possible_agents}
    lengths: list[int] = []
    observations, infos = env.reset(seed=seed)
    while share.any():
        observations, _, _, _, infos = env.step(policy(observations, infos))
        if "episode" not in infos:
            continue
        for i in np.flatnonzero(infos["_episode"] & (share > 0)):
            share[i] -= 1
            for agent, values in infos["episode"]["return"].items():
                returns[agent].append(float(values[i]))
            lengths.append(max(int(v[i]) for v in infos["episode"]["length"].values()))
    return Evaluation(
        {agent: np.asarray(values) for agent, values in returns.items()},
        np.asarray(lengths),
        {group.name: group.agents for group in env.groups},
    )


def random_policy(env: VecParallelEnv, seed: int = 0) -> Policy:
    """Return the policy that draws every allowed action with equal probability.

    Actions of a Box without two finite bounds are drawn as its ``sample`` does.
    """
    generator = np.random.default_rng(seed)
    for agent in env.possible_agents:
        env.action_space(agent).seed(int(generator.integers(2**31)))

    def act(observations: AgentPyTree, infos: Mapping[str, Any]) -> AgentPyTree:
        return {agent: draw(agent, observations[agent], infos) for agent in env.possible_agents}

    def draw(agent: str, observation: Any, infos: Mapping[str, Any]) -> np.ndarray:
        space: Any = env.action_space(agent)
        mask = infos.get("action_mask", {}).get(agent)
        if mask is None and isinstance(observation, dict):
            mask = observation.get("action_mask")
        if mask is not None:
            return _draw_allowed(space, np.where(mask != 0, generator.random(mask.shape), -1.0))
        if isinstance(space, gym.spaces.Discrete):
            return generator.integers(space.n, size=env.num_envs) + space.start
        return np.stack([space.sample() for _ in range(env.num_envs)])

    return act


def _draw_allowed(space: Any, noise: np.ndarray) -> np.ndarray:
    """Take the action of the largest noise, for each part of a MultiDiscrete."""
    if isinstance(space, gym.spaces.Discrete):
        return np.argmax(noise, axis=-1) + space.start
    parts = np.split(noise, np.cumsum(space.nvec)[:-1], axis=-1)
    return np.stack([np.argmax(part, axis=-1) for part in parts], axis=-1) + space.start


def play_frames(
    policy: Policy, env: VecParallelEnv, *, n_episodes: int = 1, seed: int = 0
) -> Iterator[tuple[np.ndarray, dict[str, float]]]:
    """Play in environment 0 and yield ``(frame, returns so far)`` before each step.

    Args:
        policy: chooses the actions.
        env: vector environment whose games render ``rgb_array``.
        n_episodes: episodes of environment 0 to show.
        seed: seed of its first episode.

    Yields:
        The frame, uint8 ``[H, W, 3]``, and every agent's sum of rewards in this episode so far.

    Raises:
        ValueError: if ``n_episodes`` is below 1.
    """
    if n_episodes < 1:
        raise ValueError(f"expected at least one episode, got {n_episodes}.")
    observations, infos = env.reset(seed=seed)
    totals = dict.fromkeys(env.possible_agents, 0.0)
    yield env.render(0), dict(totals)
    while n_episodes:
        observations, rewards, _, _, infos = env.step(policy(observations, infos))
        totals = {agent: total + float(rewards[agent][0]) for agent, total in totals.items()}
        if "_final_observation" in infos and infos["_final_observation"][0]:
            n_episodes -= 1
            if not n_episodes:
                return
            totals = dict.fromkeys(env.possible_agents, 0.0)
        yield env.render(0), dict(totals)
