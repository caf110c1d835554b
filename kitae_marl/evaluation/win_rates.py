"""This file measures now and then how often each side of a zero-sum game beats the random policy.

Two sides that learn from each other may get better while their returns stay where they are; against
an opponent that does not change, it shows.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from kitae_marl.evaluation.playing import evaluate_sides
from kitae_marl.players.policies import random_policy
from kitae_marl.runs.returns import WIN_RATE
from kitae_marl.vector.protocol import VecParallelEnv

EPISODES = 32
"""Episodes for each side."""
SEED = 1_000_000
"""Seed of the games and of the opponent: measurements differ by the agent alone."""
MAX_STEPS = 20_000
"""Joint steps in which an episode must end; longer games are not measured meanwhile."""
SHARE = 0.05
"""Share of the time since training began that measurements may take."""
FIRST = 0.5
"""Seconds that the first measurement is expected to take."""
SHORT = 10.0
"""Seconds that the measurement at the end of a run may take, whatever share of its time that is."""
PARTS = 20
"""Measurements of one run, at most, and one more at its end."""


class WinRates:
    """Measures runs while they are trained, without taking much of their time.

    Args:
        make_env: makes the environments to play in, where they are needed for the first time.
    """

    def __init__(self, make_env: Callable[[], VecParallelEnv]) -> None:
        self._make_env, self._env = make_env, None
        self._began, self._spent, self._expected = time.monotonic(), 0.0, FIRST
        self._measured: dict[int, int] = {}

    def __call__(self, agent: Any, env_step: int, *, last: bool = False) -> dict[str, float]:
        """Measure an agent, if that is due.

        Args:
            agent: of a zero-sum game.
            env_step: environment steps of its run so far.
            last: whether the run ends here.

        Returns:
            ``win_rate/<agent>`` and ``win_rate/mean``, shares of episodes won with the most
            probable actions, each side in turn; nothing where it is not due.
        """
        seed, total = agent.config.seed, agent.config.env_steps
        before = self._measured.get(seed, 0)
        allowed = SHARE * (time.monotonic() - self._began)
        due = env_step - before >= total / PARTS or (last and env_step > before)
        affordable = self._spent + self._expected <= allowed
        if not due or not (affordable or (last and before and self._expected <= SHORT)):
            return {}
        self._measured[seed] = env_step
        started = time.monotonic()
        try:
            rates = self._play(agent)
        except ValueError as error:  # an episode without an end, or without a report of its end
            warnings.warn(f"win rates are no longer measured: {error}", stacklevel=2)
            rates, self._spent = {}, float("inf")
        self._expected = time.monotonic() - started
        self._spent += self._expected
        return rates

    def _play(self, agent: Any) -> dict[str, float]:
        """Play every side against the random policy."""
        self._env = self._env or self._make_env()
        policy, opponent = agent.player().select_action, random_policy(self._env, SEED)
        outcome = evaluate_sides(
            policy, opponent, self._env, EPISODES, seed=SEED, max_steps=MAX_STEPS
        )
        rates = {
            f"{WIN_RATE}{name}": counts["win"] / outcome.n_episodes
            for name, counts in (outcome.outcomes() or {}).items()
        }
        return {**rates, f"{WIN_RATE}mean": sum(rates.values()) / len(rates)} if rates else {}

    def close(self) -> None:
        """Close the environments, if any were made."""
        if self._env is not None:
            self._env.close()
