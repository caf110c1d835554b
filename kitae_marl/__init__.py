"""Train agents on any PettingZoo game, in JAX.

Public names are loaded on first use, so that ``import kitae_marl`` imports neither JAX nor a game.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; a test holds this beside the table below
    from kitae_marl.algos import register as register
    from kitae_marl.config.alphazero import AlphaZeroConfig as AlphaZeroConfig
    from kitae_marl.config.learner import LearnerConfig as LearnerConfig
    from kitae_marl.config.opponents import Opponents as Opponents
    from kitae_marl.config.ppo import PPOConfig as PPOConfig
    from kitae_marl.config.run import Config as Config
    from kitae_marl.evaluation import Evaluation as Evaluation
    from kitae_marl.evaluation import compare as compare
    from kitae_marl.evaluation import evaluate as evaluate
    from kitae_marl.evaluation import evaluate_sides as evaluate_sides
    from kitae_marl.evaluation import evaluation_of as evaluation_of
    from kitae_marl.evaluation import over_seeds as over_seeds
    from kitae_marl.evaluation import summarize as summarize
    from kitae_marl.evaluation.export import export_policy as export_policy
    from kitae_marl.loops.train import check_env as check_env
    from kitae_marl.loops.train import process_termination as process_termination
    from kitae_marl.loops.train import vectorized_train as vectorized_train
    from kitae_marl.players.policies import random_policy as random_policy
    from kitae_marl.runs.agent import Agent as Agent
    from kitae_marl.runs.callbacks import Callback as Callback
    from kitae_marl.runs.many import train_many as train_many
    from kitae_marl.selfplay.cross_play import cross_play as cross_play
    from kitae_marl.selfplay.exact.answers import exploitability as exploitability
    from kitae_marl.selfplay.exact.answers import solve as solve
    from kitae_marl.selfplay.exact.answers import worst_case as worst_case
    from kitae_marl.selfplay.league import League as League
    from kitae_marl.selfplay.matches import play_match as play_match
    from kitae_marl.selfplay.matchmaking import MemberRecord as MemberRecord
    from kitae_marl.selfplay.opposing import oppose as oppose
    from kitae_marl.selfplay.ratings import PlayedGame as PlayedGame
    from kitae_marl.selfplay.ratings import payoff as payoff
    from kitae_marl.selfplay.ratings import ratings as ratings
    from kitae_marl.selfplay.seats import frozen as frozen
    from kitae_marl.selfplay.seats import with_seats as with_seats
    from kitae_marl.selfplay.tournaments import tournament as tournament
    from kitae_marl.training import train as train
    from kitae_marl.types import Algorithm as Algorithm
    from kitae_marl.types import AlgoType as AlgoType
    from kitae_marl.types import Checkpointer as Checkpointer
    from kitae_marl.types import Experience as Experience
    from kitae_marl.types import IAgent as IAgent
    from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv as CompiledVecParallelEnv
    from kitae_marl.vector.catalogue.doctor import check_parallel_env as check_parallel_env
    from kitae_marl.vector.make import make_parallel_env as make_parallel_env
    from kitae_marl.vector.make import make_vec_env as make_vec_env
    from kitae_marl.vector.protocol import VecParallelEnv as VecParallelEnv
    from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv as SubProcVecParallelEnv

__version__ = "0.1.0"

_NAMES = {
    "algos": ("register",),
    "config.learner": ("LearnerConfig",),
    "config.opponents": ("Opponents",),
    "config.alphazero": ("AlphaZeroConfig",),
    "config.ppo": ("PPOConfig",),
    "config.run": ("Config",),
    "evaluation": (
        "Evaluation", "compare", "evaluate", "evaluate_sides", "evaluation_of", "over_seeds",
        "summarize",
    ),
    "evaluation.export": ("export_policy",),
    "loops.train": ("check_env", "process_termination", "vectorized_train"),
    "players.policies": ("random_policy",),
    "runs.agent": ("Agent",),
    "runs.callbacks": ("Callback",),
    "runs.many": ("train_many",),
    "selfplay.cross_play": ("cross_play",),
    "selfplay.exact.answers": ("exploitability", "solve", "worst_case"),
    "selfplay.league": ("League",),
    "selfplay.matchmaking": ("MemberRecord",),
    "selfplay.matches": ("play_match",),
    "selfplay.ratings": ("PlayedGame", "payoff", "ratings"),
    "selfplay.opposing": ("oppose",),
    "selfplay.seats": ("frozen", "with_seats"),
    "selfplay.tournaments": ("tournament",),
    "training": ("train",),
    "types": ("AlgoType", "Algorithm", "Checkpointer", "Experience", "IAgent"),
    "vector.adapters.compiled": ("CompiledVecParallelEnv",),
    "vector.catalogue.doctor": ("check_parallel_env",),
    "vector.make": ("make_parallel_env", "make_vec_env"),
    "vector.protocol": ("VecParallelEnv",),
    "vector.workers.subproc": ("SubProcVecParallelEnv",),
}  # fmt: skip
"""Public names by the module that holds them."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll] - said above for it


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kitae_marl' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kitae_marl.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, and nothing else."""
    return [*__all__, "__version__"]
