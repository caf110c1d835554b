"""This file lets people play against agents: one game at a time, with moves taken back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import jax
import numpy as np

from kitae_marl.data.stacking import map_leaves, mask_in, without_mask
from kitae_marl.errors import ConfigError
from kitae_marl.evaluation.export import write_arrays
from kitae_marl.evaluation.exported_policy import Policy as ExportedPolicy
from kitae_marl.runs.agent import Agent
from kitae_marl.types import Policy
from kitae_marl.vector.protocol import VecParallelEnv


class Position(NamedTuple):
    """What one agent is to decide on.

    Attributes:
        agent: who is to act.
        observation: what it sees, without the axis of environments.
        mask: which actions it may take, ``[n]``; None: all.
    """

    agent: str
    observation: Any
    mask: np.ndarray | None


class Thoughts(NamedTuple):
    """What an agent thinks of a position.

    Attributes:
        probabilities: of each action, ``[n]``.
        value: sum of discounted rewards that its critic expects; None where it has no critic that
            sees what its agent sees.
    """

    probabilities: np.ndarray
    value: float | None


@runtime_checkable
class SeatPlayer(Protocol):
    """Who plays the seats that no person has.

    Attributes:
        remembers: whether what it thinks depends on what it saw before.
    """

    remembers: bool

    def actions(
        self, seen: tuple[Any, dict[str, Any]], positions: list[Position]
    ) -> Mapping[str, int]:
        """Choose the actions of those who are to act; asked once for every joint step, in order.

        Args:
            seen: observations and infos, as the vector of one environment returned them.
            positions: of those who are to act.
        """
        ...

    def thoughts(self, position: Position) -> Thoughts | None:
        """Say what it thinks before it acts; None where it keeps that to itself."""
        ...


class _Exported:
    """What an agent exports, as who plays and thinks; it may remember."""

    def __init__(self, agent: Agent, seed: int) -> None:
        file = io.BytesIO()
        write_arrays(agent, file)
        file.seek(0)
        self._policy, self._chance = ExportedPolicy(file), np.random.default_rng(seed)
        self.agents, self.reset = self._policy.agents, self._policy.reset

    def act(self, position: Position, sample: bool) -> int:
        """Choose an action."""
        return int(np.asarray(self._policy.act(*position, sample=sample, rng=self._chance)))

    def thoughts(self, position: Position) -> Thoughts:
        """Return the probabilities of all actions and, where its critic can say it, the value."""
        probabilities = np.asarray(self._policy.probabilities(*position))
        try:
            value = float(self._policy.value(position.agent, position.observation))
        except ValueError:  # of MAPPO, whose critic sees the whole game
            return Thoughts(probabilities, None)
        return Thoughts(probabilities, value)


class _Judging:
    """An agent of an algorithm that judges positions, as who plays and thinks."""

    def __init__(self, agent: Agent, seed: int) -> None:
        self._player = agent.player(seed=seed)
        self.agents = agent.possible_agents

    def reset(self) -> None:
        """Begin a game; it remembers nothing."""

    def act(self, position: Position, sample: bool) -> int:
        """Choose an action."""
        return int(self._player.act(*position, sample=sample))

    def thoughts(self, position: Position) -> Thoughts:
        """Return the probabilities of all actions, and the value."""
        return Thoughts(*self._player.judge(*position))


class TrainedSeat:
    """A trained agent that says what it thinks.

    Args:
        agent: of an algorithm that judges positions, or whose policies can be exported.
        sample: sample actions as in training, instead of taking the most probable ones.
        seed: seed of what it samples.

    Raises:
        ValueError: if it does not judge, and its policies cannot be exported.
    """

    def __init__(self, agent: Agent, *, sample: bool = False, seed: int = 0) -> None:
        if not isinstance(agent, Agent):
            raise TypeError(f"expected a trained kitae_marl.Agent, got {type(agent).__name__}.")
        kind = _Exported if agent.algorithm.judge is None else _Judging
        self._policy: _Exported | _Judging = kind(agent, seed)
        self._sample = sample
        memory = agent.algorithm.carry(agent.groups, agent.config)(1)
        self.remembers = bool(jax.tree.leaves(memory))

    def actions(
        self, seen: tuple[Any, dict[str, Any]], positions: list[Position]
    ) -> Mapping[str, int]:
        """Decide for one agent after the other; memory begins anew with each game."""
        if np.any(seen[1].get("reset", False)):
            self._policy.reset()
        return {p.agent: self._policy.act(p, self._sample) for p in positions}

    def thoughts(self, position: Position) -> Thoughts | None:
        """Return the probabilities of all actions and, where its critic can say it, the value.

        None for an agent that it does not play.
        """
        if position.agent not in self._policy.agents:
            return None
        return self._policy.thoughts(position)


class PolicySeat:
    """A policy that keeps its thoughts to itself: random, a bot, a user's function.

    Args:
        policy: ``(observations, infos) -> actions`` for a vector of one environment.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy, self.remembers = policy, True

    def actions(
        self, seen: tuple[Any, dict[str, Any]], positions: list[Position]
    ) -> Mapping[str, int]:
        """Ask the policy for everybody, and take what is asked for."""
        chosen = self._policy(*seen)
        return {p.agent: int(np.asarray(chosen[p.agent])[0]) for p in positions}

    def thoughts(self, position: Position) -> Thoughts | None:
        """It says nothing."""
        return None


class HumanGame:
    """A game between people and agents, in a vector of one environment.

    Args:
        env: the vector; all of its agents have Discrete action spaces.
        seats: who plays which agents; people play the others.
        seed: seed of the game, of its chance too.

    Attributes:
        people: the agents that people play, in the game's order.
        over: whether the game has ended; ``returns`` are then those of the whole game.
        returns: sums of rewards by agent, so far.
        taken: the actions of each joint step so far, of those who acted.

    Raises:
        ConfigError: if an agent's actions are not Discrete, there is more than one environment, or
            a seat is no agent's or has no player.
    """

    def __init__(
        self, env: VecParallelEnv, seats: Mapping[str, SeatPlayer], *, seed: int = 0
    ) -> None:
        spaces: dict[str, Any] = {agent: env.action_space(agent) for agent in env.possible_agents}
        other = {a: s for a, s in spaces.items() if not isinstance(s, gym.spaces.Discrete)}
        if other or env.num_envs != 1:
            raise ConfigError(
                f"expected one environment of Discrete actions, which a person can name, got "
                f"{env.num_envs} and {other or spaces}; `kitae-marl watch` films any game."
            )
        unknown = [agent for agent in seats if agent not in spaces]
        if unknown or not all(isinstance(player, SeatPlayer) for player in seats.values()):
            raise ConfigError(
                f"expected players such as TrainedSeat(agent) for agents of {list(spaces)}, got "
                f"{dict(seats)}."
            )
        self._env, self._seats, self._seed = env, seats, seed
        self.people = [agent for agent in env.possible_agents if agent not in seats]
        self._first = {agent: int(space.start) for agent, space in spaces.items()}
        self._begin()

    def _begin(self) -> None:
        """Go to the start of the game; the seed is what makes it the same game again."""
        self._seen = self._env.reset(seed=self._seed)
        self.taken: list[dict[str, int]] = []
        self.over = False
        self.returns = dict.fromkeys(self._env.possible_agents, 0.0)

    def positions(self) -> list[Position]:
        """Return the positions of those who are to act, in the game's order; none at the end."""
        if self.over:
            return []
        _, infos = self._seen
        active = [agent for agent in self._env.possible_agents if infos["active"][agent][0]]
        return [self.position(agent) for agent in active]

    def position(self, agent: str) -> Position:
        """Return what an agent sees now; at the end the last that it saw."""
        observations, infos = self._seen
        observation = observations[agent]
        if self.over:
            observation = infos["final_observation"][agent]
        seen = map_leaves(lambda leaf: np.array(leaf[0]), observation)
        mask = infos.get("action_mask", {}).get(agent)
        mask = mask_in(seen) if mask is None else np.array(mask[0])
        return Position(agent, without_mask(seen), mask)

    def allowed(self, position: Position) -> list[int]:
        """Return the actions that may be taken in a position; all where a mask forbids each."""
        space: Any = self._env.action_space(position.agent)
        first, n = self._first[position.agent], int(space.n)
        mask = position.mask
        if mask is None or not np.any(mask):
            mask = np.ones(n, bool)
        return [first + int(i) for i in np.flatnonzero(mask)]

    def thoughts(self, position: Position) -> Thoughts | None:
        """Return what the agents that play think of a position; None where they do not say.

        Of a person's position those say nothing who would have to remember the ones before.
        """
        own = self._seats.get(position.agent)
        others = {id(player): player for player in self._seats.values() if not player.remembers}
        seats = [own] if own else others.values()
        return next((found for player in seats if (found := player.thoughts(position))), None)

    def play(self, moves: Mapping[str, int]) -> dict[str, int]:
        """Play one joint step.

        Args:
            moves: actions of the people who are to act.

        Returns:
            The actions of all who acted.

        Raises:
            ValueError: if the game is over, a move is missing, or not allowed.
        """
        positions = self.positions()
        if self.over:
            raise ValueError("expected a game that goes on, got one that is over; take back.")
        for position in positions:
            if position.agent not in self._seats:
                allowed = self.allowed(position)
                if moves.get(position.agent) not in allowed:
                    raise ValueError(
                        f"expected one of {allowed} from {position.agent}, got "
                        f"{moves.get(position.agent)!r}."
                    )
        return self._step(positions, moves)

    def _step(self, positions: list[Position], given: Mapping[str, int]) -> dict[str, int]:
        """Step the game; who is not given a move chooses one, and is asked even where it is given.

        Who remembers, remembers by being asked.
        """
        taken: dict[str, int] = {}
        for player in {id(player): player for player in self._seats.values()}.values():
            mine = [p for p in positions if self._seats.get(p.agent) is player]
            taken |= player.actions(self._seen, mine)
        taken |= {p.agent: int(given[p.agent]) for p in positions if p.agent in given}
        self.taken.append(taken)
        joint = {agent: np.array([taken.get(agent, first)]) for agent, first in self._first.items()}
        observations, rewards, _, _, infos = self._env.step(joint)
        self._seen = observations, infos
        for agent in self.returns:
            self.returns[agent] += float(rewards[agent][0])
        self.over = bool(np.any(infos.get("_episode", False)))
        return taken

    def take_back(self) -> bool:
        """Go back to the last position in which a person chose; whether there was any.

        The game is played again from its start: most games cannot be copied.
        """
        moves = self.taken
        chosen = [k for k, taken in enumerate(moves) if any(a in self.people for a in taken)]
        if not chosen:
            return False
        self._begin()
        for taken in moves[: chosen[-1]]:
            self._step(self.positions(), taken)
        return True
