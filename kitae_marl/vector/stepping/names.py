"""This file names agents whose ids are no texts: by text outwards, by its own ids in the game.

PettingZoo's own tests pass games whose agents are numbers. Columns of metrics, patterns, run
folders and JSON take texts alone, so such an agent is called by the text of its id, ``"0"``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import gymnasium as gym
from pettingzoo import ParallelEnv

from kitae_marl.vector.stepping.faults import DataFault


def with_text_names(env: Any) -> Any:
    """Return an environment whose agents have texts as names: itself, or one around it.

    Raises:
        DataFault: if its agents are no list of distinct ids, or two ids have the same text.
    """
    agents = require_agents(env.possible_agents)
    return env if all(isinstance(agent, str) for agent in agents) else TextNamesEnv(env)


def require_agents(agents: Any) -> list[Any]:
    """Return the agents of a game as a list.

    Raises:
        DataFault: if they are none, or some are equal or cannot be keys of dicts.
    """
    expected = "expected possible_agents, a list of distinct names"
    if isinstance(agents, str) or not isinstance(agents, Iterable) or not (every := [*agents]):
        raise DataFault(
            "AgentSetError", f"{expected}, got {agents!r}; name every agent that may ever appear."
        )
    try:
        distinct = set(every)
    except TypeError:
        raise DataFault(
            "AgentSetError", f"{expected}, got {every[:20]}; use texts, numbers or tuples of them."
        ) from None
    if len(distinct) < len(every):
        twice = next(agent for agent in every if every.count(agent) > 1)
        raise DataFault(
            "AgentSetError",
            f"{expected}, got agent {twice!r} {every.count(twice)} times; name each once.",
        )
    return every


class TextNamesEnv(ParallelEnv[str, Any, Any]):
    """A game whose agents are called by the texts of their ids. All else is the game's own.

    Args:
        env: a parallel environment whose ``possible_agents`` are not all texts.

    Attributes:
        env: the game.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self._name: dict[Any, str] = {agent: str(agent) for agent in env.possible_agents}
        self._id: dict[str, Hashable] = {name: agent for agent, name in self._name.items()}
        if len(self._id) < len(self._name):
            raise DataFault(
                "AgentSetError",
                f"expected agents whose ids differ as texts, got {list(self._name)}; give them "
                "distinct names in possible_agents.",
            )
        self.possible_agents = list(self._id)
        self.metadata = getattr(env, "metadata", {})

    def __getattr__(self, name: str) -> Any:
        """What is not about single agents is the game's own."""
        if name == "env":  # asked for before it is there, while an object is copied
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def agents(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Who is in the game."""
        return [self._named(agent) for agent in self.env.agents]

    @property
    def unwrapped(self) -> Any:
        """The game without any wrapper."""
        return self.env.unwrapped if isinstance(self.env, ParallelEnv) else self.env

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of an agent's observations."""
        return self.env.observation_space(self._id[agent])

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of an agent's actions."""
        return self.env.action_space(self._id[agent])

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        return self._outwards(self.env.reset(seed=seed, options=options))

    def step(self, actions: Mapping[str, Any]) -> Any:
        """Step; agents are known to the game by its own ids."""
        return self._outwards(self.env.step({self._id[name]: a for name, a in actions.items()}))

    def _outwards(self, results: Any) -> Any:
        """Call the agents by name in what the game returned; anything else is left as it is."""
        if not isinstance(results, tuple):
            return results
        return tuple(
            {self._named(agent): value for agent, value in part.items()}
            if isinstance(part, Mapping)
            else part
            for part in results
        )

    def _named(self, agent: Any) -> Any:
        """Return the name of an agent; a key that is none is left to those who check them."""
        return self._name.get(agent, agent)

    def state(self) -> Any:
        """Return the global state."""
        return self.env.state()

    def render(self) -> Any:
        """Return a frame."""
        return self.env.render()

    def close(self) -> None:
        """Close the game."""
        self.env.close()
