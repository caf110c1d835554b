"""This file plays a parallel environment at random and watches it keep, or break, the rules.

The rules are those of the vector that training steps: it is what plays here.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from kitae_marl.data.masks import best_scored, fits, leave_action
from kitae_marl.data.spaces import Leaf, leaves
from kitae_marl.data.stacking import map_leaves
from kitae_marl.errors import EnvError, VectorEnvError
from kitae_marl.vector.stepping.results import five_parts, infos_by_agent, two_parts
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

_PLACE = re.compile(r"^env \d+ \([^)]*\): ")


@dataclass
class Observed:
    """What was seen in some episodes of random legal play.

    Attributes:
        lengths: joint steps of each finished episode.
        unfinished: episodes that were left before their end.
        refused: episodes that training would refuse; each is a problem.
        dying: agents that left while others played on.
        joining: agents that came after the start of an episode.
        waiting: agents that were in the game without being to act.
        masks: where action masks came from: ``observation``, ``info``.
        empty_masks: times that an agent who was to act had no legal action.
        late_rewards: rewards given to agents that had left.
        terminated: episodes that ended by termination of somebody.
        truncated: episodes that ended by truncation of everybody.
        problems: broken rules, each with how often.
        notes: what training goes on with, each with how often.
        step_seconds: time of each joint step.
        reset_seconds: time of each reset.
        digests: one digest of everything said for each call of ``reset`` and ``step``.
    """

    lengths: list[int] = field(default_factory=list)
    unfinished: int = 0
    refused: int = 0
    dying: set[str] = field(default_factory=set)
    joining: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    masks: set[str] = field(default_factory=set)
    empty_masks: int = 0
    late_rewards: int = 0
    terminated: int = 0
    truncated: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    step_seconds: list[float] = field(default_factory=list)
    reset_seconds: list[float] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


class WatchedEnv(ParallelEnv[str, Any, Any]):
    """A game as it is, with what it said last for others to look at. It is not closed with this.

    Args:
        env: a parallel environment.

    Attributes:
        env: the game.
        started: what the last ``reset`` returned.
        stepped: what the last ``step`` returned.
        before: who was in the game before that step.
        after: who was after it; of an episode that ended, before the next one begins.
        seconds: that the last ``reset`` and the last ``step`` took.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents = env.possible_agents
        self.started: Any = None
        self.stepped: Any = None
        self.before: list[str] = []
        self.after: list[str] = []
        self.seconds = {"reset": 0.0, "step": 0.0}

    def __getattr__(self, name: str) -> Any:
        """What is not watched is the game's own."""
        return getattr(self.env, name)

    @property
    def agents(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Who is in the game."""
        return self.env.agents

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the space of an agent's observations."""
        return self.env.observation_space(agent)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return the space of an agent's actions."""
        return self.env.action_space(agent)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        clock = time.perf_counter()
        self.started = self.env.reset(seed=seed, options=options)
        self.seconds["reset"] = time.perf_counter() - clock
        return self.started

    def step(self, actions: dict[str, Any]) -> Any:
        """Step."""
        self.before = self._here()
        clock = time.perf_counter()
        self.stepped = self.env.step(actions)
        self.seconds["step"] = time.perf_counter() - clock
        self.after = self._here()
        return self.stepped

    def _here(self) -> list[str]:
        """Who is in the game; where it says nothing of use, the vector names the rule."""
        agents = self.env.agents
        return list(agents) if isinstance(agents, Iterable) else []

    def state(self) -> np.ndarray:
        """Return the global state."""
        return self.env.state()

    def close(self) -> None:
        """Leave the game open: it is played on."""


class RandomPlayer:
    """Plays random legal actions and notes what it sees.

    It plays through the vector that training steps, so that what training refuses is refused here
    with the same words, and beside it looks at what the game itself said.

    Args:
        env: a parallel environment.
        limit: steps after which an episode is truncated; None: it ends by itself.
        strict: whether an observation outside its declared Box breaks a rule.
        with_state: whether global states are looked at.

    Raises:
        VectorEnvError: if training refuses the game before it is reset.
    """

    def __init__(
        self, env: Any, limit: int | None = None, strict: bool = False, with_state: bool = False
    ) -> None:
        self.watched, self.observed = WatchedEnv(env), Observed()
        self._limit = limit
        self.vec = SubProcVecParallelEnv(
            [self.watched],
            n_workers=0,
            with_state=with_state,
            max_episode_steps=limit,
            strict_bounds=strict,
        )
        self.agents = self.vec.possible_agents
        self._leaves = {a: leaves(self.vec.observation_space(a)) for a in self.agents}
        self._actions = {agent: env.action_space(agent) for agent in self.agents}
        self._examples: dict[str, str] = {}

    def play(self, seed: int, max_steps: int, action_seed: int = 0) -> None:
        """Play one episode, or its first ``max_steps`` steps; or until training would refuse it.

        Args:
            seed: of the reset.
            max_steps: where to stop.
            action_seed: seed of the random actions.
        """
        try:
            self._play(seed, max_steps, np.random.default_rng(action_seed))
        except VectorEnvError as error:
            self.observed.refused += 1
            self._problem(rule_of(error))

    def _play(self, seed: int, max_steps: int, rng: np.random.Generator) -> None:
        """Play; see ``play``."""
        seen, watched = self.observed, self.watched
        self.vec.reset(seed=seed)
        seen.reset_seconds.append(watched.seconds["reset"])
        observations, infos = two_parts(watched.started)
        self._check_start(observations, infos)
        for step in range(1, max_steps + 1):
            _, _, _, _, vec_infos = self.vec.step(self._choose(observations, infos, rng))
            seen.step_seconds.append(watched.seconds["step"])
            observations, rewards, terminations, truncations, infos = five_parts(watched.stepped)
            infos = infos_by_agent(infos)
            self._check_step(observations, rewards, terminations, truncations, infos)
            if "_final_observation" in vec_infos:
                staying = [
                    a for a in watched.after if not terminations.get(a) and not truncations.get(a)
                ]
                limited = step == self._limit and bool(staying)
                seen.lengths.append(step)
                seen.terminated += any(terminations.values()) and not limited
                seen.truncated += limited or (bool(truncations) and all(truncations.values()))
                return
        seen.unfinished += 1

    def _check_start(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """Check what ``reset`` returned."""
        self._first = set(self.watched.agents)
        self._left: set[str] = set()
        if set(observations) != self._first:
            self._note("reset observes for other agents than env.agents")
        if set(infos) != self._first:
            self._note("reset gives infos for other agents than env.agents")
        self._check_observations(self._first, observations, infos)
        self._digest(observations)

    def _choose(
        self, observations: Mapping[str, Any], infos: Mapping[str, Any], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Draw a legal action for everyone in the game, with the axis of the one environment."""
        actions, here = {}, set(self.watched.agents)
        for agent in self.agents:
            if agent not in here:
                continue
            space = self._actions[agent]
            space.seed(int(rng.integers(2**31)))
            mask, _ = find_mask(observations.get(agent), infos.get(agent) or {})
            mask = np.asarray(mask, np.int8) if fits(space, mask) else None
            if mask is None or not leave_action(space, mask):
                action = space.sample()
            elif isinstance(space, spaces.Discrete):
                action = space.sample(mask)
            else:
                scores = np.where(mask != 0, rng.random(mask.shape), -1.0)
                action = best_scored(space, scores, space.sample())
            actions[agent] = map_leaves(lambda leaf: np.asarray(leaf)[None], action)
        return actions

    def _check_step(
        self,
        observations: Mapping[str, Any],
        rewards: Mapping[str, Any],
        terminations: Mapping[str, Any],
        truncations: Mapping[str, Any],
        infos: Mapping[str, Any],
    ) -> None:
        """Look at what ``step`` returned beside who was and is in the game."""
        seen, before, after = self.observed, set(self.watched.before), set(self.watched.after)
        names = ("observations", "rewards", "terminations", "truncations", "infos")
        parts = (observations, rewards, terminations, truncations, infos)
        for name, part in zip(names, parts, strict=True):
            if before - set(part):
                self._note(f"{name} leave out agents that acted")
            if name != "rewards" and set(part) - before - after:
                self._note(f"{name} are given for agents that are not in the game")
        seen.late_rewards += sum(bool(rewards[agent]) for agent in set(rewards) & self._left)
        flagged = {a for a in before if terminations.get(a) or truncations.get(a)}
        if flagged & after:
            self._note("an agent is terminated or truncated and still in env.agents: it has left")
        self._left |= before - after
        if after:
            seen.dying |= before - after
        seen.joining |= after - self._first
        self._check_observations(before | after, observations, infos)
        self._digest(observations, rewards, terminations, truncations)

    def _check_observations(
        self, agents: set[str], observations: Mapping[str, Any], infos: Mapping[str, Any]
    ) -> None:
        """Compare observations with their spaces; note masks and who waits."""
        seen, here = self.observed, set(self.watched.agents)
        for agent in agents & set(observations):
            observation, info = observations[agent], infos.get(agent) or {}
            for leaf in self._leaves[agent]:
                self._check_leaf(agent, leaf, leaf.of(observation))
            active = info.get("active", True) and agent in here
            if agent in here and not active:
                seen.waiting.add(agent)
            mask, where = find_mask(observation, info)
            if mask is not None:
                seen.masks.add(where)
                legal = leave_action(self._actions[agent], np.asarray(mask))
                seen.empty_masks += bool(active and not legal)

    def _check_leaf(self, agent: str, leaf: Leaf, value: Any) -> None:
        """Compare one array with what its space declares; its form is as it should be."""
        array, name = np.asarray(value), f"observation{leaf.name}"
        if array.dtype != leaf.dtype and not isinstance(value, int | np.integer):
            self._note(f"{name} is {array.dtype}, its space {leaf.dtype}: it is cast")
        elif (array < leaf.low).any() or (array > leaf.high).any():
            self._check_bounds(agent, leaf, array)

    def _check_bounds(self, agent: str, leaf: Leaf, array: np.ndarray) -> None:
        """Name the first value outside of each array: of what agent, where, and how far."""
        text = f"observation{leaf.name} is outside the bounds of its space"
        place = tuple(np.argwhere((array < leaf.low) | (array > leaf.high))[0].tolist())
        low, high = (np.broadcast_to(b, leaf.shape)[place] for b in (leaf.low, leaf.high))
        example = self._examples.setdefault(
            text,
            f"{text}, at first of agent {agent!r}: expected values in [{low}, {high}], got "
            f"{array[place]}{f' at {list(place)}' if place else ''}",
        )
        self._note(example)

    def _problem(self, text: str) -> None:
        """Count what training refuses."""
        self.observed.problems[text] += 1

    def _note(self, text: str) -> None:
        """Count what training goes on with."""
        self.observed.notes[text] += 1

    def _digest(self, *parts: Any) -> None:
        """Remember what was said, as a digest."""
        digest = hashlib.sha256()
        for part in parts:
            _feed(digest, part)
        self.observed.digests.append(digest.digest())


def rule_of(error: VectorEnvError) -> str:
    """Say what training refused, without the place: which rule, or what the game raised and where.

    Example:
        >>> from kitae_marl.errors import GameRuleError
        >>> rule_of(GameRuleError("env 0 (pid 7, in reset, seed 3): no", **{
        ...     "env_index": 0, "pid": 7, "phase": "reset"}))
        'no'
    """
    if not isinstance(error, EnvError):
        return _PLACE.sub("", str(error))
    lines = re.findall(r'File "([^"]+)", line (\d+)', error.remote_traceback)
    at = f" ({Path(lines[-1][0]).name}, line {lines[-1][1]})" if lines else ""
    return f"in {error.phase}, it raised {error.remote_type}: {error.remote_message}{at}"


def find_mask(observation: Any, info: Mapping[str, Any]) -> tuple[Any, str]:
    """Find an agent's action mask and say where it was: ``observation``, ``info`` or nowhere."""
    for where, holder in (("observation", observation), ("info", info)):
        if isinstance(holder, Mapping) and holder.get("action_mask") is not None:
            return holder["action_mask"], where
    return None, ""


def _feed(digest: Any, value: Any) -> None:
    """Feed a nested value into a hash."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, tuple | list):
        for part in value:
            _feed(digest, part)
    else:
        digest.update(np.ascontiguousarray(value).tobytes())
