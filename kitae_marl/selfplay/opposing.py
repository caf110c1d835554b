"""This file sets a learner's opponents to work: who they are, where they sit, and their pool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from kitae_envs.opposed import OpposedGame, random_opponent

from kitae_marl.config.opponents import BOT, FROZEN, LATEST, POOL, RANDOM, Opponents, rows_of
from kitae_marl.config.run import Config
from kitae_marl.data.groups import first_match
from kitae_marl.errors import ConfigError, UnknownEnvironmentError
from kitae_marl.evaluation.playing import sides_of
from kitae_marl.players.player import Player
from kitae_marl.players.policies import random_policy
from kitae_marl.players.scripted.bots import bot_named
from kitae_marl.runs.agent import Agent
from kitae_marl.selfplay.matchmaking import WAYS, Matchmaking
from kitae_marl.selfplay.pool import Places, Pool
from kitae_marl.selfplay.seat_filler import SeatFiller
from kitae_marl.selfplay.seat_takers import known_to_all_seats
from kitae_marl.selfplay.seats import Frozen
from kitae_marl.selfplay.slots import SlotPolicy, compiled_opponent
from kitae_marl.types import Opposition, opposition_of
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv
from kitae_marl.vector.adapters.opposed import HostOpponent, OpposedVecParallelEnv
from kitae_marl.vector.ids import imported
from kitae_marl.vector.protocol import VecParallelEnv

_LOG = logging.getLogger("kitae_marl.selfplay.opposing")


def oppose(
    env: VecParallelEnv,
    agent: Agent,
    opponents: Opponents | Mapping[str, Any] | None = None,
    *,
    seats: SeatFiller | None = None,
) -> VecParallelEnv:
    """Return environments in which an agent meets opponents while it is trained.

    ``kitae_marl.train(..., opponents=...)`` does this by itself; here the environments are yours.

    Args:
        env: the vector of environments; a part of what is returned, which closes it.
        agent: the learner, made for them.
        opponents: who plays; None: those of the agent's config.
        seats: loads the runs that ``frozen:RUN`` names, of which a run keeps copies; None: trained
            agents are given as ``Opponents({name: share}, players={name: Agent.load(RUN)})``.

    Raises:
        ConfigError: for opponents that there are not or that cannot play here, shares that are too
            small, games without two teams, and environments that have opponents; the message names
            it.
        TypeError: for what is no vector of environments, or no agent.

    Example:
        >>> from kitae_marl import Agent, Config, PPOConfig, make_vec_env
        >>> small = PPOConfig(n_steps=8)
        >>> config = Config("classic/tictactoe-v3", n_envs=4, env_steps=64, ppo=small)
        >>> env = make_vec_env(config.env_id, 4, n_workers=0)
        >>> agent = Agent(env, config)
        >>> against = oppose(env, agent, {"latest": 0.5, "random": 0.5})
        >>> agent.train(against, show=False)["env_steps"]
        64
    """
    if not isinstance(agent, Agent) or not isinstance(env, VecParallelEnv):
        got = f"{type(env).__name__} and {type(agent).__name__}"
        raise TypeError(f"expected a vector of environments and a kitae_marl.Agent, got {got}.")
    if opposition_of(env) is not None:
        raise ConfigError(
            "opponents: expected environments without, got some in which opponents play already.",
            "opponents",
        )
    config = agent.config
    settings = config.others if opponents is None else Opponents.of(opponents)
    if settings is None:
        raise ConfigError(
            'opponents: expected who plays, such as {"latest": 0.5, "pool": 0.5}, got none beside '
            "a config that names nobody.",
            "opponents",
        )
    teams = teams_of(env, settings.teams)
    players = {
        name: _player(name, settings, env, config, seats)
        for name in settings.shares
        if name not in (LATEST, POOL, RANDOM)
    }
    functions = [n for n, player in players.items() if not isinstance(player, Frozen)]
    compiled = env.game is not None and not functions
    if env.game is not None and functions:
        _LOG.warning(
            "%s is played by Python functions, which cannot act inside XLA; the compiled games are "
            "stepped from Python",
            ", ".join(functions),
        )
    n_parts = jax.device_count() if compiled else 1
    rows = rows_of(settings.shares, env.num_envs // n_parts, settings.slots if compiled else 1)
    first = {LATEST: rows.pop(LATEST)} if LATEST in rows else {}
    n_pool = rows.get(POOL, 0)
    n_slots = min(settings.slots, n_pool) if compiled else n_pool
    places = Places(first | rows, n_parts, n_slots, teams)
    pool = Pool(
        settings,
        places,
        _matchmaking(settings),
        n_steps=config.learner.n_steps,
        cuts=compiled,
        env_steps=config.env_steps,
        seed=config.seed,
    )
    around = _compiled if compiled else _on_the_host
    return around(env, agent, places, players, pool)


class OpposedCompiled(CompiledVecParallelEnv):
    """Compiled games with opponents in them.

    Attributes:
        opposition: who plays there.
    """

    def __init__(self, game: OpposedGame, env: VecParallelEnv, opposition: Opposition) -> None:
        super().__init__(game, env.num_envs, with_state=env.with_state)
        self.opposition: Opposition | None = opposition


def teams_of(env: VecParallelEnv, given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return who plays together, by name of the team.

    Args:
        env: the environments.
        given: names and patterns by name; none: two agents are two teams, else each group is one,
            or each agent where there is one group.

    Raises:
        ConfigError: if agents are in no team, a team is empty, or there are not two.
    """
    agents = list(env.possible_agents)
    if not given:
        if len(agents) < 2:
            raise ConfigError(
                f"opponents: expected a game of two agents or more, got one of {agents}.",
                "opponents",
            )
        sides = [(agent,) for agent in agents] if len(agents) == 2 else sides_of(env)
        names = {group.agents: group.name for group in env.groups}
        return {side[0] if len(side) == 1 else names[side]: side for side in sides}
    teams: dict[str, list[str]] = {name: [] for name in given}
    for agent in agents:
        name = next(
            (
                name
                for name, patterns in given.items()
                if first_match(agent, [patterns] if isinstance(patterns, str) else patterns)
            ),
            None,
        )
        if name is None:
            raise ConfigError(
                f"opponents.teams: expected a team for each of {agents}, got none for {agent} in "
                f"{dict(given)}.",
                "opponents",
            )
        teams[name].append(agent)
    empty = [name for name, members in teams.items() if not members]
    if empty or len(teams) < 2:
        raise ConfigError(
            f"opponents.teams: expected two teams or more with agents of {agents} in each, got "
            f"{teams}.",
            "opponents",
        )
    return {name: tuple(members) for name, members in teams.items()}


def _player(
    name: str, settings: Opponents, env: VecParallelEnv, config: Config, seats: SeatFiller | None
) -> Any:
    """Find who plays under a name: a ``Frozen``, or a policy."""
    given: Any
    if name in settings.players:
        given = settings.players[name]
        if isinstance(given, Agent | Player):
            given = Frozen(given.player(), True)
    elif name.startswith(FROZEN):
        if seats is None:
            raise ConfigError(
                f"opponents: expected a trained agent for environments of your own, got {name!r}; "
                "give Opponents({name: share}, players={name: Agent.load(RUN)}).",
                "opponents",
            )
        given = Frozen(seats.load(name).player(), True)
    elif name.startswith(BOT):
        given = bot_named(name, config.env_id, config.env_kwargs).make(env, config.seed)
    elif ":" in name:
        given = _imported(name)
    else:
        raise ConfigError(
            f"opponents: expected {LATEST}, {POOL}, {RANDOM}, {FROZEN}RUN, {BOT}NAME, module:name "
            f"or one of players={{...}}, got {name!r}.",
            "opponents",
        )
    if isinstance(given, Frozen):
        return given._replace(player=known_to_all_seats(name, given.player, env))
    if not callable(given):
        raise ConfigError(
            f"opponents: expected a function (observations, infos) -> actions, an agent or "
            f"frozen(...) as {name}, got {given!r}.",
            "opponents",
        )
    return given


def _imported(name: str) -> Callable[..., Any]:
    """Import a function that is named as module:name."""
    try:
        found = imported(name)
    except UnknownEnvironmentError as error:  # its words fit whatever is named so
        raise ConfigError(f"opponents: {error}", "opponents") from None
    if not callable(found):
        raise ConfigError(
            f"opponents: expected {name} to be a function, got {found!r}.", "opponents"
        )
    return found


def _matchmaking(settings: Opponents) -> Matchmaking:
    """Return the function that chooses members of the pool."""
    given = settings.matchmaking
    if not isinstance(given, str):
        return given
    if given in WAYS:
        return WAYS[given]
    return _imported(given)


def _compiled(
    env: VecParallelEnv,
    agent: Agent,
    places: Places,
    players: Mapping[str, Any],
    opposition: Opposition,
) -> VecParallelEnv:
    """Seat opponents inside the program of compiled games."""
    game: Any = env.game
    sections, changing = [], None
    for name, n_envs in places.rows.items():
        if name == LATEST:
            continue
        if name == POOL:
            shapes = agent.algorithm.acting(agent.state_shapes)
            states = jax.tree.map(lambda s: np.zeros((places.n_slots, *s.shape), s.dtype), shapes)
            changing = len(sections)
            opponent = compiled_opponent(game, agent, places.n_slots, states)
        elif name == RANDOM:
            opponent = random_opponent(game)
        else:
            player = players[name].player
            states = jax.tree.map(lambda x: np.asarray(x)[None], player.state)
            opponent = compiled_opponent(game, player, 1, states)
        sections.append((n_envs, opponent))
    opposed = OpposedGame(game, list(places.teams.values()), sections, changing)
    return OpposedCompiled(opposed, env, opposition)


def _on_the_host(
    env: VecParallelEnv,
    agent: Agent,
    places: Places,
    players: Mapping[str, Any],
    opposition: Opposition,
) -> VecParallelEnv:
    """Seat opponents between two steps."""
    seed = agent.config.seed
    opponents = []
    for number, (name, n_envs) in enumerate(places.rows.items()):
        if name == LATEST:
            continue
        seat = None
        if name == POOL:
            slots = SlotPolicy(agent, n_envs, seed)
            policy, seat = slots, slots.seat
        elif name == RANDOM:
            policy = random_policy(_some(env, n_envs), seed + number)
        elif isinstance(players[name], Frozen):
            player = players[name].player.player(seed=seed + number)
            policy = partial(player.select_action, sample=players[name].sample)
        else:
            policy = players[name]
        opponents.append(HostOpponent(n_envs, policy, seat))
    return OpposedVecParallelEnv(env, list(places.teams.values()), opponents, opposition)


def _some(env: VecParallelEnv, n_envs: int) -> Any:
    """Return the agents of environments and their spaces, of another number of them."""
    return SimpleNamespace(
        possible_agents=list(env.possible_agents),
        num_envs=n_envs,
        observation_space=env.observation_space,
        action_space=env.action_space,
    )
