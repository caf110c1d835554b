"""The doctor sees what a game does, and what it does wrong."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from lockstep import WARNINGS
from pettingzoo import ParallelEnv
from vector_games import CountGame

from kitae_marl.vector.adapters.compiled_games import twin_serves
from kitae_marl.vector.catalogue.doctor import check_parallel_env
from kitae_marl.vector.catalogue.report import Report
from kitae_marl.vector.make import make_parallel_env, make_vec_env

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]


class Relay(ParallelEnv[str, Any, Any]):
    """``b`` joins on step 2, ``a`` leaves on 3, all ends on 5; ``fault`` breaks a rule."""

    metadata: dict[str, Any] = {"name": "relay"}  # noqa: RUF012
    _created = itertools.count()

    def __init__(self, fault: str = "") -> None:
        self.possible_agents, self.agents = ["a", "b"], []
        self.fault, self.number, self.plays = fault, next(self._created), 0
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> spaces.Space:
        """A number."""
        return spaces.Box(0, 100, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        """Two."""
        return spaces.Discrete(2)

    def _observe(self) -> dict[str, Any]:
        value: Any = np.array([self.t + self.bonus], np.float32)
        if self.fault == "dtype":
            value = value.astype(np.float64)
        if self.fault == "shape":
            value = value[0]
        if self.fault == "bounds" and self.t == 4:
            value = value + 500
        if self.fault == "nan":
            value = value * np.nan
        return dict.fromkeys(self.agents, value)

    def _infos(self) -> dict[str, Any]:
        mask = np.array([0, 0 if self.fault == "empty_mask" and self.t == 1 else 1], np.int8)
        return {agent: {"action_mask": mask} for agent in self.agents}

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        """Start with ``a`` alone."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.bonus = int(self._rng.integers(50))
        if self.fault == "leak":
            self.bonus = (self.bonus + self.plays) % 50
        if self.fault == "unseeded":
            self.bonus = self.number % 50
        self.plays, self.t, self.agents = self.plays + 1, 0, ["a"]
        return self._observe(), self._infos()

    def step(self, actions: dict[str, Any]) -> Any:
        """Count; see the class."""
        assert all(action == 1 for action in actions.values()) or self.fault in (
            "empty_mask",
            "revive",
        )
        self.t += 1
        before = list(self.agents)
        dying = [agent for agent in before if (agent == "a" and self.t == 3) or self.t == 5]
        self.agents = [agent for agent in before if agent not in dying]
        if self.t == 2:
            self.agents.append("b")
        alive, self.agents = self.agents, list(dict.fromkeys([*before, *self.agents]))
        observations, infos = self._observe(), self._infos()
        self.agents = alive
        terminations = {agent: agent in dying for agent in before}
        if self.fault == "unflagged":
            terminations = dict.fromkeys(before, False)
        rewards = dict.fromkeys(before, 1.0)
        if self.fault == "late_reward" and self.t == 4:
            rewards["a"] = 2.0
        if self.fault == "revive" and self.t == 4:
            self.agents.append("a")
        if self.fault == "reward" and self.t == 2:
            rewards["a"] = float("nan")
        truncations = dict.fromkeys(before, False)
        if self.fault == "four":
            return observations, rewards, terminations, infos
        return observations, rewards, terminations, truncations, infos


def test_a_sound_game_with_agents_that_join_and_leave() -> None:
    report = check_parallel_env(Relay, episodes=3)
    assert report.ok, report.problems
    assert report.name == "Relay"
    assert report.episodes == (3, 5, 5.0, 5)
    assert (report.dying, report.joining, report.waiting) == (("a",), ("b",), ())
    assert report.masks == "info"
    assert report.ends == (3, 0)
    assert report.seeding == "reset(seed) determines whole episodes, also on a used game"
    assert report.command == ""


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("shape", r"observation of agent 'a': expected an array of shape \(1,\) .*shape \(\)"),
        ("nan", "observation of agent 'a': expected finite numbers, got nan"),
        ("reward", r"reward of agent 'a': expected a finite float32, got nan.* \(3 times\)"),
        ("revive", "agent 'a' left the game in this episode and is back in env.agents"),
        ("four", r"step\(\): expected .*, got a tuple of 4 values; return five dicts"),
        ("leak", "a used game differs from a fresh one"),
        ("unseeded", r"reset\(seed\) does not determine an episode"),
    ],
)
def test_a_broken_rule_is_named(fault: str, problem: str) -> None:
    import re

    report = check_parallel_env(lambda: Relay(fault), episodes=4)
    assert not report.ok
    assert any(re.search(problem, text) for text in report.problems), report.problems
    assert "PROBLEMS" in report.lines()[0]


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        ("dtype", r"observation is float64, its space float32: it is cast \(\d+ times\)"),
        (
            "bounds",
            r"of agent 'b': expected values in \[0.0, 100.0\], got 5\d+.0 at \[0\]",
        ),
        ("unflagged", "agent 'a' left env.agents without a termination or truncation"),
        ("empty_mask", "agent 'a' is to act and its action mask forbids every action"),
    ],
)
def test_what_training_goes_on_with_is_noted(fault: str, note: str) -> None:
    import re

    report = check_parallel_env(lambda: Relay(fault), episodes=4)
    assert report.ok, report.problems
    assert any(re.search(note, text) for text in report.notes), report.notes
    assert any(line.startswith("  note") and re.search(note, line) for line in report.lines())


def test_strict_bounds_make_a_problem_of_it() -> None:
    report = check_parallel_env(lambda: Relay("bounds"), episodes=4, strict_bounds=True)
    assert any("expected values in [0.0, 100.0], got 5" in text for text in report.problems)


def test_a_game_that_never_ends_is_not_called_healthy() -> None:
    report = check_parallel_env(lambda: CountGame(10**9), max_steps=40)
    assert report.unfinished == (3, 40)  # more would tell no more
    assert report.lines()[0].endswith("no rule broken, but NO EPISODE ENDED")
    assert "--max-episode-steps 40" in report.notes[0]


def test_episodes_may_be_limited_as_in_training() -> None:
    report = check_parallel_env(lambda: CountGame(10**9), episodes=2, max_episode_steps=7)
    assert (report.episodes[0], report.episodes[3], report.ends) == (2, 7, (0, 2))
    assert not report.notes
    known = check_parallel_env("mpe/simple_spread-v3", episodes=1, max_episode_steps=7)
    assert "--max-episode-steps 7" in known.command
    assert not known.twin  # whose games end by themselves


def test_rewards_after_death_are_counted() -> None:
    report = check_parallel_env(lambda: Relay("late_reward"), episodes=4)
    assert report.late_rewards == 4


def test_a_leak_shows_on_one_game_alone() -> None:
    assert check_parallel_env(Relay(), episodes=1).ok
    assert not check_parallel_env(Relay("leak"), episodes=1).ok


def test_a_game_by_id_says_how_to_train_on_it() -> None:
    from kitae_marl.cli.main import parse

    report = check_parallel_env("classic/tictactoe-v3", episodes=3)
    assert report.ok
    assert report.waiting == ("player_1", "player_2")
    assert report.masks == "observation"
    assert 0 < report.ms_per_step < 100
    assert sum(share for _, share in report.where) <= 102
    words = report.command.split()
    assert words[:3] == ["kitae-marl", "train", "classic/tictactoe-v3"]
    options = parse(words[1:])
    assert (options.n_envs, options.n_workers) == (report.n_envs, None)  # they exclude the twin
    assert any(report.command in line for line in report.lines())
    assert "on the compiled twin" in report.lines()[-3]
    assert report.lines()[-1].endswith(f"(--backend python): n_workers={report.n_workers}")
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("gymnasium:CartPole-v1", {}),
        ("classic/rps-v2", {"stock": True}),
        ("mpe/simple_spread-v3", {"benchmark_data": True}),
    ],
)
def test_a_game_without_a_twin_gets_workers(env_id: str, kwargs: dict[str, Any]) -> None:
    report = check_parallel_env(env_id, episodes=1, max_steps=4, **kwargs)
    assert not report.twin
    assert f"--n-workers {report.n_workers}" in report.lines()[-1]


def test_only_a_twin_that_exists_is_refused_with_a_reason() -> None:
    reasons: list[str] = []
    assert not twin_serves("gymnasium:CartPole-v1", {"benchmark_data": True}, reasons.append)
    assert not twin_serves("mpe/simple_spread-v3", {"benchmark_data": True}, reasons.append)
    assert [reason.split(":")[0] for reason in reasons] == ["expected benchmark_data=False"]


def test_pictures_get_wrappers_and_fewer_environments() -> None:
    report = check_parallel_env("butterfly/pistonball-v6", episodes=1, max_steps=4)
    assert report.wrappers == ("pictures:84,84",)
    assert report.command.endswith("--wrap pictures:84,84")
    assert report.n_envs * 128 * 20 * 457 * 120 * 3 > 2**30
    assert "--ppo.n-steps" in report.command
    assert report.corrected


def test_the_stock_game_shows_its_fault() -> None:
    id = "butterfly/knights_archers_zombies-v11"
    assert check_parallel_env(id, episodes=1, max_steps=25).ok
    stock = check_parallel_env(id, episodes=1, max_steps=25, stock=True)
    assert stock.problems == ("a used game differs from a fresh one",)
    assert stock.corrected == ()


def test_what_is_no_game_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a PettingZoo ParallelEnv"):
        check_parallel_env(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="only beside an id"):
        check_parallel_env(Relay, fault="dtype")
    vector = make_vec_env("mpe/simple-v3", 1, n_workers=0)
    with pytest.raises(TypeError, match="expected one parallel environment"):
        check_parallel_env(vector)
    vector.close()


def test_episodes_that_do_not_end_are_said_to_be_left() -> None:
    report = check_parallel_env("sisl/pursuit-v5", episodes=3, max_steps=25, patience=0.0)
    assert (report.episodes[0], report.unfinished) == (0, (1, 25))  # no second one: no patience
    assert report.seeding == "reset(seed) determines the first 20 steps, also on a used game"
    assert any("1 left after 25 steps" in line for line in report.lines())
    assert not any("episodes" in line for line in report.lines())


def test_a_game_without_agents_at_the_start_is_a_problem() -> None:
    class Empty(Relay):
        def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
            super().reset(seed, options)
            self.agents = []
            return {}, {}

    report = check_parallel_env(Empty, episodes=1)
    assert any("expected at least one agent after reset()" in text for text in report.problems)


def test_every_report_can_be_printed() -> None:
    report = check_parallel_env(make_parallel_env("mpe/simple_tag-v3"), episodes=1)
    assert isinstance(report, Report)
    assert all(isinstance(line, str) and "\n" not in line for line in report.lines())
