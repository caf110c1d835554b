"""Who of a pool plays and who leaves it: pure functions of the members' records."""

from __future__ import annotations

import numpy as np
import pytest

from kitae_marl.errors import ConfigError
from kitae_marl.runs.store.league import Games
from kitae_marl.selfplay.matchmaking import WAYS, MemberRecord, chances, draw, leaving
from kitae_marl.selfplay.pool import Places, Scores


def pool(*scores: float) -> list[MemberRecord]:
    """Return members with these scores of the learner, a snapshot every 10 steps."""
    return [MemberRecord(f"step_{10 * i}", 10 * i, x, 9.0) for i, x in enumerate(scores)]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("latest", [0, 0, 1]),
        ("pfsp", [0.09 / 0.50, 0.25 / 0.50, 0.16 / 0.50]),
        ("pfsp_hard", [0.01 / 0.90, 0.25 / 0.90, 0.64 / 0.90]),
    ],
)
def test_members_are_chosen_by_their_weights(way: str, expected: list[float]) -> None:
    chance = chances(WAYS[way], pool(0.9, 0.5, 0.2))
    np.testing.assert_allclose(chance, expected, atol=1e-3)
    assert np.all(chance > 0)  # nobody is never met again
    assert chance.sum() == pytest.approx(1)


def test_where_all_weights_are_zero_all_are_alike() -> None:
    assert chances(WAYS["pfsp"], pool(1.0, 0.0)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("bad", [[1.0], [1.0, -1.0], [1.0, np.nan], None, "ab", [[1.0, 1.0]]])
def test_a_matchmaking_that_returns_no_weights_is_named(bad: object) -> None:
    with pytest.raises(ConfigError, match="a weight of at least 0 for each of 2 members"):
        chances(lambda members: bad, pool(0.5, 0.5))  # pyright: ignore[reportArgumentType]


def test_a_matchmaking_that_raises_is_named() -> None:
    def fails(members: object) -> list[float]:
        raise KeyError("mine")

    with pytest.raises(ConfigError, match=r"matchmaking: .*2 members, got KeyError: 'mine'"):
        chances(fails, pool(0.5, 0.5))


def test_each_member_gets_its_share_of_the_slots_up_to_rounding() -> None:
    chance, generator = np.array([0.5, 0.3, 0.2]), np.random.default_rng(0)
    drawn = np.array([draw(chance, 16, generator) for _ in range(500)])
    counts = np.stack([(drawn == i).sum(axis=1) for i in range(3)], axis=1)
    assert np.all(np.abs(counts - 16 * chance) < 1 + 1e-9)
    np.testing.assert_allclose(counts.mean(axis=0) / 16, chance, atol=0.01)
    first = [np.mean(drawn[:, 0] == i) for i in range(3)]  # no slot is somebody's own
    np.testing.assert_allclose(first, chance, atol=0.08)


@pytest.mark.parametrize(
    ("eviction", "pinned", "gone"),
    [
        ("oldest", (), 0),
        ("oldest", (0,), 5),
        ("weakest", (), 20),
        ("weakest", (20,), 0),
        ("stride", (), 25),  # from 20 to 40, as from 0 to 20 and from 5 to 25; the later one goes
        ("stride", (25, 20), 5),
        ("stride", (5, 20, 25, 40), 0),
    ],
)
def test_who_leaves_a_full_pool(eviction: str, pinned: tuple[int, ...], gone: int) -> None:
    steps, scores = (0, 5, 20, 25, 40, 90), (0.9, 0.6, 0.95, 0.5, 0.5, 0.99)
    members = [
        MemberRecord(f"step_{step}", step, score, 9.0)
        for step, score in zip(steps, scores, strict=True)
    ]
    found = leaving(eviction, members, pinned)
    assert found is not None
    assert found.env_step == gone


def test_the_newest_never_leaves_and_pinned_ones_stay() -> None:
    assert leaving("oldest", pool(0.5, 0.5), (0,)) is None
    assert leaving("weakest", pool(0.5, 1.0), ()) == pool(0.5, 1.0)[0]


def test_a_stride_spreads_snapshots_over_the_whole_run() -> None:
    members: list[int] = []
    for step in range(0, 1000, 10):
        members.append(step)
        if len(members) > 8:
            records = [MemberRecord(str(m), m, 0.5, 0.0) for m in members]
            gone = leaving("stride", records, ())
            assert gone is not None
            members.remove(gone.env_step)
    assert members[0] == 0
    assert members[-1] == 990
    assert max(np.diff(members)) < 3 * 990 / 7


def games(step: int, opponent: str, n: int, wins: int, **more: object) -> Games:
    """Return games of the first team."""
    values = {"draws": 0, "own": 0.0, "others": 0.0, "unbalanced": 0, **more}
    return Games(step, opponent, "a", True, n, wins, **values)  # pyright: ignore


def test_scores_halve_older_games_and_begin_even() -> None:
    scores = Scores()
    assert [record.score for record in scores.records([0])] == [0.5]
    scores.add([games(1, "step_0", 100, 100)])
    for step in range(8):
        scores.add([games(2 + step, "step_9", 1, 0)])
    record = scores.records([0, 9])[0]
    assert record.games == pytest.approx(50)
    assert record.score == pytest.approx(51 / 52)


def test_where_nobody_wins_returns_are_compared_with_each_other() -> None:
    scores = Scores()
    for number, mean in enumerate([-30.0, -10.0, -20.0]):
        scores.add([games(1, f"step_{number}", 1000, 0, own=1000 * mean, unbalanced=1000)])
    low, high, middle = scores.records([0, 1, 2])
    assert low.score < 0.01
    assert high.score > 0.99
    assert middle.score == pytest.approx(0.5, abs=0.01)


def test_environments_have_names_and_teams() -> None:
    places = Places({"latest": 2, "pool": 4, "random": 1}, 2, 2, {"a": ("x",), "b": ("y",)})
    part = ["", "", "one", "one", "two", "two", "random"]
    assert places.names(["one", "two"]) == [*part, *part]
    assert places.team(0).tolist() == [-1, -1, 0, 1, 0, 1, 0] * 2
    assert places.team(1).tolist() == [-1, -1, 1, 0, 1, 0, 1] * 2
