"""Turn-based games: our converter against PettingZoo's, and its own rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lockstep import WARNINGS, legal_mask, random_actions, same, without

from kitae_marl.vector.lean import boards, cards
from kitae_marl.vector.lean.turn_based import TurnBasedParallelEnv
from kitae_marl.vector.make import make_parallel_env

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

GAMES = [
    ("classic/connect_four-v3", 2000),
    ("classic/tictactoe-v3", 2000),
    ("classic/leduc_holdem-v4", 1500),
    ("classic/texas_holdem-v4", 1000),
    ("classic/texas_holdem_no_limit-v6", 600),
    ("classic/chess-v6", 150),
    ("classic/go-v5", 150),
    ("classic/hanabi-v5", 600),
]
IDS = [id for id, _ in GAMES]
REWRITTEN = ["classic/tictactoe-v3", "classic/connect_four-v3", "classic/leduc_holdem-v4"]
"""The games that play by rules written anew, on the game's own objects."""


def blank_idle_masks(observations: dict[str, Any], mover: str | None) -> dict[str, Any]:
    """What we promise beyond the stock conversion: a waiting seat's mask is zero."""
    blanked = {}
    for agent, observation in observations.items():
        mask = observation["action_mask"]
        kept = mask if agent == mover else np.zeros_like(mask)
        blanked[agent] = {**observation, "action_mask": kept}
    return blanked


def strip(infos: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Infos without the marks of who is to move and the masks compared elsewhere."""
    return without(infos, "active", "active_agent", "action_mask")


def inside(env: Any) -> dict[str, Any]:
    """What the game's own objects hold."""
    raw = env.unwrapped
    told: dict[str, Any] = {"mover": raw.agent_selection if env.agents else None}
    if raw.metadata["name"].startswith("tictactoe"):
        told["board"] = raw.board.squares
    if raw.metadata["name"].startswith("connect_four"):
        told["board"] = raw.board
    if raw.metadata["name"].startswith("leduc"):
        told |= raw.env.get_perfect_information()
        told |= {k: v for k, v in vars(raw.env.game.round).items() if k != "np_random"}
        told["record"], told["time"] = raw.env.action_recorder, raw.env.timestep
        told["deck"] = [str(card) for card in raw.env.game.dealer.deck]
        told["folded"] = [player.status for player in raw.env.game.players]
        told["legal"] = sorted(raw.next_legal_moves)
    return told


def assert_equal_playouts(id: str, steps: int, pictures: bool = False, **kwargs: Any) -> int:
    """Step both constructions with the same random moves; return how many games ended."""
    stock, ours = (make_parallel_env(id, stock=s, **kwargs) for s in (True, False))
    assert isinstance(ours, TurnBasedParallelEnv)
    rng, seed, ends = np.random.default_rng(1), 11, 0
    theirs, got = stock.reset(seed=seed), ours.reset(seed=seed)
    for _ in range(steps):
        assert same(inside(stock), inside(ours))
        if pictures:
            np.testing.assert_array_equal(stock.render(), ours.render())
        mover = stock.aec_env.agent_selection if stock.agents else None
        assert same(blank_idle_masks(theirs[0], mover), got[0])
        for left, right in zip(theirs[1:-1], got[1:-1], strict=True):
            assert same(left, right)
        assert same(strip(theirs[-1]), strip(got[-1]))
        assert stock.agents == ours.agents
        assert [a for a, info in got[-1].items() if info["active"]] == ([mover] if mover else [])
        if not stock.agents:
            ends, seed = ends + 1, seed + 1
            again = seed if ends % 2 else None  # with a seed, or going on from the last one
            if id == "classic/hanabi-v5":
                again = seed  # there the stock game takes new entropy
            theirs, got = stock.reset(seed=again), ours.reset(seed=again)
            continue
        actions = random_actions(ours, got[0], got[-1], rng)
        theirs, got = stock.step(actions), ours.step(actions)
    return ends


@pytest.mark.parametrize(("id", "steps"), GAMES, ids=IDS)
def test_games_equal_the_stock_conversion(id: str, steps: int) -> None:
    ends = assert_equal_playouts(id, steps)
    assert ends >= (0 if id.startswith(("classic/chess", "classic/go")) else 5)


@pytest.mark.slow
@pytest.mark.parametrize("id", REWRITTEN)
def test_games_equal_the_stock_conversion_over_many_steps(id: str) -> None:
    assert assert_equal_playouts(id, 20_000) > 400


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [
        ("classic/tictactoe-v3", {"render_mode": "rgb_array", "screen_height": 200}),
        ("classic/connect_four-v3", {"render_mode": "rgb_array", "screen_scaling": 3}),
        ("classic/leduc_holdem-v4", {"render_mode": "rgb_array", "screen_height": 200}),
        ("classic/texas_holdem-v4", {"num_players": 3}),
        ("classic/texas_holdem_no_limit-v6", {"num_players": 4}),
    ],
)
def test_games_with_arguments_equal_the_stock_conversion(id: str, kwargs: dict) -> None:
    assert assert_equal_playouts(id, 60, pictures="render_mode" in kwargs, **kwargs) > 0


@pytest.mark.parametrize("id", [*REWRITTEN, "classic/texas_holdem-v4"])
def test_other_versions_of_the_games_compute_by_themselves(
    id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (boards, cards):
        monkeypatch.setattr(module, "is_known_source", lambda name: False)
    raw = make_parallel_env(id).unwrapped
    assert raw.step.__func__ is type(raw).step
    assert assert_equal_playouts(id, 200) > 0


def test_another_version_of_leduc_in_rlcard_plays_by_its_own_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = cards.is_known_source
    others = lambda name: name not in cards._LEDUC_SOURCES and known(name)  # noqa: E731
    monkeypatch.setattr(cards, "is_known_source", others)
    raw = make_parallel_env("classic/leduc_holdem-v4").unwrapped
    assert raw.step.__func__ is cards.CardGameEnv._play
    assert assert_equal_playouts("classic/leduc_holdem-v4", 200) > 0


@pytest.mark.parametrize(
    ("id", "changed"),
    [
        ("classic/leduc_holdem-v4", "leduc_holdem"),
        ("classic/texas_holdem-v4", "texas_holdem"),
        ("classic/texas_holdem_no_limit-v6", "texas_holdem"),  # which it inherits from
        ("classic/texas_holdem_no_limit-v6", "texas_holdem_no_limit"),
        ("classic/texas_holdem_no_limit-v6", "rlcard_base"),
    ],
)
def test_another_version_of_a_card_game_in_pettingzoo_plays_by_its_own_rules(
    id: str, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"pettingzoo.classic.rlcard_envs.{changed}"
    monkeypatch.setattr(cards, "is_known_source", lambda asked: asked != name)
    raw = make_parallel_env(id).unwrapped
    assert raw.step.__func__ is type(raw).step
    assert assert_equal_playouts(id, 60) > 0


@pytest.mark.parametrize("id", ["classic/tictactoe-v3", "classic/connect_four-v3"])
def test_a_position_that_is_set_up_by_hand_is_seen(id: str) -> None:
    stock, ours = make_parallel_env(id, stock=True), make_parallel_env(id)
    for env in (stock, ours):
        env.reset(seed=0)
        env.step({env.possible_agents[0]: 0})
        raw = env.unwrapped
        squares = raw.board.squares if hasattr(raw.board, "squares") else raw.board
        squares[:] = [0] * len(squares)
        squares[-1], squares[-2] = 2, 1
    mover = ours.possible_agents[1]
    theirs, got = stock.step({mover: 2}), ours.step({mover: 2})
    assert same(blank_idle_masks(theirs[0], ours.possible_agents[0]), got[0])


@pytest.mark.parametrize("id", IDS)
def test_an_illegal_move_ends_the_game_as_in_the_stock_chain(id: str) -> None:
    stock, ours = make_parallel_env(id, stock=True), make_parallel_env(id)
    theirs, got = stock.reset(seed=2), ours.reset(seed=2)
    while stock.agents:
        mover = stock.aec_env.agent_selection
        mask = legal_mask(got[0][mover], got[-1][mover])
        assert mask is not None
        illegal = np.flatnonzero(mask == 0)
        action = int(illegal[0]) if len(illegal) else int(np.flatnonzero(mask)[0])
        theirs, got = stock.step({mover: action}), ours.step({mover: action})
        for left, right in zip(theirs[1:4], got[1:4], strict=True):
            assert same(left, right)
    assert ours.agents == []
    assert sorted(got[1].values()) == [-1, 0]
    assert all(got[2].values())
    assert all(got[3].values())
    assert not any(info["active"] for info in got[-1].values())


def test_the_final_reward_reaches_the_loser_and_nothing_moves_after_the_end() -> None:
    env = make_parallel_env("classic/tictactoe-v3")
    env.reset(seed=0)
    for number, square in enumerate([0, 3, 1, 4, 2]):
        mover = env.possible_agents[number % 2]
        _, rewards, terminations, truncations, infos = env.step({mover: square})
    assert rewards == {"player_1": 1, "player_2": -1}
    assert terminations == {"player_1": True, "player_2": True}
    assert truncations == {"player_1": False, "player_2": False}
    assert not any(info["active"] for info in infos.values())
    assert env.step({}) == ({}, {}, {}, {}, {})


def test_idle_actions_are_ignored_and_a_missing_one_is_named() -> None:
    env = make_parallel_env("classic/connect_four-v3")
    env.reset(seed=0)
    env.step({"player_0": 3, "player_1": "nonsense"})
    with pytest.raises(ValueError, match="'player_1', whose turn it is"):
        env.step({"player_0": 3})


def test_hanabi_goes_on_from_its_seed_when_reset_without_one() -> None:
    runs = []
    for _ in range(2):
        env = make_parallel_env("classic/hanabi-v5")
        env.reset(seed=4)
        runs.append([env.reset()[0]["player_0"]["observation"] for _ in range(3)])
    assert same(np.stack(runs[0]), np.stack(runs[1]))
    assert not np.array_equal(runs[0][0], runs[0][1])
