"""This file takes any environment that a user gives and returns one that training understands.

``check_env``, the makers, evaluation and self-play build on it. It is the edge: behind it
everything speaks the protocol of PettingZoo's ``ParallelEnv`` or of ``VecParallelEnv``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import AECEnv, ParallelEnv

from kitae_marl.data.stacking import map_leaves
from kitae_marl.vector.adapters.compiled_games import is_game
from kitae_marl.vector.adapters.completed import NEEDED, CompletedVecParallelEnv
from kitae_marl.vector.adapters.gymnasium import GymnasiumParallelEnv
from kitae_marl.vector.adapters.own_games import completed_game, is_own_game
from kitae_marl.vector.adapters.supersuit import games_of, is_supersuit_vector
from kitae_marl.vector.lean.aec import Step
from kitae_marl.vector.protocol import VecParallelEnv
from kitae_marl.vector.stepping.faults import DataFault, public_error
from kitae_marl.vector.stepping.names import with_text_names


def as_parallel(env: Any) -> Any:
    """Return the environment if it is a parallel one, else a compatible parallel one.

    Args:
        env: a PettingZoo ``ParallelEnv``, or a class of your own with its methods; a vector of such
            (``SubProcVecParallelEnv`` or anything that follows its protocol); an ``AECEnv``; a
            Gymnasium ``Env`` or ``VectorEnv``; the ``MarkovVectorEnv`` that SuperSuit makes of a
            parallel game; an EnvPool made for Gymnasium; a compiled game.

    Returns:
        A ``ParallelEnv`` for a single environment, an environment of the ``VecParallelEnv``
        protocol for a vector. Single-agent ones have the one agent ``agent_0``; agents whose ids
        are no texts are called by the texts of them.

    Raises:
        NoGameError: a TypeError, if it is none of these.
        TypeError: if it is a vector of SuperSuit's in other processes.
        ValueError: if it is a Gymnasium vector whose autoreset is disabled.
        GameRuleError: if its agents or spaces are not to be had.
    """
    try:
        return adapted(env)
    except DataFault as fault:
        raise public_error(fault) from None


def adapted_game(env: Any) -> ParallelEnv[str, Any, Any]:
    """Return what a function that makes one game returned, as a parallel environment.

    Raises:
        DataFault: as ``adapted``, and for a vector.
    """
    game = adapted(env)
    if isinstance(game, ParallelEnv):
        return game
    raise DataFault(
        "NoGameError",
        f"expected a function that makes a single game, got the vector {type(env).__name__} from "
        "it; give a vector itself to train, or let the function make one game.",
    )


def adapted(env: Any) -> Any:
    """Do what ``as_parallel`` does; what is wrong is a fault for a worker to report.

    Raises:
        DataFault: if it is no environment, or its agents or spaces are not to be had.
        ValueError: if it is a Gymnasium vector whose autoreset is disabled.
    """
    if is_vec_parallel(env):
        return env
    if isinstance(env, ParallelEnv):
        return with_text_names(completed_game(env))
    if is_game(type(env)):
        from kitae_envs.parallel import GameParallelEnv

        return GameParallelEnv(env, render_mode="rgb_array")
    if _is_envpool(env):  # first: a pool calls itself an Env and a VectorEnv as well
        from kitae_marl.vector.adapters.envpool import envpool_as_parallel

        return envpool_as_parallel(env)
    if is_supersuit_vector(env):
        games = games_of(env)
        if len(games) > 1:
            raise DataFault(
                "NoGameError",
                f"expected one game, got {len(games)} in a {type(env).__name__}; give "
                "check_env such a vector, and functions that make a game to what makes vectors.",
            )
        return adapted(games[0])
    if isinstance(env, gym.vector.VectorEnv):
        from kitae_marl.vector.adapters.gymnasium import GymnasiumVecParallelEnv

        return GymnasiumVecParallelEnv(env)
    if isinstance(env, gym.Env):
        return GymnasiumParallelEnv(env)
    if isinstance(env, AECEnv):
        from kitae_marl.vector.lean.build import aec_as_parallel

        return with_text_names(aec_as_parallel(env))
    if is_own_game(env):
        return with_text_names(completed_game(env))
    raise DataFault(
        "NoGameError",
        "expected a PettingZoo ParallelEnv, a vector of them (SubProcVecParallelEnv), an AECEnv, "
        f"a Gymnasium Env or VectorEnv, an EnvPool or a compiled game, got {_in_words(env)}; "
        "make one by kitae_marl.make_parallel_env or kitae_marl.make_vec_env.",
    )


def _in_words(env: Any) -> str:
    """Say what was given in place of a game."""
    if isinstance(env, type):
        return f"the class {env.__name__} itself"
    return "None" if env is None else type(env).__name__


def is_vec_parallel(env: Any) -> bool:
    """Whether an environment is a vector of parallel ones, by what training must have of it.

    Attributes are asked for, and not ``isinstance`` of a protocol, which since Python 3.12 does not
    see what a user's wrapper hands on by ``__getattr__``.
    """
    return not isinstance(env, gym.vector.VectorEnv) and all(hasattr(env, name) for name in NEEDED)


def require_vector(env: Any) -> VecParallelEnv:
    """Return a vector that speaks the whole protocol: the vector itself, or one that completes it.

    Args:
        env: a vector of parallel environments; a user's own may lack what training can do without.

    Raises:
        TypeError: if it is no vector of parallel environments.
    """
    if not is_vec_parallel(env):
        raise TypeError(
            f"expected a vector of parallel environments, got {type(env).__name__}; make one by "
            "make_vec_env, or from Gymnasium's by check_env."
        )
    return env if isinstance(env, VecParallelEnv) else CompletedVecParallelEnv(env)


def _is_envpool(env: Any) -> bool:
    """Whether an environment is an EnvPool, told without importing envpool."""
    return any(base.__module__.startswith("envpool.") for base in type(env).__mro__)


class SingleParallelEnv(ParallelEnv[str, Any, Any]):
    """The only environment of a vector, with the interface of PettingZoo.

    For games that exist as vectors only, such as EnvPool's. All agents stay in the game until it
    ends; ``infos[agent]`` holds ``active`` and, where there is one, ``action_mask``.

    Args:
        vec: an environment of the ``VecParallelEnv`` protocol with ``num_envs`` of 1. It is closed
            with this one.

    Raises:
        ValueError: if the vector holds more than one environment.
    """

    def __init__(self, vec: Any) -> None:
        if vec.num_envs != 1:
            raise ValueError(f"expected a vector of one environment, got num_envs={vec.num_envs}.")
        self.vec = vec
        self.possible_agents = list(vec.possible_agents)
        self.agents: list[str] = []
        self.metadata = vec.metadata
        self.render_mode = None

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of an agent's observations."""
        return self.vec.observation_space(agent)

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Return the space of an agent's actions."""
        return self.vec.action_space(agent)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        observations, infos = self.vec.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._rows(observations), self._infos(infos)

    def step(self, actions: dict[str, Any]) -> Step:
        """Step; after the end everything is empty until ``reset``."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        stacked = {
            agent: map_leaves(lambda leaf: np.asarray(leaf)[None], action)
            for agent, action in actions.items()
        }
        observations, rewards, terminated, truncated, infos = self.vec.step(stacked)
        if "_final_observation" in infos and infos["_final_observation"][0]:
            observations = infos["final_observation"]
            self.agents = []
        return (
            self._rows(observations),
            {agent: float(rewards[agent][0]) for agent in self.possible_agents},
            {agent: bool(terminated[agent][0]) for agent in self.possible_agents},
            {agent: bool(truncated[agent][0]) for agent in self.possible_agents},
            self._infos(infos),
        )

    def render(self) -> Any:
        """Return a frame."""
        return self.vec.render(0)

    def close(self) -> None:
        """Close the vector."""
        self.vec.close()

    def _rows(self, stacked: Any) -> dict[str, Any]:
        """The only row of each agent, in memory of its own."""
        return {
            agent: map_leaves(lambda leaf: np.array(leaf[0]), stacked[agent])
            for agent in self.possible_agents
        }

    def _infos(self, infos: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Who is to act, and what each may do."""
        return {
            agent: {
                "active": bool(infos["active"][agent][0]) and bool(self.agents),
                **(
                    {"action_mask": infos["action_mask"][agent][0].copy()}
                    if "action_mask" in infos
                    else {}
                ),
            }
            for agent in self.possible_agents
        }
