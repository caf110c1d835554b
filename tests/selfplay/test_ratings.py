"""Ratings: known cases, intervals that hold the truth as often as they say, and bad input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from kitae_marl.selfplay.davidson import Counts, fit
from kitae_marl.selfplay.ratings import ELO, PlayedGame, payoff, ratings

WIN, DRAW, LOSS = 1.0, 0.5, 0.0


def played(first: str, second: str, *outcomes: tuple[float, int]) -> list[PlayedGame]:
    """So many games of each score."""
    return [PlayedGame(first, second, score) for score, n in outcomes for _ in range(n)]


def test_two_players_without_draws_are_rated_by_the_log_odds():
    games = played("a", "random", (WIN, 150), (LOSS, 50))
    games += played("random", "a", (WIN, 50), (LOSS, 150))
    table = ratings(games)
    # half a win for either side is added
    assert table.players["a"].rating == pytest.approx(400 * math.log10(300.5 / 100.5), abs=0.01)
    assert table.players["random"][:3] == (0.0, 0.0, 0.0)
    assert table.draw == 0.0
    assert table.first_seat.value == pytest.approx(0.0, abs=1e-6)
    assert table.first_seat.low < 0 < table.first_seat.high


def test_the_interval_of_many_games_is_that_of_two_standard_errors():
    games = played("a", "random", (WIN, 6000), (LOSS, 4000))
    games += played("random", "a", (WIN, 4000), (LOSS, 6000))
    row = ratings(games).players["a"]
    half = 1.96 * ELO / math.sqrt(20_000 * 0.6 * 0.4)
    assert row.high - row.rating == pytest.approx(half, rel=0.02)
    assert row.rating - row.low == pytest.approx(half, rel=0.02)


def test_the_first_seat_and_draws_are_told_apart_from_strength():
    # Equal players: odds of two to one for the first seat, and draws as the model has them.
    games = played("a", "b", (WIN, 400), (DRAW, 282), (LOSS, 200))
    games += played("b", "a", (WIN, 400), (DRAW, 282), (LOSS, 200))
    table = ratings(games)
    assert table.anchor is None
    assert [row.rating for row in table.players.values()] == pytest.approx([0.0, 0.0], abs=1e-3)
    assert table.first_seat.value == pytest.approx(400 * math.log10(2), abs=1)
    assert table.draw == pytest.approx(282 / math.sqrt(400 * 200), rel=0.01)


def test_strengths_are_found_again_from_expected_numbers():
    strengths, seat, draw = np.array([0.0, 0.5, 1.2, -0.7]), 0.3, 0.8
    fitted = fit(expected(strengths, seat, draw, 1000.0), 0)
    assert fitted.strengths[:, 0] == pytest.approx(strengths, abs=0.005)
    assert (fitted.first_seat[0], fitted.draw) == pytest.approx((seat, draw), abs=0.005)
    assert np.all(fitted.strengths[1:, 1] < strengths[1:])
    assert np.all(fitted.strengths[1:, 2] > strengths[1:])


def test_who_never_lost_has_a_finite_rating_and_an_open_end():
    games = played("best", "bot", (WIN, 20)) + played("bot", "best", (LOSS, 20))
    games += played("bot", "random", (WIN, 15), (LOSS, 5), (DRAW, 2))
    games += played("random", "bot", (WIN, 5), (LOSS, 15), (DRAW, 2))
    table = ratings(games)
    assert list(table.players) == ["best", "bot", "random"]
    best, bot = table.players["best"], table.players["bot"]
    assert 0 < bot.low < bot.rating < bot.high < 500
    assert bot.rating < best.low < best.rating < best.high == math.inf
    assert (best.games, best.wins, best.draws, best.losses) == (40, 40, 0, 0)
    assert any("interval of best is infinite" in note for note in table.notes)


def test_who_never_won_is_open_below_and_the_anchor_opens_all():
    games = played("a", "b", (WIN, 5), (LOSS, 5)) + played("worst", "a", (LOSS, 9))
    games += played("a", "worst", (WIN, 9))
    assert ratings(games, anchor="a").players["worst"].low == -math.inf
    rows = ratings(games, anchor="worst").players
    assert {row.high for name, row in rows.items() if name != "worst"} == {math.inf}


def test_one_more_loss_closes_the_end():
    games = played("a", "random", (WIN, 40)) + played("random", "a", (LOSS, 40))
    row = ratings(games).players["a"]
    closed = ratings([*games, PlayedGame("random", "a", WIN)]).players["a"]
    assert row.high == math.inf
    assert row.low < closed.high < math.inf
    assert closed.rating < row.rating


def test_seats_that_were_never_swapped_are_worth_nothing_and_said_so():
    table = ratings(played("a", "b", (WIN, 30), (LOSS, 10)))
    assert math.isnan(table.first_seat.value)
    assert any("seats were not swapped" in note for note in table.notes)
    assert "cannot be told" in str(table)


def test_games_won_by_the_first_seat_alone_end_in_numbers():
    games = played("a", "b", (WIN, 20)) + played("b", "a", (WIN, 20))
    table = ratings(games)
    assert table.first_seat.value > 500
    assert table.first_seat.high > 2000
    assert [row.rating for row in table.players.values()] == pytest.approx([0.0, 0.0], abs=1e-3)


def test_draws_alone_make_equals():
    table = ratings(played("a", "b", (DRAW, 10)) + played("b", "a", (DRAW, 10)))
    assert [row.rating for row in table.players.values()] == pytest.approx([0.0, 0.0], abs=1e-3)
    assert table.draw > 10


def test_a_table_can_be_read():
    text = str(ratings(played("a", "random", (WIN, 3), (LOSS, 1))))
    assert "won drawn  lost" in text
    assert "random is 0" in text


def expected(strengths: np.ndarray, seat: float, draw: float, n_games: float) -> Counts:
    """Numbers of wins, draws and losses that the model expects of all play all, both seats."""
    half = (strengths[:, None] - strengths[None] + seat) / 2
    weights = np.stack([np.exp(half), np.full_like(half, draw), np.exp(-half)])
    shares = weights / weights.sum(axis=0) * (1 - np.eye(len(strengths)))
    return Counts(*(n_games * shares))


def drawn(generator: np.random.Generator, strengths: np.ndarray, n_games: int) -> Counts:
    """Draw a tournament with a seat and with draws that are drawn, too."""
    draw = math.exp(generator.uniform(-2, 0.5)) if generator.random() < 0.7 else 0.0
    shares = expected(strengths, generator.normal(0.3, 0.3), draw, 1.0)
    outcomes = np.stack(shares, axis=-1) + np.eye(len(strengths))[..., None] / 3
    counts = generator.multinomial(n_games, outcomes).astype(float)
    counts[np.arange(len(strengths)), np.arange(len(strengths))] = 0
    return Counts(*np.moveaxis(counts, -1, 0))


@pytest.mark.parametrize("n_far", [0, 2])
def test_intervals_hold_the_truth_as_often_as_they_say(n_far):
    """92 to 98 % of them, also of one who often loses no game at all, and of one who wins none."""
    generator, held, open_ends = np.random.default_rng(0), [], 0
    for _ in range(200):
        strengths = np.append(0.0, generator.normal(0.5, 1.2, 4))
        if n_far:
            strengths[3:] = generator.uniform(3, 7, 2) * [1, -1]
        found = fit(drawn(generator, strengths, int(generator.integers(5, 21))), 0).strengths
        held.append((found[:, 1] <= strengths) & (strengths <= found[:, 2]))
        open_ends += np.isinf(found[3:, 1:]).sum()
    share = np.mean(held, axis=0)
    assert 0.92 <= share[1:].mean() <= 0.98
    if n_far:
        assert 0.92 <= share[3:].mean() <= 0.98
        assert open_ends > 80


def test_payoffs_are_mean_scores_of_the_row():
    games = [*played("a", "b", (WIN, 3), (DRAW, 1)), *played("b", "a", (WIN, 2)), ("a", "c", 0)]
    table = payoff([*games, PlayedGame("a", "a", WIN)])
    assert table.players == ("a", "b", "c")
    assert table.score[0, 1] == pytest.approx(3.5 / 6)
    assert table.score[1, 0] == pytest.approx(2.5 / 6)
    assert table.score[2, 0] == 1.0
    assert math.isnan(table.score[1, 2])
    assert math.isnan(table.score[0, 0])
    assert table.games.tolist() == [[0, 6, 1], [6, 0, 0], [1, 0, 0]]


def test_a_game_against_oneself_counts_for_the_seat_alone():
    games = played("a", "b", (WIN, 10), (LOSS, 10)) + played("b", "a", (WIN, 10), (LOSS, 10))
    table = ratings([*games, *played("a", "a", (WIN, 30), (LOSS, 10))])
    assert table.players["a"].games == 40
    assert table.first_seat.value > 50


def test_a_game_is_kept_as_a_line_of_json():
    game = PlayedGame("a", "b", WIN, (1.0, -1.0), 4096)
    read = PlayedGame(**json.loads(json.dumps(game._asdict())))
    assert tuple(read.returns or ()) == game.returns
    assert ratings([read]).players["a"].wins == 1


@pytest.mark.parametrize(
    ("games", "message"),
    [
        ([], "at least one game, got none"),
        ([("a", "a", 1)], "two players or more"),
        ([("a", "b")], "game 0: expected a record"),
        (["abc"], "game 0: expected a record"),
        ([("a", 3, 1)], "expected the names of both players"),
        ([("a", "b", 1), ("a", "b", 0.7)], "game 1: expected the score of the first"),
        ([("a", "b", "1")], "expected the score of the first"),
        ([("a", "b", math.nan)], "expected the score of the first"),
        ([("a", "b", 1), ("c", "d", 1)], r"never met: \['a', 'b'\] and \['c', 'd'\]"),
    ],
)
def test_other_input_is_refused_in_words(games, message):
    with pytest.raises(ValueError, match=message):
        ratings(games)


def test_an_anchor_that_did_not_play_is_refused():
    with pytest.raises(ValueError, match="anchor: expected one who played"):
        ratings([("a", "b", 1)], anchor="bot")
    assert ratings([("a", "b", 1)]).anchor is None
    assert ratings([("random", "b", 1)], anchor=None).anchor is None
