"""Train agents on any PettingZoo game, in JAX.

Public names are loaded on first use, so that ``import kitae_marl`` imports neither JAX nor a game.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitae_marl.config.run import Config, PPOConfig
    from kitae_marl.evaluation import (
        Evaluation,
        compare,
        evaluate,
        evaluate_sides,
        over_seeds,
        random_policy,
        summarize,
    )
    from kitae_marl.evaluation.export import export_policy
    from kitae_marl.loops.train import check_env, process_termination, vectorized_train
    from kitae_marl.runs.agent import Agent
    from kitae_marl.runs.many import train_many
    from kitae_marl.selfplay.seats import frozen, with_seats
    from kitae_marl.types import AlgoType, Checkpointer, IAgent
    from kitae_marl.vector import SubProcVecParallelEnv, make_parallel_env, make_vec_env
    from kitae_marl.vector.catalogue.doctor import check_parallel_env

__version__ = "0.1.0"

_HOMES = {
    "Agent": "runs.agent",
    "AlgoType": "types",
    "Checkpointer": "types",
    "Config": "config.run",
    "Evaluation": "evaluation",
    "IAgent": "types",
    "PPOConfig": "config.run",
    "SubProcVecParallelEnv": "vector.workers.subproc",
    "check_env": "loops.train",
    "check_parallel_env": "vector.catalogue.doctor",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "export_policy": "evaluation.export",
    "evaluate_sides": "evaluation",
    "frozen": "selfplay.seats",
    "make_parallel_env": "vector.make",
    "make_vec_env": "vector.make",
    "over_seeds": "evaluation",
    "process_termination": "loops.train",
    "random_policy": "evaluation",
    "summarize": "evaluation",
    "train_many": "runs.many",
    "vectorized_train": "loops.train",
    "with_seats": "selfplay.seats",
}

__all__ = [
    "Agent",
    "AlgoType",
    "Checkpointer",
    "Config",
    "Evaluation",
    "IAgent",
    "PPOConfig",
    "SubProcVecParallelEnv",
    "check_env",
    "check_parallel_env",
    "compare",
    "evaluate",
    "evaluate_sides",
    "export_policy",
    "frozen",
    "make_parallel_env",
    "make_vec_env",
    "over_seeds",
    "process_termination",
    "random_policy",
    "summarize",
    "train_many",
    "vectorized_train",
    "with_seats",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kitae_marl' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kitae_marl.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names too."""
    return sorted({*globals(), *_HOMES})
