"""People play against agents: moves taken back, thoughts, and what the terminal shows."""

from __future__ import annotations

import io
import json
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from broken_games import BOX, MASKED, sees
from pettingzoo import ParallelEnv
from run_folders import write_run

from kitae_marl import SubProcVecParallelEnv
from kitae_marl.cli.main import main
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.players.policies import random_policy
from kitae_marl.runs.agent import Agent
from kitae_marl.selfplay.boards import DRAWINGS, Seen, drawing_of
from kitae_marl.selfplay.human import HumanGame, PolicySeat, TrainedSeat
from kitae_marl.selfplay.seats import with_seats
from kitae_marl.vector.make import make_vec_env

pytestmark = pytest.mark.usefixtures("quickest_compilation")
TICTACTOE, FOUR = "classic/tictactoe-v3", "classic/connect_four-v3"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, quickest_compilation) -> Any:
    """A folder of untrained runs: of both sides, of noughts alone, and with a memory."""
    folder = tmp_path_factory.mktemp("runs")
    settings: dict[str, dict[str, Any]] = {"both": {}, "one": {}, "memory": {"gru_size": 4}}
    for name, ppo in settings.items():
        seats = {"player_1": "random"} if name == "one" else {}
        config = Config(env_id=TICTACTOE, seats=seats, ppo=PPOConfig(hidden_sizes=(8,), **ppo))
        env = make_vec_env(TICTACTOE, 1, n_workers=0)
        agent = Agent(with_seats(env, {"player_1": "random"}) if seats else env, config)
        env.close()
        write_run(folder / name, agent)
    return folder


def told(capsys: Any, *args: str) -> tuple[str, dict[str, Any]]:
    """What a command shows, and its JSON."""
    capsys.readouterr()
    main([*args, "--json"])
    text, _, last = capsys.readouterr().out.strip().rpartition("\n")
    return text, json.loads(last)


def sit(env_id: str, *people: str, player: Any = None, seed: int = 0, **kwargs: Any) -> HumanGame:
    env = make_vec_env(env_id, 1, n_workers=0, **kwargs)
    player = PolicySeat(random_policy(env)) if player is None else player
    seats = {agent: player for agent in env.possible_agents if agent not in people}
    return HumanGame(env, seats, seed=seed)


def play_through(game: HumanGame, choose: Any) -> None:
    while not game.over:
        mine = [p for p in game.positions() if p.agent in game.people]
        game.play({p.agent: choose(game.allowed(p)) for p in mine})


@pytest.mark.parametrize("env_id", [FOUR, "classic/leduc_holdem-v4", "classic/rps-v2"])
def test_a_game_taken_back_goes_on_as_if_it_had_not_been(env_id):
    game = sit(env_id, "player_0", seed=3)
    shown: list[Any] = []
    for _ in range(6):
        before = [game.position("player_0")]
        chosen = len(game.taken)
        mine = [p for p in game.positions() if p.agent == "player_0"]
        game.play({p.agent: game.allowed(p)[0] for p in mine})
        if mine and not game.over:
            assert game.take_back()
            assert len(game.taken) == chosen
            np.testing.assert_equal(game.position("player_0"), before[0])
            game.play({p.agent: game.allowed(p)[-1] for p in mine})
        shown.append(len(game.taken))
        if game.over:
            break
    assert shown == sorted(shown)


def test_a_finished_game_can_be_taken_back():
    game = sit(TICTACTOE, "player_1", "player_2")
    for move in (0, 3, 1, 4, 2):
        (position,) = game.positions()
        game.play({position.agent: move})
    assert game.over
    assert game.returns == {"player_1": 1.0, "player_2": -1.0}
    assert game.positions() == []
    with pytest.raises(ValueError, match="one that is over"):
        game.play({"player_1": 5})
    assert game.take_back()
    assert (game.over, game.returns["player_1"]) == (False, 0.0)
    assert game.allowed(game.positions()[0]) == [2, 5, 6, 7, 8]
    for _ in range(4):
        assert game.take_back()
    assert not game.take_back()


@pytest.mark.parametrize("move", [9, -1, None])
def test_a_move_that_is_not_allowed_is_named(move):
    game = sit(TICTACTOE, "player_1")
    with pytest.raises(ValueError, match=r"expected one of .* from player_1, got"):
        game.play({"player_1": move} if move is not None else {})
    assert game.taken == []


@pytest.mark.parametrize("run", ["both", "memory"])
def test_thoughts_are_those_of_the_policy_that_plays(runs, run):
    """Asked or not, and with moves taken back, it plays what it thinks best."""
    agent = Agent.load(runs / run)
    game = sit(TICTACTOE, "player_2", player=TrainedSeat(agent))
    while not game.over:
        (position,) = game.positions()
        if position.agent == "player_2":
            hint = game.thoughts(position)  # the agent knows this seat, too
            assert (hint is None) == (run == "memory")  # but has not watched it
            game.play({"player_2": game.allowed(position)[0]})
            game.take_back()
            game.play({"player_2": game.allowed(position)[-1]})
            continue
        thoughts = game.thoughts(position)
        assert thoughts is not None
        assert thoughts.value is not None
        assert thoughts.probabilities.sum() == pytest.approx(1.0)
        assert game.play({})["player_1"] == int(np.argmax(thoughts.probabilities))


class Parts(ParallelEnv[str, Any, Any]):
    """Two agents see a dict without a mask, for one step."""

    metadata: ClassVar[dict[str, Any]] = {"name": "parts"}
    possible_agents: ClassVar[list[str]] = ["a", "b"]

    def observation_space(self, agent: str) -> gym.Space[Any]:
        return gym.spaces.Dict({"x": gym.spaces.Discrete(3)})

    def action_space(self, agent: str) -> gym.Space[Any]:
        return gym.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents = list(self.possible_agents)
        return {a: {"x": 1} for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        agents, self.agents = self.agents, []
        seen = {a: {"x": 2} for a in agents}
        over, on = dict.fromkeys(agents, True), dict.fromkeys(agents, False)
        return seen, dict.fromkeys(agents, 1.0), over, on, {a: {} for a in agents}


def test_observations_of_parts_need_no_mask():
    env = SubProcVecParallelEnv([Parts()], n_workers=0)
    game = HumanGame(env, {"b": PolicySeat(random_policy(env))})
    position = game.position("a")
    assert (position.observation, position.mask) == ({"x": 1}, None)
    assert game.allowed(position) == [0, 1]
    game.play({"a": 1})
    assert game.over
    assert game.position("a").observation == {"x": 2}


@pytest.mark.parametrize("seats", [{"nobody": PolicySeat(print)}, {"player_1": None}])
def test_seats_of_nobody_or_without_a_player_are_named(seats):
    with pytest.raises(ConfigError, match="expected players such as TrainedSeat"):
        HumanGame(make_vec_env(TICTACTOE, 1, n_workers=0), seats)
    with pytest.raises(TypeError, match=r"expected a trained kitae_marl\.Agent, got str"):
        TrainedSeat("both")


def test_games_of_other_actions_are_refused():
    with pytest.raises(ConfigError, match="expected one environment of Discrete actions"):
        sit("gymnasium:Pendulum-v1")


@pytest.mark.parametrize("env_id", [*DRAWINGS, "classic/hanabi-v5", "classic/texas_holdem-v4"])
def test_every_game_of_the_list_is_drawn_to_its_end(env_id):
    drawing = drawing_of(env_id)
    for seed in range(3):
        game = sit(env_id, "player_0", "player_1", "player_2", seed=seed)
        rng = np.random.default_rng(seed)
        while not game.over:
            for position in game.positions():
                drawn = drawing.draw(Seen(position.observation, True, drawing.labels))
                assert drawn
                if drawing.labels:
                    assert len(drawing.labels) >= len(game.allowed(position))
            game.play({p.agent: rng.choice(game.allowed(p)) for p in game.positions()})


def test_stones_are_those_of_the_player(capsys):
    text, result = told(capsys, "play", FOUR, "--moves", "3,q")
    assert result["state"] == "ended by you"
    assert result["returns"] is None
    theirs = result["moves"][1]["player_1"]
    row = ["X" if c == 3 else "O" if c == theirs else "." for c in range(7)]
    where = text.split("\n")
    if theirs == 3:
        row = ["X" if c == 3 else "." for c in range(7)]
    assert " ".join(row) in where


def test_a_whole_game_in_the_terminal(runs, capsys):
    where = ["--runs-dir", str(runs)]
    moves = ["--moves", "?,4,u,h,nonsense,0,1,2,3,4,5,6,7,8"]
    text, result = told(capsys, "play", TICTACTOE, "both@0", *moves, *where)
    assert result["state"] == "over"
    assert set(result["returns"].values()) in ({0.0}, {1.0, -1.0})
    assert result["people"] == ["player_1"]
    assert "it expects" in text
    assert "take back your last move" in text
    assert "got 'nonsense'" in text
    assert result["moves"][0] == {"player_1": 0}  # the first was taken back
    assert "the game is over: player_1" in text


def test_who_a_run_does_not_play_is_the_person(runs, capsys):
    where = ["--runs-dir", str(runs)]
    text, result = told(capsys, "play", "classic/tictactoe", "one", "--moves", "?,4,q", *where)
    assert result["people"] == ["player_1"]
    assert "one keeps that to itself" in text  # of a seat that it does not play
    assert "6 7 8" in text  # the board, however the game is spelled
    with pytest.raises(SystemExit) as ended:
        main(["play", TICTACTOE, "one", "--seat", "player_2", "--moves", "4", *where])
    assert ended.value.code == 2
    assert "plays ['player_2']; play player_1 yourself" in capsys.readouterr().err


def test_the_keyboard_is_asked_where_no_moves_are_given(capsys, monkeypatch):
    said = iter(["4", "q"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    _, result = told(capsys, "play", TICTACTOE)
    assert result["moves"][0] == {"player_1": 4}

    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert told(capsys, "play", TICTACTOE)[1]["state"] == "ended by you"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"\xff\xfe\n", "xff"),
        (b"9" * 5000 + b"\n", "9' ..."),
        ("\N{ARABIC-INDIC DIGIT FOUR}\n".encode(), "got '"),
        (b"\n", "got ''"),
        (b"", "nothing more is said"),
    ],
)
def test_what_is_no_move_is_said_and_the_game_goes_on(capsys, monkeypatch, said, shown):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said + b"4\nq\n" * bool(said))))
    text, result = told(capsys, "play", TICTACTOE)
    assert shown in text
    assert (result["moves"] or [{}])[0] == ({"player_1": 4} if said else {})


def test_without_any_input_the_game_ends(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    text, result = told(capsys, "play", TICTACTOE)
    assert text.endswith("nothing more is said, which ends the game")
    assert result["state"] == "ended by you"


def test_the_first_of_two_people_takes_back_what_was_just_said(capsys):
    both = ["--seat", "player_0", "player_1", "--moves", "rock,u,paper,scissors,q"]
    _, result = told(capsys, "play", "classic/rps-v2", *both)
    assert result["moves"] == [{"player_0": 1, "player_1": 2}]


def masked(mask: Any) -> tuple[Any, Any]:
    return MASKED, {"observation": np.zeros(BOX.shape, np.float32), "action_mask": mask}


@pytest.mark.parametrize(
    ("space", "value", "allowed"),
    [
        (*masked(np.array([0, 1, 0], np.int8)), [1]),
        (*masked(np.zeros(3, np.int8)), [0, 1, 2]),
        (gym.spaces.Dict(x=gym.spaces.Box(0, 255, (500,), np.uint8)), None, [0, 1, 2]),
    ],
)
def test_dicts_with_and_without_masks_are_played(space, value, allowed):
    """A mask that forbids all is no mask, as for the networks; what is long is drawn short."""
    value = {"x": np.zeros(500, np.uint8)} if value is None else value
    env = SubProcVecParallelEnv([sees(space, value)], n_workers=0)
    game = HumanGame(env, {"a_1": PolicySeat(random_policy(env))})
    (position, _) = game.positions()
    assert game.allowed(position) == allowed
    assert len(drawing_of("own").draw(Seen(position.observation, True, ()))) < 400
    game.play({"a_0": allowed[0]})
    env.close()


def test_scripted_players_sit_too(capsys):
    _, result = told(capsys, "play", TICTACTOE, "bot:one_ply", "--moves", "0,1,q")
    threat = [next(iter(taken.values())) for taken in result["moves"]]
    assert threat[3] == 2 or threat[1] == 2  # it blocks the first row
    with pytest.raises(SystemExit):
        main(["play", TICTACTOE, "bot:deep", "--moves", "0"])
    assert "there are bot:first" in capsys.readouterr().err


BAD = [
    (["play", TICTACTOE, "nobody"], "no run at 'nobody'"),
    (["play", FOUR, "both"], "expected a run of classic/connect_four-v3, got both"),
    (["play", TICTACTOE, "--seat", "x"], "expected agents of ['player_1', 'player_2'], got ['x']"),
    (["play", "mpe/simple_spread-v3", "--env-kwargs", '{"continuous_actions": true}'], "Discrete"),
    (["play", TICTACTOE, "both@7"], "7"),
]


@pytest.mark.parametrize(("args", "message"), BAD)
def test_what_cannot_be_played_is_named(runs, capsys, args, message):
    with pytest.raises(SystemExit) as ended:
        main([*args, "--moves", "0", "--runs-dir", str(runs)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
