"""Playing whole episodes, oracles, brackets and curves."""

import itertools
from functools import partial

import numpy as np
import pytest
from small_games import Clock

import kitae_marl
from kitae_marl import Config, PPOConfig, with_seats
from kitae_marl.evaluation import evaluate, evaluate_sides, oracle_for, play_frames, seated
from kitae_marl.evaluation.brackets import bracket_table, known_bracket, measure
from kitae_marl.evaluation.captions import settings_in_words
from kitae_marl.evaluation.choosing import (
    Choice,
    choose_metrics,
    default_metrics,
    metric_definition,
)
from kitae_marl.evaluation.curves import make_curve
from kitae_marl.evaluation.plots import Panel, plot_comparison, plot_curves
from kitae_marl.evaluation.protocol import EvaluationProtocol
from kitae_marl.evaluation.results import Evaluation
from kitae_marl.players.policies import random_policy
from kitae_marl.players.scripted.board_bots import connect_four_bot, tictactoe_bot
from kitae_marl.players.scripted.oracles import ORACLES
from kitae_marl.players.scripted.particles import plan
from kitae_marl.runs.store.metrics import read_column
from kitae_marl.vector.catalogue.games import catalogue
from kitae_marl.vector.make import make_vec_env
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

CLOCK = "small_games:make_clock"


@pytest.fixture
def clock():
    env = make_vec_env(CLOCK, 2, n_workers=0)
    yield env
    env.close()


def always(action: int):
    return lambda observations, infos: {a: np.full(2, action) for a in observations}


class TestPlaying:
    def test_returns_of_whole_episodes(self, clock):
        result = evaluate(always(1), clock, 3)
        assert {agent: x.tolist() for agent, x in result.returns.items()} == {
            agent: [8.0] * 3 for agent in clock.possible_agents
        }
        assert result.lengths.tolist() == [8] * 3
        assert result.groups == {"hand": ("hand_0", "hand_1"), "bell": ("bell_0",)}
        assert not result.zero_sum

    def test_each_agent_acts_by_its_own_policy(self, clock):
        calls = []

        def counted(observations, infos):
            calls.append(1)
            return always(1)(observations, infos)

        policy = seated({"hand_0": counted, "hand_1": always(2), "bell_0": counted})
        result = evaluate(policy, clock, 2)
        returns = {agent: x.tolist() for agent, x in result.returns.items()}
        assert returns == {"hand_0": [8.0, 8.0], "hand_1": [16.0, 16.0], "bell_0": [8.0, 8.0]}
        assert len(calls) == 8  # once a step, though it has two agents

    def test_each_side_against_an_opponent(self, clock):
        seen = {}

        def record(observations, infos):
            seen[len(seen)] = 1
            return always(1)(observations, infos)

        result = evaluate_sides(record, always(0), clock, 2)
        assert all(x.tolist() == [8.0, 8.0] for x in result.returns.values())
        assert not result.joint
        assert len(seen) == 2 * 8  # hands, then the bell

    def test_seeds_are_played_one_by_one(self, clock):
        result = EvaluationProtocol(3, (1, 2)).play(always(1), clock)
        assert result.n_episodes == 6

    def test_pictures_of_whole_episodes(self):
        env = make_vec_env(CLOCK, 1, n_workers=0, render_mode="rgb_array")
        act = lambda observations, infos: {a: np.ones(1, int) for a in observations}  # noqa: E731
        shots = list(play_frames(act, env, n_episodes=2))
        env.close()
        assert [(shot.episode, shot.step) for shot in shots] == [
            (episode, step) for episode in (0, 1) for step in range(9)
        ]
        assert [shot.returns["bell_0"] for shot in shots] == [*range(9), *range(9)]
        assert [shot.frame[0, 0, 0] // 10 for shot in shots[:9]] == [0, 1, 2, 3, 4, 5, 6, 7, 7]

    def test_a_game_without_a_picture(self, clock):
        with pytest.raises(ValueError, match="at least one episode"):
            next(play_frames(always(0), clock, n_episodes=0))

    def test_one_agent_has_no_opponent(self):
        env = make_vec_env("gymnasium:CartPole-v1", 1, n_workers=0)
        with pytest.raises(ValueError, match="two agents or more"):
            evaluate_sides(always(0), always(0), env, 1)
        env.close()

    @pytest.mark.parametrize("n_episodes", [0, 1.5])
    def test_bad_numbers_of_episodes(self, clock, n_episodes):
        with pytest.raises(ValueError, match="whole number of episodes"):
            evaluate(always(0), clock, n_episodes)


class Silent:
    """A vector that says nothing of the episodes that end."""

    def __init__(self, env, *hidden: str) -> None:
        self._env, self._hidden = env, hidden

    def __getattr__(self, name: str):
        return getattr(self._env, name)

    def step(self, actions):
        *rest, infos = self._env.step(actions)
        return *rest, {k: v for k, v in infos.items() if k not in self._hidden}

    def reset(self, **told):
        observations, infos = self._env.reset(**told)
        return observations, {k: v for k, v in infos.items() if k not in self._hidden}


def test_in_a_vector_that_does_not_say_who_is_to_act_all_are(clock):
    told, untold = (evaluate(always(1), env, 4) for env in (clock, Silent(clock, "active")))
    assert untold.n_episodes == told.n_episodes == 4
    assert untold.returns["bell_0"].tolist() == told.returns["bell_0"].tolist()


class TestEpisodesThatCannotBeCounted:
    """What would be waited for without end is an error."""

    REPORTS = ("episode", "_episode", "final_observation", "_final_observation")

    @pytest.mark.parametrize("hidden", [REPORTS, ("episode",), ("_episode",)])
    def test_a_vector_that_reports_no_returns(self, clock, hidden):
        with pytest.raises(ValueError, match=r"expected infos\['episode'\].*got infos of \["):
            evaluate(always(0), Silent(clock, *hidden), 3)
        with pytest.raises(ValueError, match=r"expected infos\['episode'\]"):
            evaluate_sides(always(0), always(1), Silent(clock, *hidden), 3)

    def test_a_film_of_a_vector_that_says_nothing(self):
        env = make_vec_env(CLOCK, 2, n_workers=0, render_mode="rgb_array")
        with pytest.raises(ValueError, match=r"expected infos\['episode'\]"):
            list(play_frames(always(1), Silent(env, *self.REPORTS), n_episodes=2))
        env.close()

    def test_a_game_that_goes_on_is_said_to_do_so(self, clock, monkeypatch):
        for name, value in (("ENDLESS_SECONDS", 0.0), ("ENDLESS_STEPS", 3)):
            monkeypatch.setattr(f"kitae_marl.evaluation.playing.{name}", value)
        with pytest.warns(UserWarning, match=r"taken 3 steps; .*--max-episode-steps") as told:
            evaluate(always(0), clock, 5)
        assert len(told) == 1
        with pytest.warns(UserWarning, match="no episode has ended"):
            list(play_frames(always(0), clock, n_episodes=1))

    @pytest.mark.parametrize("max_steps", [7, 8])
    def test_an_episode_without_end(self, clock, max_steps):
        """Those of the clock have eight steps."""
        if max_steps == 8:
            assert evaluate(always(0), clock, 5, max_steps=8).n_episodes == 5
            return
        for play in (
            lambda: evaluate(always(0), clock, 1, max_steps=7),
            lambda: evaluate_sides(always(0), always(1), clock, 1, max_steps=7),
        ):
            with pytest.raises(ValueError, match="within 7 steps, got one of environment 0 that"):
                play()

    def test_episodes_that_never_count(self, clock):
        """As those are that a worker's death cuts; a vector that has only such is no better."""

        def step(actions):
            *rest, infos = clock.step(actions)
            return *rest, infos | ({"_episode": np.zeros(2, bool)} if "_episode" in infos else {})

        env = Silent(clock)
        env.step = step
        with pytest.raises(ValueError, match="within 30 steps"):
            evaluate(always(0), env, 1, max_steps=30)

    def test_environments_whose_share_is_done_may_go_on(self):
        """Environment 1 is asked for one episode; its second has no end."""
        env = vector([{"hand_0": 10}], [{"hand_0": 3}, {"hand_0": 1000}])
        assert sorted(evaluate(always(0), env, 3, max_steps=12).lengths) == [3, 10, 10]
        with pytest.raises(ValueError, match="within 12 steps, got one of environment 1 that"):
            evaluate(always(0), env, 4, max_steps=12)
        env.close()

    def test_a_film_waits_for_environment_0_only(self):
        env = vector([{"hand_0": 8}], [{"hand_0": 1000}])
        assert len(list(play_frames(always(0), env, n_episodes=2, max_steps=8))) == 18
        env.close()


class Shifts(Clock):
    """A clock whose agents come and go: ``{agent: its last step}`` for each episode in turn."""

    def __init__(self, shifts: list[dict[str, int]]) -> None:
        super().__init__(render_mode="rgb_array")
        self.shifts = itertools.cycle(shifts)

    def reset(self, seed=None, options=None):
        super().reset(seed, options)
        self.shift = next(self.shifts)
        self.agents = [agent for agent in self.possible_agents if agent in self.shift]
        return {a: self._see(a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        agents = self.agents
        self.t += 1
        self.agents = [agent for agent in agents if self.t < self.shift[agent]]
        return (
            {a: self._see(a) for a in agents},
            dict.fromkeys(agents, 1.0),
            {a: a not in self.agents for a in agents},
            dict.fromkeys(agents, False),
            {a: {} for a in agents},
        )

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


def vector(*shifts: list[dict[str, int]]) -> SubProcVecParallelEnv:
    return SubProcVecParallelEnv([partial(Shifts, each) for each in shifts], n_workers=0)


class TestAgentsThatComeAndGo:
    LEAVING = ({"hand_0": 2, "hand_1": 4, "bell_0": 6},)

    def test_the_seats_go_on_when_all_others_are_out(self):
        """With all agents of the vector out, its episode lasts as long as the game's."""
        env = with_seats(vector(self.LEAVING, self.LEAVING), {"bell_0": always(0)})
        result = evaluate(always(1), env, 4)
        assert {agent: x.tolist() for agent, x in result.returns.items()} == {
            "hand_0": [2.0] * 4,
            "hand_1": [4.0] * 4,
        }
        assert len(list(play_frames(always(1), env, n_episodes=2))) == 2 * 7
        env.close()

    def test_a_silent_vector_with_seats_is_seen_through(self):
        seated = with_seats(vector(self.LEAVING, self.LEAVING), {"bell_0": always(0)})
        silent = Silent(seated, *TestEpisodesThatCannotBeCounted.REPORTS)
        with pytest.raises(ValueError, match=r"expected infos\['episode'\]"):
            evaluate(always(1), silent, 4)
        seated.close()

    def test_each_agent_is_missing_in_some_episode(self):
        """Whoever was out in the last episode is not out in this."""
        shifts = [{"hand_0": 3, "hand_1": 3}, {"bell_0": 2, "hand_0": 4}]
        env = vector(shifts, shifts)
        assert evaluate(always(1), env, 8).lengths.tolist() == [3, 3, 4, 4, 3, 3, 4, 4]
        env.close()


class TestOracles:
    @pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
    @pytest.mark.parametrize("env_id", [i for i in ORACLES if i.startswith("mpe/")])
    def test_particles_get_where_they_belong(self, env_id, continuous):
        """Well beyond chance, and as the table says within five standard errors."""
        kwargs = {"continuous_actions": continuous}
        oracle, known = oracle_for(env_id, kwargs), known_bracket(env_id)
        assert oracle is not None
        assert known is not None
        assert known.oracle is not None
        env = make_vec_env(env_id, 16, n_workers=0, **kwargs)
        row = evaluate(oracle.make(env), env, 48, seed=3).summary()["returns"]["mean"]
        env.close()
        assert abs(row["mean"] - known.oracle["mean"]) < 5 * row["stderr"]
        assert row["high"] < 0
        assert row["low"] > known.random["mean"] / 2

    def test_a_plan_goes_to_the_target_and_stays(self):
        targets = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]], np.float32)
        assert plan(np.zeros((5, 2), np.float32), targets).tolist() == [2, 1, 4, 3, 0]

    def test_the_cart_pole_oracle_reaches_the_time_limit(self):
        env = make_vec_env("gymnasium:CartPole-v1", 8, n_workers=0)
        result = evaluate(ORACLES["gymnasium:CartPole-v1"].make(env), env, 16, seed=1)
        env.close()
        assert result.lengths.tolist() == [500] * 16

    def test_a_game_made_otherwise_has_none(self):
        assert oracle_for("mpe/simple_spread-v3", {"num_agent_neighbors": 1}) is None
        assert oracle_for("mpe/simple_spread-v3", {"N": 5, "render_mode": "rgb_array"}) is not None
        assert oracle_for("mpe/simple_tag-v3") is None

    @pytest.mark.parametrize("env_id", ["classic/tictactoe-v3", "classic/connect_four-v3"])
    def test_board_bots_beat_chance_in_both_seats(self, env_id):
        env = make_vec_env(env_id, 16, n_workers=0)
        bot, chance = ORACLES[env_id].make(env), random_policy(env, 0)
        result = evaluate_sides(bot, chance, env, 60)
        env.close()
        assert result.zero_sum
        counts = result.outcomes()
        assert counts is not None
        assert all(row["win"] >= 35 > row["loss"] for row in counts.values())
        assert all(sum(row.values()) == 60 for row in counts.values())

    def test_the_bot_wins_before_it_blocks(self):
        own, other = np.zeros((2, 3, 3), np.int8)
        own[0, :2], other[1, :2] = 1, 1
        assert chosen(tictactoe_bot, own, other, own + other == 0) == 2
        own[0, 1] = 0  # nothing to win any more
        assert chosen(tictactoe_bot, own, other, own + other == 0) == 5

    def test_stones_fall(self):
        """Three in a row on the second floor: a stone beside them wins only if it lands there."""
        own, other = np.zeros((2, 6, 7), np.int8)
        other[5, :3] = 1
        own[5, 3] = 1
        own[4, :3] = 1
        assert chosen(connect_four_bot, own, other, np.ones(7)) == 3
        own[5, 3] = 0  # now a stone there falls to the floor, where it blocks
        assert chosen(connect_four_bot, own, other, np.ones(7)) == 3
        other[:] = 0
        own[4, :3] = 0
        own[2:5, 6] = 1
        other[5, 6] = 1
        assert chosen(connect_four_bot, own, other, np.ones(7)) == 6  # on top of three


def chosen(make_bot, own, other, mask) -> int:
    class Seats:
        possible_agents = ("me",)

    observation = {
        "observation": np.stack([own, other], axis=-1)[None],
        "action_mask": np.asarray(mask, np.int8).reshape(1, -1),
    }
    return int(make_bot(Seats())({"me": observation}, {})["me"][0])


class TestBrackets:
    def test_the_table_is_of_games_there_are(self):
        ids = {row.id for row in catalogue()} | {"gymnasium:CartPole-v1"}
        assert {row["id"] for row in bracket_table()} <= ids
        assert {row["id"] for row in bracket_table() if row["oracle"]} == set(ORACLES)
        for row in bracket_table():
            assert row["episodes"] >= 1000
            if row["oracle"]:
                assert row["oracle"]["mean"] > row["random"]["mean"]
                assert row["oracle_definition"] == ORACLES[row["id"]].definition
                assert set(row["oracle"]) == set(row["random"])

    def test_it_holds_for_the_very_arguments_only(self):
        assert known_bracket("mpe/simple_spread-v3", {"N": 4}) is None
        assert known_bracket("nothing") is None
        board = known_bracket("classic/tictactoe-v3")
        assert board is not None
        assert board.against == "random"

    def test_zero_sum_games_are_measured_side_by_side(self):
        env = make_vec_env("classic/tictactoe-v3", 8, n_workers=0)
        entry = measure(env, "classic/tictactoe-v3", {}, 20, [0])
        env.close()
        assert entry["against"] == "random"
        assert entry["episodes"] == 20
        assert "one side" in entry["definition"]
        assert entry["oracle"]["returns"]["mean"]["mean"] > 0.3

    def test_other_games_at_once(self, clock):
        entry = measure(clock, CLOCK, {}, 4, [0])
        assert (entry["against"], entry["oracle"]) == (None, None)
        assert 0 < entry["random"]["returns"]["mean"]["mean"] < 16


def write_metrics(path, text):
    path.mkdir()
    (path / "metrics.csv").write_text(text)
    return path


class TestCurves:
    def test_runs_on_one_grid(self, tmp_path):
        a = write_metrics(tmp_path / "a", "step,return/mean\n10,1.0\n20,3.0\n30,5.0\n40,7.0\n")
        b = write_metrics(tmp_path / "b", "step,return/mean\n20,10.0\n40,20.0\n")
        curve = make_curve("x", [a, b], "return/mean", points=2)
        assert curve.step.tolist() == [20.0, 40.0]
        assert curve.runs.tolist() == [[2.0, 6.0], [10.0, 20.0]]
        assert curve.middle().tolist() == [6.0, 13.0]
        low, high = curve.band("range")
        assert (low.tolist(), high.tolist()) == ([2.0, 6.0], [10.0, 20.0])
        low, high = curve.band("interval")
        assert (low <= curve.middle()).all()
        assert (curve.middle() <= high).all()

    def test_parts_without_a_value_are_left_out(self, tmp_path):
        a = write_metrics(tmp_path / "a", "step,x\n10,\n20,nan\n30,4.0\n40,8.0\n50,inf\n60,7.")
        curve = make_curve("x", [a], "x", points=4)
        assert curve.step.tolist() == [30.0, 40.0]
        assert curve.runs.tolist() == [[4.0, 8.0]]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has no column 'return/mean'; it has none"),
            ("step,return/team\n1,2\n", "has no column 'return/mean'; it has step, return/team"),
            ("step,return/mean\n1,\nx,y\n", "has no value of 'return/mean' yet"),
            (None, "expected the metrics of a run"),
        ],
    )
    def test_what_cannot_be_read(self, tmp_path, text, message):
        path = tmp_path / "a"
        path.mkdir() if text is None else write_metrics(path, text)
        with pytest.raises(ValueError, match=message):
            read_column(path, "return/mean")

    def test_definitions(self):
        assert "summed over all agents" in metric_definition("return/team")
        assert "averaged over the group" in metric_definition("return/group/hen")
        assert "the agent's rewards" in metric_definition("return/hen_0")
        assert "in nats" in metric_definition("update/hen/entropy")
        assert "as logged" in metric_definition("update/hen/own_thing")

    def test_smoothing_looks_back(self, tmp_path):
        a = write_metrics(tmp_path / "a", "step,x\n1,2.0\n2,4.0\n3,6.0\n4,8.0\n")
        assert make_curve("x", [a], "x", smooth=2).runs.tolist() == [[2.0, 3.0, 5.0, 7.0]]
        curve = make_curve("x", [a], "x", points=2, smooth=9, named=True)
        assert curve.runs.tolist() == [[2.5, 4.5]]
        assert (curve.name, curve.per_point) == ("x x", 2)


class TestChoosing:
    """Which columns a word stands for, and which of them share a panel."""

    COLUMNS = (
        "return/red_0",
        "return/blue_0",
        "return/mean",
        "return/group/red",
        "return/group/blue",
        "update/red/entropy",
        "update/blue/entropy",
        "update/red/value_loss",
        "win_rate/red_0",
        "win_rate/mean",
    )

    @pytest.fixture
    def run(self, tmp_path):
        def write(*values: float, columns=self.COLUMNS):
            name = f"run_{len(list(tmp_path.iterdir()))}"
            row = ",".join(map(str, values or range(len(columns))))
            return write_metrics(tmp_path / name, f"step,{','.join(columns)}\n1,{row}\n")

        return write

    @pytest.mark.parametrize(
        ("names", "panels"),
        [
            (["return/mean"], {"return/mean": ["return/mean"]}),
            (["entropy"], {"entropy": ["update/red/entropy", "update/blue/entropy"]}),
            (["return"], {"return": ["return/group/red", "return/group/blue"]}),
            (["win_rate"], {"win_rate": ["win_rate/red_0", "win_rate/mean"]}),
            (["mean"], {"return": ["return/mean"], "win_rate": ["win_rate/mean"]}),
            (
                ["update/red/*"],
                {"entropy": ["update/red/entropy"], "value_loss": ["update/red/value_loss"]},
            ),
            (
                ["value_loss", "return/mean"],
                {"value_loss": ["update/red/value_loss"], "return/mean": ["return/mean"]},
            ),
        ],
    )
    def test_words(self, run, names, panels):
        assert {name: list(columns) for name, columns in choose_metrics(names, [run()])} == panels

    def test_sides_of_one_group_are_its_agents(self, run):
        path = run(columns=("return/a_0", "return/a_1", "return/mean", "return/team"))
        assert choose_metrics(["return"], [path]) == [
            Choice("return", ("return/a_0", "return/a_1"))
        ]

    def test_seconds_share_a_panel_but_for_compiling(self, run):
        path = run(columns=("time/games_s", "time/compile_s", "time/update_s"))
        first, second = choose_metrics(["time"], [path])
        assert first == Choice("time", ("time/games_s", "time/update_s"))
        assert "by what they were spent on" in first.definition
        assert second.columns == ("time/compile_s",)
        assert second.definition == "seconds of an update spent on compiling"

    def test_what_nobody_has_logged(self, run):
        with pytest.raises(
            ValueError, match=r"got 'entrpy', did you mean entropy.* There are return"
        ):
            choose_metrics(["entrpy"], [run()])

    def test_groups_are_sides_where_their_returns_differ(self, run):
        sides = Choice("return", ("return/group/red", "return/group/blue"))
        assert default_metrics([run()]) == [sides]
        (alike,) = default_metrics([run(*[2.0] * len(self.COLUMNS))])
        assert alike.columns == ("return/mean",)

    def test_settings_in_words(self):
        one, other = Config(seed=1), Config(seed=2, ppo=PPOConfig(gamma=0.5), keep=9)
        assert settings_in_words({"a": one, "b": other}) == [
            "a: ppo.gamma 0.99",
            "b: ppo.gamma 0.5",
        ]
        assert settings_in_words({"b": other}) == [
            "b: algo ippo, n_envs 16, env_steps 500000, ppo.gamma 0.5"
        ]


class TestPictures:
    def test_curves(self, tmp_path):
        text = "step,return/mean\n" + "".join(f"{i},{i}.0\n" for i in range(1, 20))
        paths = [write_metrics(tmp_path / name, text) for name in "abc"]
        curves = [
            make_curve("abc", paths, "return/mean"),
            make_curve("a", paths[:1], "return/mean"),
        ]
        for band, ending in (("range", "png"), ("interval", "svg")):
            out = tmp_path / f"curve.{ending}"
            references = {"random": -5.0, "oracle": 30.0}
            panel = Panel(curves, "return/mean", "what it is", references)
            panels = [panel, panel._replace(metric="win_rate/mean")]
            plot_curves(
                out, panels, title="a game", band=band, smooth=3, caption=["abc: gamma 0.5"]
            )
            assert out.stat().st_size > 5000
        svg = (tmp_path / "curve.svg").read_text()
        for shown in (
            "a game",
            "abc (3 runs)",
            "random -5.0",
            "oracle 30.0",
            "what it is",
            "win_rate",
            "mean of the last 3 updates",
            "abc: gamma 0.5",
        ):
            assert f"<!-- {shown}" in svg or shown in svg

    def test_names_are_no_formulas(self, tmp_path):
        table = write_metrics(tmp_path / "a", "step,return/mean\n1,2.0\n")
        curve = make_curve("$a_{$", [table], "return/mean")
        panel = Panel([curve], "return/$^{$", "$_$", {"$}$": 1.0})
        plot_curves(tmp_path / "c.svg", [panel], title="$$_{$", caption=["$x_{$"])
        assert "$a_{$" in (tmp_path / "c.svg").read_text()

    def test_a_comparison_with_single_values(self, tmp_path):
        nothing = {"estimate": 0.5, "low": float("nan"), "high": float("nan")}
        names = ("probability_of_improvement", "iqm_a", "iqm_b", "iqm_difference")
        rows = {tag: dict.fromkeys(names, nothing) for tag in ("a_0", "mean", "team")}
        result = {"env_id": "x", "definition": "d", "spread": "s", "returns": rows}
        plot_comparison(tmp_path / "c.png", ("A", "B"), result)
        assert (tmp_path / "c.png").read_bytes()[1:4] == b"PNG"

    def test_without_matplotlib_its_installation_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match="-m pip install matplotlib"):
            plot_comparison(tmp_path / "c.png", ("A", "B"), {"returns": {}})

    @pytest.mark.parametrize(
        ("name", "message"),
        [("c.jpg", "ends in"), ("nowhere/c.png", "folder that exists"), ("d.png", "the folder")],
    )
    def test_where_nothing_can_be_drawn(self, tmp_path, name, message):
        (tmp_path / "d.png").mkdir()
        with pytest.raises(ValueError, match=message):
            plot_comparison(tmp_path / name, ("A", "B"), {"returns": {}})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kitae_marl.compare(1, 2), "expected lists of evaluations, got int"),
        (lambda: kitae_marl.evaluate_sides(1, print, None, 1), "expected a function .* got int"),
        (lambda: kitae_marl.evaluate_sides(print, print, None, 1), "expected a vector"),
    ],
)
def test_other_things_than_policies_vectors_and_evaluations_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_an_evaluation_shows_its_means():
    returns = {"a": np.array([1.0, 2.0]), "b": np.array([0.0, 1.0])}
    shown = repr(Evaluation(returns, np.array([3, 4]), {"g": ("a", "b")}))
    told = "a 1.50, b 0.50, mean 1.00, team 2.00"
    assert shown == f"Evaluation(2 episodes; mean returns: {told})"
    for nothing in ({}, {"a": np.zeros(0)}):
        assert repr(Evaluation(nothing, np.zeros(0), {})) == "Evaluation(0 episodes)"
