"""This file is the vector of games that a learner plays against opponents, on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from kitae_envs.teams import NOBODY, Tally, Teams

from kitae_marl.data.stacking import AgentDict, active_agents, map_leaves, stack, starts
from kitae_marl.types import AgentPyTree, Opposition, Policy, Result, Seating
from kitae_marl.vector.adapters.around import VectorAround
from kitae_marl.vector.protocol import Step, VecParallelEnv


class HostOpponent(NamedTuple):
    """Who plays in a section of the environments.

    Attributes:
        n_envs: how many environments it has.
        policy: gets observations and infos of these environments alone, returns the actions of all
            agents in them.
        seat: ``seat(i, state)``: the member with this acting state plays in environment ``i`` of
            the section from here on; None: one and the same plays there all the time.
    """

    n_envs: int
    policy: Policy
    seat: Callable[[int, Any], None] | None = None


class OpposedVecParallelEnv(VectorAround):
    """The same environments and agents, but in some of them others play, all but one team.

    Agents of opponents are not active, and whatever actions they are given, their opponent's are
    played. In the first environments, those that no opponent has, the learner plays all agents.
    Opponents change where a game ends, and with each game the learner plays the next team. It is
    the :class:`~kitae_marl.types.Table` of this loop.

    Args:
        env: the environments; closed with these.
        teams: agents that one player plays; each agent is in one team, of two or more.
        opponents: who plays in the last environments, in this order.
        opposition: seats them while an agent is trained; None: whoever calls :meth:`seat`.

    Attributes:
        opposition: seats the opponents.
        goes_on: False: running games are not saved.
    """

    goes_on = False

    def __init__(
        self,
        env: VecParallelEnv,
        teams: Sequence[Sequence[str]],
        opponents: Sequence[HostOpponent],
        opposition: Opposition | None = None,
    ) -> None:
        super().__init__(env)
        self.opposition: Opposition | None = opposition
        self.possible_agents, self.groups = env.possible_agents, env.groups
        self._teams, self._opponents = Teams(teams), tuple(opponents)
        self._learns = {group.name: self._teams.learns(group.agents) for group in self.groups}
        self._learns_alone = {a: self._teams.learns([a])[:, 0] for a in self.possible_agents}
        self._agents = {group.name: group.agents for group in self.groups}
        self._names, self._team = [""] * env.num_envs, np.full(env.num_envs, NOBODY)
        self._next: Seating | None = None
        self._waiting = np.zeros(env.num_envs, bool)
        self._returns = {g.name: np.zeros((env.num_envs, g.n_agents)) for g in self.groups}
        self._results: list[Result] = []
        self._seen: tuple[AgentPyTree, dict[str, Any]] = {}, {}

    def sit(self, seating: Seating) -> bool:
        """Return False: no games go on."""
        return False

    def seat(self, seating: Seating) -> None:
        """Let these play where a game begins from here on; at first, with the next reset."""
        self._next = seating
        self._waiting = np.array([bool(name) for name in seating.names])

    def results(self) -> list[Result]:
        """Return what came of the games since this was asked last."""
        results, self._results = self._results, []
        return results

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Start a new episode everywhere; environment i is seeded ``seed + i``."""
        observations, infos = self._env.reset(seed=seed, options=options)
        self._begin(np.ones(self.num_envs, bool))
        self._seen = observations, infos
        return observations, self._infos(infos)

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Ask the opponents for their actions and begin a step.

        Raises:
            ValueError: if actions are wrong, or an opponent has none for one of its agents.
        """
        joint = {agent: map_leaves(np.array, actions[agent]) for agent in actions}
        end = self.num_envs
        for opponent in reversed(self._opponents):
            rows = slice(end - opponent.n_envs, end)
            self._fill(joint, opponent, rows)
            end = rows.start
        self._env.step_async(joint)

    def _fill(self, joint: dict[str, Any], opponent: HostOpponent, rows: slice) -> None:
        """Put an opponent's actions into those of all."""
        observations, infos = self._seen
        if not observations:
            return  # not reset yet, as the environments will say
        chosen = opponent.policy(
            some_rows(observations, rows), rows_of_infos(infos, rows, self.num_envs)
        )
        place = f"from the opponent in environments {rows.start} to {rows.stop - 1}"
        if not isinstance(chosen, Mapping):
            raise ValueError(
                f"expected actions {place} as {{agent: [E, ...]}}, got {type(chosen).__name__}; "
                "return a dict."
            )
        for agent in joint:
            theirs = ~self._learns_alone[agent][self._team[rows]]
            if not theirs.any():
                continue
            if agent not in chosen:
                raise ValueError(
                    f"expected actions for {agent} {place}, got {list(chosen)[:20]}; the policy "
                    "must return {agent: [E, ...]} for all agents."
                )

            def put(
                own: np.ndarray, other: Any, theirs: np.ndarray = theirs, agent: str = agent
            ) -> None:
                values, needed = np.asarray(other), own[rows].shape
                # What is no number of the game's kind would be cut to one without a word.
                fits = np.can_cast(values.dtype, own.dtype, "same_kind")
                if values.shape != needed or not fits:
                    raise ValueError(
                        f"expected actions for {agent} {place} of shape {needed} and dtype "
                        f"{own.dtype}, got {values.shape} and {values.dtype}."
                    )
                own[rows][theirs] = values[theirs]

            map_leaves(put, joint[agent], chosen[agent])

    def step_wait(self) -> Step:
        """End the step that :meth:`step_async` began."""
        observations, rewards, terminated, truncated, infos = self._env.step_wait()
        for name, reward in stack(rewards, self.groups).items():
            self._returns[name] += reward
        over = starts(infos, self.num_envs)
        if "_final_observation" not in infos and "reset" not in infos:  # one that says nothing
            flags = [terminated[a] | truncated[a] for a in self.possible_agents]
            over = np.all(flags, axis=0)
        lost = np.asarray(infos.get("worker_restarted", np.zeros(self.num_envs, bool)), bool)
        self._count(over & ~lost)
        if over.any() or lost.any():
            self._begin(over | lost)
        self._seen = observations, infos
        return observations, rewards, terminated, truncated, self._infos(infos)

    def _count(self, over: np.ndarray) -> None:
        """Note what came of the games that have ended."""
        played = np.flatnonzero(over & (self._team != NOBODY))
        if not played.size:
            return
        agents = [agent for group in self.groups for agent in group.agents]
        returns = np.concatenate([self._returns[group.name][played] for group in self.groups], 1)
        tally = self._teams.tally(agents, returns, self._team[played])
        for i, *counts in zip(played, *tally, strict=True):
            numbers = Tally(*map(float, counts))
            self._results.append(Result(self._names[i], int(self._team[i]), numbers))

    def _begin(self, rows: np.ndarray) -> None:
        """Let new games begin, with opponents who wait for one."""
        for returns in self._returns.values():
            returns[rows] = 0.0
        met = rows & (self._team != NOBODY)
        self._team = np.where(met, (self._team + 1) % len(self._teams), self._team)
        changing = rows & self._waiting
        if self._next is None or not changing.any():
            return
        self._waiting &= ~changing
        self._team = np.where(changing, self._next.team, self._team)
        end = self.num_envs
        for opponent in reversed(self._opponents):
            begin = end - opponent.n_envs
            for i in np.flatnonzero(changing[begin:end]):
                self._names[begin + i] = self._next.names[begin + i]
                if opponent.seat is not None:
                    opponent.seat(int(i), self._next.states[i])
            end = begin

    def _infos(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Say that the agents of opponents are not active."""
        told = active_agents(infos, self.groups, self.num_envs)
        active = {name: flags & self._learns[name][self._team] for name, flags in told.items()}
        return {**infos, "active": AgentDict(active, self._agents)}


def some_rows(by_agent: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Return values by agent of some environments, views of those of all."""
    return {agent: map_leaves(lambda x: x[rows], values) for agent, values in by_agent.items()}


def rows_of_infos(infos: Mapping[str, Any], rows: slice, n_envs: int) -> dict[str, Any]:
    """Return what a policy reads of infos, of some environments."""
    kept = {
        name: some_rows(infos[name], rows) for name in ("active", "action_mask") if name in infos
    }
    return {**kept, "reset": starts(infos, n_envs)[rows]}
