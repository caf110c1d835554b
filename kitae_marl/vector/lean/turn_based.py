"""Turn-based games as parallel ones: in each step one agent is to act, the others wait."""

from __future__ import annotations

from typing import Any

import numpy as np

from kitae_marl.vector.lean.aec import Peeled, Step, _LeanBase, action_check, remove_dead


class TurnBasedParallelEnv(_LeanBase):
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
        if self._mask is not None and not self._mask[action]:
            return self._illegal(mover, action)
        core.step(action)
        return self._results()

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
        """Observe for these agents."""
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
