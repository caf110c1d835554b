"""This file lets every player of one side meet every player of the other, where nobody wins.

What predators get says nothing of what prey gets: in games whose sides are unlike, players cannot
be rated on one scale. What can be told is the mean return of each side in each pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kitae_marl.selfplay.matches import Arena
from kitae_marl.selfplay.seat_takers import NamedGame, SomePlayer
from kitae_marl.selfplay.tournaments import by_name
from kitae_marl.vector.protocol import VecParallelEnv


class CrossPlay(NamedTuple):
    """Mean returns of all players as one side against all as the other.

    Attributes:
        players: names of the rows (who plays the first side) and of the columns (the second).
        sides: agents of the two sides by the side's name.
        returns: by the side's name what it got on average, the mean over its agents, ``[n, n]``.
        games: games behind each number.
    """

    players: tuple[str, ...]
    sides: dict[str, tuple[str, ...]]
    returns: dict[str, np.ndarray]
    games: int


def cross_play(
    players: Sequence[SomePlayer] | Mapping[str, SomePlayer],
    game: str | VecParallelEnv | NamedGame,
    games: int = 100,
    *,
    seed: int = 0,
    sample: bool = False,
    n_workers: int | None = 0,
    runs_dir: str | Path = "runs",
    **env_kwargs: Any,
) -> CrossPlay:
    """Let every player as the first side meet every player as the second, itself included.

    Args:
        players: as for :func:`tournament`.
        game: as for ``tournament``, of any two sides, also where there is no winner; likewise
            ``seed``, ``sample``, ``n_workers``, ``runs_dir`` and ``env_kwargs``.
        games: games of each row with each column.

    Raises:
        ConfigError, NoCheckpointError, ValueError: as ``tournament``, except for what a win is.

    Example:
        >>> still = lambda observations, infos: {a: 0 * o[:, 0].astype(int)
        ...                                      for a, o in observations.items()}
        >>> found = cross_play({"still": still, "random": "random"}, "mpe/simple_tag-v3", 4)
        >>> found.sides
        {'adversary': ('adversary_0', 'adversary_1', 'adversary_2'), 'agent': ('agent_0',)}
        >>> prey = found.returns["agent"]  # rows: who plays the predators
        >>> prey.shape
        (2, 2)
    """
    named = by_name(players)
    arena = Arena(game, games, seed, sample, n_workers, runs_dir, env_kwargs)
    try:
        takers = [arena.seat_taker(name, player) for name, player in named.items()]
        means = np.array(
            [[arena.returns(one, other).mean(axis=0) for other in takers] for one in takers]
        )
        sides = arena.named_sides()
    finally:
        arena.close()
    returns = {side: means[:, :, i] for i, side in enumerate(sides)}
    return CrossPlay(tuple(named), sides, returns, games)
