"""This file checks a parallel game by playing it: who dies, joins and waits, what breaks, and how
to train on it.
"""

from __future__ import annotations

import cProfile
import json
import math
import pstats
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from kitae_marl.config.run import Config
from kitae_marl.data.groups import group_specs, require_arrays
from kitae_marl.data.spaces import leaves, space_text
from kitae_marl.vector.adapters.as_parallel import SingleParallelEnv, as_parallel
from kitae_marl.vector.adapters.compiled_games import twin_serves
from kitae_marl.vector.catalogue.playout import Observed, RandomPlayer
from kitae_marl.vector.lean.build import QUIRKS
from kitae_marl.vector.make import make_parallel_env
from kitae_marl.vector.options import n_cores

ENDLESS = 3
"""So many first episodes that do not end tell as much as all of them would."""
_ROLLOUT_BYTES = 2**30  # the most that observations of one rollout should take


def check_parallel_env(
    env: str | ParallelEnv[str, Any, Any] | Callable[[], Any],
    *,
    episodes: int = 10,
    max_steps: int = 1000,
    patience: float = 30.0,
    seed: int = 0,
    max_episode_steps: int | None = None,
    strict_bounds: bool = False,
    **kwargs: Any,
) -> Report:
    """Play random legal episodes of a game and report what it does.

    Args:
        env: an id; a function that makes the game (then fresh copies can be compared); or the
            game itself, which is played but not closed.
        episodes: episodes to play.
        max_steps: joint steps after which an episode is left.
        patience: seconds after which no further episode is begun; comparing episodes of equal
            seeds takes about as long again at most, by leaving them earlier.
        seed: seed of the first episode.
        max_episode_steps: where an episode counts as truncated, as in training; None: never.
        strict_bounds: an observation outside its declared Box is a problem, as in training.
        **kwargs: arguments of the game, for an id.

    Returns:
        The report; ``report.lines()`` is text to print, ``report.ok`` says whether all is well.

    Raises:
        TypeError: if ``env`` is no parallel game, or a space has no arrays of fixed size.
    """
    make, name = _maker(env, kwargs)
    game = make() if make is not None else as_parallel(env)
    if not isinstance(game, ParallelEnv):
        raise TypeError(
            f"expected one parallel environment, got {type(game).__name__}; check a single "
            "environment of the vector instead."
        )
    for group in group_specs(game.possible_agents, game.observation_space, game.action_space):
        require_arrays(group)
    player, clock = RandomPlayer(game, max_episode_steps, strict_bounds), time.perf_counter()
    for episode in range(episodes):
        player.play(seed + episode, max_steps, action_seed=episode)
        endless = not player.observed.lengths and player.observed.unfinished >= ENDLESS
        if endless or time.perf_counter() - clock > patience:
            break
    steps = _affordable(max_steps, patience / 4, time.perf_counter() - clock, player.observed)
    seeding, problems = _check_seeding(make, game, seed + episodes, steps)
    where = _profile(game, seed, min(steps, 300))
    limit = {} if max_episode_steps is None else {"--max-episode-steps": max_episode_steps}
    report = _report(
        name, game, player.observed, max_steps, seeding, problems, where, kwargs, limit
    )
    if make is not None:
        game.close()
    return report


def _maker(env: Any, kwargs: dict[str, Any]) -> tuple[Callable[[], Any] | None, str]:
    """A function that makes fresh copies, if there is one, and the name of the game."""
    if isinstance(env, str):
        return lambda: make_parallel_env(env, **kwargs), env
    if kwargs:
        raise TypeError(f"expected arguments of the game only beside an id, got {list(kwargs)}.")
    if callable(env) and not isinstance(env, ParallelEnv):
        return lambda: as_parallel(env()), getattr(env, "__name__", type(env).__name__)
    return None, type(env).__name__


def _affordable(max_steps: int, budget: float, seconds: float, seen: Observed) -> int:
    """The joint steps that fit into ``budget`` seconds, at least 20, at the speed of the play."""
    per_step = seconds / max(1, len(seen.step_seconds))
    return min(max_steps, max(20, int(budget / per_step)))


def _digests(game: Any, seed: int, max_steps: int) -> list[bytes]:
    """Everything said in an episode from this seed, always with the same actions."""
    player = RandomPlayer(game)
    player.play(seed, max_steps, action_seed=seed)
    return player.observed.digests


def _check_seeding(
    make: Callable[[], Any] | None, used: Any, seed: int, max_steps: int
) -> tuple[str, list[str]]:
    """Compare whole episodes of a used game with itself, and with fresh copies."""
    again = [_digests(used, seed, max_steps) for _ in range(2)]
    copies = [again[0]]
    if make is not None:
        for _ in range(2):
            fresh = make()
            copies.append(_digests(fresh, seed, max_steps))
            fresh.close()
        if copies[1] != copies[2]:
            return "two fresh copies differ", ["reset(seed) does not determine an episode"]
    step = next((i for i, x in enumerate(zip(*copies, strict=False)) if len(set(x)) > 1), None)
    if again[0] != again[1] or step is not None or len(set(map(len, copies))) > 1:
        where = "" if step is None else f", from step {step} on"
        return f"state survives reset(seed){where}", ["a used game differs from a fresh one"]
    compared = "also on a used game" if make is not None else "on one used game"
    what = f"the first {max_steps} steps" if used.agents else "whole episodes"
    return f"reset(seed) determines {what}, {compared}", []


def _profile(game: Any, seed: int, max_steps: int) -> tuple[tuple[str, int], ...]:
    """Where the time of some steps goes, by package."""
    profiler, player = cProfile.Profile(), RandomPlayer(game)
    original = game.step
    profiled: Callable[..., Any] = lambda actions: profiler.runcall(original, actions)  # noqa: E731
    player.env = _Stepping(game, profiled)
    player.play(seed, max_steps)
    seconds: Counter[str] = Counter()
    if not player.observed.step_seconds:
        return ()
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    for (file, _, _), (_, _, own, _, callers) in stats.items():
        if file != "~":
            seconds[_package(file)] += own
            continue
        for (caller, _, _), numbers in callers.items():  # built-ins count for who calls them
            seconds[_package(caller)] += numbers[2]
    total = sum(seconds.values()) or 1.0
    shares = [(package, round(100 * own / total)) for package, own in seconds.most_common(5)]
    return tuple((package, share) for package, share in shares if share > 0)


class _Stepping:
    """A game whose ``step`` is another function."""

    def __init__(self, game: Any, step: Callable[..., Any]) -> None:
        self._game, self.step = game, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._game, name)


def _package(file: str) -> str:
    """The package that a source file belongs to."""
    installed = re.search(r"site-packages[/\\](\w+)", file)
    if installed:
        return installed[1]
    ours = re.search(r"[/\\](kitae_marl|kitae_envs)[/\\]", file)
    return ours[1] if ours else "Python" if "python" in file.lower() else "game"


def _report(
    name: str,
    game: Any,
    seen: Observed,
    max_steps: int,
    seeding: str,
    problems: list[str],
    where: tuple[tuple[str, int], ...],
    kwargs: dict[str, Any],
    limit: dict[str, int],
) -> Report:
    """Put the report together."""
    notes = [f"{text} ({times} times)" for text, times in seen.notes.most_common()]
    if seen.unfinished and not seen.lengths:
        notes.insert(
            0,
            f"no episode ended within {max_steps} steps; if the game never ends by itself, train, "
            f"evaluate and watch it with --max-episode-steps {max_steps}",
        )
    broken = [f"{text} ({times} times)" for text, times in seen.problems.most_common()]
    if seen.empty_masks:
        broken.append(f"an agent who is to act has no legal action ({seen.empty_masks} times)")
    ms = 1e3 * float(np.median(seen.step_seconds)) if seen.step_seconds else 0.0
    n_envs, n_steps = _recommended(game, ms)
    n_workers = min(n_envs, n_cores())
    twin = not limit and twin_serves(name, kwargs)
    lengths = seen.lengths or [0]
    return Report(
        name=name,
        groups=_group_lines(game),
        episodes=(len(seen.lengths), min(lengths), float(np.mean(lengths)), max(lengths)),
        unfinished=(seen.unfinished, max_steps),
        dying=tuple(sorted(seen.dying)),
        joining=tuple(sorted(seen.joining)),
        waiting=tuple(sorted(seen.waiting)),
        masks=" and ".join(sorted(seen.masks)),
        empty_masks=seen.empty_masks,
        late_rewards=seen.late_rewards,
        ends=(seen.terminated, seen.truncated),
        seeding=seeding,
        ms_per_step=ms,
        ms_per_reset=1e3 * float(np.median(seen.reset_seconds)),
        where=where,
        corrected=tuple(
            text
            for prefix, text in QUIRKS.items()
            if name.startswith(prefix) and not kwargs.get("stock")
        ),
        problems=tuple(problems + broken),
        notes=tuple(notes),
        wrappers=_wrappers(game),
        n_envs=n_envs,
        n_workers=n_workers,
        twin=twin,
        command=_command(name, kwargs, n_envs, None if twin else n_workers, n_steps, limit)
        if "/" in name or ":" in name
        else "",
    )


def _group_lines(game: Any) -> tuple[str, ...]:
    """One line for each group: its agents, what they observe and what they do."""
    groups = group_specs(game.possible_agents, game.observation_space, game.action_space)
    return tuple(
        f"{names(group.agents)}: {space_text(group.observation_space)} -> "
        f"{space_text(group.action_space)}"
        for group in groups
    )


def _recommended(game: Any, ms: float) -> tuple[int, int]:
    """Environments and steps of a rollout: more of the fast games, within memory."""
    n_envs = 64 if ms < 0.2 else 16 if ms < 5.0 else 8
    size = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for agent in game.possible_agents
        for leaf in leaves(game.observation_space(agent))
    )
    n_steps = 128
    while n_envs * n_steps * size > _ROLLOUT_BYTES and n_steps > 16:
        n_steps //= 2
    while n_envs * n_steps * size > _ROLLOUT_BYTES and n_envs > 2:
        n_envs //= 2
    return n_envs, n_steps


def _wrappers(game: Any) -> tuple[str, ...]:
    """Wrappers that would help with what the agents see."""
    advice = []
    for agent in game.possible_agents[:1]:
        space = game.observation_space(agent)
        if not isinstance(space, spaces.Box) or isinstance(game, SingleParallelEnv):
            continue
        if len(space.shape) == 3 and space.shape[-1] in (1, 3) and space.dtype == np.uint8:
            if space.shape[-1] == 3:
                advice.append("supersuit.color_reduction_v0(env): one channel instead of three")
            if space.shape[0] * space.shape[1] > 84 * 84:
                advice.append("supersuit.resize_v1(env, 84, 84): smaller pictures")
            advice.append("supersuit.frame_stack_v1(env, 4): pictures that show motion")
    return tuple(advice)


def _command(
    name: str,
    kwargs: dict[str, Any],
    n_envs: int,
    n_workers: int | None,
    n_steps: int,
    limit: dict[str, int],
) -> str:
    """The command line that trains with the recommended numbers."""
    words = ["kitae-marl", "train", name, "--n-envs", str(n_envs)]
    if n_workers is not None:
        words += ["--n-workers", str(n_workers)]
    if n_steps != 128:
        option = Config().learner.key("n_steps").replace("_", "-")
        words += [f"--{option}", str(n_steps)]
    words += [str(word) for pair in limit.items() for word in pair]
    if kwargs:
        words += ["--env-kwargs", json.dumps(kwargs)]
    return shlex.join(words)


@dataclass(frozen=True)
class Report:
    """What ``check_parallel_env`` found.

    Attributes:
        name: the id, or the name of the class.
        groups: one line for each group: its agents, what they observe and do.
        episodes: how many ended, and their shortest, mean and longest length.
        unfinished: how many episodes were left before their end, and after how many steps.
        dying: agents that left while others played on.
        joining: agents that came after the start of an episode.
        waiting: agents that were in the game without being to act.
        masks: where the action masks are, ``observation`` or ``info``; empty without any.
        empty_masks: times that an agent who was to act had no legal action.
        late_rewards: rewards given to agents that had left.
        ends: how many episodes ended by termination and how many by truncation of everybody.
        seeding: what ``reset(seed)`` determines, in words.
        ms_per_step: median milliseconds of a joint step.
        ms_per_reset: median milliseconds of a reset.
        where: packages by their share of the time, in percent.
        corrected: what the game gets wrong and the lean construction puts right.
        problems: broken rules; with any of these the game should not be trained on.
        notes: what deserves a look, though training goes on with it.
        wrappers: wrappers that would help.
        n_envs: recommended number of environments.
        n_workers: recommended number of worker processes, where the game runs in Python.
        twin: whether ``train`` takes a compiled twin of the game, without workers, by itself.
        command: a command line that trains with these numbers; empty for a game without id.
    """

    name: str
    groups: tuple[str, ...]
    episodes: tuple[int, int, float, int]
    unfinished: tuple[int, int]
    dying: tuple[str, ...]
    joining: tuple[str, ...]
    waiting: tuple[str, ...]
    masks: str
    empty_masks: int
    late_rewards: int
    ends: tuple[int, int]
    seeding: str
    ms_per_step: float
    ms_per_reset: float
    where: tuple[tuple[str, int], ...]
    corrected: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    wrappers: tuple[str, ...]
    n_envs: int
    n_workers: int
    twin: bool
    command: str

    @property
    def ok(self) -> bool:
        """Whether no rule was broken."""
        return not self.problems

    def lines(self) -> list[str]:
        """The report as lines of text."""
        number, shortest, mean, longest = self.episodes
        left, n_steps = self.unfinished
        ended = (
            f"  episodes   {number} of {shortest} to {longest} steps, mean {mean:.1f}; "
            f"{self.ends[0]} ended by termination, {self.ends[1]} by truncation of everybody"
        )
        shares = ", ".join(f"{package} {share}%" for package, share in self.where)
        return [
            f"{self.name}: {self._verdict()}",
            *(f"  problem    {problem}" for problem in self.problems),
            *(f"  note       {note}" for note in self.notes),
            *(f"  agents     {group}" for group in self.groups),
            *([ended] if number else ()),
            *([f"  unfinished {left} left after {n_steps} steps"] if left else ()),
            f"  die early  {names(self.dying)}",
            f"  join late  {names(self.joining)}",
            f"  wait       {names(self.waiting)}",
            f"  masks      {'in the ' + self.masks if self.masks else 'none'}"
            + (f"; {self.empty_masks} without a legal action" if self.empty_masks else ""),
            f"  rewards    {self.late_rewards} given to agents that had left",
            f"  seeding    {self.seeding}",
            f"  time       {self.ms_per_step:.3g} ms a step, {self.ms_per_reset:.3g} ms a reset: "
            f"{shares}",
            *(f"  corrected  {text}" for text in self.corrected),
            *(f"  wrapper    {text}" for text in self.wrappers),
            *self._advice(),
        ]

    def _verdict(self) -> str:
        """All in a few words."""
        if not self.ok:
            return "PROBLEMS"
        endless = self.unfinished[0] and not self.episodes[0]
        return "no rule broken, but NO EPISODE ENDED" if endless else "no rule broken"

    def _advice(self) -> list[str]:
        """How to train on the game."""
        workers = f"n_workers={self.n_workers}"
        if self.twin:
            return [
                f"  train with n_envs={self.n_envs}, on the compiled twin, as train does by itself",
                f"  {self.command}",
                f"  in Python (--backend python): {workers}",
            ]
        lines = [f"  train with n_envs={self.n_envs}, {workers}", f"  {self.command}"]
        return lines if self.command else lines[:1]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-like values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.loads(json.dumps({"ok": self.ok, **values}))


def names(agents: tuple[str, ...]) -> str:
    """Name agents; many are counted."""
    if len(agents) > 6:
        return f"{', '.join(agents[:3])} and {len(agents) - 3} more"
    return ", ".join(agents) or "nobody"
