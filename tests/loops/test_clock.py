"""Where the time of an update goes."""

from __future__ import annotations

from kitae_marl.loops import clock as module


def test_all_time_between_two_laps_is_of_one_phase(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    phases = module.Clock()
    for phase, seconds in (("games", 2.0), ("update", 3.0), ("games", 1.0)):
        now[0] += seconds
        phases.lap(phase)
    assert phases.take() == {"time/games_s": 3.0, "time/update_s": 3.0}
    assert phases.take() == {}
