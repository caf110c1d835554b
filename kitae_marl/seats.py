"""Seats: agents of a game that are played by a given policy, so that the others can be trained.

An opponent is part of the environment: :func:`with_seats` returns the environment of the agents
that are left. Compiled games ask random and frozen seats inside their own program.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from kitae_marl.agent import Agent
from kitae_marl.config import FROZEN
from kitae_marl.evaluation import random_policy
from kitae_marl.groups import require_spaces, without_mask
from kitae_marl.runs import run_path
from kitae_marl.types import Policy
from kitae_marl.vector.seated import HostSeat, SeatedVecParallelEnv

if TYPE_CHECKING:
    from kitae_envs.core import Game, View
    from kitae_envs.seats import Seat

_LOG = logging.getLogger("kitae_marl.seats")


class Frozen(NamedTuple):
    """A trained agent that plays and learns nothing more; made by :func:`frozen`."""

    agent: Agent
    sample: bool


def frozen(run: str | Path | Agent, *, step: int | None = None, sample: bool = True) -> Frozen:
    """Return a trained agent as it is now, to be given a seat.

    Args:
        run: path of a run folder, name of a run in ``runs``, or an agent.
        step: joint step of the checkpoint; None: the newest.
        sample: sample actions as in training (True), or take the most probable ones.

    Raises:
        NoCheckpointError: if there is no such run or no readable checkpoint.
        ValueError: if ``step`` is given with an agent.
    """
    if isinstance(run, Agent):
        if step is not None:
            raise ValueError(f"expected a step with a run only, got step={step} with an agent.")
        return Frozen(run.player(), sample)
    return Frozen(Agent.load(run, step=step), sample)


def with_seats(env: Any, seats: Mapping[str, str | Frozen | Policy]) -> Any:
    """Return the environments with fewer agents: those of ``seats`` are played for.

    Args:
        env: a vector of parallel environments; it is part of what is returned, which closes it.
        seats: by shell pattern of agent names, of which the first that matches counts:
            ``"random"`` (every allowed action with equal probability), ``frozen(run)``, or a Python
            function ``(observations, infos) -> actions`` that gets all agents' and returns at least
            its own, ``{agent: [E, ...]}``.

    Returns:
        A vector of the agents without a seat; ``infos["episode"]["seat_return"]`` holds the returns
        of the others. Compiled games stay compiled, without that entry; a Python function cannot
        act inside their program, so with one they are stepped from Python (a warning is logged).

    Raises:
        TypeError: for an environment that is no vector, or a seat of another kind.
        ValueError: if a pattern matches no agent, no agent is left, or a frozen agent does not know
            the agents it is to play, or other spaces of them.

    Example:
        ``with_seats(env, {"adversary_*": frozen("first"), "agent_0": "random"})``
    """
    if not hasattr(env, "num_envs") or not hasattr(env, "possible_agents"):
        raise TypeError(
            f"expected a vector of parallel environments, got {type(env).__name__}; make one by "
            "make_vec_env."
        )
    places = [(seats[pattern], agents) for pattern, agents in _matches(env, seats).items()]
    for seat, agents in places:
        _require_seat(seat, agents, env)
    if hasattr(env, "game"):
        if not any(callable(seat) for seat, _ in places):
            from kitae_envs.seats import SeatedGame  # imports JAX

            chosen = [_compiled_seat(seat, agents, env.game) for seat, agents in places]
            return env.with_game(SeatedGame(env.game, chosen))
        _LOG.warning(
            "a seat is played by a Python function, which cannot act inside XLA; the compiled "
            "games are stepped from Python"
        )
    return SeatedVecParallelEnv(env, [_host_seat(seat, agents, env) for seat, agents in places])


def _matches(env: Any, patterns: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the agents of each pattern, the first that matches an agent counting."""
    found: dict[str, list[str]] = {}
    for agent in env.possible_agents:
        for pattern in patterns:
            if fnmatch.fnmatchcase(agent, pattern):
                found.setdefault(pattern, []).append(agent)
                break
    idle = [p for p in patterns if not fnmatch.filter(env.possible_agents, p)]
    if idle or not patterns or sum(map(len, found.values())) == len(env.possible_agents):
        raise ValueError(
            f"expected patterns of seats that match some of {list(env.possible_agents)} and leave "
            f"at least one agent, got {list(patterns)}"
            + (f"; {idle} match none." if idle else "; give fewer, or none at all.")
        )
    return {pattern: tuple(agents) for pattern, agents in found.items()}


def _require_seat(seat: Any, agents: tuple[str, ...], env: Any) -> None:
    """Raise unless a seat is of a known kind and can play for these agents."""
    if isinstance(seat, Frozen):
        player = seat.agent.player(agents)
        require_spaces(_only(env, player.possible_agents), player.possible_agents, player.groups)
    elif seat != "random" and not callable(seat):
        raise TypeError(
            f"expected 'random', frozen(run) or a function (observations, infos) -> actions as the "
            f"seat of {list(agents)}, got {seat!r}."
        )


def _only(env: Any, agents: Sequence[str]) -> Any:
    """Some agents of an environment, and their spaces."""
    return SimpleNamespace(
        possible_agents=list(agents),
        num_envs=env.num_envs,
        observation_space=env.observation_space,
        action_space=env.action_space,
    )


def _host_seat(seat: Any, agents: tuple[str, ...], env: Any) -> HostSeat:
    """Make the seat that acts between two steps."""
    if seat == "random":
        return HostSeat(agents, partial(random_policy, _only(env, agents)))
    if not isinstance(seat, Frozen):
        return HostSeat(agents, lambda seed: seat)
    player = seat.agent.player(agents)

    def start(seed: int) -> Policy:
        return partial(player.player(seed=seed).select_action, sample=seat.sample)

    return HostSeat(agents, start)


def _compiled_seat(seat: Any, agents: tuple[str, ...], game: Game) -> Seat:
    """Make the seat that acts inside a compiled game."""
    from kitae_envs.seats import Seat, random_seat, take

    if seat == "random":
        return random_seat(game, agents)
    player = seat.agent.player(agents)
    policy = _policy_function(player, seat.sample)

    def act(key: Any, view: View, memory: Any) -> tuple[dict[str, Any], Any]:
        import jax

        def rows(by_group: Any) -> dict[str, Any]:
            """Regroup as the agent does, as a batch of one."""
            taken = {g.name: take(game, by_group, g.agents) for g in player.groups}
            return jax.tree.map(lambda leaf: leaf[None], taken)

        seen = {name: without_mask(part) for name, part in rows(view.observation).items()}
        action, memory = policy(key, seen, rows(view.action_mask), memory)
        actions = {g.name: (g.agents, action[g.name][0]) for g in player.groups}
        return {a: x[i] for names, x in actions.values() for i, a in enumerate(names)}, memory

    return Seat(agents, act)


def _policy_function(player: Agent, sample: bool) -> Callable[..., tuple[Any, Any]]:
    """Return ``(key, observation, action_mask, carry) -> (action, carry)``, parameters in it."""
    state, groups, config = player.state, player.groups, player.config
    explore = player.algorithm.explore_factory(groups, config)
    select = player.algorithm.select_factory(groups, config)

    def choose(key: Any, observation: Any, action_mask: Any, carry: Any) -> tuple[Any, Any]:
        if not sample:
            return select(state, observation, action_mask, carry)
        action, _, carry = explore(state, key, observation, action_mask, carry)
        return action, carry

    return choose


def seated_as_told(env: Any, seats: Mapping[str, str], runs_dir: str | Path) -> Any:
    """Return the environments with the seats that a config or the command line names.

    Args:
        env: a vector of parallel environments; closed where this fails.
        seats: ``"random"`` or ``"frozen:RUN"`` by pattern; empty: ``env`` itself is returned.
        runs_dir: where a RUN is looked for, by its name (``x``, of a set ``x/seed_0``) alone: a
            text that may come from a run folder leads nowhere else.

    Raises:
        ValueError: as ``with_seats``.
        UnsafePathError: if a RUN is no name.
        NoCheckpointError: if there is no such run or it has no readable checkpoint.
    """
    if not seats:
        return env
    try:
        # Patterns hidden behind earlier ones are left out: their runs need not be there.
        told = {pattern: seats[pattern] for pattern in _matches(env, seats)}
        return with_seats(env, {p: _as_told(text, runs_dir) for p, text in told.items()})
    except BaseException:
        env.close()
        raise


def _as_told(text: str, runs_dir: str | Path) -> str | Frozen:
    """Load what a text names."""
    if not text.startswith(FROZEN):
        return text
    path = Path(runs_dir)
    for part in text.removeprefix(FROZEN).split("/", 1):
        path = run_path(path, part)
    return frozen(path)
