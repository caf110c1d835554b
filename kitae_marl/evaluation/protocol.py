"""This file says how policies are measured: in the same way a run and its references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kitae_marl.evaluation.playing import evaluate, evaluate_sides
from kitae_marl.evaluation.results import Evaluation, pooled
from kitae_marl.players.policies import random_policy
from kitae_marl.players.scripted.oracles import oracle_for
from kitae_marl.types import Policy
from kitae_marl.vector.protocol import VecParallelEnv


class References(NamedTuple):
    """What the random policy and the scripted oracle of a game get.

    Attributes:
        random: returns of the random policy.
        oracle: returns of the oracle, None where it was not played.
        oracle_definition: what the oracle does, in words; None where it was not played.
    """

    random: Evaluation
    oracle: Evaluation | None = None
    oracle_definition: str | None = None


class EvaluationProtocol(NamedTuple):
    """How to play.

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
        return pooled([self._play_seed(policy, env, seed) for seed in self.seeds])

    def _play_seed(self, policy: Policy, env: VecParallelEnv, seed: int) -> Evaluation:
        if self.opponent is None:
            return evaluate(policy, env, self.episodes, seed=seed)
        return evaluate_sides(policy, self.opponent, env, self.episodes, seed=seed)

    def play_references(
        self,
        env: VecParallelEnv,
        env_id: str,
        env_kwargs: Mapping[str, Any],
        *,
        with_oracle: bool = True,
    ) -> References:
        """Play the random policy, and the oracle if asked for and the game has one."""
        random = self.play(random_policy(env, self.seeds[0]), env)
        oracle = oracle_for(env_id, env_kwargs) if with_oracle else None
        if oracle is None:
            return References(random)
        return References(random, self.play(oracle.make(env), env), oracle.definition)
