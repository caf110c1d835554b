"""Training against a pool: who plays, what is learned and counted, and what is kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest
from kitae_envs.teams import Tally

from kitae_marl import (
    Agent,
    Callback,
    CompiledVecParallelEnv,
    Config,
    League,
    Opponents,
    PPOConfig,
    oppose,
    random_policy,
    train,
    train_many,
)
from kitae_marl.errors import CheckpointIncompatibleError, CheckpointWriteError, ConfigError
from kitae_marl.loops import chunks
from kitae_marl.runs.store import contents
from kitae_marl.runs.store.league import LeagueFile, Recorded
from kitae_marl.runs.store.seats import state_digest
from kitae_marl.selfplay.matchmaking import WAYS
from kitae_marl.selfplay.pool import Places, Pool
from kitae_marl.training import Task, train_run
from kitae_marl.types import Result, Seating
from kitae_marl.vector.adapters.around import VectorAround
from kitae_marl.vector.adapters.opposed import HostOpponent, OpposedVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")

TICTACTOE = "classic/tictactoe-v3"
SETTINGS = {
    "n_envs": 16,
    "n_steps": 16,
    "n_epochs": 1,
    "n_minibatches": 2,
    "hidden_sizes": (8,),
    "env_steps": 16 * 16 * 24,
    "save_every": 16 * 16 * 5,
}
SHARES = {"latest": 0.25, "pool": 0.5, "random": 0.25}
POOL = Opponents(
    SHARES,
    slots=4,
    pool_size=3,
    snapshot_every=16 * 16 * 3,
    rematch_every=2,
    matchmaking="pfsp",
)


class StopAt(Callback):
    """Asks for the end after an environment step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_update(self, step: int, metrics: Any, agent: Any) -> bool:
        return step >= self.step


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, quickest_compilation: None) -> Path:
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    train(TICTACTOE, path, opponents=POOL, show=False, **SETTINGS)
    return path


def learned(path: Path) -> str:
    """Return the digest of what a run has learned."""
    return state_digest(Agent.load(path).run_state())


class TestCompiled:
    def test_what_is_on_disk_says_who_played(self, whole: Path) -> None:
        recorded = League(whole).recorded
        every = POOL.snapshot_every
        assert every is not None
        # Every three updates, decided where opponents change, every two.
        assert recorded.members == [0, *(256 * n for n in (4, 6, 10, 12, 16, 18, 22, 24))]
        assert len(recorded.pool) == POOL.pool_size
        assert {games.opponent for games in recorded.games} >= {"random", "step_0"}
        for since, slots in recorded.seats:
            there = [
                m
                for m in recorded.members
                if m <= since and recorded.left.get(m, since + 1) > since
            ]
            assert len(slots) == 4
            assert {f"step_{m}" for m in there} >= set(slots)
        both = {games.team for games in recorded.games}
        assert both == {"player_1", "player_2"}
        n_games = sum(games.games for games in recorded.games)
        assert 400 < n_games < 24 * 16 * 12 / 5  # 12 of 16 environments, 5 moves at least
        first = sum(games.games for games in recorded.games if games.first)
        assert abs(first / n_games - 0.5) < 0.05

    def test_snapshots_are_checkpoints_that_stay(self, whole: Path) -> None:
        steps = sorted(
            int(path.name.removeprefix("step_"))
            for path in (whole / "checkpoints").iterdir()
            if path.is_dir()
        )
        assert set(League(whole).recorded.pool) <= set(steps)
        assert len(steps) <= POOL.pool_size + 3 + 2  # the newest, and what these may go back to

    @pytest.mark.parametrize("at", [256 * 8, 256 * 13])
    def test_a_run_that_goes_on_ends_to_the_bit_as_if_nothing_had_happened(
        self, at: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "run"
        monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)  # stop after any update
        train(TICTACTOE, path, opponents=POOL, show=False, callbacks=[StopAt(at)], **SETTINGS)
        trained = train(TICTACTOE, path, resume=True, show=False)
        assert trained.summary["complete"]
        rating = trained.summary["rating"]
        assert rating["low"] < rating["value"] < rating["high"]
        assert trained.agent.config.opponents == POOL.to_dict()
        assert learned(path) == learned(whole)
        assert recorded_of(path) == recorded_of(whole)

    def test_members_that_change_compile_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        times: list[float] = []
        counts: dict[int, int] = {}

        def listen(event: str, duration: float, **more: Any) -> None:
            if event.endswith("backend_compile_duration"):
                times.append(duration)

        class Count(Callback):
            def after_update(self, step: int, metrics: Any, agent: Any) -> None:
                counts[step] = len(times)

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            train(TICTACTOE, opponents=POOL, show=False, callbacks=[Count()], **SETTINGS)
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
        # After the first snapshots have come and members have been drawn three times.
        assert counts[256 * 8] == counts[256 * 24] > 0


def recorded_of(path: Path) -> Recorded:
    """Return what holds of a run."""
    return LeagueFile(path).read()


def highest(observations: Any, infos: Any) -> dict[str, np.ndarray]:
    """Play the last legal action."""
    masks = infos["action_mask"]
    return {
        agent: np.array([max(np.flatnonzero(row), default=0) for row in masks[agent]])
        for agent in observations
    }


class Recording(VectorAround):
    """Notes the actions that reach the games."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.possible_agents, self.groups = env.possible_agents, env.groups
        self.actions: dict[str, np.ndarray] = {}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return self._env.reset(seed=seed, options=options)

    def step_async(self, actions: Any) -> None:
        self.actions = {agent: np.array(action) for agent, action in actions.items()}
        self._env.step_async(actions)

    def step_wait(self) -> Any:
        return self._env.step_wait()


def test_on_the_host_opponents_act_and_are_not_active_for_the_learner() -> None:
    games = Recording(CompiledVecParallelEnv(TICTACTOE, 6))
    asked: list[Any] = []

    def noting(observations: Any, infos: Any) -> dict[str, np.ndarray]:
        asked.append(highest(observations, infos))
        return asked[-1]

    teams = [("player_1",), ("player_2",)]
    env = OpposedVecParallelEnv(games, teams, [HostOpponent(4, noting)])
    team = np.array([-1, -1, 0, 1, 0, 1])
    env.seat(Seating(["", "", *["mine"] * 4], team, []))
    policy = random_policy(env, 3)
    observations, infos = env.reset(seed=0)
    gained = 0.0
    for _ in range(40):
        to_act = {agent: np.array(x) for agent, x in env._seen[1]["active"].items()}
        chosen = policy(observations, infos)
        given = {agent: np.array(x) for agent, x in chosen.items()}
        active = infos["active"]
        observations, rewards, _, _, infos = env.step(chosen)
        for number, agent in enumerate(env.possible_agents):
            mine = (team == -1) | (team == number)
            assert np.array_equal(active[agent], to_act[agent] & mine)
            theirs = np.concatenate([given[agent][:2], asked[-1][agent]])
            played = np.where(mine, given[agent], theirs)
            assert np.array_equal(games.actions[agent], played)
            gained += rewards[agent][team == number].sum()
        over = infos.get("_final_observation", np.zeros(6, bool))
        team = np.where(over & (team >= 0), 1 - team, team)  # the other seat in the next game
    results = env.results()
    assert {result.opponent for result in results} == {"mine"}
    assert {result.team for result in results} == {0, 1}
    assert sum(result.tally.own for result in results) == gained
    assert env.results() == []
    env.close()


def test_on_the_host_members_change_where_a_game_ends() -> None:
    seated: list[tuple[int, Any]] = []
    env = OpposedVecParallelEnv(
        CompiledVecParallelEnv(TICTACTOE, 3),
        [("player_1",), ("player_2",)],
        [HostOpponent(2, highest, lambda i, state: seated.append((i, state)))],
    )
    team = np.array([-1, 0, 0])
    env.seat(Seating(["", "a", "b"], team, ["A", "B"]))
    policy = random_policy(env, 3)
    observations, infos = env.reset(seed=0)
    assert sorted(seated) == [(0, "A"), (1, "B")]
    env.seat(Seating(["", "c", "d"], team, ["C", "D"]))
    over = np.zeros(3, bool)
    while not over[1:].all():
        waiting = {0, 1} - set(np.flatnonzero(over[1:]))
        assert len(seated) == 4 - len(waiting)
        observations, _, _, _, infos = env.step(policy(observations, infos))
        over |= infos.get("_final_observation", np.zeros(3, bool))
    assert sorted(seated[2:]) == [(0, "C"), (1, "D")]
    # The games that were running belong to those who began them.
    assert {result.opponent for result in env.results()} <= {"a", "b", "c", "d"}
    env.close()


CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "memory": ("classic/tictactoe-v3", {"pool": 0.75, "latest": 0.25}, {"gru_size": 4}),
    "own networks": ("classic/tictactoe-v3", {"pool": 1.0}, {"share_params": False}),
    "sides": ("mpe/simple_tag-v3", {"pool": 0.75, "random": 0.25}, {"algo": "mappo"}),
    "three seats": ("mpe/simple_spread-v3", {"pool": 1.0}, {}),
}


@pytest.mark.parametrize("backend", ["compiled", "python"])
@pytest.mark.parametrize(
    "case",
    ["sides", *(pytest.param(c, marks=pytest.mark.slow) for c in CASES if c != "sides")],
)
def test_any_game_and_algorithm(case: str, backend: str, tmp_path: Path) -> None:
    game, shares, more = CASES[case]
    if "gru_size" in more:
        more = {**more, "chunk_length": 8}
    opponents = Opponents(shares, slots=2, rematch_every=2, matchmaking="pfsp_hard")
    place = {"backend": backend, **({"n_workers": 0} if backend == "python" else {})}
    settings = {**SETTINGS, **place, **more, "env_steps": 16 * 16 * 8}
    train(game, tmp_path / "run", opponents=opponents, show=False, **settings)
    league = League(tmp_path / "run")
    n_teams = {"three seats": 3}.get(case, 2)
    assert {games.team for games in league.recorded.games} == set(league.returns())
    assert len(league.returns()) == n_teams
    assert league.zero_sum is (game == TICTACTOE)
    opponents_met = {games.opponent for games in league.recorded.games}
    assert len(opponents_met) > 2


def test_functions_and_agents_are_opponents_by_name(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shares = {"latest": 0.25, "pool": 0.25, "mine": 0.25, "trained": 0.25}
    players = {"mine": highest, "trained": Agent.load(whole)}
    opponents = Opponents(shares, rematch_every=2, players=players, matchmaking=newest)
    settings = {**SETTINGS, "env_steps": 16 * 16 * 8}
    train(TICTACTOE, tmp_path / "run", opponents=opponents, show=False, **settings)
    assert "mine is played by Python functions" in caplog.text
    recorded = League(tmp_path / "run").recorded
    assert {"mine", "trained"} < {games.opponent for games in recorded.games}
    for since, slots in recorded.seats[1:]:
        newest_then = max(m for m in recorded.members if m <= since)
        assert slots.count(f"step_{newest_then}") >= len(slots) - 1
    stored = Config.from_json((tmp_path / "run" / "config.json").read_text()).opponents
    assert stored["matchmaking"].endswith(":newest")


def newest(members: Any) -> list[float]:
    """Choose the newest member."""
    return [0.0] * (len(members) - 1) + [1.0]


def test_a_frozen_run_is_copied_and_met_inside_xla(whole: Path, tmp_path: Path) -> None:
    path = whole.parent / "against"
    opponents = {"latest": 0.5, f"frozen:whole@{256 * 24}": 0.5, "rematch_every": 2}
    settings = {**SETTINGS, "env_steps": 16 * 16 * 6}
    train(TICTACTOE, path, opponents=opponents, show=False, **settings)
    league = League(path)
    assert {games.opponent for games in league.recorded.games} == set(opponents) - {
        "latest",
        "rematch_every",
    }
    assert league.recorded.members == []
    assert (path / "seats.json").exists()


@pytest.mark.parametrize(
    ("opponents", "message"),
    [
        ({"latest": 0.5}, "shares that sum to 1, got 0.5"),
        ({"latest": 1.5}, "a number in (0, 1], got 1.5"),
        ({"latest": 0.99, "pool": 0.01}, "at least one environment for pool"),
        ({"lates": 1.0}, "expected latest, pool, random, frozen:RUN"),
        ({"bot:nobody": 1.0}, "expected a scripted player of classic/tictactoe-v3"),
        ({"nowhere_at_all:f": 1.0}, "nowhere_at_all"),
        ({"pool": 1.0, "matchmaking": "random"}, "one of ('uniform'"),
        ({"pool": 1.0, "matchmaking": "os:sep"}, "expected os:sep to be a function"),
        ({"pool": 1.0, "pool_size": 0}, "pool_size: expected an integer of at least 1"),
        ({"pool": 1.0, "pinned": [-1]}, "pinned: expected an integer of at least 0"),
        ({"pool": 1.0, "eviction": "best"}, "eviction: expected one of"),
        ({"pool": 1.0, "teams": {"a": ["player_*"]}}, "two teams or more"),
        ({"pool": 1.0, "teams": {"a": "player_1"}}, "none for player_2"),
        ({"pool": 1.0, "teams": {"a": [5], "b": "player_2"}}, "a list of names or patterns"),
        ({"pool": 1.0, "slot": 4}, "slot (did you mean slots?)"),
        ({"pool": 1.0, "snapshot_win_rate": 2}, "snapshot_win_rate: expected a number"),
        ([1], "shares by opponent, a dict, got [1]"),
    ],
)
def test_what_is_wrong_with_opponents_is_said(opponents: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(TICTACTOE, tmp_path / "run", opponents=opponents, show=False, **SETTINGS)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_missing_snapshot_leaves_the_pool_with_a_warning(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)
    stop = [StopAt(256 * 13)]
    train(TICTACTOE, path, opponents=POOL, show=False, callbacks=stop, **SETTINGS)
    gone = recorded_of(path).pool[0]
    shutil.rmtree(path / "checkpoints" / f"step_{gone}")
    written = LeagueFile(path).path.read_bytes()
    exactly = Task(resume=True, exact=True, show=False)
    with pytest.raises(CheckpointIncompatibleError, match=f"no checkpoint of step {gone}"):
        train_run(contents.read_config(path), path, None, exactly)
    assert LeagueFile(path).path.read_bytes() == written
    seated = f"step_{gone}" in recorded_of(path).seats[-1][1]
    with pytest.warns(UserWarning, match="leaves the pool|begin anew") as told:
        train(TICTACTOE, path, resume=True, show=False)
    messages = [str(warning.message) for warning in told]
    assert sum(f"the snapshot of step {gone} leaves the pool" in text for text in messages) == 1
    # Its games cannot go on where it was playing.
    assert any("these games begin anew" in text for text in messages) == seated
    recorded = recorded_of(path)
    assert recorded.left[gone] == 256 * 13
    assert recorded.members[-1] == 256 * 24


def test_a_run_killed_before_its_first_update_begins_again(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"

    class Dies(Callback):
        def after_update(self, step: int, metrics: Any, agent: Any) -> None:
            shutil.copytree(path, tmp_path / "killed")  # as a killed process leaves it
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TICTACTOE, path, opponents=POOL, show=False, callbacks=[Dies()], **SETTINGS)
    path = tmp_path / "killed"
    assert [step.name for step in (path / "checkpoints").glob("step_*")] == ["step_0"]
    train(TICTACTOE, path, resume=True, show=False)
    assert learned(path) == learned(whole)
    assert recorded_of(path) == recorded_of(whole)


def test_a_league_that_was_deleted_is_told_and_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)
    stop = [StopAt(256 * 5)]
    train(TICTACTOE, path, opponents=POOL, show=False, callbacks=stop, **SETTINGS)
    shutil.rmtree(path / "league")
    with pytest.warns(UserWarning, match="opponents in the games of the checkpoint are not there"):
        train(TICTACTOE, path, resume=True, show=False)
    recorded = recorded_of(path)
    assert recorded.members[0] == 256 * 5
    assert recorded.seats[0] == (256 * 5, [f"step_{256 * 5}"] * 4)


def test_snapshots_by_win_rate_are_taken_where_enough_games_say_so(tmp_path: Path) -> None:
    opponents = Opponents(
        {"latest": 0.5, "pool": 0.5},
        slots=2,
        rematch_every=2,
        snapshot_win_rate=0.45,
        min_games=60,
    )
    train(TICTACTOE, tmp_path / "run", opponents=opponents, show=False, **SETTINGS)
    recorded = recorded_of(tmp_path / "run")
    assert 1 < len(recorded.members) < 12
    for last, step in pairwise(recorded.members):
        between = [games for games in recorded.games if last < games.step <= step]
        n = sum(games.games for games in between)
        assert n >= 60
        assert sum(games.wins + games.draws / 2 for games in between) >= 0.45 * n


@pytest.mark.parametrize("compiled", [True, False])
def test_environments_of_ones_own_get_opponents_and_an_agent_is_trained_on_them(
    compiled: bool, tmp_path: Path
) -> None:
    config = Config(TICTACTOE, n_envs=4, env_steps=128, ppo=PPOConfig(n_steps=8, hidden_sizes=(8,)))
    env = CompiledVecParallelEnv(TICTACTOE, 4)
    agent = Agent(env, config)
    others = Opponents({"pool": 0.5, "first": 0.5}, players={"first": highest}, slots=2)
    shares = {"pool": 1.0, "slots": 2, "rematch_every": 2} if compiled else others
    against = oppose(env, agent, shares)
    assert (against.game is None) is not compiled
    assert agent.train(against, tmp_path / "run", show=False)["env_steps"] == 128
    games = LeagueFile(tmp_path / "run").read().games
    assert "step_0" in {one.opponent for one in games}


def test_opponents_of_ones_own_environments_are_named_or_trained_agents() -> None:
    config = Config(TICTACTOE, n_envs=4)
    env = CompiledVecParallelEnv(TICTACTOE, 4)
    agent = Agent(env, config)
    with pytest.raises(ConfigError, match="opponents: expected who plays"):
        oppose(env, agent)
    with pytest.raises(ConfigError, match="opponents: expected a trained agent"):
        oppose(env, agent, {"frozen:somebody": 1.0})
    with pytest.raises(ConfigError, match="play already"):
        oppose(oppose(env, agent, {"random": 1.0}), agent, {"random": 1.0})
    for wrong in ((None, agent), (env, None)):
        with pytest.raises(TypeError, match="a vector of environments"):
            oppose(*cast(Any, wrong), {"random": 1.0})


def test_opponents_that_nobody_seats_are_refused() -> None:
    config = Config(TICTACTOE, n_envs=4, opponents={"pool": 1.0})
    env = CompiledVecParallelEnv(TICTACTOE, 4)
    with pytest.raises(ConfigError, match=r"opponents: .*kitae_marl\.train"):
        Agent(env, config).train(env, show=False)
    with pytest.raises(ConfigError, match=r"opponents: .*kitae_marl\.train"):
        train_many(TICTACTOE, config, [0, 1], show=False)


@pytest.mark.parametrize("given", [None, {"a": np.zeros(2, int)}, np.zeros(2), [0]])
def test_what_a_function_plays_is_checked(given: Any) -> None:
    teams, env = [("player_1",), ("player_2",)], CompiledVecParallelEnv(TICTACTOE, 3)
    if not isinstance(given, dict):
        given = given if given is None else {"player_1": given, "player_2": [0.5, 1.0]}
    opposed = OpposedVecParallelEnv(env, teams, [HostOpponent(2, lambda *seen: given)])
    opposed.seat(Seating(["", "f", "f"], np.array([-1, 0, 1]), []))
    own = random_policy(opposed, 0)(*opposed.reset(seed=0))
    with pytest.raises(ValueError, match=r"expected actions .*in environments 1 to 2"):
        opposed.step(own)
    opposed.close()


class Seats:
    """A table whose opponents lose one game between two draws, if any is played at all."""

    goes_on = False

    def __init__(self, *, plays: bool = True) -> None:
        self.seatings: list[Seating] = []
        self._plays = plays

    def results(self) -> list[Result]:
        played = self.seatings and self._plays
        tally = Tally(1, 1, 0, 1.0, -1.0, 0)
        return [Result(self.seatings[-1].names[0], 0, tally)] if played else []

    def sit(self, seating: Seating) -> bool:
        return False

    def seat(self, seating: Seating) -> None:
        self.seatings.append(seating)


class Keeper:
    """Writes no snapshot while the disk is full."""

    full = False

    def __init__(self) -> None:
        self.pinned: set[int] = set()

    def oldest_of_newest(self) -> int:
        return 0

    def write(self, state: Any) -> None:
        assert not self.full

    def try_to_write(self, agent: Any) -> Path | None:
        return None if self.full else Path()


LEARNER: Any = SimpleNamespace(
    config=SimpleNamespace(n_envs=2),
    algorithm=SimpleNamespace(acting=lambda state: state),
    state=np.zeros(2),
    run_state=lambda: None,
)


def small_pool(n_steps: int = 4, **settings: Any) -> Pool:
    """Return a pool of one slot, for a run of 2 environments that draws every two updates."""
    opponents = Opponents({"pool": 1.0}, rematch_every=2, **settings)
    places = Places({"pool": 2}, 1, 1, {"a": ("a",), "b": ("b",)})
    how = {"n_steps": n_steps, "cuts": True, "env_steps": 1000, "seed": 0}
    return Pool(opponents, places, WAYS["uniform"], **how)


def test_the_first_snapshot_at_or_after_a_pinned_step_stays() -> None:
    pool, table = (
        small_pool(pool_size=3, eviction="oldest", snapshot_every=16, pinned=[0, 33]),
        Seats(),
    )
    pool.begin(0, LEARNER, table)
    for step in range(8, 80, 8):
        pool.after(step, LEARNER, table)
    assert set(pool._states) == {0, 48, 144}


def test_members_are_drawn_on_after_updates_of_another_size(tmp_path: Path) -> None:
    pool, table, logger = small_pool(), Seats(), cast(Any, None)
    pool.keep(tmp_path, cast(Any, Keeper()), logger)
    pool.begin(0, LEARNER, table)
    for step in (4, 8, 12):
        pool.after(step, LEARNER, table)
    assert len(table.seatings) == 2
    larger, after = small_pool(n_steps=8), Seats()
    larger.begin(12, LEARNER, after)
    steps = []
    for step in range(20, 70, 8):
        assert step - 8 + larger.until_due(step - 8) == 16 * ((step - 8) // 16 + 1)
        larger.after(step, LEARNER, after)
        steps += [step] * (len(after.seatings) - len(steps) - 1)
    assert steps == [20, 36, 52, 68]


def test_a_full_disk_costs_no_game_and_no_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, table, keeper = small_pool(pool_size=1, snapshot_every=16), Seats(), Keeper()
    pool.keep(tmp_path, cast(Any, keeper), cast(Any, None))
    pool.begin(0, LEARNER, table)
    before = recorded_of(tmp_path)
    append, keeper.full = LeagueFile.append, True

    def refuse(file: LeagueFile, events: Any) -> None:
        raise CheckpointWriteError("the disk is full.", "")

    monkeypatch.setattr(LeagueFile, "append", refuse)
    with pytest.warns(UserWarning, match=r"the disk is full\. Training goes on"):
        pool.after(8, LEARNER, table)
    assert recorded_of(tmp_path) == before
    assert table.seatings[-1].names == ["step_0"] * 2
    monkeypatch.setattr(LeagueFile, "append", append)
    keeper.full = False
    pool.after(16, LEARNER, table)
    recorded = recorded_of(tmp_path)
    assert (recorded.members, recorded.pool) == ([0, 32], [32])
    assert [games.step for games in recorded.games] == [16, 32]
    assert keeper.pinned == {0, 32}  # 0 may be gone back to


def test_games_that_never_end_before_the_next_draw_are_told() -> None:
    pool, table = small_pool(), Seats(plays=False)
    pool.begin(0, LEARNER, table)
    with pytest.warns(UserWarning, match=r"ended within 8 steps.* rematch_every of more than 2"):
        pool.after(8, LEARNER, table)
    pool.after(16, LEARNER, table)


SCRIPT = """
import ast, sys
from kitae_marl import train
path, how, settings = sys.argv[1:]
settings = ast.literal_eval(settings)
train("classic/tictactoe-v3", path, show=False, resume=how == "resume", **settings)
"""


@pytest.mark.long
@pytest.mark.parametrize("n_kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_league_ends_as_if_nothing_had_happened(
    n_kills: int, tmp_path: Path
) -> None:
    n_updates = 40 + 20 * n_kills
    settings = {**SETTINGS, "env_steps": 256 * n_updates, "opponents": POOL.to_dict()}
    generator, paths = np.random.default_rng(n_kills), [tmp_path / "whole", tmp_path / "killed"]

    def begin(path: Path) -> subprocess.Popen[bytes]:
        how = "resume" if (path / "checkpoints").is_dir() else "new"
        if how == "new" and path.exists():
            shutil.rmtree(path)  # killed before its first checkpoint
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), how, repr(settings)])

    assert begin(paths[0]).wait() == 0
    for _ in range(n_kills):
        process = begin(paths[1])
        file = LeagueFile(paths[1]).path
        before = file.stat().st_size if file.exists() else 0
        while process.poll() is None and not (file.exists() and file.stat().st_size > before):
            time.sleep(0.05)
        time.sleep(generator.uniform(0, 2))
        process.kill()
        process.wait()
    assert begin(paths[1]).wait() == 0
    assert learned(paths[1]) == learned(paths[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torn lines, which are told
        assert recorded_of(paths[1]) == recorded_of(paths[0])
