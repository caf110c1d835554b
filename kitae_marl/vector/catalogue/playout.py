"""This file plays a parallel environment at random and watches it keep, or break, the rules."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from kitae_marl.data.masks import best_scored, described, fits, has_legal, mask_text
from kitae_marl.data.spaces import Leaf, leaves


@dataclass
class Observed:
    """What was seen in some episodes of random legal play.

    Attributes:
        lengths: joint steps of each finished episode.
        unfinished: episodes that were left before their end.
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


class RandomPlayer:
    """Plays random legal actions and notes what it sees.

    Args:
        env: a parallel environment.
        limit: steps after which an episode is truncated; None: it ends by itself.
        strict: whether an observation outside its declared Box breaks a rule.
    """

    def __init__(self, env: Any, limit: int | None = None, strict: bool = False) -> None:
        self.env = env
        self._limit, self._strict = limit, strict
        self._examples: dict[str, str] = {}
        self.observed = Observed()
        self._spaces = {a: env.observation_space(a) for a in env.possible_agents}
        self._leaves = {
            agent: leaves(space, f"an observation space of agent {agent!r}")
            for agent, space in self._spaces.items()
        }
        self._actions = {agent: env.action_space(agent) for agent in env.possible_agents}

    def play(self, seed: int | None, max_steps: int, action_seed: int = 0) -> None:
        """Play one episode, or its first ``max_steps`` steps.

        Args:
            seed: of the reset; None goes on from where the environment stands.
            max_steps: where to stop.
            action_seed: seed of the random actions.
        """
        env, seen = self.env, self.observed
        rng = np.random.default_rng(action_seed)
        clock = time.perf_counter()
        observations, infos = env.reset(seed=seed)
        seen.reset_seconds.append(time.perf_counter() - clock)
        self._check_start(observations, infos)
        if not env.agents:
            self._problem("nobody is in the game after reset")
            return
        for step in range(1, max_steps + 1):
            before = list(env.agents)
            actions = self._choose(observations, infos, rng)
            clock = time.perf_counter()
            result = env.step(actions)
            seen.step_seconds.append(time.perf_counter() - clock)
            if not isinstance(result, tuple) or len(result) != 5:
                seen.problems[f"step returned {len(result)} values, expected 5"] += 1
                return
            observations, rewards, terminations, truncations, infos = result
            self._check_step(before, observations, rewards, terminations, truncations, infos)
            limited = step == self._limit and bool(env.agents)
            if limited or not env.agents:
                seen.lengths.append(step)
                seen.terminated += any(terminations.values()) and not limited
                seen.truncated += limited or (bool(truncations) and all(truncations.values()))
                return
        seen.unfinished += 1

    def _check_start(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """Check what ``reset`` returned."""
        self._first = set(self.env.agents)
        self._left: set[str] = set()
        if set(observations) != self._first:
            self._problem("reset observes for other agents than env.agents")
        if set(infos) != self._first:
            self._note("reset gives infos for other agents than env.agents")
        self._check_observations(observations, infos)
        self._digest(observations)

    def _choose(
        self, observations: Mapping[str, Any], infos: Mapping[str, Any], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Draw a legal action for everyone in the game."""
        actions = {}
        for agent in self.env.agents:
            space = self._actions[agent]
            space.seed(int(rng.integers(2**31)))
            mask, _ = find_mask(observations.get(agent), infos.get(agent, {}))
            mask = np.asarray(mask, np.int8) if fits(space, mask) else None
            if mask is None or not has_legal(space, mask):
                actions[agent] = space.sample()
            elif isinstance(space, spaces.Discrete):
                actions[agent] = space.sample(mask)
            else:
                scores = np.where(mask != 0, rng.random(mask.shape), -1.0)
                actions[agent] = best_scored(space, scores, space.sample())
        return actions

    def _check_step(
        self,
        before: list[str],
        observations: Mapping[str, Any],
        rewards: Mapping[str, Any],
        terminations: Mapping[str, Any],
        truncations: Mapping[str, Any],
        infos: Mapping[str, Any],
    ) -> None:
        """Check what ``step`` returned against who was and is in the game."""
        seen, after = self.observed, set(self.env.agents)
        names = ("observations", "rewards", "terminations", "truncations", "infos")
        parts = (observations, rewards, terminations, truncations, infos)
        for name, part in zip(names, parts, strict=True):
            if set(before) - set(part):
                tell = self._note if name == "infos" else self._problem
                tell(f"{name} leave out agents that acted")
            if name != "rewards" and set(part) - set(before) - after:
                self._note(f"{name} are given for agents that are not in the game")
        seen.late_rewards += sum(bool(rewards[agent]) for agent in set(rewards) & self._left)
        flagged = {a for a in before if terminations.get(a) or truncations.get(a)}
        if set(before) - after - flagged:
            self._note("an agent left without being terminated or truncated: taken as terminated")
        if flagged & after:
            self._note("an agent is terminated or truncated and still in env.agents: it has left")
        if after & self._left:
            self._problem("an agent came back in the episode in which it had left")
        self._left |= set(before) - after
        if after:
            seen.dying |= set(before) - after
        seen.joining |= after - self._first
        if not all(np.isfinite(float(reward)) for reward in rewards.values()):
            self._problem("a reward is not finite")
        self._check_observations(observations, infos)
        self._digest(observations, rewards, terminations, truncations)

    def _check_observations(
        self, observations: Mapping[str, Any], infos: Mapping[str, Any]
    ) -> None:
        """Compare observations with their spaces; note masks and who waits."""
        seen = self.observed
        for agent, observation in observations.items():
            if agent not in self._spaces:
                self._problem(f"{agent!r} is not one of possible_agents")
                continue
            for leaf in self._leaves[agent]:
                self._check_leaf(agent, leaf, leaf.of(observation))
            info = infos.get(agent, {})
            active = info.get("active", True) and agent in self.env.agents
            if agent in self.env.agents and not active:
                seen.waiting.add(agent)
            mask, where = find_mask(observation, info)
            if mask is not None:
                seen.masks.add(where)
                if fits(self._actions[agent], mask):
                    legal = has_legal(self._actions[agent], np.asarray(mask))
                    seen.empty_masks += bool(active and not legal)
                else:
                    self._problem(
                        f"action_mask of agent {agent!r}: expected "
                        f"{mask_text(self._actions[agent])}, got {described(mask)}"
                    )

    def _check_leaf(self, agent: str, leaf: Leaf, value: Any) -> None:
        """Compare one array with what its space declares."""
        array, name = np.asarray(value), f"observation{leaf.name}"
        if array.shape != leaf.shape:
            self._problem(f"{name} has shape {array.shape}, its space {leaf.shape}")
        elif array.dtype != leaf.dtype and not isinstance(value, int | np.integer):
            self._note(f"{name} is {array.dtype}, its space {leaf.dtype}: it is cast")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            self._problem(f"{name} is not finite")
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
        amounts = leaf.choices is None and not leaf.binary
        (self._note if amounts and not self._strict else self._problem)(example)

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
