"""This file has the options of the command that lets players meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kitae_marl.cli.options.fields import Counts, JsonObject, PlayerNames, Positional
from kitae_marl.config.learner import WhichPolicy


@dataclass(frozen=True)
class Tournament:
    """Let all players meet all others in the original game, from both seats, and rate them.

    Where nobody wins, as in games of unlike sides, there are no ratings: every player as the first
    side meets every player as the second, and what is told is the mean return of each side.
    """

    players: Positional[PlayerNames]
    """Who plays: runs by path or name (a set of seeds is as many players), ``RUN@STEP``,
    ``RUN@average``, ``random``, and scripted players as ``bot:NAME`` (a wrong name lists those
    of the game)."""
    games: int = 400
    """Games of each pair, half of them from each seat; where nobody wins, of each player of the
    first side with each of the second."""
    game: str | None = None
    """Id of the game; None: that of the runs."""
    policy: WhichPolicy | None = None
    """The policy of a run that plays: ``last``, or the ``average`` of those that there were in
    training, where it was kept; None: the last one, or that of ``RUN@average``."""
    sample: bool = False
    """Let runs sample their actions as in training, instead of taking the most probable ones."""
    simulations: Counts = ()
    """Positions that runs which search (alphazero) look at before each move, such as ``0,64``: each
    such run enters once for each number; 0: it plays by its network alone; none: as the runs
    say."""
    anchor: str = "random"
    """Player who is rated 0; where nobody is called random, the mean of all is."""
    out: Path | None = None
    """Draw ratings and mean scores, or the mean returns of each side, into this file (.png, .pdf,
    .svg); needs kitae-marl[plot]."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Arguments of the game in place of those of the runs."""
    max_episode_steps: int | None = None
    """Truncate games of that many steps; None: as the runs were trained, if any."""
    n_workers: int | None = None
    """Worker processes; None: one per core; 0: none."""
    seed: int = 1_000_000
    """Seed of the games and of what is drawn; far from the seeds of training."""
    allow_import: bool = False
    """Import the module that a game or run names as ``module:name``."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""
