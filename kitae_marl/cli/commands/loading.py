"""This file finds runs for commands, gathers them by seed, and loads their games and agents."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kitae_marl.cli.options.fields import Step
from kitae_marl.config.learner import WhichPolicy
from kitae_marl.config.run import Config
from kitae_marl.config.wrapping import imports_wrappers
from kitae_marl.data.groups import first_match, require_spaces
from kitae_marl.errors import ConfigError
from kitae_marl.runs.own_code import require_allowed, trust_own_code, truster
from kitae_marl.runs.store.contents import CHECKPOINTS, read_config
from kitae_marl.runs.store.search import RunAt, runs_at, split_step
from kitae_marl.runs.store.seats import SeatCopy, seat_copies
from kitae_marl.types import Policy
from kitae_marl.vector.protocol import VecParallelEnv


class GameSetup(NamedTuple):
    """A game as a run plays it.

    Attributes:
        env_id: its id.
        env_kwargs: its keyword arguments, without those for pictures.
        seats: who plays the agents that the run does not, as in its config.
        max_episode_steps: where episodes are truncated; None: they end by themselves.
        copies: of the run's own seats that trained agents play, by pattern, the copies that it
            keeps of them; None where it keeps none.
        wrap: wrappers around it.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    seats: dict[str, str]
    max_episode_steps: int | None = None
    copies: Mapping[str, SeatCopy | None] = MappingProxyType({})
    wrap: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether all agents are the run's and see the game as it is, as an oracle has to."""
        return not self.seats and not self.wrap

    def __str__(self) -> str:
        parts = [f"{name}={value!r}" for name, value in self.env_kwargs.items()]
        parts += self.wrap
        parts += [f"{pattern}: {seat}" for pattern, seat in self.seats.items()]
        if self.max_episode_steps is not None:
            parts.append(f"episodes of at most {self.max_episode_steps} steps")
        return f"{self.env_id} ({', '.join(parts)})" if parts else self.env_id

    def as_json(self) -> dict[str, Any]:
        """Return what was played as JSON, with the digests of the copies that play seats."""
        digests = {pattern: copy and copy.sha256 for pattern, copy in self.copies.items()}
        return {**self._asdict(), "copies": digests}


class SeedRuns(NamedTuple):
    """Runs that differ by their seed alone.

    Attributes:
        names: of the sets and runs, as they were given.
        config: settings of the first run.
        at: the runs, each as of the checkpoint that is meant.
        copies: as of the game.
    """

    names: list[str]
    config: Config
    at: list[RunAt]
    copies: Mapping[str, SeatCopy | None]

    @property
    def paths(self) -> list[Path]:
        """Folders of the runs, each once."""
        return list(dict.fromkeys(one.path for one in self.at))

    @property
    def step(self) -> Step:
        """The step that was asked for; if there are several, that of the first run."""
        return self.at[0].step

    @property
    def policy(self) -> WhichPolicy:
        """The policy that plays; if there are several, that of the first run."""
        return self.at[0].policy

    @property
    def name(self) -> str:
        """The one name, or the first and the last of several."""
        first, last = self.names[0], self.names[-1]
        return first if first == last else f"{first} .. {last}"

    @property
    def game(self) -> GameSetup:
        """The game that they play."""
        kwargs = {k: v for k, v in self.config.env_kwargs.items() if k != "render_mode"}
        config = self.config
        limit = config.max_episode_steps
        return GameSetup(config.env_id, kwargs, config.seats, limit, self.copies, config.wrap)


def find_all(
    names: Iterable[str],
    runs_dir: Path,
    seats: Mapping[str, str] | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    step: Step = None,
    policy: WhichPolicy | None = None,
    apart: bool = True,
) -> list[SeedRuns]:
    """Find all runs that the names stand for, and gather those that differ by seed alone.

    Names are those of runs or of sets, with a step or a policy behind them (``RUN@STEP``,
    ``RUN@average``) or without; ``step`` and ``policy`` are those of all. Runs as of other steps or
    policies are gathered ``apart``, or with the others of their kind.

    Settings that say where a run is computed or saved, not what it learns, may differ too. What
    ``seats`` names counts before the seats that the runs were trained with, ``max_episode_steps``
    and ``env_kwargs`` before theirs.

    Raises:
        ConfigError: without names, and if a step or policy is given twice.
        NoCheckpointError: if there is no run of a name.
    """
    gathered: dict[str, SeedRuns] = {}
    for name in names:
        for one in runs_at(name, runs_dir, step, policy):
            path = one.path
            config = read_config(path)
            kept = {p: s for p, s in config.seats.items() if not _is_hidden(p, seats or {})}
            copies = seat_copies(path, kept)
            config = dataclasses.replace(config, seats={**(seats or {}), **kept})
            if env_kwargs:
                kwargs = {**config.env_kwargs, **env_kwargs}
                config = dataclasses.replace(config, backend="auto", env_kwargs=kwargs)
            if max_episode_steps is not None:
                config = dataclasses.replace(
                    config, backend="auto", max_episode_steps=max_episode_steps
                )
            how = {"n_workers": None, "backend": "auto", "strict_bounds": False}
            how |= {"save_every": 1, "keep": 1}
            same = dataclasses.replace(config, seed=0, **how).to_json()
            opponents = [(pattern, copy and copy.sha256) for pattern, copy in copies.items()]
            same += json.dumps(opponents)  # who played against others has played another game
            same += str(one.how) if apart else ""
            group = gathered.setdefault(same, SeedRuns([], config, [], copies))
            if one not in group.at:
                group.at.append(one)
            called = Path(name if apart else split_step(name).run).name
            if called not in group.names:
                group.names.append(called)
    if not gathered:
        raise ConfigError("run: expected the name of at least one run, got none.", "run")
    return list(gathered.values())


def _is_hidden(pattern: str, earlier: Iterable[str]) -> bool:
    """Whether a pattern, or the one agent that it names, is among earlier patterns."""
    one_agent = not any(sign in pattern for sign in "*?[")
    return pattern in earlier or (one_agent and first_match(pattern, earlier) is not None)


def require_one_game(gathered: Iterable[SeedRuns]) -> GameSetup:
    """Return the game that all runs play.

    Raises:
        ConfigError: naming two games where there are several.
    """
    first, *rest = (group.game for group in gathered)
    for game in rest:
        if game != first:
            raise ConfigError(
                f"expected runs of one game, got {first} and {game}; only evaluate takes runs of "
                "several."
            )
    return first


def require_trust(game: GameSetup, allow_import: bool) -> None:
    """Raise a ConfigError for a game or wrapper that is code to import, unless that was allowed."""
    from kitae_marl.vector.ids import imports_code

    games = [game.env_id] if imports_code(game.env_id) else []
    require_allowed({"env_id": games, "wrap": imports_wrappers(game.wrap)}, allow_import)


def open_game(
    game: GameSetup,
    n_envs: int,
    *,
    n_workers: int | None,
    runs_dir: Path,
    allow_import: bool,
    **kwargs: Any,
) -> VecParallelEnv:
    """Make environments of the original game, with the seats filled that the run left to others.

    Of those who play the seats, the code is imported where ``allow_import`` says so.
    """
    from kitae_marl.vector.make import make_vec_env

    env = make_vec_env(
        game.env_id,
        n_envs,
        n_workers=n_workers,
        wrap=game.wrap,
        vector_options={"max_episode_steps": game.max_episode_steps},
        **game.env_kwargs,
        **kwargs,
    )
    if not game.seats:
        return env
    from kitae_marl.selfplay.seat_filler import SeatFiller

    trust = truster(allow_import)
    return SeatFiller(game.seats, runs_dir, copies=game.copies, trust=trust).seat(env)


def checkpoint_step(at: RunAt) -> int | None:
    """Return the environment step of the checkpoint that is meant, made sure to be there.

    Raises:
        NoCheckpointError: if there is none.
    """
    if at.step is None:
        return None
    from kitae_marl.runs.store.checkpoint import RunCheckpointer

    n_envs = read_config(at.path).n_envs
    keeper = RunCheckpointer(at.path / CHECKPOINTS, save_every=1, num_envs=n_envs)
    found = keeper.step_of(at.step)
    keeper.path(found)
    return found


def load_policy(
    at: RunAt,
    env: VecParallelEnv,
    *,
    sample: bool,
    simulations: int | None = None,
    allow_import: bool = False,
) -> Policy:
    """Load the agent of a run, as of a checkpoint, as a policy for the agents of environments.

    Raises:
        ConfigError: if it does not know one of them, or was trained by code that is to be imported
            where that was not allowed; or for simulations, if it does not search.
        ValueError: if it knows them with other spaces.
    """
    from kitae_marl.runs.agent import Agent
    from kitae_marl.selfplay.seats import policy_for

    trust_own_code(at.path, allow_import)
    agents = list(env.possible_agents)
    agent = Agent.load(at.path, **at.how, simulations=simulations)
    unknown = [name for name in agents if name not in agent.possible_agents]
    if unknown:
        try:
            return policy_for(agent.player(env=env), agents, sample=sample)
        except ConfigError as error:
            raise ConfigError(
                f"seats: the run {at.path.name} plays {agent.possible_agents}, not {unknown}, and "
                f"cannot play for these: {error} Or give them a seat (--seats).",
                "seats",
            ) from None
    require_spaces(env, agents, agent.groups)
    return policy_for(agent, agents, sample=sample)
