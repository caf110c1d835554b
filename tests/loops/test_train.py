"""The host loop: adapting environments, true next observations, and the order of a step."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from pettingzoo import ParallelEnv
from small_games import LENGTH, Clock

from kitae_marl.algos.ppo.algorithm import ippo
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.data.groups import group_specs
from kitae_marl.data.rollout import RolloutBuffer
from kitae_marl.data.stacking import AgentDict, unstack
from kitae_marl.loops import train
from kitae_marl.loops.train import check_env, first_seed, process_termination, vectorized_train
from kitae_marl.runs.agent import Agent
from kitae_marl.types import AlgoType, IAgent
from kitae_marl.vector.make import as_vector
from kitae_marl.vector.protocol import VecParallelEnv
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

N_ENVS = 2


class Scalars:
    """A writer that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.rows.append((tag, scalar_value, global_step))

    def __getitem__(self, tag: str) -> list[tuple[float, int]]:
        return [(value, step) for name, value, step in self.rows if name == tag]


class FakeAgent:
    """Acts by a fixed rule, and keeps what it is given to learn from."""

    def __init__(self, env: Any, n_steps: int = LENGTH) -> None:
        self.groups = group_specs(env.possible_agents, env.observation_space, env.action_space)
        self.n_steps, self.events, self.experiences = n_steps, [], []
        self.fail_at = -1

    def explore(self, observations: Any, infos: Any) -> Any:
        n = len(next(iter(observations.values())))
        if len(self.events) == self.fail_at:
            raise RuntimeError("the agent fails")
        self.events.append("explore")
        action = len(self.events) % 2
        actions = {agent: np.full(n, action) for agent in observations}
        return actions, {agent: np.full(n, -0.5, np.float32) for agent in observations}

    def select_action(self, observations: Any, infos: Any) -> Any:
        raise AssertionError("training explores")

    def make_buffer(self, n_envs: int) -> RolloutBuffer:
        return RolloutBuffer(self.n_steps)

    def should_update(self, step: int, buffer: RolloutBuffer) -> bool:
        return buffer.full

    def update(self, buffer: RolloutBuffer) -> dict[str, float]:
        self.events.append("update")
        copied = [[np.copy(x) for x in leaves(field)] for field in buffer.experience()]
        self.experiences.append(type(buffer.experience())(*copied))
        buffer.clear()
        return {"loss": 0.5}


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    return [] if isinstance(tree, tuple) else [tree]


def make_env(**options: Any) -> SubProcVecParallelEnv:
    return SubProcVecParallelEnv([lambda: Clock(**options)] * N_ENVS, n_workers=0)


class PlainVector:
    """A vector of somebody else's: what training needs, and infos that say nothing."""

    def __init__(self, **options: Any) -> None:
        self._env = make_env(**options)
        self.num_envs, self.possible_agents = N_ENVS, self._env.possible_agents
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space

    def reset(self, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(self._env.reset(seed=seed)[0]), {}

    def step(self, actions: dict[str, Any]) -> tuple[Any, ...]:
        return (*map(dict, self._env.step(actions)[:4]), {})

    def close(self) -> None:
        self._env.close()


@pytest.mark.parametrize(
    ("function", "parameters"),
    {
        check_env: {"env": "positional"},
        process_termination: dict.fromkeys(
            ["global_step", "next_observations", "infos", "writer"], "positional"
        ),
        vectorized_train: {
            **dict.fromkeys(["seed", "agent", "env", "n_env_steps", "algo_type"], "positional"),
            "start_step": 1,
            "checkpointer": None,
            "writer": None,
        },
    }.items(),
)
def test_signatures(function, parameters):
    found = {
        p.name: p.default if p.kind is p.KEYWORD_ONLY else "positional"
        for p in inspect.signature(function).parameters.values()
    }
    assert found == parameters
    assert list(found) == list(parameters)


def test_names_that_users_import():
    from kitae_marl.types import AgentPyTree, Checkpointer  # noqa: F401

    assert {member.name for member in AlgoType} == {"ON_POLICY", "OFF_POLICY"}
    assert inspect.signature(vectorized_train).return_annotation == "None"


class TestCheckEnv:
    def test_parallel_environments_come_back_themselves(self):
        game, vector = Clock(), make_env()
        assert check_env(game) is game
        assert check_env(vector) is vector
        assert isinstance(vector, VecParallelEnv)
        vector.close()

    def test_a_vector_of_your_own_needs_little(self):
        env = PlainVector()
        assert check_env(env) is env
        whole = as_vector(env)
        assert isinstance(whole, VecParallelEnv)
        assert (whole.game, whole.metrics, whole.worker_pids) == (None, {}, [])
        assert whole.groups == env._env.groups
        assert not whole.with_state
        whole.reset(seed=1)
        actions = {agent: np.zeros(N_ENVS, np.int64) for agent in whole.possible_agents}
        whole.step_async(actions)
        assert list(whole.step_wait()[1]) == whole.possible_agents
        whole.close()
        assert env._env.closed

    def test_a_vector_that_says_more_of_itself_keeps_what_it_says(self):
        env = PlainVector()
        env.metrics = {"mine": 1.0}
        whole = as_vector(env)
        assert whole.metrics is env.metrics
        assert as_vector(env._env) is env._env
        env.close()

    def test_a_gymnasium_environment_gets_one_agent(self):
        env = check_env(gym.make("CartPole-v1"))
        assert isinstance(env, ParallelEnv)
        assert env.possible_agents == ["agent_0"]
        observations, _ = env.reset(seed=3)
        alone, _ = gym.make("CartPole-v1").reset(seed=3)
        np.testing.assert_array_equal(observations["agent_0"], alone)
        env.close()

    @pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
    def test_a_gymnasium_vector_becomes_a_vector_of_one_agent(self, mode):
        env = check_env(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3, autoreset_mode=mode))
        assert isinstance(env, VecParallelEnv)
        observations, infos = env.reset(seed=0)
        assert observations["agent_0"].shape == (3, 4)
        assert infos["active"]["agent_0"].all()
        env.close()

    def test_a_vector_that_does_not_reset_itself_is_refused(self):
        vector = SyncVectorEnv(
            [lambda: gym.make("CartPole-v1")], autoreset_mode=AutoresetMode.DISABLED
        )
        with pytest.raises(ValueError, match=r"(?i)reset"):
            check_env(vector)
        vector.close()

    @pytest.mark.parametrize("thing", [None, 3, "CartPole-v1", {}, Clock])
    def test_anything_else_is_refused(self, thing):
        with pytest.raises(TypeError, match=r"expected .*, got"):
            check_env(thing)


GROUPS = group_specs(
    ["a_0", "a_1", "b"],
    lambda agent: gym.spaces.Box(-1e3, 1e3, (2 if agent == "b" else 1,)),
    lambda agent: gym.spaces.Discrete(2),
)


def numbers(offset: float) -> AgentDict:
    """Observations of three environments, every number different."""
    blocks = {"a": np.arange(6.0).reshape(3, 2, 1) + offset, "b": np.arange(6.0).reshape(3, 1, 2)}
    return unstack({"a": blocks["a"], "b": blocks["b"] - offset}, GROUPS)


def ended(*flags: bool) -> dict[str, Any]:
    returns = {"a": np.arange(6.0).reshape(3, 2), "b": np.full((3, 1), 10.0)}
    lengths = {"a": np.array([[4, 9]] * 3), "b": np.array([[7]] * 3)}
    return {
        "_final_observation": np.array(flags),
        "final_observation": numbers(100.0),
        "_episode": np.array(flags),
        "episode": {"return": unstack(returns, GROUPS), "length": unstack(lengths, GROUPS)},
    }


class TestProcessTermination:
    def test_where_nothing_ended_nothing_is_copied(self):
        observations, writer = numbers(0.0), Scalars()
        assert process_termination(5, observations, {"active": {}}, writer) is observations
        assert writer.rows == []

    @pytest.mark.parametrize("plain", [False, True])
    def test_final_observations_take_the_place_of_first_ones(self, plain):
        observations, infos = numbers(0.0), ended(False, True, False)
        if plain:
            observations = dict(observations)
        result = process_termination(5, observations, infos, None)
        for agent, final in numbers(100.0).items():
            expected = np.array(observations[agent])
            expected[1] = final[1]
            np.testing.assert_array_equal(result[agent], expected)

    def test_arguments_are_left_alone(self):
        observations, infos = numbers(0.0), ended(True, True, False)
        result = process_termination(5, observations, infos, Scalars())
        for agent, before in numbers(0.0).items():
            np.testing.assert_array_equal(observations[agent], before)
            np.testing.assert_array_equal(infos["final_observation"][agent], numbers(100.0)[agent])
            assert not np.shares_memory(result[agent], observations[agent])
        assert sorted(infos) == sorted(ended())
        assert infos["_episode"].tolist() == [True, True, False]

    def test_nested_observations(self):
        observations = {"a": {"x": np.zeros((2, 3)), "y": (np.zeros(2),)}}
        finals = {"a": {"x": np.ones((2, 3)), "y": (np.ones(2),)}}
        infos = {"final_observation": finals, "_final_observation": np.array([False, True])}
        result = process_termination(1, observations, infos, None)
        assert result["a"]["x"].tolist() == [[0] * 3, [1] * 3]
        assert result["a"]["y"][0].tolist() == [0, 1]

    @pytest.mark.parametrize(
        "final",
        [
            {"x": np.ones((2, 3))},
            {"x": np.ones((2, 3)), "z": (np.ones(2),)},
            {"x": np.ones((2, 3)), "y": np.ones((2, 2))},
            {"x": np.ones((2, 3)), "y": (np.ones(2), np.ones(2))},
            {"x": {"u": np.ones((2, 3))}, "y": (np.ones(2),)},
            np.ones((2, 3)),
        ],
    )
    @pytest.mark.parametrize("as_objects", [False, True])
    def test_nested_ones_of_other_parts_are_refused(self, final, as_objects):
        """The second has the right number of parts, the third would be taken row by row."""
        finals: Any = np.array([None, {"a": final}], object) if as_objects else {"a": final}
        infos = {"final_observation": finals, "_final_observation": np.array([False, True])}
        with pytest.raises(ValueError, match=r"expected .*got "):
            process_termination(1, {"a": {"x": np.zeros((2, 3)), "y": (np.zeros(2),)}}, infos, None)

    def test_the_objects_of_gymnasium(self):
        finals = np.array([None, {"a": np.array([7.0])}], object)
        observations = {"a": np.zeros((2, 1))}
        infos = {"final_obs": finals, "_final_obs": np.array([False, True])}
        result = process_termination(1, observations, infos, None)
        assert result["a"].tolist() == [[0.0], [7.0]]
        assert observations["a"].tolist() == [[0.0], [0.0]]

    def test_finished_episodes_are_logged_by_agent_group_mean_and_team(self):
        writer = Scalars()
        process_termination(640, numbers(0.0), ended(False, True, False), writer)
        assert {tag: value for tag, value, _ in writer.rows} == {
            "return/a_0": 2.0,
            "return/a_1": 3.0,
            "return/b": 10.0,
            "return/mean": 5.0,
            "return/team": 15.0,
            "return/group/a": 2.5,
            "return/group/b": 10.0,
            "episode/length": 9.0,
        }
        assert {step for _, _, step in writer.rows} == {640}

    def test_every_finished_episode_counts_and_a_cut_one_does_not(self):
        writer, infos = Scalars(), ended(True, True, True)
        infos["_episode"] = np.array([True, False, True])  # a restarted worker has no return
        process_termination(1, numbers(0.0), infos, writer)
        assert [value for value, _ in writer["return/a_0"]] == [0.0, 4.0]

    def test_a_missing_mask_is_named(self):
        with pytest.raises(ValueError, match="_final_observation"):
            process_termination(1, {"a": np.zeros(2)}, {"final_observation": {}}, None)

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"final_observation": None}, TypeError, r"'final_observation'\] by agent, .* None"),
            ({"final_observation": {"a_0": np.ones(3)}}, ValueError, r"missing: \['a_1', 'b'\]"),
            ({"_final_observation": np.ones(2, bool)}, ValueError, r"as many rows, .* \(2,\)"),
            ({"_final_observation": True}, ValueError, r"the mask \[E\] .* got True"),
            ({"_final_observation": "yes"}, ValueError, r"the mask \[E\] .* got 'yes'"),
            ({"_episode": None}, ValueError, r"'_episode'\], the mask \[E\] .* got None"),
            ({"episode": {"return": numbers(0.0)}}, ValueError, "'return' and 'length'"),
            ({"episode": {"return": {}, "length": {}}}, ValueError, "'return' and 'length'"),
            ({"_episode": np.ones(2, bool)}, ValueError, r"return of a_0 in 2 env.*\(3,\)"),
            ({"_episode": np.ones(5, bool)}, ValueError, r"return of a_0 in 5 env.*\(3,\)"),
        ],
    )
    def test_infos_that_do_not_fit_are_refused(self, changes, error, message):
        infos = ended(False, True, False) | changes
        with pytest.raises(error, match=message):
            process_termination(1, numbers(0.0), infos, Scalars())

    @pytest.mark.parametrize("shape", [(2,), (3, 7), ()])
    def test_final_observations_of_another_shape_are_refused(self, shape):
        finals = {agent: np.ones(shape) for agent in numbers(0.0)}
        infos = ended(False, True, False) | {"final_observation": finals}
        with pytest.raises(ValueError, match=r"of shape \(3,.* got \("):
            process_termination(1, numbers(0.0), infos, None)

    @pytest.mark.parametrize(
        "finals",
        [[None, {"z": np.ones(1)}], [None, 3.0], [None, {"a": np.ones(2)}], [None, None, {"a": 1}]],
    )
    def test_objects_that_do_not_fit_are_refused(self, finals):
        infos = {"final_obs": np.array(finals, object), "_final_obs": np.array([False, True])}
        with pytest.raises(ValueError, match=r"expected (the|a) final observation of"):
            process_termination(1, {"a": np.zeros((2, 1))}, infos, None)

    @pytest.mark.parametrize(
        ("observations", "infos", "writer"),
        [
            (None, ended(True, True, True), None),
            (np.zeros(3), ended(True, True, True), None),
            (numbers(0.0), None, None),
            (numbers(0.0), [], Scalars()),
            (numbers(0.0), ended(True, True, True), 3),
        ],
    )
    def test_arguments_of_another_kind_are_refused(self, observations, infos, writer):
        with pytest.raises(TypeError, match=r"expected .* got"):
            process_termination(1, observations, infos, writer)

    def test_what_the_writer_raises_is_raised(self):
        class Full:
            def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
                raise OSError("no space left")

        observations = numbers(0.0)
        with pytest.raises(OSError, match="no space left"):
            process_termination(1, observations, ended(True, True, True), Full())
        np.testing.assert_array_equal(observations["a_0"], numbers(0.0)["a_0"])


class TestVectorizedTrain:
    def run(self, n_env_steps: int = 2 * LENGTH, **options: Any) -> tuple[FakeAgent, Scalars, Any]:
        env, writer = make_env(), Scalars()
        agent = FakeAgent(env)
        vectorized_train(
            0, agent, env, n_env_steps, AlgoType.ON_POLICY, **{"writer": writer, **options}
        )
        return agent, writer, env

    def test_updates_come_when_the_agent_wants_them(self):
        agent, writer, env = self.run()
        assert isinstance(agent, IAgent)
        assert agent.events == (["explore"] * LENGTH + ["update"]) * 2
        assert env.closed
        assert writer["update/loss"] == [(0.5, LENGTH * N_ENVS), (0.5, 2 * LENGTH * N_ENVS)]
        assert len(writer["return/mean"]) == 2 * N_ENVS

    def test_what_is_stored(self):
        agent, _, _ = self.run()
        observation, reward, truncated, following = (
            getattr(agent.experiences[0], name)[0]
            for name in ("observation", "reward", "truncated", "next_observation")
        )
        times = np.arange(LENGTH) / LENGTH
        np.testing.assert_allclose(observation[:, 0, 0, 0], times)
        np.testing.assert_allclose(following[:, 0, 0, 0], times + 1 / LENGTH)  # up to 1, not 0
        np.testing.assert_array_equal(truncated[:, 1, 1], [False] * (LENGTH - 1) + [True])
        np.testing.assert_array_equal(reward[:, 0, 0], agent.experiences[0].action[0][:, 0, 0])
        assert agent.experiences[0].active[0].all()
        assert reward.dtype == np.float32

    def test_a_vector_whose_infos_say_nothing(self):
        stored = []
        for env in (make_env(), PlainVector()):
            agent = FakeAgent(env, n_steps=LENGTH + 3)
            vectorized_train(0, agent, env, LENGTH + 3, AlgoType.ON_POLICY)
            stored.append(agent.experiences[0])
        told, silent = (experience._asdict() for experience in stored)
        for experience in (told, silent):
            del experience["next_observation"]  # where an episode ended the last one is not told
            assert [x.tolist() for x in experience["next_reset"]] == [
                [[t + 1 == LENGTH] * N_ENVS for t in range(LENGTH + 3)]
            ]
            experience["reset"] = [x[1:] for x in experience["reset"]]
        for name, arrays in told.items():
            np.testing.assert_equal(silent[name], arrays, err_msg=name)

    @pytest.mark.usefixtures("quickest_compilation")
    def test_an_agent_with_a_memory_learns_from_such_a_vector(self):
        env = PlainVector()
        ppo = PPOConfig(n_steps=16, chunk_length=4, gru_size=4, n_minibatches=1, n_epochs=1)
        agent = Agent(env, Config(n_envs=N_ENVS, env_steps=2 * 16 * N_ENVS, ppo=ppo))
        before = jax.device_get(agent.state["hand"].params)
        summary = agent.train(env, show=False)
        assert summary["env_steps"] == 2 * 16 * N_ENVS
        assert not summary["returns"]
        after = jax.device_get(agent.state["hand"].params)
        moved = jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), before, after))
        assert 0 < min(moved) <= max(moved) < 1

    def test_the_rest_of_a_rollout_is_not_learned_from(self):
        agent, _, _ = self.run(LENGTH + 3)
        assert agent.events.count("explore") == LENGTH + 3
        assert agent.events.count("update") == 1

    def test_no_writer_is_fine(self):
        agent, _, env = self.run(writer=None)
        assert agent.events.count("update") == 2
        assert env.closed

    def test_a_continued_run_starts_at_its_step_with_new_seeds(self):
        seeds = []
        env = make_env()
        reset = env.reset
        env.reset = lambda seed: (seeds.append(seed), reset(seed=seed))[1]
        agent = FakeAgent(env)
        vectorized_train(7, agent, env, 2 * LENGTH, AlgoType.ON_POLICY, start_step=LENGTH + 1)
        assert agent.events.count("explore") == LENGTH
        assert seeds == [first_seed(7, LENGTH + 1)]
        assert seeds != [7]

    def test_first_seeds(self):
        assert first_seed(5, 1) == 5
        later = [first_seed(seed, step) for seed in range(3) for step in range(2, 300)]
        assert len(set(later)) == len(later)
        assert all(0 <= seed < 2**31 - 2**20 for seed in later)

    def test_the_checkpointer_is_called_after_every_update(self):
        calls = []

        class Keeper:
            def save(self, step: int, agent: Any) -> None:
                calls.append((step, agent.events[-1]))

        self.run(checkpointer=Keeper())
        assert calls == [(LENGTH, "update"), (2 * LENGTH, "update")]

    def test_where_the_time_went_is_logged_with_each_update(self):
        writer = Scalars()
        self.run(writer=writer)
        tags = [
            {tag for tag, x, at in writer.rows if tag.startswith("time/") and x >= 0 and at == step}
            for step in (LENGTH * N_ENVS, 2 * LENGTH * N_ENVS)
        ]
        always = {"time/policy_s", "time/games_s", "time/store_s"}
        assert tags == [
            always | {"time/compile_s"},
            always | {"time/update_s", "time/rest_s"},
        ]

    def test_a_writer_that_has_flush_step_gets_it(self):
        flushed = []
        writer = Scalars()
        writer.flush_step = flushed.append
        self.run(writer=writer)
        assert flushed == [LENGTH * N_ENVS, 2 * LENGTH * N_ENVS]

    def test_stopping_ends_before_the_next_step(self):
        env = make_env()
        agent = FakeAgent(env)
        agent.stopping = 15
        vectorized_train(0, agent, env, LENGTH, AlgoType.ON_POLICY)
        assert agent.events == []
        assert env.closed

    def test_the_environment_is_closed_after_an_error_of_the_agent(self):
        env = make_env()
        agent = FakeAgent(env)
        agent.fail_at = 3
        with pytest.raises(RuntimeError, match="the agent fails"):
            vectorized_train(0, agent, env, LENGTH, AlgoType.ON_POLICY)
        assert env.closed

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_the_environment_is_closed_after_an_interrupt(self, interrupt):
        env = make_env()

        def step(actions: Any) -> Any:
            raise interrupt

        env.step = step
        with pytest.raises(interrupt):
            vectorized_train(0, FakeAgent(env), env, LENGTH, AlgoType.ON_POLICY)
        assert env.closed

    @pytest.mark.parametrize(
        ("algo_type", "start_step", "message"),
        [
            (AlgoType.OFF_POLICY, 1, "expected AlgoType.ON_POLICY, .* got AlgoType.OFF_POLICY"),
            ("on_policy", 1, "expected an AlgoType, got 'on_policy'"),
            (AlgoType.ON_POLICY, 0, r"start_step in \[1, 9\], got 0"),
            (AlgoType.ON_POLICY, LENGTH + 2, r"start_step in \[1, 9\], got 10"),
        ],
    )
    def test_bad_arguments_are_refused_and_the_environment_closed(
        self, algo_type, start_step, message
    ):
        env = make_env()
        agent = FakeAgent(env)
        agent.algorithm = ippo
        with pytest.raises(ValueError, match=message):
            vectorized_train(0, agent, env, LENGTH, algo_type, start_step=start_step)
        assert env.closed

    def test_an_agent_without_a_record_may_be_of_either_type(self):
        env = make_env()
        agent = FakeAgent(env)
        vectorized_train(0, agent, env, LENGTH, AlgoType.OFF_POLICY)
        assert agent.events.count("update") == 1

    def test_an_environment_that_is_refused_is_closed_too(self):
        vector = SyncVectorEnv(
            [lambda: gym.make("CartPole-v1")], autoreset_mode=AutoresetMode.DISABLED
        )
        with pytest.raises(ValueError, match=r"(?i)reset"):
            vectorized_train(0, FakeAgent(Clock()), vector, LENGTH, AlgoType.ON_POLICY)
        assert vector.closed

    def test_a_single_environment_becomes_a_vector_of_one(self):
        closed = []

        class Closing(Clock):
            def close(self) -> None:
                closed.append(True)

        agent, game = FakeAgent(Clock()), Closing()
        game.window = threading.Lock()  # nothing that could be copied
        vectorized_train(0, agent, game, LENGTH, AlgoType.ON_POLICY)
        assert agent.experiences[0].reward[0].shape == (LENGTH, 1, 2)
        assert closed  # the very environment that was given

    def test_a_gymnasium_vector_can_be_trained_on(self):
        vector = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3)
        agent = FakeAgent(check_env(vector), n_steps=40)
        writer = Scalars()
        vectorized_train(0, agent, vector, 80, AlgoType.ON_POLICY, writer=writer)
        first = agent.experiences[0]
        assert first.observation[0].shape == (40, 3, 1, 4)
        assert first.terminated[0].any()
        active, reward = first.active[0], first.reward[0]
        assert not active.all()  # the rows in which Gymnasium resets on the next step
        assert (reward[~active] == 0).all()
        assert all(value == 0.0 or value >= 8 for value, _ in writer["episode/length"])
        for value, _ in writer["return/agent_0"]:
            assert value in [length for length, _ in writer["episode/length"]]


def test_the_module_keeps_its_public_names():
    assert {"check_env", "process_termination", "vectorized_train"} <= set(dir(train))
