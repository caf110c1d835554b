"""This file checks a parallel game by playing it: who dies, joins and waits, what breaks, and how
to train on it.
"""

from __future__ import annotations

import cProfile
import json
import logging
import math
import os
import pstats
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from gymnasium import spaces
from kitae_envs.spaces import flat_space
from pettingzoo import ParallelEnv

from kitae_marl.config.run import Config
from kitae_marl.data.groups import learning_groups
from kitae_marl.data.spaces import integer_choices, leaves, space_text
from kitae_marl.vector.adapters.as_parallel import SingleParallelEnv, adapted_game, as_parallel
from kitae_marl.vector.adapters.compiled_games import twin_serves
from kitae_marl.vector.adapters.own_games import takes_seed
from kitae_marl.vector.adapters.pictures import wrappers_for
from kitae_marl.vector.catalogue.playout import Observed, RandomPlayer
from kitae_marl.vector.catalogue.report import Report, names
from kitae_marl.vector.lean.build import QUIRKS
from kitae_marl.vector.logs import collected, logger
from kitae_marl.vector.make import make_parallel_env
from kitae_marl.vector.options import n_cores
from kitae_marl.vector.stepping.faults import error_from, report_exception
from kitae_marl.vector.workers.answers import OUTSIDE
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

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

    The game is stepped by the vector that training uses, so what training refuses is a problem
    here, and what it says and goes on with is a note, both in the same words.

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
        TypeError: if ``env`` is no parallel game.
        VectorEnvError: if there is nothing to play: the function raises or makes no game, or its
            agents or spaces are not to be had. Training raises the same.
    """
    make, name = _maker(env, kwargs)
    with collected() as said:
        game = as_parallel(env) if make is None else _made(make)
        if not isinstance(game, ParallelEnv):
            raise TypeError(
                f"expected one parallel environment, got {type(game).__name__}; check a single "
                "environment of the vector instead."
            )
        player, clock = RandomPlayer(game, max_episode_steps, strict_bounds), time.perf_counter()
        seen = player.observed
        for episode in range(episodes):
            player.play(seed + episode, max_steps, action_seed=episode)
            endless = not seen.lengths and max(seen.unfinished, seen.refused) >= ENDLESS
            if endless or time.perf_counter() - clock > patience:
                break
        steps = _affordable(max_steps, patience / 4, time.perf_counter() - clock, seen)
        seeding, problems, where = "not compared, as a rule was broken", [], ()
        if not seen.refused:
            seeding, problems = _check_seeding(make, game, seed + episodes, steps)
            where = _profile(game, seed, min(steps, 300))
            seen.notes.update(_notes_of_state(game, seed, min(steps, 300)))
    _ask_learner(player)
    seen.notes.update(_sentences(said))
    limit = {} if max_episode_steps is None else {"--max-episode-steps": max_episode_steps}
    report = _report(name, game, player, max_steps, seeding, problems, where, kwargs, limit)
    if make is not None:
        _close(game)
    return report


def _maker(env: Any, kwargs: dict[str, Any]) -> tuple[Callable[[], Any] | None, str]:
    """A function that makes fresh copies, if there is one, and the name of the game."""
    if isinstance(env, str):
        return lambda: make_parallel_env(env, **kwargs), env
    if kwargs:
        raise TypeError(f"expected arguments of the game only beside an id, got {list(kwargs)}.")
    if callable(env) and not isinstance(env, ParallelEnv):
        return env, getattr(env, "__name__", type(env).__name__)
    return None, type(env).__name__


def _made(make: Callable[[], Any]) -> Any:
    """Make a game; what is wrong is said as training says it of the first environment.

    Raises:
        VectorEnvError: if it cannot be made, or is no game.
    """
    try:
        return adapted_game(make())
    except Exception as error:
        report = report_exception(error, env_index=0, phase="start", step=0, seed=0)
        raise error_from([(report, os.getpid(), 0)]) from error


def _close(game: Any) -> None:
    """Close a game; what it raises is logged, as it is after a training."""
    try:
        game.close()
    except Exception as error:
        logger.warning("close() of an environment raised %s: %s", type(error).__name__, error)


def _sentences(records: Iterable[logging.LogRecord]) -> list[str]:
    """What was said of the game, each once; what lies out of bounds the player itself counts."""
    texts = (record.getMessage() for record in records if record.msg is not OUTSIDE)
    return [*dict.fromkeys(re.sub(r"^env 0: ", "", text) for text in texts)]


def _affordable(max_steps: int, budget: float, seconds: float, seen: Observed) -> int:
    """The joint steps that fit into ``budget`` seconds, at least 20, at the speed of the play."""
    per_step = seconds / max(1, len(seen.step_seconds))
    return min(max_steps, max(20, int(budget / per_step)))


def _digests(game: Any, seed: int, max_steps: int) -> tuple[list[bytes], bool]:
    """Everything said in an episode from this seed, always with the same actions; whether whole."""
    player = RandomPlayer(game)
    player.play(seed, max_steps, action_seed=seed)
    return player.observed.digests, not player.observed.unfinished


def _check_seeding(
    make: Callable[[], Any] | None, used: Any, seed: int, max_steps: int
) -> tuple[str, list[str]]:
    """Compare whole episodes of a used game with itself, and with fresh copies."""
    if not takes_seed(used):
        return "reset() takes no seed", []
    (first, whole), (again, _) = (_digests(used, seed, max_steps) for _ in range(2))
    copies = [first]
    if make is not None:
        for _ in range(2):
            fresh = _made(make)
            copies.append(_digests(fresh, seed, max_steps)[0])
            _close(fresh)
        if copies[1] != copies[2]:
            return "two fresh copies differ", ["reset(seed) does not determine an episode"]
    step = next((i for i, x in enumerate(zip(*copies, strict=False)) if len(set(x)) > 1), None)
    if first != again or step is not None or len(set(map(len, copies))) > 1:
        where = "" if step is None else f", from step {step} on"
        return f"state survives reset(seed){where}", ["a used game differs from a fresh one"]
    compared = "also on a used game" if make is not None else "on one used game"
    what = "whole episodes" if whole else f"the first {max_steps} steps"
    return f"reset(seed) determines {what}, {compared}", []


def _notes_of_state(game: Any, seed: int, max_steps: int) -> list[str]:
    """Say what a critic that sees the global state would not be trained on."""
    if not isinstance(getattr(game, "state_space", None), spaces.Box):
        return []
    player = RandomPlayer(game, with_state=True)
    player.play(seed, max_steps)
    refused = "with a critic that sees the global state (--algo mappo) training refuses the game"
    return [f"{refused}: {text}" for text in player.observed.problems]


def _ask_learner(player: RandomPlayer) -> None:
    """Say what the networks of the package's own algorithms neither see nor do."""
    try:
        for group in learning_groups(player.vec, Config()):
            for _, part in flat_space(group.action_space):
                if isinstance(part, spaces.Box) and not np.issubdtype(part.dtype, np.floating):
                    integer_choices(part)
    except (TypeError, ValueError) as error:
        player.observed.problems[str(error)] += 1


def _profile(game: Any, seed: int, max_steps: int) -> tuple[tuple[str, int], ...]:
    """Where the time of some steps goes, by package."""
    profiler, player = cProfile.Profile(), RandomPlayer(game)
    original = game.step
    profiled: Callable[..., Any] = lambda actions: profiler.runcall(original, actions)  # noqa: E731
    player.watched.env = _Stepping(game, profiled)
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
    player: RandomPlayer,
    max_steps: int,
    seeding: str,
    problems: list[str],
    where: tuple[tuple[str, int], ...],
    kwargs: dict[str, Any],
    limit: dict[str, int],
) -> Report:
    """Put the report together."""
    seen, vec = player.observed, player.vec
    notes = [f"{text} ({times} times)" for text, times in seen.notes.most_common()]
    if seen.unfinished and not seen.lengths:
        notes.insert(
            0,
            f"no episode ended within {max_steps} steps; if the game never ends by itself, train, "
            f"evaluate and watch it with --max-episode-steps {max_steps}",
        )
    broken = [f"{text} ({times} times)" for text, times in seen.problems.most_common()]
    ms = 1e3 * float(np.median(seen.step_seconds)) if seen.step_seconds else 0.0
    n_envs, n_steps = _recommended(vec, ms)
    n_workers, wrappers = min(n_envs, n_cores()), _wrappers(game)
    twin = not limit and twin_serves(name, kwargs)
    lengths = seen.lengths or [0]
    return Report(
        name=name,
        groups=_group_lines(vec),
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
        ms_per_reset=1e3 * float(np.median(seen.reset_seconds)) if seen.reset_seconds else 0.0,
        where=where,
        corrected=tuple(
            text
            for prefix, text in QUIRKS.items()
            if name.startswith(prefix) and not kwargs.get("stock")
        ),
        problems=tuple(problems + broken),
        notes=tuple(notes),
        wrappers=wrappers,
        n_envs=n_envs,
        n_workers=n_workers,
        twin=twin,
        command=_command(
            name, kwargs, n_envs, None if twin else n_workers, n_steps, limit, wrappers
        )
        if "/" in name or ":" in name
        else "",
    )


def _group_lines(vec: SubProcVecParallelEnv) -> tuple[str, ...]:
    """One line for each group: its agents, what they observe and what they do."""
    return tuple(
        f"{names(group.agents)}: {space_text(group.observation_space)} -> "
        f"{space_text(group.action_space)}"
        for group in vec.groups
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
    """Wrappers that would help with what the agents see, as ``--wrap`` takes them."""
    if isinstance(game, SingleParallelEnv):
        return ()
    return wrappers_for([game.observation_space(agent) for agent in game.possible_agents])


def _command(
    name: str,
    kwargs: dict[str, Any],
    n_envs: int,
    n_workers: int | None,
    n_steps: int,
    limit: dict[str, int],
    wrappers: tuple[str, ...],
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
    if wrappers:
        words += ["--wrap", *wrappers]
    return shlex.join(words)
