"""This file makes parallel games of turn-based ones: one agent is to act, the others wait.

:class:`TurnBasedParallelEnv` does so for any game. :class:`InPlaceTurnsEnv` is the base of the
games that write into the collector's arrays, see :mod:`kitae_marl.vector.stepping.in_place`.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from kitae_marl.data.masks import is_legal
from kitae_marl.data.spaces import zeros
from kitae_marl.vector.lean.aec import LeanEnv, Peeled, Step, action_check, remove_dead
from kitae_marl.vector.stepping.in_place import InPlaceEnv, PlayResult, RowArrays

_PARTS = ("observation", "action_mask")
"""What the agents of games that write in place observe."""


class TurnBasedParallelEnv(LeanEnv):
    """An AEC game in which one agent moves at a time.

    * All agents in the game are in every dict. ``infos[agent]["active"]`` says who is to act on
      the observations just returned; it comes from the game's own ``agent_selection``. On the last
      step nobody is.
    * ``step`` reads the active agent's action; what is given for others is ignored.
    * Rewards are delivered to every seat in the step in which they arise, also to those who wait
      and to the loser of the last move. To learn, add up what a seat is given between two of its
      own decisions.
    * Action masks (in the observation or in the info) are the game's own for the active agent and
      zero for everyone else.
    * A move that the mask forbids ends the game the way PettingZoo says: that player gets the
      penalty, the others 0, terminated and truncated are both True. Where the game states no
      penalty it is a ``ValueError``.

    Args:
        peeled: the game without its checking wrappers.
    """

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled.core)
        self._illegal_reward = peeled.illegal_reward
        self._checks = {
            agent: action_check(agent, space, peeled.clips)
            for agent, space in self._action_spaces.items()
        }
        self._firsts = {
            agent: int(space.start) if isinstance(space, spaces.Discrete) else None
            for agent, space in self._action_spaces.items()
        }
        self._mask: np.ndarray | None = None
        self._blanks: dict[str, np.ndarray] = {}

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        core = self.core
        core.reset(seed=seed, options=options)
        remove_dead(core)
        self.agents, self._was_reset = list(core.agents), True
        infos = dict(core.infos)
        observations = self._observe(self.agents)
        self._mark(observations, infos)
        return observations, infos

    def step(self, actions: dict[str, Any]) -> Step:
        """Make the active agent's move; after the end everything is empty until ``reset``."""
        if not self.agents:
            return self._nothing()
        core = self.core
        mover = core.agent_selection
        self._refuse_missing(actions)
        action = self._checks[mover](actions[mover])
        if self._mask is not None and not self._allows(self._mask, mover, action):
            return self._illegal(mover, action)
        core.step(action)
        return self._results()

    def _allows(self, mask: Any, mover: str, action: Any) -> bool:
        """Whether the mask of the active agent leaves an action."""
        first = self._firsts[mover]
        if first is None:
            return is_legal(self._action_spaces[mover], np.asarray(mask), action)
        return bool(mask[action - first])

    def _results(self) -> Step:
        """Say what a move has done."""
        core = self.core
        rewards = dict(core.rewards)
        terminations, truncations = dict(core.terminations), dict(core.truncations)
        infos = dict(core.infos)
        self.agents = list(core.agents)
        observations = self._observe(self.agents)
        if any(terminations.values()) or any(truncations.values()):
            self._let_go(observations, terminations, truncations)
        self._mark(observations, infos)
        return observations, rewards, terminations, truncations, infos

    def _let_go(
        self,
        observations: dict[str, Any],
        terminations: dict[str, bool],
        truncations: dict[str, bool],
    ) -> None:
        """Let the dead leave; the others, if any, observe anew, for their turn may have come."""
        if all(terminations[agent] or truncations[agent] for agent in observations):
            self.agents = []
            return
        remove_dead(self.core)
        self.agents = list(self.core.agents)
        if len(self.agents) < len(observations):
            observations.update(self._observe(self.agents))

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        return {agent: self.core.observe(agent) for agent in agents}

    def _mark(self, observations: dict[str, Any], infos: dict[str, dict[str, Any]]) -> None:
        """Mark in the infos who is active; blank the masks of all others."""
        mover = self.core.agent_selection if self.agents else None
        self._mask = None
        for agent, observation in observations.items():
            given = infos.get(agent)
            infos[agent] = info = {**given} if given else {}
            info["active"] = active = agent == mover
            for holder in (observation, info) if given else (observation,):
                if isinstance(holder, dict) and "action_mask" in holder:
                    if active:
                        self._mask = holder["action_mask"]
                    else:
                        holder["action_mask"] = self._blank(agent, holder["action_mask"])

    def _blank(self, agent: str, mask: Any) -> np.ndarray:
        """A mask of zeros, made once for each agent and read-only."""
        blank = self._blanks.get(agent)
        if blank is None:
            blank = self._blanks[agent] = np.zeros_like(mask)
            blank.flags.writeable = False
        return blank

    def _refuse_missing(self, actions: dict[str, Any]) -> None:
        """Refuse actions without one of the active agent."""
        mover = self.core.agent_selection
        if mover not in actions:
            raise ValueError(f"expected an action of {mover!r}, whose turn it is, got {actions}.")

    def _penalty(self, mover: str, action: Any, mask: Any) -> float:
        """The reward of an illegal move.

        Raises:
            ValueError: if the game states none.
        """
        if self._illegal_reward is None:
            raise ValueError(
                f"expected a legal move of {mover!r}, got {action!r}; its action mask is {mask}."
            )
        return self._illegal_reward

    def _illegal(self, mover: str, action: Any) -> Step:
        """End the game because of an illegal move."""
        penalty = self._penalty(mover, action, self._mask)
        agents = self.agents
        self.agents = []
        rewards: dict[str, Any] = dict.fromkeys(agents, 0)
        rewards[mover] = penalty
        infos = {agent: self.core.infos.get(agent, {}) for agent in agents}
        ended = dict.fromkeys(agents, True)
        observations = self._observe(agents)
        self._mark(observations, infos)
        return observations, rewards, ended, dict(ended), infos


class ContinuedSeedEnv(TurnBasedParallelEnv):
    """A turn-based game whose resets without a seed go on from the last seed."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        self._seeds = np.random.default_rng()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        if seed is None:
            seed = int(self._seeds.integers(2**31))
        else:
            self._seeds = np.random.default_rng(seed)
        return super().reset(seed, options)


class InPlaceTurnsEnv(TurnBasedParallelEnv, InPlaceEnv):
    """A turn-based game in which all stay to the end and see an ``observation`` and their moves.

    It is used with the versions of the games that are fingerprinted; any other is asked the long
    way, like games that nothing is known of.

    Args:
        peeled: the game without its checking wrappers.
    """

    _known = False
    """Whether the game is one that the subclass knows; set by it."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        self._views: Mapping[str, dict[str, np.ndarray]] = {}
        self._masks: dict[str, np.ndarray] = {}
        self._mover = ""

    @abstractmethod
    def _write_to(self, views: dict[str, np.ndarray]) -> None:
        """Write to these arrays, by agent, from now on."""

    @abstractmethod
    def _show(self) -> None:
        """Bring what all see up to date."""

    def _show_all(self) -> None:
        """Write what all see, whatever the arrays hold."""
        self._show()

    @abstractmethod
    def _show_legal(self, mask: np.ndarray) -> None:
        """Write the legal moves of the player whose turn it is."""

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        if not self._writes_in_place():
            return super().reset(seed, options)
        if not self._views:
            self._use_own_arrays()
        self.begin(seed, options)
        return self._copies()

    def step(self, actions: dict[str, Any]) -> Step:
        """Make the active agent's move; after the end everything is empty until ``reset``."""
        agents = self.agents
        if not agents or not self._known:
            return super().step(actions)
        self._refuse_missing(actions)
        result = self.play([actions.get(agent) for agent in self._names])
        rewards: dict[str, Any] = dict.fromkeys(agents, 0)
        terminated = truncated = False
        if result is not None:
            given, terminated, truncated = result
            rewards = {agent: given[self._columns[agent]] for agent in agents}
        observations, infos = self._copies()
        terminations = dict.fromkeys(agents, terminated)
        return observations, rewards, terminations, dict.fromkeys(agents, truncated), infos

    def _writes_in_place(self) -> bool:
        """Whether the game is known and nobody has put another ``observe`` into it since."""
        self._known = self._known and "observe" not in vars(self.core)
        return self._known

    def __deepcopy__(self, memo: dict[int, Any]) -> InPlaceTurnsEnv:
        """A copy is to be reset first, as copies of PettingZoo's games are."""
        new = object.__new__(type(self))
        memo[id(self)] = new
        # Not the arrays: the copy would write to private copies of them that nobody reads.
        own = {"_views": {}, "_masks": {}, "agents": [], "_was_reset": False}
        for name, value in {**vars(self), **own}.items():
            setattr(new, name, copy.deepcopy(value, memo))
        return new

    def _use_own_arrays(self) -> None:
        """Write to arrays of this environment's own, outside a vector, where none were given."""
        agents = self.possible_agents
        views = {agent: zeros(self.observation_space(agent)) for agent in agents}
        columns = {agent: i for i, agent in enumerate(agents)}
        self.use_arrays(RowArrays(views, np.ones(len(agents), np.bool_), columns))

    def _copies(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """What all see, and the infos, which are empty but for the mark."""
        observations, infos = {}, {}
        mover = self._mover if self.agents else None
        for agent in self.possible_agents:
            view = self._views[agent]
            observations[agent] = {part: view[part].copy() for part in _PARTS}
            infos[agent] = {"active": agent == mover}
        return observations, infos

    def use_arrays(self, arrays: RowArrays) -> bool:
        """Write to these arrays from the next ``begin`` on, if the game is one that is known."""
        if not self._writes_in_place():
            return False
        self._views, self._idle, self._columns = arrays
        self._names = sorted(self._columns, key=self._columns.__getitem__)
        self._masks = {agent: view["action_mask"] for agent, view in self._views.items()}
        self._write_to({agent: view["observation"] for agent, view in self._views.items()})
        return True

    def begin(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """Start an episode."""
        core = self.core
        core.reset(seed=seed, options=options)
        self.agents, self._was_reset = list(core.agents), True
        self._show_all()
        for mask in self._masks.values():
            mask[...] = 0
        self._idle[...] = True
        self._give_turn()

    def play(self, actions: Sequence[Any]) -> PlayResult | None:
        """Make the active agent's move."""
        core = self.core
        mover = core.agent_selection
        action = self._checks[mover](actions[self._columns[mover]])
        if not self._masks[mover][action]:
            return self._forfeit(mover, action)
        core.step(action)
        self._show()
        self._take_turn()
        over = core.terminations[mover]
        if over:
            self.agents = []
        else:
            self._give_turn()
            if not any(core.rewards.values()):
                return None
        return PlayResult([core.rewards[agent] for agent in self._names], over, False)

    def _forfeit(self, mover: str, action: Any) -> PlayResult:
        """End the game because of an illegal move."""
        penalty = self._penalty(mover, action, self._masks[mover])
        self._take_turn()
        self.agents = []
        return PlayResult([penalty if agent == mover else 0 for agent in self._names], True, True)

    def _give_turn(self) -> None:
        """Say who is to move, and how."""
        self._mover = mover = self.core.agent_selection
        self._show_legal(self._masks[mover])
        self._idle[self._columns[mover]] = False

    def _take_turn(self) -> None:
        """Say that nobody is to move."""
        self._masks[self._mover][...] = 0
        self._idle[self._columns[self._mover]] = True
