"""This file completes a user's own game that lacks a part of PettingZoo's ``ParallelEnv``.

What can be understood without guessing is made up for, and said in one sentence: spaces that are
known after ``reset`` only, or stand in dicts by agent; agents that are named by ``agents`` alone; a
``reset`` without ``seed`` or ``options``; a class that does not inherit from ``ParallelEnv``. A
game that lacks nothing is used as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv

from kitae_marl.errors import printable
from kitae_marl.vector.logs import logger
from kitae_marl.vector.stepping.faults import DataFault, data_fault
from kitae_marl.vector.stepping.names import TextNamesEnv, require_agents

_KINDS = ("observation", "action")
_RESET = "reset(self, seed=None, options=None)"


def is_own_game(env: Any) -> bool:
    """Whether something is played like a parallel game, though its class is none of PettingZoo's.

    Example:
        >>> is_own_game(3)
        False
    """
    if isinstance(env, type) or not all(callable(_part(env, name)) for name in ("reset", "step")):
        return False
    if any(_part(env, name) is not None for name in ("possible_agents", "agents")):
        return True
    # Agents may be named by reset. An environment of one agent has a space where this has a method.
    return any(callable(_part(env, f"{kind}_space")) for kind in _KINDS)


def completed_game(env: Any) -> ParallelEnv[Any, Any, Any]:
    """Return a game with the whole interface of ``ParallelEnv``: itself, or one around it.

    What was made up for is logged, in a sentence each.

    Args:
        env: a parallel game.

    Raises:
        DataFault: if agents or spaces are not to be had.
        Exception: what the game raises in a ``reset`` that it takes to know them.
    """
    taken = _arguments_of_reset(env)
    if _is_whole(env) and len(taken) == 2:
        return env
    return OwnGameEnv(env, taken)


def takes_seed(env: Any) -> bool:
    """Whether an episode of a game can be seeded."""
    while isinstance(env, TextNamesEnv):
        env = env.env
    return not isinstance(env, OwnGameEnv) or "seed" in env.taken


class OwnGameEnv(ParallelEnv[Any, Any, Any]):
    """A user's own game with what it lacks of ``ParallelEnv``. All else is the game's own.

    Args:
        env: the game.
        taken: which of ``seed`` and ``options`` its ``reset`` takes.

    Attributes:
        env: the game.
        taken: as the argument.
    """

    def __init__(self, env: Any, taken: tuple[str, ...]) -> None:
        self.env, self.taken = env, taken
        self._name, self._was_reset = type(env).__name__, False
        metadata = _part(env, "metadata")
        self.metadata = metadata if isinstance(metadata, dict) else {"name": self._name}
        self.render_mode = _part(env, "render_mode")
        if "seed" not in taken:
            _tell(f"{self._name}.reset() takes no seed: its episodes cannot be repeated.")
        self.possible_agents = require_agents(self._find_agents())
        self._spaces = {kind: self._find_spaces(kind) for kind in _KINDS}
        self.step = env.step  # as it is, so that a step costs no more than it did
        state_space = _part(env, "state_space")
        if state_space is not None:
            self.state_space = state_space

    def __getattr__(self, name: str) -> Any:
        """What is not asked for by ``ParallelEnv`` is the game's own."""
        if name == "env" or name.startswith("__"):  # asked for while an object is copied
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def agents(self) -> list[Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Who is in the game."""
        return _part(self.env, "agents")

    @property
    def unwrapped(self) -> Any:
        """The game without any wrapper."""
        return self.env.unwrapped if isinstance(self.env, ParallelEnv) else self.env

    def observation_space(self, agent: Any) -> gym.Space[Any]:
        """Return the space of an agent's observations."""
        return self._spaces["observation"][agent]

    def action_space(self, agent: Any) -> gym.Space[Any]:
        """Return the space of an agent's actions."""
        return self._spaces["action"][agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode.

        Raises:
            DataFault: if there are options, and the game takes none.
        """
        given = {"seed": seed, "options": options}
        if options is not None and "options" not in self.taken:
            raise DataFault(
                "GameRuleError",
                f"expected {self._name}.{_RESET}, as options are given, got one without options; "
                "let it take them.",
            )
        self._was_reset = True
        return self.env.reset(**{name: given[name] for name in self.taken})

    def state(self) -> np.ndarray:
        """Return the global state."""
        return self.env.state()

    def render(self) -> Any:
        """Return a frame."""
        return self.env.render()

    def close(self) -> None:
        """Close the game, if it can be closed."""
        close = _part(self.env, "close")
        if close is not None:
            close()

    def _find_agents(self) -> list[Any]:
        """All agents, as the game names them; else those of its first episode."""
        agents = _part(self.env, "possible_agents")
        if _listed(agents):
            return list(agents)
        if not self._was_reset:
            self.reset(seed=0)
        agents, here = _part(self.env, "possible_agents"), _part(self.env, "agents")
        if _listed(agents):
            _tell(f"{self._name} has possible_agents only after reset().")
            return list(agents)
        if _listed(here):
            _tell(
                f"{self._name} has no possible_agents: the agents of its first episode, "
                f"{list(here)[:20]}, are taken for all that there are."
            )
            return list(here)
        raise DataFault(
            "AgentSetError",
            f"expected possible_agents, the list of all agents, or agents after reset(), got "
            f"{agents!r} and {here!r}; set possible_agents in __init__.",
        )

    def _find_spaces(self, kind: str) -> dict[Any, gym.Space[Any]]:
        """The spaces of all agents; a game that does not know them yet is reset first."""
        found = self._ask_spaces(kind)
        if any(fault is not None for _, fault in found.values()) and not self._was_reset:
            self.reset(seed=0)
            found = self._ask_spaces(kind)
            if not any(fault is not None for _, fault in found.values()):
                _tell(f"{self._name} knows its {kind} spaces only after reset().")
        for _, fault in found.values():
            if fault is not None:
                raise fault
        return {agent: space for agent, (space, _) in found.items()}

    def _ask_spaces(self, kind: str) -> dict[Any, tuple[Any, DataFault | None]]:
        """Ask for the space of every agent."""
        return {agent: _space_of(self.env, kind, agent) for agent in self.possible_agents}


def _tell(text: str) -> None:
    """Say what was made up for."""
    logger.warning("%s", printable(text))


def _part(env: Any, name: str) -> Any:
    """Return an attribute of a game; None where there is none, yet or at all."""
    try:
        return getattr(env, name, None)
    except Exception:  # a property of a game that is not reset yet may raise anything
        return None


def _listed(agents: Any) -> bool:
    """Whether agents are a list of some kind, and not an empty one."""
    return isinstance(agents, Iterable) and not isinstance(agents, str) and bool([*agents])


def _is_whole(env: Any) -> bool:
    """Whether a game is a ``ParallelEnv`` that knows its agents and spaces already."""
    if not isinstance(env, ParallelEnv) or not _listed(_part(env, "possible_agents")):
        return False
    if any(_method(env, kind) is None for kind in _KINDS):
        return False
    return all(
        _space_of(env, kind, agent)[1] is None for agent in env.possible_agents for kind in _KINDS
    )


def _method(env: Any, kind: str) -> Any:
    """The method (or what stands in its place) that tells a game's spaces; None without its own."""
    method = _part(env, f"{kind}_space")
    inherited = getattr(ParallelEnv, f"{kind}_space")  # it looks into dicts, and warns every time
    return None if isinstance(method, MethodType) and method.__func__ is inherited else method


def _space_of(env: Any, kind: str, agent: Any) -> tuple[Any, DataFault | None]:
    """Ask a game for one space of an agent: its method, else its dict by agent."""
    method = _method(env, kind)
    if method is None:
        method = _part(env, f"{kind}_spaces") or {}
    try:
        space = method.get(agent) if isinstance(method, Mapping) else method(agent)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
    else:
        if isinstance(space, gym.Space):
            return space, None
        what = repr(space)[:200]
    if isinstance(method, gym.Space) and not isinstance(method, Mapping):
        what = f"the one space {method} for all"
    advice = f"return one from {kind}_space(agent), or keep a dict {kind}_spaces by agent"
    return None, data_fault(str(agent), f"{kind} space", "a gymnasium.Space", what, advice)


def _arguments_of_reset(env: Any) -> tuple[str, ...]:
    """Which of ``seed`` and ``options`` the ``reset`` of a game takes by name."""
    try:
        parameters = inspect.signature(env.reset).parameters.values()
    except (TypeError, ValueError):  # of compiled code nobody knows
        return ("seed", "options")
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return ("seed", "options")
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return tuple(name for name in ("seed", "options") if name in named)
