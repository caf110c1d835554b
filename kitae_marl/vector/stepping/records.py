"""This file keeps who is in the game: one environment's agents over one episode.

Agents may die, join later, wait for their turn, or vanish. The fast path of the collector serves
the common case, everybody is there and nobody leaves; everything else is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

import numpy as np

from kitae_marl.vector.stepping.faults import DataFault, data_fault
from kitae_marl.vector.stepping.in_place import InPlaceEnv
from kitae_marl.vector.stepping.results import by_agent

_FIELDS = ("observation", "reward", "termination", "truncation")
EVERYBODY = "__all__"
"""What other libraries add to the flags for the game as a whole; every agent has one of its own."""


def _getter(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return a function that looks these names up in a dict, in order."""
    if len(names) == 1:
        only = names[0]
        return lambda values: (values[only],)
    return itemgetter(*names) if names else lambda values: ()


class Record:
    """One environment of a worker, and the state of its episode.

    Attributes:
        env: the environment.
        in_place: the environment where it writes observations in place, else None.
        index: its index in the vector.
        alive: agents in the game, in the order of the columns.
        listed: ``env.agents`` as it stood after the last step.
        dead: agents that left the game in this episode.
        seed: seed of the episode.
        episode: its number, from 0.
        steps: its steps so far.
        broken: the environment raised and must be built anew before it is used.
    """

    def __init__(self, env: Any, index: int, names: tuple[str, ...]) -> None:
        self.env = env
        self.in_place: InPlaceEnv | None = None
        self.index = index
        self.names = names
        self.column = {name: i for i, name in enumerate(names)}
        self.get_all = _getter(names)
        self.full = False
        self.alive: tuple[str, ...] = ()
        self._known = frozenset(names)
        self._everybody = list(self.column.items())
        self.members: list[tuple[str, int]] = []
        self.listed: list[str] = []
        self.dead: set[str] = set()
        self.seed = self.episode = self.steps = 0
        self.broken = False
        self.vanished: set[str] = set()
        self._has_stepped = False

    def begin(self, observations: dict[str, Any]) -> None:
        """Enter the agents of a new episode.

        Raises:
            DataFault: if an agent is unknown or has no observation, or there is none at all.
        """
        self.steps = 0
        self.dead = set()
        listed = self._agents()
        self._refuse_unknown("env.agents", listed)
        self._refuse_unknown("observations of reset()", observations)
        for agent in listed:
            if agent not in observations:
                raise data_fault(agent, "observation", "one from reset()", "no such key")
        if not listed:
            raise DataFault(
                "AgentSetError",
                "expected at least one agent after reset(), got an empty "
                "env.agents; let reset() list the agents that begin the game.",
            )
        self._set_alive(listed)
        # An unequal list sends the first step of all through settle, which looks at every key: what
        # is wrong with them shall not come up at the end of the first episode, after hours.
        self.listed = listed if self._has_stepped else []

    def _agents(self) -> list[str]:
        """Return who is in the game, as it says.

        Raises:
            DataFault: if it does not say so.
        """
        agents = getattr(self.env, "agents", None)
        if isinstance(agents, str) or not isinstance(agents, Iterable):
            raise DataFault(
                "AgentSetError",
                f"expected env.agents, the list of the agents in the game, got {agents!r}; set it "
                "in reset() and keep it up to date in step().",
            )
        listed = list(agents)
        try:
            set(listed)
        except TypeError:
            raise DataFault(
                "AgentSetError",
                f"expected env.agents, names of possible_agents, got {listed[:20]}.",
            ) from None
        return listed

    def begin_in_place(self) -> None:
        """Enter everybody."""
        self.steps = 0
        self.full, self.alive, self.members = True, self.names, self._everybody

    def _set_alive(self, agents: Iterable[str]) -> None:
        """Remember who is in the game."""
        present = set(agents)
        self.full = len(present) == len(self.names)
        if self.full:
            self.alive, self.members = self.names, self._everybody
            return
        self.alive = tuple(name for name in self.names if name in present)
        self.members = [(name, self.column[name]) for name in self.alive]

    def values(
        self,
        observations: dict[str, Any],
        rewards: dict[str, Any],
        terminations: dict[str, Any],
        truncations: dict[str, Any],
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
        """Return observations and rewards by column if all agents are there and stay.

        None if anything is out of the ordinary; :meth:`settle` then decides.
        """
        get = self.get_all
        try:
            if (
                self.full
                and self.env.agents == self.listed
                and len(observations) == len(self.names)
                and not any(get(terminations))
                and not any(get(truncations))
            ):
                return get(observations), get(rewards)
        except (KeyError, TypeError, ValueError, AttributeError):  # settle says what is wrong
            return None
        return None

    def settle(
        self,
        observations: dict[str, Any],
        rewards: dict[str, Any],
        terminations: dict[str, Any],
        truncations: dict[str, Any],
    ) -> StepOutcome:
        """Decide who leaves and who joins after a step on which the agents may have changed.

        Raises:
            DataFault: if an agent is unknown, returns after it left, or lacks a value.
        """
        for what, part in zip(_FIELDS, (observations, rewards, terminations, truncations)):  # noqa: B905
            if type(part) is not dict:
                by_agent(part, f"{what}s of step()")
        listed = self._agents()
        outcome = StepOutcome()
        results = (observations, rewards, terminations, truncations)
        if not all(map(self._known.issuperset, (listed, *results))):
            results = self._of_agents(listed, results, outcome)
            observations, rewards, terminations, truncations = results
        here = set(listed)
        whole = all(values.keys() >= self._known for values in results)
        for agent in self.alive:
            if not whole:
                missing = [f for f, d in zip(_FIELDS, results, strict=True) if agent not in d]
                if 0 < len(missing) < len(_FIELDS):
                    raise data_fault(agent, missing[0], "one on every step", "no such key")
                if missing:
                    self._leave(agent, outcome)
                    continue
            outcome.observations[agent] = observations[agent]
            outcome.rewards[agent] = rewards[agent]
            terminated = _flag(terminations[agent], agent, "termination")
            truncated = _flag(truncations[agent], agent, "truncation")
            if terminated or truncated:
                outcome.terminated[agent] = terminated
                outcome.truncated[agent] = truncated
                self.dead.add(agent)
            elif agent not in here:
                self._leave(agent, outcome)
        for agent in listed:
            self._join(agent, results, outcome)
        self._set_alive(a for a in self.names if a in here and a not in self.dead)
        # A flag of the game as a whole is to be looked at on every step.
        self.listed = [] if outcome.everybody else listed
        self._has_stepped = not outcome.everybody
        if outcome.over and self.alive:
            raise data_fault(
                self.alive[0],
                f"{outcome.over}[{EVERYBODY!r}]",
                "True only with a flag for every agent",
                "True and no flag for this one",
                "set terminations[agent] or truncations[agent] of all who leave the game",
            )
        return outcome

    def _of_agents(
        self, listed: list[str], results: tuple[dict[str, Any], ...], outcome: StepOutcome
    ) -> Any:
        """Leave out flags of the game as a whole, which those of its agents tell already.

        Raises:
            DataFault: if there is any other name that is no agent's.
        """
        kept = list(results)
        for i, part in enumerate(results):
            if _FIELDS[i] not in ("termination", "truncation") or EVERYBODY not in part:
                continue
            field = f"{_FIELDS[i]}s"
            outcome.everybody.append(field)
            if _flag(part[EVERYBODY], EVERYBODY, _FIELDS[i]):
                outcome.over = field
            kept[i] = {agent: flag for agent, flag in part.items() if agent != EVERYBODY}
        self._refuse_unknown("env.agents", listed)
        for field, part in zip(_FIELDS, kept, strict=True):
            self._refuse_unknown(f"{field}s of step()", part)
        return kept

    def _leave(self, agent: str, outcome: StepOutcome) -> None:
        """Treat an agent that is gone without a flag as terminated."""
        outcome.terminated[agent] = True
        self.dead.add(agent)
        if agent not in self.vanished:
            self.vanished.add(agent)
            outcome.vanished.append(agent)

    def _join(self, agent: str, results: tuple[dict[str, Any], ...], outcome: StepOutcome) -> None:
        """Let an agent in that was not in the game before."""
        observations, rewards, terminations, truncations = results
        terminated = _flag(terminations.get(agent), agent, "termination")
        truncated = _flag(truncations.get(agent), agent, "truncation")
        flagged = terminated or truncated
        if agent in self.dead:
            if not flagged and agent not in outcome.terminated and agent not in outcome.truncated:
                raise DataFault(
                    "AgentSetError",
                    f"agent {agent!r} left the game in this episode and is back in env.agents; "
                    "an agent may return only after reset().",
                )
            return
        if agent in self.alive:
            return
        if agent not in observations:
            raise data_fault(agent, "observation", "one on the step it joins", "no such key")
        outcome.observations[agent] = observations[agent]
        outcome.rewards[agent] = rewards.get(agent, 0.0)
        if flagged:
            outcome.terminated[agent] = terminated
            outcome.truncated[agent] = truncated
            self.dead.add(agent)

    def _refuse_unknown(self, what: str, names: Iterable[str]) -> None:
        """Refuse names that are not among ``possible_agents``."""
        if self._known.issuperset(names):
            return
        for name in names:
            if name not in self.column:
                raise DataFault(
                    "AgentSetError",
                    f"{what}: expected agents of {list(self.names)[:20]}, got {name!r}; list every "
                    "agent that may ever appear in possible_agents, and leave out keys that are "
                    "no agents.",
                )


def _flag(value: Any, agent: str, field: str) -> bool:
    """Return a flag as True or False; arrays and lists of one are understood."""
    if type(value) is bool:
        return value
    array = np.asarray(value, dtype=object).ravel()
    if len(array) == 1 and (array[0] is None or isinstance(array[0], int | np.bool_ | np.integer)):
        return bool(array[0])
    raise data_fault(
        agent, field, "True or False", f"{value!r}"[:100], "return a bool for every agent"
    )


class StepOutcome:
    """What a step did to the agents: values by agent, only where there is one.

    Attributes:
        vanished: agents that left without a flag, for the first time.
        everybody: which flags were also given for the game as a whole.
        over: which of these said that it is over; empty if none.
    """

    def __init__(self) -> None:
        self.observations: dict[str, Any] = {}
        self.rewards: dict[str, Any] = {}
        self.terminated: dict[str, bool] = {}
        self.truncated: dict[str, bool] = {}
        self.vanished: list[str] = []
        self.everybody: list[str] = []
        self.over = ""
