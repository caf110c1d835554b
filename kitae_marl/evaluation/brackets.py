"""Brackets: what the random policy gets in a game and what its scripted oracle gets.

``brackets.json`` holds them as ``kitae-marl brackets ID`` measured them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kitae_marl.evaluation.playing import evaluate, evaluate_sides
from kitae_marl.evaluation.results import Evaluation, pooled
from kitae_marl.players.policies import random_policy
from kitae_marl.players.scripted.oracles import oracle_for
from kitae_marl.types import Policy
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


class Protocol(NamedTuple):
    """How to play: the same for a run, the random policy and the oracle.

    Attributes:
        episodes: for each seed, and for each side.
        seeds: of the environments.
        opponent: plays the other sides; None: the policy plays all agents.
    """

    episodes: int
    seeds: Sequence[int]
    opponent: Policy | None = None

    def play(self, policy: Policy, env: VecParallelEnv) -> Evaluation:
        """Play all episodes of all seeds."""
        return pooled([self._once(policy, env, seed) for seed in self.seeds])

    def _once(self, policy: Policy, env: VecParallelEnv, seed: int) -> Evaluation:
        if self.opponent is None:
            return evaluate(policy, env, self.episodes, seed=seed)
        return evaluate_sides(policy, self.opponent, env, self.episodes, seed=seed)

    def references(
        self,
        env: VecParallelEnv,
        env_id: str,
        env_kwargs: Mapping[str, Any],
        *,
        oracle: bool = True,
    ) -> tuple[Evaluation, Evaluation | None]:
        """Play the random policy, and the oracle if asked for and the game has one."""
        random = self.play(random_policy(env, self.seeds[0]), env)
        scripted = oracle_for(env_id, env_kwargs) if oracle else None
        return random, None if scripted is None else self.play(scripted.make(env), env)


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
    protocol = Protocol(episodes, seeds)
    random = protocol.play(random_policy(env, seeds[0]), env)
    if random.zero_sum:
        protocol = protocol._replace(opponent=random_policy(env, seeds[0] + 1))
    random, played = protocol.references(env, env_id, env_kwargs)
    oracle = oracle_for(env_id, env_kwargs)
    return {
        "id": env_id,
        "kwargs": dict(env_kwargs),
        "definition": random.definition,
        "episodes": random.n_episodes,
        "against": None if protocol.opponent is None else "random",
        "oracle_definition": oracle and oracle.definition,
        "random": random.summary(),
        "oracle": played and played.summary(),
    }


def known_bracket(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> Bracket | None:
    """Look a game up in the table; None unless it is there with just these arguments.

    Example:
        >>> known_bracket("gymnasium:CartPole-v1").oracle["mean"]
        500.0
    """
    for entry in table():
        if entry["id"] == env_id and entry["kwargs"] == dict(env_kwargs or {}):
            return Bracket(entry["random"], entry["oracle"], entry["against"])
    return None


@cache
def table() -> list[dict[str, Any]]:
    """Return the table: ``measure``'s entries with mean returns instead of summaries."""
    return json.loads((Path(__file__).parent / "brackets.json").read_text(encoding="utf-8"))
