"""This file takes vectors of SuperSuit's apart: the games in them make a better vector of ours.

SuperSuit calls each agent of a game an environment, so that learners of single agents can train on
it. Whose agent a row is, who has left and where an episode ends is lost on the way; the games know.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import ParallelEnv


def is_supersuit_vector(env: Any) -> bool:
    """Whether an environment is a vector of SuperSuit's, told without importing supersuit."""
    return any(base.__module__.startswith("supersuit.vector.") for base in type(env).__mro__)


def games_of(env: Any) -> list[ParallelEnv[Any, Any, Any]]:
    """Return the games inside a vector of SuperSuit's.

    Raises:
        TypeError: if they are in other processes, or games of one agent alone.
    """
    from supersuit.vector import ConcatVecEnv, MarkovVectorEnv

    if isinstance(env, MarkovVectorEnv):
        return [env.par_env]
    if isinstance(env, ConcatVecEnv):
        return [game for part in env.vec_envs for game in games_of(part)]
    raise TypeError(
        f"expected a MarkovVectorEnv or a ConcatVecEnv of SuperSuit's in this process, got "
        f"{type(env).__name__}; give SubProcVecParallelEnv functions that make the game, which "
        "then has processes of its own, or concat_vec_envs_v1 num_cpus=0."
    )
