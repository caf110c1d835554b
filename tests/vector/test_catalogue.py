"""The catalogue says what the games are."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import pytest
from lockstep import WARNINGS

from kitae_marl.data.groups import group_specs
from kitae_marl.data.spaces import has_mask, space_text
from kitae_marl.vector.catalogue import games as module
from kitae_marl.vector.catalogue.games import catalogue, table
from kitae_marl.vector.ids import known_ids
from kitae_marl.vector.make import make_parallel_env

pytestmark = [pytest.mark.filterwarnings(text) for text in WARNINGS]

QUICK = [
    "mpe/simple_speaker_listener-v4",
    "classic/connect_four-v3",
    "classic/leduc_holdem-v4",
    "sisl/pursuit-v5",
    "butterfly/knights_archers_zombies-v11",
    "kitae/kuhn_poker-v0",
    "gymnasium:CartPole-v1",
    "gymnasium:Taxi-v4",
]


def test_every_id_is_listed_once_with_what_it_needs() -> None:
    games = {game.id: game for game in catalogue()}
    assert len(games) == len(catalogue())
    assert set(known_ids()) <= set(games)
    assert {"gymnasium:CartPole-v1", "envpool:ID"} <= set(games)
    assert all(game.runs_here or game.install.startswith("pip install") for game in games.values())
    spread = games["mpe/simple_spread-v3"]
    assert spread == ("mpe/simple_spread-v3", True, "", 3, "Box(18)", "Discrete(5)", False, False)
    four = games["classic/connect_four-v3"]
    assert (four.agents, four.observation, four.turn_based, four.masked) == (
        2, "Box(6, 7, 2) int8", True, True
    )  # fmt: skip


def test_a_missing_package_shows_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.importlib.util.find_spec
    gone = ("pymunk", "pyspiel", "magent2", "envpool", "Box2D")
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: None if name in gone else real(name)
    )
    known_ids.cache_clear()
    games = {game.id: game for game in catalogue()}
    known_ids.cache_clear()
    for id, install in (
        ("butterfly/pistonball-v6", 'pip install "kitae-marl[butterfly]"'),
        ("classic/hanabi-v5", 'pip install "kitae-marl[classic]"'),
        ("magent/battle-v4", 'pip install "magent2"'),
        ("openspiel:leduc_poker", 'pip install "shimmy" "open_spiel"'),
        ("envpool:ID", 'pip install "kitae-marl[envpool]"'),
        ("gymnasium:LunarLander-v3", 'pip install "gymnasium[box2d]"'),
    ):
        assert (games[id].runs_here, games[id].install) == (False, install)
    assert games["butterfly/cooperative_pong-v6"].runs_here
    assert games["magent/battle-v4"].agents == 162


def test_the_table_for_people_has_a_line_for_each_game() -> None:
    heading, *lines = table(catalogue("classic/t"))
    assert heading.split() == ["id", "agents", "act", "they", "see", "they", "do", "here"]
    assert [line.split()[0] for line in lines] == [
        "classic/texas_holdem-v4", "classic/texas_holdem_no_limit-v6", "classic/tictactoe-v3"
    ]  # fmt: skip
    start = heading.index("they see")
    assert lines[2][start:].split("  ")[0] == "Box(3, 3, 2) int8"
    assert "Discrete(9) masked" in lines[2]
    assert "in turn" in lines[2]
    assert "together" in table(catalogue("mpe/simple-v3"))[1]


def test_envpool_is_asked_for_its_own_games() -> None:
    pytest.importorskip("envpool")
    games = {game.id: game for game in catalogue("envpool:Tic")}
    assert games["envpool:TicTacToe-v1"] == (
        "envpool:TicTacToe-v1", True, "", 2, "MultiBinary(3, 3, 2)", "Discrete(9)", True, True
    )  # fmt: skip
    assert all("Tic" in id for id in games)


@pytest.mark.parametrize("id", QUICK)
def test_the_table_is_what_the_games_are(id: str) -> None:
    compare_with_game(id)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "id",
    [g.id for g in catalogue() if g.runs_here and g.agents and g.id not in QUICK],
)
def test_the_whole_table_is_what_the_games_are(id: str) -> None:
    if "Pusher-v4" in id:
        pytest.skip("needs an old mujoco")
    compare_with_game(id)


def describe_game(env: Any) -> dict[str, Any]:
    """Describe a parallel environment the way ``catalogue.json`` does: so its lines are made.

    Args:
        env: the environment; it is reset.

    Returns:
        ``agents``, ``observation``, ``action``, ``turn_based`` and ``masked`` of a line.
    """
    _, infos = env.reset(seed=0)
    groups = group_specs(env.possible_agents, env.observation_space, env.action_space)
    masked = any("action_mask" in info for info in infos.values()) or any(
        has_mask(group.observation_space) for group in groups
    )
    return {
        "agents": len(env.possible_agents),
        "observation": _distinct([space_text(group.observation_space) for group in groups]),
        "action": _distinct([space_text(group.action_space) for group in groups]),
        "turn_based": any("active" in info for info in infos.values()),
        "masked": masked,
    }


def _distinct(texts: list[str]) -> str:
    """Join texts, each once."""
    return " | ".join(dict.fromkeys(texts))


def compare_with_game(id: str) -> None:
    """Compare a row with the game itself."""
    row = next(game for game in catalogue() if game.id == id)
    env = make_parallel_env(id)
    assert {name: getattr(row, name) for name in describe_game(env)} == describe_game(env)
    env.close()


def test_listing_makes_no_game() -> None:
    import subprocess

    code = (
        "import sys; from kitae_marl.vector.catalogue.games import catalogue; catalogue(); "
        "bad = [m for m in ('jax', 'pygame', 'envpool', 'Box2D', 'mpe2') if m in sys.modules]; "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (gym.spaces.MultiDiscrete([2, 3]), "MultiDiscrete(2, 3)"),
        (gym.spaces.Text(5), "Text"),
        (gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.MultiBinary(2)]),
         "(Discrete(3), MultiBinary(2))"),
    ],
)  # fmt: skip
def test_spaces_are_written_shortly(space: gym.Space, text: str) -> None:
    assert space_text(space) == text
