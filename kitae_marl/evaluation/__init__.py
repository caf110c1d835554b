"""This room plays whole episodes, and reports, compares, draws, films and exports.

It plays in the original (Python) games and reads nothing of training but run folders.
"""

from kitae_marl.evaluation.playing import evaluate, evaluate_sides, evaluation_of, play_frames
from kitae_marl.evaluation.results import (
    DEFINITION,
    Evaluation,
    compare,
    normalized_score,
    summarize,
)
from kitae_marl.evaluation.statistics import (
    iqm,
    over_games,
    over_seeds,
    probability_of_improvement,
    stratified_bootstrap,
)
from kitae_marl.players.policies import random_policy, seated
from kitae_marl.players.scripted.oracles import oracle_for

__all__ = [
    "DEFINITION",
    "Evaluation",
    "compare",
    "evaluate",
    "evaluate_sides",
    "evaluation_of",
    "iqm",
    "normalized_score",
    "oracle_for",
    "over_games",
    "over_seeds",
    "play_frames",
    "probability_of_improvement",
    "random_policy",
    "seated",
    "stratified_bootstrap",
    "summarize",
]
