"""Matches and tournaments: who may play, from which seats, and what a win is."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, NoCheckpointError, NoWinnerError
from kitae_marl.players.scripted.bots import bot_named, bots_of
from kitae_marl.runs.agent import Agent
from kitae_marl.selfplay.cross_play import cross_play
from kitae_marl.selfplay.matches import Match, play_match
from kitae_marl.selfplay.ratings import PlayedGame, ratings
from kitae_marl.selfplay.seats import frozen
from kitae_marl.selfplay.tournaments import tournament
from kitae_marl.vector.make import make_vec_env

pytestmark = pytest.mark.usefixtures("quickest_compilation")
TICTACTOE, RPS = "classic/tictactoe-v3", "classic/rps-v2"


@pytest.fixture(scope="module")
def agent() -> Agent:
    """An agent that has learned nothing yet."""
    env = make_vec_env(TICTACTOE, 1, n_workers=0)
    config = Config(env_id=TICTACTOE, ppo=PPOConfig(hidden_sizes=(8,)))
    made = Agent(env, config)
    env.close()
    return made


def rock(observations: Any, infos: Any) -> Any:
    """Play rock for everybody, or stand still."""
    del infos
    return {agent: np.zeros(len(seen), int) for agent, seen in observations.items()}


def scores_of(match: Match, name: str) -> float:
    return sum(g.score if g.first == name else 1 - g.score for g in match.games)


def test_half_of_the_games_are_played_from_each_seat():
    match = play_match("bot:one_ply", "random", TICTACTOE, 31)
    assert [g.first for g in match.games].count("bot:one_ply") == 16
    assert all({g.first, g.second} == {"bot:one_ply", "random"} for g in match.games)
    assert all(g.returns is not None and sum(g.returns) == 0 for g in match.games)
    assert scores_of(match, "bot:one_ply") > 22
    assert match.compared == "wins"
    assert len(match.independent()) == 31


def test_matches_are_the_same_with_the_same_seed():
    first, same, other = (
        play_match("random", "bot:one_ply", TICTACTOE, 12, seed=seed) for seed in (0, 0, 1)
    )
    assert first.games == same.games
    assert first.games != other.games


def test_agents_play_greedily_or_sampled(agent):
    greedy = play_match(agent, "bot:first", TICTACTOE, 12)
    assert greedy.distinct == (1, 1)  # nothing was left to chance
    assert [g.first for g in greedy.independent()] == ["a", "bot:first"]
    sampled = play_match(agent, "bot:first", TICTACTOE, 12, sample=True)
    assert min(sampled.distinct) > 1
    as_said = play_match(frozen(agent, sample=False), "bot:first", TICTACTOE, 12, sample=True)
    assert as_said.games == greedy.games
    assert play_match(agent.player(), "bot:first", TICTACTOE, 12).games == greedy.games


def test_a_vector_and_functions_may_be_given():
    env = make_vec_env(RPS, 4, n_workers=0)
    match = play_match(rock, rock, env, 8)
    again = play_match(rock, "random", env, 8)
    env.close()
    assert {g.score for g in match.games} == {0.5}
    assert match.compared == again.compared == "wins"


def test_one_game_played_over_and_over_counts_once():
    result = tournament({"rock": rock, "also": rock, "random": "random"}, RPS, games=40)
    assert ("rock", "also") in result.repeated
    assert result.payoff.games.tolist() == [[0, 2, 40], [2, 0, 40], [40, 40, 0]]
    assert result.ratings.players["rock"].games == 42


def test_all_play_all_and_are_rated(agent):
    told = []
    players = {"mine": agent, "random": "random", "one ply": "bot:one_ply"}
    result = tournament(players, TICTACTOE, games=24, sample=True, report=told.append)
    assert [match.players for match in told] == [match.players for match in result.matches]
    assert len(told) == 3
    assert next(iter(result.ratings.players)) == "one ply"
    assert result.ratings.anchor == "random"
    assert result.payoff.players == ("mine", "random", "one ply")
    assert "zero-sum" in str(result)


def test_who_may_win_is_told():
    with pytest.raises(NoWinnerError, match=r"adversary-v3: returns of .* cannot be compared"):
        play_match("random", "random", "mpe/simple_adversary-v3", 2, max_cycles=3)
    with pytest.raises(ValueError, match="expected a game of two sides, got 3"):
        play_match("random", "random", "mpe/simple_spread-v3", 2)
    with pytest.raises(ValueError, match="both sides got the same in every game"):
        play_match("random", "random", "mpe/simple_reference-v3", 2, local_ratio=0.0, max_cycles=3)
    with pytest.raises(ValueError, match="two agents or more"):
        play_match("random", "random", "gymnasium:CartPole-v1", 2)


def test_unlike_sides_meet_in_all_pairs():
    players = {"still": rock, "random": "random"}
    found = cross_play(players, "mpe/simple_tag-v3", 4, max_cycles=5)
    assert found.players == ("still", "random")
    assert list(found.sides) == ["adversary", "agent"]
    assert len(found.sides["adversary"]) == 3
    assert {side: means.shape for side, means in found.returns.items()} == {
        "adversary": (2, 2),
        "agent": (2, 2),
    }
    again = cross_play(players, "mpe/simple_tag-v3", 4, max_cycles=5)
    assert all(np.array_equal(again.returns[side], found.returns[side]) for side in found.sides)


def test_rows_play_the_first_side():
    """One-ply beats who takes the first move, from either seat."""
    found = cross_play(["bot:one_ply", "bot:first"], TICTACTOE, 6)
    first, second = found.returns.values()
    assert np.array_equal(first, -second)
    assert first[0, 1] > 0 > first[1, 0]


def test_alike_sides_are_compared_by_returns():
    match = play_match("random", "random", "mpe/simple_reference-v3", 6, local_ratio=1.0)
    assert match.compared == "returns"


@pytest.mark.parametrize(
    ("players", "error", "message"),
    [
        (["random"], ConfigError, "two or more, each once"),
        (["random", "random"], ConfigError, "two or more, each once"),
        ("random", TypeError, "expected a list or a dict"),
        (["random", rock], ConfigError, "expected names for"),
        (["random", "bot:minimax"], ConfigError, r"bot:minimax'; there are bot:first \(takes"),
        (["random", "missing"], NoCheckpointError, "no run at 'missing'"),
        ({"a": "random", "b": 3}, TypeError, "expected 'random', 'bot:NAME'"),
    ],
)
def test_other_players_are_refused_before_anything_is_played(players, error, message, tmp_path):
    with pytest.raises(error, match=message):
        tournament(
            players,
            TICTACTOE,
            games=2,
            runs_dir=tmp_path,
            report=lambda match: pytest.fail("played"),
        )


def test_agents_of_other_games_or_of_one_seat_are_refused(agent):
    with pytest.raises(ValueError, match="spaces are as they were"):
        play_match(agent, "random", RPS, 2)
    env = make_vec_env(TICTACTOE, 1, n_workers=0)
    with pytest.raises(ConfigError, match="expected the id of a game beside bot:one_ply"):
        play_match("bot:one_ply", "random", env, 2)
    env.close()


@pytest.mark.parametrize("games", [0, 1, 2.0, -4])
def test_other_numbers_of_games_are_refused(games):
    with pytest.raises(ValueError, match="games: expected a whole number, at least 2"):
        tournament(["random", "bot:first"], TICTACTOE, games)


def test_an_anchor_must_play():
    with pytest.raises(ValueError, match="anchor: expected one of"):
        tournament(["random", "bot:first"], TICTACTOE, 2, anchor="me")


def test_games_without_chance_count_once_by_half():
    games = [PlayedGame("a", "b", 1.0)] * 3 + [PlayedGame("b", "a", 0.0)] * 3
    assert len(Match(("a", "b"), games, (1, 2), "wins").independent()) == 4


def test_bots_have_names():
    known = ["centre", "first", "mcts_1000", "mcts_200", "mcts_50", "one_ply", "oracle"]
    assert list(bots_of("classic/connect_four-v3")) == known
    assert list(bots_of("classic/chess-v6")) == ["first"]
    assert "nearest to the middle" in bot_named("bot:centre", "classic/connect_four-v3").definition


@pytest.mark.parametrize(
    ("env_id", "other"),
    [("classic/tictactoe-v3", "random"), ("classic/connect_four-v3", "bot:centre")],
)
def test_players_that_search_are_strong_and_repeat_with_their_seed(env_id: str, other: str) -> None:
    pytest.importorskip("pyspiel")
    first, again = (play_match("bot:mcts_200", other, env_id, 6, seed=3) for _ in range(2))
    assert first == again
    own = [g.score if g.first == "bot:mcts_200" else 1 - g.score for g in first.games]
    assert sum(own) >= 4
    assert min(own) >= 0.5 or other != "random"  # who looks ahead loses no tic-tac-toe


def test_players_that_search_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(ConfigError, match=r"kitae-marl\[classic\]"):
        play_match("bot:mcts_50", "random", "classic/tictactoe-v3", 2)


def test_players_that_search_must_see_every_step() -> None:
    pytest.importorskip("pyspiel")
    env = make_vec_env("classic/tictactoe-v3", 1, n_workers=0)
    bot = bot_named("mcts_50", "classic/tictactoe-v3").make(env, 0)
    observations, infos = env.reset(seed=0)
    for square in (0, 1):
        actions = {agent: np.array([square]) for agent in env.possible_agents}
        observations, _, _, _, infos = env.step(actions)
    with pytest.raises(ValueError, match="every step of a game"):
        bot(observations, infos)
    env.close()


def test_the_centre_of_connect_four_is_preferred():
    match = play_match("bot:centre", "random", "classic/connect_four-v3", 12)
    assert scores_of(match, "bot:centre") >= 11


def test_what_is_no_game_and_no_seed_is_named():
    with pytest.raises(TypeError, match="vector"):
        tournament(["random", "bot:first"], None)
    with pytest.raises(ValueError, match="seed: expected a whole number, at least 0, got -1"):
        tournament(["random", "bot:first"], "classic/tictactoe-v3", 4, seed=-1)
    with pytest.raises(TypeError, match="expected games"):
        ratings(None)
