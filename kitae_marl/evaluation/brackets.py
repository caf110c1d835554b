"""This file knows the brackets of games: the returns of the random policy and of the oracle.

``brackets.json`` holds them as ``kitae-marl brackets ID`` has measured them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kitae_marl.evaluation.protocol import EvaluationProtocol
from kitae_marl.players.policies import random_policy
from kitae_marl.vector.protocol import VecParallelEnv


class Bracket(NamedTuple):
    """Returns of reference, by tag (``mean``, ``team``, agents, groups).

    Attributes:
        random: mean returns of the random policy.
        oracle: mean returns of the scripted oracle, None where there is none.
        against: ``random`` where one side after the other was played against the random policy, as
            in zero-sum games; None where all agents were played at once.
    """

    random: dict[str, float]
    oracle: dict[str, float] | None
    against: str | None


def measure(
    env: VecParallelEnv,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    episodes: int,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Measure the bracket of a game, side by side against the random policy where it is zero-sum.

    Returns:
        An entry of the table: ``id, kwargs, definition, episodes, against, oracle_definition`` and
        ``random`` and ``oracle``, what ``Evaluation.summary`` says of both.
    """
    protocol = EvaluationProtocol(episodes, seeds)
    if protocol.play(random_policy(env, seeds[0]), env).zero_sum:
        protocol = protocol._replace(opponent=random_policy(env, seeds[0] + 1))
    random, oracle, oracle_definition = protocol.play_references(env, env_id, env_kwargs)
    return {
        "id": env_id,
        "kwargs": dict(env_kwargs),
        "definition": random.definition,
        "episodes": random.n_episodes,
        "against": None if protocol.opponent is None else "random",
        "oracle_definition": oracle_definition,
        "random": random.summary(),
        "oracle": None if oracle is None else oracle.summary(),
    }


def known_bracket(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> Bracket | None:
    """Look a game up in the table; None unless it is there with just these arguments.

    Example:
        >>> known_bracket("gymnasium:CartPole-v1").oracle["mean"]
        500.0
    """
    for entry in bracket_table():
        if entry["id"] == env_id and entry["kwargs"] == dict(env_kwargs or {}):
            return Bracket(entry["random"], entry["oracle"], entry["against"])
    return None


@cache
def bracket_table() -> list[dict[str, Any]]:
    """Return all known brackets: ``measure``'s entries, with mean returns instead of summaries."""
    return json.loads((Path(__file__).parent / "brackets.json").read_text(encoding="utf-8"))
