"""This file is the vector of environments some of whose agents are played by given policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from kitae_marl.data.groups import group_specs
from kitae_marl.data.stacking import AgentDict, stack, unstack
from kitae_marl.types import AgentPyTree, GroupSpec, Policy
from kitae_marl.vector.adapters.around import VectorAround
from kitae_marl.vector.protocol import Step, VecParallelEnv


class HostSeat(NamedTuple):
    """Who plays for some agents.

    Attributes:
        agents: whom it plays for.
        start: called at every reset with a seed, returns the policy from then on. The policy gets
            the observations and infos of all agents at every step, so one with a memory learns
            from ``infos["_final_observation"]`` where an episode ended.
    """

    agents: tuple[str, ...]
    start: Callable[[int], Policy]


class SeatedVecParallelEnv(VectorAround):
    """The same environments with fewer agents: the others have seats, whose policies act.

    It speaks the protocol of :class:`kitae_marl.VecParallelEnv`, for the agents that are
    left; all of an environment that is not about single agents is as the environment has it.
    ``infos["episode"]`` holds beside ``"return"`` also ``"seat_return"``, that of the seated
    agents. An episode ends when the game ends it, for all of its agents.

    Args:
        env: the environments; closed with these.
        seats: who plays for whom.

    Attributes:
        possible_agents: the agents without a seat, in the game's order.
        groups: these agents, stacked together where their spaces are equal.
    """

    def __init__(self, env: VecParallelEnv, seats: Iterable[HostSeat]) -> None:
        super().__init__(env)
        self._seats = tuple(seats)
        seated = {agent for seat in self._seats for agent in seat.agents}
        self.possible_agents = [a for a in env.possible_agents if a not in seated]
        self.groups: tuple[GroupSpec, ...] = self._grouped(self.possible_agents)
        self._seat_groups = self._grouped([a for a in env.possible_agents if a in seated])
        self._policies: list[Policy] = []
        self._seen: tuple[AgentPyTree, dict[str, Any]] = {}, {}

    def _grouped(self, agents: list[str]) -> tuple[GroupSpec, ...]:
        """Group agents of the game."""
        return group_specs(agents, self._env.observation_space, self._env.action_space)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AgentDict, dict[str, Any]]:
        """Start a new episode everywhere; environment i is seeded ``seed + i``.

        The chance of the seats follows from the seed, too; None goes on from the one before.
        """
        observations, infos = self._env.reset(seed=seed, options=options)
        self._seeds.next(seed)
        self._policies = [seat.start(self._seeds.beside(i)) for i, seat in enumerate(self._seats)]
        self._seen = observations, infos
        return self._kept(observations), self._infos(infos)

    def step_async(self, actions: Mapping[str, Any]) -> None:
        """Ask the seats for their actions and begin a step.

        Raises:
            ValueError: if actions are wrong, or a seat has none for one of its agents.
        """
        joint = {agent: actions[agent] for agent in self.possible_agents if agent in actions}
        for seat, policy in zip(self._seats, self._policies, strict=False):  # no policy: no reset
            chosen = policy(*self._seen)
            missing = [agent for agent in seat.agents if agent not in chosen]
            if missing:
                raise ValueError(
                    f"expected actions for {list(seat.agents)} from their seat, got "
                    f"{list(chosen)[:20]}; the policy must return {{agent: [E, ...]}} for them."
                )
            joint |= {agent: chosen[agent] for agent in seat.agents}
        self._env.step_async(joint)

    def step_wait(self) -> Step:
        """End the step that :meth:`step_async` began."""
        observations, *numbers, infos = self._env.step_wait()
        self._seen = observations, infos
        reward, terminated, truncated = map(self._kept, numbers)
        return self._kept(observations), reward, terminated, truncated, self._infos(infos)

    def _kept(self, by_agent: Mapping[str, Any]) -> AgentDict:
        """Leave out the agents that have seats; whole groups stay views."""
        return unstack(stack(by_agent, self.groups), self.groups)

    def _infos(self, infos: Mapping[str, Any]) -> dict[str, Any]:
        """Leave the seated agents out of the infos."""
        kept = dict(infos)
        kept["active"] = self._kept(infos["active"])
        if "final_observation" in infos:
            kept["final_observation"] = self._kept(infos["final_observation"])
        if "action_mask" in infos:
            masks = infos["action_mask"]
            groups = [g for g in self.groups if all(agent in masks for agent in g.agents)]
            kept["action_mask"] = unstack(stack(masks, groups), groups)
        if "episode" in infos:
            episode = infos["episode"]
            returns = unstack(stack(episode["return"], self._seat_groups), self._seat_groups)
            kept["episode"] = {name: self._kept(values) for name, values in episode.items()}
            kept["episode"]["seat_return"] = returns
        return kept
