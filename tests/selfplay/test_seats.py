"""Seats: random, frozen and scripted policies play some agents; the others are trained."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from compiled_runs import OnHost
from small_games import LENGTH, Clock

from kitae_marl import Agent, Config, PPOConfig, evaluate, frozen, make_vec_env, with_seats
from kitae_marl.cli.main import main
from kitae_marl.errors import NoCheckpointError, UnsafePathError
from kitae_marl.loops.program import CompiledLoop
from kitae_marl.selfplay.seat_filler import SeatFiller
from kitae_marl.selfplay.seats import policy_for
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv
from kitae_marl.vector.protocol import VecParallelEnv
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")
N_ENVS, N_STEPS = 4, 8
SMALL = PPOConfig(n_steps=N_STEPS, n_epochs=1, n_minibatches=2, hidden_sizes=(8,))
TICTACTOE = "classic/tictactoe-v3"


def clocks(n_workers: int = 0, **options: Any) -> SubProcVecParallelEnv:
    return SubProcVecParallelEnv([lambda: Clock(**options)] * N_ENVS, n_workers=n_workers)


def config(env_id: str = TICTACTOE, n_updates: int = 2, **settings: Any) -> Config:
    steps = n_updates * N_STEPS * N_ENVS
    return Config(env_id=env_id, n_envs=N_ENVS, env_steps=steps, ppo=SMALL, **settings)


def always(action: int, *agents: str) -> Any:
    """A script that plays one action, and remembers what it was shown."""

    def policy(observations: Any, infos: Any) -> Any:
        seen.append((set(observations), "_final_observation" in infos))
        return {agent: np.full(N_ENVS, action) for agent in agents}

    seen: list[Any] = []
    policy.seen = seen  # type: ignore[attr-defined]
    return policy


class TestWrapper:
    @pytest.mark.parametrize("n_workers", [0, 2])
    def test_the_others_are_as_without_seats(self, n_workers):
        """Views, flags, final observations and statistics of those left are the game's own."""
        plain, script = clocks(), always(2, "hand_1", "bell_0")
        seated = with_seats(clocks(n_workers), {"bell_0": always(1, "bell_0"), "hand_1": script})
        assert isinstance(seated, VecParallelEnv)
        assert seated.possible_agents == ["hand_0"]
        assert [group.agents for group in seated.groups] == [("hand_0",)]
        assert seated.observation_space("hand_0") == plain.observation_space("hand_0")
        (expected, _), (got, infos) = plain.reset(seed=1), seated.reset(seed=1)
        np.testing.assert_array_equal(got["hand_0"], expected["hand_0"])
        assert list(infos["active"]) == list(got) == ["hand_0"]
        for t in range(2 * LENGTH):
            mine = np.full(N_ENVS, t % 3)
            others = {"hand_1": np.full(N_ENVS, 2), "bell_0": np.ones(N_ENVS, int)}
            *expected, their_infos = plain.step({"hand_0": mine, **others})
            seated.step_async({"hand_0": mine})
            *got, infos = seated.step_wait()
            for ours, theirs in zip(got, expected, strict=True):
                assert list(ours) == ["hand_0"]
                np.testing.assert_array_equal(ours["hand_0"], theirs["hand_0"])
            assert set(infos) == set(their_infos)
        assert infos["_episode"].all()
        for part in (infos["final_observation"], *infos["episode"].values()):
            assert "hand_1" not in part or list(part) == ["hand_1", "bell_0"]
        for name in ("return", "length"):
            np.testing.assert_array_equal(
                infos["episode"][name]["hand_0"], their_infos["episode"][name]["hand_0"]
            )
        for agent, action in (("hand_1", 2), ("bell_0", 1)):
            np.testing.assert_array_equal(infos["episode"]["seat_return"][agent], LENGTH * action)
        assert script.seen[0] == ({"hand_0", "hand_1", "bell_0"}, False)
        assert sum(ended for _, ended in script.seen) == 1  # the end of the first episode
        plain.close()
        seated.close()
        assert seated.closed

    def test_whole_groups_stay_the_views_they_were(self):
        env = clocks()
        seated = with_seats(env, {"bell_0": "random"})
        observations, _ = seated.reset(seed=0)
        assert observations["hand_0"].base is env.reset(seed=0)[0]["hand_0"].base
        seated.close()

    def test_state_frames_and_further_attributes_pass(self):
        env = make_vec_env("mpe/simple_tag-v3", 2, n_workers=0, render_mode="rgb_array")
        seated = with_seats(env, {"adversary_*": "random"})
        seated.reset(seed=0)
        assert seated.state_space == env.state_space
        np.testing.assert_array_equal(seated.state(), env.state())
        assert seated.render(1).dtype == np.uint8
        assert seated.metrics == env.metrics
        assert seated.game is None
        assert isinstance(seated, VecParallelEnv)
        seated.close()

    def test_random_seats_follow_from_the_seed(self):
        def returns(seed: int | None, env: Any) -> list[float]:
            env.reset(seed=seed)
            for _ in range(LENGTH):
                *_, infos = env.step({"bell_0": np.zeros(N_ENVS, int)})
            return [*infos["episode"]["seat_return"]["hand_1"]]

        seated = with_seats(clocks(), {"hand_*": "random"})
        first = returns(3, seated)
        assert first == returns(3, seated) != returns(4, seated)
        assert returns(None, seated) != returns(None, seated)
        assert len(set(first)) > 1
        seated.close()

    def test_a_seat_without_an_action_is_named(self):
        seated = with_seats(clocks(), {"hand_*": always(1, "hand_0")})
        seated.reset(seed=0)
        with pytest.raises(ValueError, match=r"expected actions for \['hand_0', 'hand_1'\] from"):
            seated.step({"bell_0": np.zeros(N_ENVS, int)})
        seated.close()

    def test_it_wants_reset_before_the_first_step(self):
        seated = with_seats(clocks(), {"hand_*": "random"})
        with pytest.raises((RuntimeError, ValueError)):
            seated.step({"bell_0": np.zeros(N_ENVS, int)})
        seated.close()


class TestPatterns:
    @pytest.mark.parametrize(
        "seats", [{}, {"player_*": "random"}, {"hand_*": "random", "bell_0": "random"}, {"*": "x"}]
    )
    def test_they_must_match_some_and_leave_some(self, seats):
        env = clocks()
        with pytest.raises(ValueError, match="expected patterns of seats"):
            with_seats(env, seats)
        env.close()

    @pytest.mark.parametrize("seat", ["nobody", 3, None])
    def test_other_kinds_are_refused(self, seat):
        env = clocks()
        with pytest.raises(TypeError, match="expected 'random', frozen"):
            with_seats(env, {"hand_*": seat})
        env.close()

    def test_a_single_environment_is_refused(self):
        with pytest.raises(TypeError, match="make_vec_env"):
            with_seats(Clock(), {"hand_*": "random"})

    def test_the_first_that_matches_counts(self):
        seats = {"hand_1": always(2, "hand_1"), "hand_*": always(1, "hand_0")}
        seated = with_seats(clocks(), seats)
        seated.reset(seed=0)
        for _ in range(LENGTH):
            *_, infos = seated.step({"bell_0": np.zeros(N_ENVS, int)})
        returns = infos["episode"]["seat_return"]
        assert (returns["hand_0"][0], returns["hand_1"][0]) == (LENGTH, 2 * LENGTH)
        seated.close()


@pytest.fixture(scope="module")
def tag_agent() -> Agent:
    """Independent parameters, so that each agent of a group has its own; and a memory."""
    env = CompiledVecParallelEnv("mpe/simple_tag-v3", N_ENVS)
    ppo = PPOConfig(
        n_steps=N_STEPS,
        n_minibatches=2,
        hidden_sizes=(8,),
        share_params=False,
        gru_size=8,
        chunk_length=N_STEPS,
    )
    return Agent(env, Config(env_id="mpe/simple_tag-v3", n_envs=N_ENVS, ppo=ppo))


class TestFrozen:
    def test_a_policy_for_some_agents_acts_as_the_whole_agent(self, tag_agent):
        env = CompiledVecParallelEnv("mpe/simple_tag-v3", N_ENVS)
        observations, infos = env.reset(seed=0)
        whole = tag_agent.select_action(observations, infos)
        for agents in (["agent_0", "adversary_2", "adversary_0"], ["agent_0"]):
            seen = {agent: observations[agent] for agent in agents}
            active = {agent: infos["active"][agent] for agent in agents}
            chosen = policy_for(tag_agent, agents)(seen, {"active": active})
            assert list(chosen) == agents
            for agent, action in chosen.items():
                np.testing.assert_array_equal(action, whole[agent])

    def test_masks_of_others_need_not_be_there(self):
        env = CompiledVecParallelEnv(TICTACTOE, N_ENVS)
        agent = Agent(env, config())
        policy = policy_for(agent, ["player_1"], sample=True)
        seated = with_seats(env, {"player_2": "random"})
        observations, infos = seated.reset(seed=0)
        for _ in range(20):
            move = policy(observations, infos)["player_1"]
            mover = infos["active"]["player_1"]
            allowed = infos["action_mask"]["player_1"][np.arange(N_ENVS), move]
            assert allowed[mover].all()
            observations, *_, infos = seated.step({"player_1": move})

    def test_host_and_compiled_seats_play_the_same(self, tag_agent):
        """Most probable actions, so that no draw differs: rewards must be equal step by step."""
        seats = {"adversary_[02]": frozen(tag_agent, sample=False)}
        game = CompiledVecParallelEnv("mpe/simple_tag-v3", N_ENVS)
        inside = with_seats(game, seats)
        assert inside.possible_agents == ["adversary_1", "agent_0"]
        assert inside.game.state_space == game.game.state_space
        key = jax.random.key(0)
        plain_step, seated_step_of = jax.jit(game.game.step), jax.jit(inside.game.step)
        state, step = jax.jit(game.game.init)(key)
        seated_state = jax.jit(inside.game.init)(key)[0]
        player = tag_agent.player()
        for t in range(3):
            mine = {"adversary": np.array([t]), "agent": np.array([4 - t])}
            batch = {n: np.asarray(x)[None] for n, x in step.observation.items()}
            observations = {
                agent: batch[name][:, i]
                for name, members in game.game.groups.items()
                for i, agent in enumerate(members)
            }
            played = player.select_action(observations)
            joint = {
                "adversary": np.array([played["adversary_0"][0], t, played["adversary_2"][0]]),
                "agent": mine["agent"],
            }
            state, step = plain_step(key, state, joint)
            seated_state, seated_step = seated_step_of(key, seated_state, mine)
            for name, rows in (("agent", slice(None)), ("adversary", slice(1, 2))):
                for ours, theirs in (
                    (seated_step.reward, step.reward),
                    (seated_step.observation, step.observation),
                ):
                    np.testing.assert_allclose(ours[name], theirs[name][rows], rtol=1e-5, atol=1e-6)

    def test_it_must_know_the_agents_and_their_spaces(self, tag_agent):
        env = clocks()
        with pytest.raises(ValueError, match="expected a frozen agent that knows"):
            with_seats(env, {"hand_0": frozen(tag_agent)})
        env.close()
        other = CompiledVecParallelEnv("mpe/simple_tag-v3", N_ENVS, num_good=2)
        with pytest.raises(ValueError, match="as the observation space of adversary_0"):
            with_seats(other, {"adversary_*": frozen(tag_agent)})

    def test_it_does_not_change_while_the_agent_goes_on_learning(self):
        env = with_seats(clocks(), {"bell_0": "random"})
        agent = Agent(env, config("clock"))
        seat = frozen(agent)
        before = jax.tree.map(np.array, seat.player.state)
        agent.train(env, show=False)
        jax.tree.map(np.testing.assert_array_equal, before, seat.player.state)
        with pytest.raises(ValueError, match="with a run only"):
            frozen(agent, step=3)


def learned(agent: Agent) -> Any:
    return jax.tree.leaves(agent.run_state().state)


class TestTraining:
    @pytest.mark.parametrize("seat", [pytest.param("random", marks=pytest.mark.slow), "frozen"])
    def test_host_and_compiled_loop_end_with_the_same_parameters(self, seat, monkeypatch):
        game = CompiledVecParallelEnv(TICTACTOE, N_ENVS)
        seats = {"player_2": frozen(Agent(game, config())) if seat == "frozen" else seat}
        agents = []
        for where in (lambda env: env, OnHost):
            env = with_seats(game, seats)
            assert isinstance(env, CompiledVecParallelEnv)
            monkeypatch.setattr("kitae_marl.loops.train.check_env", lambda env: env)
            agent = Agent(env, config())
            agent.train(where(env), show=False)
            agents.append(agent)
        for a, b in zip(*map(learned, agents), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    def test_a_python_function_takes_a_compiled_game_to_the_host_and_says_so(self, caplog):
        game = CompiledVecParallelEnv(TICTACTOE, N_ENVS)

        def first_free(observations: Any, infos: Any) -> Any:
            return {"player_1": np.argmax(infos["action_mask"]["player_1"], axis=-1)}

        with caplog.at_level(logging.WARNING, "kitae_marl.selfplay.seats"):
            env = with_seats(game, {"player_1": first_free})
        assert "stepped from Python" in caplog.text
        agent = Agent(env, config())
        summary = agent.train(env, show=False)
        assert set(summary["returns"]) >= {"return/player_2"}
        assert agent.learned_step == 2 * N_STEPS

    @pytest.mark.parametrize(
        ("backend", "first"),
        [
            ("compiled", "player_1"),
            pytest.param("python", "player_1", marks=pytest.mark.slow),
            pytest.param("compiled", "player_2", marks=pytest.mark.slow),
        ],
    )
    def test_one_side_learns_to_beat_random_moves(self, backend, first):
        """At random the first player wins about 0.3 more than it loses, the second 0.3 less."""
        second = {"player_1": "player_2", "player_2": "player_1"}[first]
        ppo = PPOConfig(n_steps=32, hidden_sizes=(32,))
        settings = Config(env_id=TICTACTOE, n_envs=32, env_steps=60_000, ppo=ppo)

        def make(place: str) -> Any:
            if place == "compiled":
                env: Any = CompiledVecParallelEnv(TICTACTOE, 32)
            else:
                env = make_vec_env(TICTACTOE, 32, n_workers=0)
            return with_seats(env, {second: "random"})

        env = make(backend)
        agent = Agent(env, settings)
        agent.train(env, show=False)
        env = make("python")
        played = evaluate(agent.select_action, env, 200, seed=1)
        env.close()
        assert list(played.returns) == [first]
        assert played.returns[first].mean() > (0.8 if first == "player_1" else 0.1)


def test_another_opponent_runs_in_the_same_program():
    """Its parameters are an argument: a pool of opponents costs one compilation."""
    env = CompiledVecParallelEnv(TICTACTOE, N_ENVS)
    tame, wild = (Agent(env, config(seed=seed)) for seed in (0, 1))
    wild.state = jax.tree.map(lambda x: 1000 * x, wild.state)
    games = [with_seats(env, {"player_1": frozen(agent)}).game for agent in (tame, wild)]
    assert games[0] is not None
    assert games[1] is not None
    agent = Agent(with_seats(env, {"player_1": frozen(tame)}), config(seed=2))
    loop = CompiledLoop(games[0], [agent], [0])
    start, marks = loop.loop, []
    for game in games:
        loop.loop, loop.data = start, game.data
        loop.run(1)
        marks.append(np.asarray(loop.loop.game.game.marks))
    assert (marks[0] != marks[1]).any()


class TestConfig:
    def test_an_agent_refuses_agents_that_have_seats(self):
        env = clocks()
        with pytest.raises(ValueError, match=r"make it by kitae_marl\.with_seats"):
            Agent(env, config(seats={"hand_*": "random"}))
        env.close()

    def test_runs_are_looked_for_in_the_runs_folder_alone(self, tmp_path):
        runs = tmp_path / "runs"
        agent = Agent(CompiledVecParallelEnv(TICTACTOE, N_ENVS), config(n_updates=1))
        agent.train(CompiledVecParallelEnv(TICTACTOE, N_ENVS), runs / "first", show=False)
        env = SeatFiller({"player_2": "frozen:first"}, runs).seat(
            CompiledVecParallelEnv(TICTACTOE, N_ENVS)
        )
        assert env.possible_agents == ["player_1"]
        for bad in ("../runs/first", str(runs / "first"), "first/../first", ".", "a/b/c"):
            closed = CompiledVecParallelEnv(TICTACTOE, N_ENVS)
            with pytest.raises(UnsafePathError):
                SeatFiller({"player_2": f"frozen:{bad}"}, runs).seat(closed)
            assert closed.closed
        (runs / "link").symlink_to(tmp_path)
        with pytest.raises(UnsafePathError, match="leads outside"):
            SeatFiller({"player_2": "frozen:link"}, runs).seat(
                CompiledVecParallelEnv(TICTACTOE, N_ENVS)
            )
        with pytest.raises(NoCheckpointError):
            SeatFiller({"player_2": "frozen:x"}, Path(runs)).seat(
                CompiledVecParallelEnv(TICTACTOE, N_ENVS)
            )


class TestCommands:
    def test_train_evaluate_and_watch_with_seats(self, tmp_path, monkeypatch, capsys):
        """A run of one side keeps its opponent; a run of both sides is given one."""
        monkeypatch.chdir(tmp_path)
        small = ["--n-envs", "4", "--ppo.n-steps", "8", "--ppo.hidden-sizes", "8", "--json"]
        small += ["--ppo.n-minibatches", "2", "--ppo.n-epochs", "1", "--env-steps", "64"]

        def result(*args: str) -> dict[str, Any]:
            main([*args])
            return json.loads(capsys.readouterr().out.strip().splitlines()[-1])

        result("train", TICTACTOE, "--run", "both", *small)
        one = ["--seats", '{"player_1": "frozen:both"}', "--run", "one", "--n-workers", "0"]
        main(["train", TICTACTOE, *one, *small])
        *lines, trained = capsys.readouterr().out.strip().splitlines()
        assert "player_2" in json.loads(trained)["returns"]
        assert "not trained: player_1: frozen:both" in "\n".join(lines)
        play = ["--episodes", "6", "--n-envs", "2", "--n-workers", "0", "--json"]
        played = result("evaluate", "one", *play)
        assert (played["seats"], played["episodes"]) == ({"player_1": "frozen:both"}, 6)
        assert {"player_2"} < set(played["returns"])
        assert "player_1" not in played["returns"]
        given = result("evaluate", "one", "--seats", '{"*_1": "random"}', *play)
        assert given["seats"] == {"*_1": "random"}  # the run's own opponent does not play
        other = result("evaluate", "both", "--seats", '{"player_2": "random"}', *play)
        assert "player_1" in other["returns"]
        assert "player_2" not in other["returns"]
        film = ["--episodes", "1", "--seats", '{"player_*": "random"}']
        with pytest.raises(SystemExit) as caught:  # nobody is left
            main(["watch", "both", *film])
        assert caught.value.code == 2
        film[-1] = '{"player_1": "random"}'
        assert result("watch", "one", *film, "--json")
        with pytest.raises(SystemExit) as caught:  # the run plays player_2 alone
            main(["evaluate", "one", "--seats", '{"player_2": "module:function"}', *play])
        assert caught.value.code == 2
