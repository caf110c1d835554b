"""This file has the options of the command by which a person plays."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kitae_marl.cli.options.fields import GameId, JsonObject, Positional
from kitae_marl.config.learner import WhichPolicy


@dataclass(frozen=True)
class Play:
    """Play a game in the terminal against a run; it says what it thinks, and takes moves back."""

    id: Positional[GameId]
    """Id of a game whose actions are numbers, such as classic/connect_four-v3."""
    opponent: Positional[str] = "random"
    """Who plays the other seats: a run by path or name, ``RUN@STEP``, ``random``, or a
    scripted player, ``bot:NAME``."""
    seat: tuple[str, ...] = ()
    """Agents that you play, such as player_1; the first of the game if not given. With all of them
    named people play each other."""
    moves: str | None = None
    """What you say, by commas, in place of the keyboard: moves, ``u``, ``?``, ``q``."""
    env_kwargs: JsonObject = field(default_factory=dict)
    """Arguments of the game in place of the run's."""
    policy: WhichPolicy | None = None
    """The policy of a run that plays: ``last``, or the ``average`` of those that there were in
    training, where it was kept; None: the last one, or that of ``RUN@average``."""
    sample: bool = False
    """Let the run sample its actions as in training, instead of taking the most probable ones."""
    simulations: int | None = None
    """Positions that a run looks at before each move, if it searches (alphazero); 0: none, it plays
    by its network alone; None: as the run says."""
    seed: int = 0
    """Seed of the game, of its cards, and of what is sampled."""
    allow_import: bool = False
    """Import the module that a game or run names as ``module:name``."""
    runs_dir: Path = Path("runs")
    """Folder that holds the run folders."""
    json: bool = False
    """Print one JSON object as the last line."""
