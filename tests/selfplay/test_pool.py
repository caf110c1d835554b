"""Training against a pool: who plays, what is learned and counted, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import pytest

from kitae_marl import Callback, Opponents, train
from kitae_marl.runs.store.league import LeagueFile, Recorded
from kitae_marl.runs.store.seats import state_digest
from kitae_marl.selfplay.league import League

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
    from kitae_marl import Agent

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

    @pytest.mark.parametrize("at", [256 * 7, 256 * 8, 256 * 13])
    def test_a_run_that_goes_on_ends_to_the_bit_as_if_nothing_had_happened(
        self, at: int, whole: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "run"
        train(TICTACTOE, path, opponents=POOL, show=False, callbacks=[StopAt(at)], **SETTINGS)
        trained = train(TICTACTOE, path, resume=True, show=False)
        assert trained.summary["complete"]
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
