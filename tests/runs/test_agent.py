"""The agent: shapes, training, exact continuation, loading without the game, compiling once."""

from __future__ import annotations

import copy
import csv
import inspect
import json
import logging
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from clock_run import CONFIG, N_ENVS, N_UPDATES, make_env
from pytrees import same_bits
from run_folders import CLOCKED, make_old, saved
from small_games import LENGTH, Clock, Solo

from kitae_marl.data.keys import INIT, key_for
from kitae_marl.data.rollout import rollout_bytes
from kitae_marl.data.stacking import AgentDict
from kitae_marl.errors import (
    CheckpointIncompatibleError,
    ConfigError,
    NoCheckpointError,
    RunExistsError,
)
from kitae_marl.loops import compiling
from kitae_marl.runs.agent import Agent
from kitae_marl.runs.callbacks import Callback
from kitae_marl.runs.store import contents
from kitae_marl.types import IAgent
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")


@pytest.fixture(scope="module")
def agent() -> Agent:
    return Agent(Clock(), CONFIG)


@pytest.fixture(scope="module")
def first(agent) -> Any:
    """The run state before any learning."""
    return jax.tree.map(np.array, agent.run_state())


@pytest.fixture(scope="module")
def whole_run(agent, first, tmp_path_factory) -> Any:
    """A run without interruption: its folder, summary and last state."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    agent.load_state(first)
    summary = agent.train(make_env(), path, show=False)
    return path, summary, jax.tree.map(np.array, agent.run_state())


def observe(n_envs: int) -> Any:
    env = SubProcVecParallelEnv([Clock] * n_envs, n_workers=0)
    try:
        observations, infos = env.reset(seed=0)
        return {agent: np.array(x) for agent, x in observations.items()}, infos
    finally:
        env.close()


class TestMemory:
    def test_a_rollout_is_predicted_before_it_is_collected(self, agent, first):
        agent.load_state(first)
        held = []

        class Seen(Agent):
            def update(self, buffer):
                held.append(sum(x.nbytes for x in jax.tree.leaves(buffer.experience())))
                return super().update(buffer)

        predicted = rollout_bytes(agent.groups, LENGTH, N_ENVS)
        Seen(Clock(), replace(CONFIG, env_steps=LENGTH * N_ENVS)).train(make_env(), show=False)
        assert 0.8 * held[0] < predicted < 1.25 * held[0]

    def test_one_that_does_not_fit_is_refused_with_a_number_that_does(self, monkeypatch, tmp_path):
        needed = 2 * rollout_bytes(Agent(Clock(), CONFIG).groups, LENGTH, 64)
        monkeypatch.setattr(compiling, "free_bytes", lambda: needed)  # of which nine tenths count
        agent = Agent(Clock(), replace(CONFIG, n_envs=64))
        expected = r"n_envs: expected rollouts of at most .*; 32 environments fit, or lower ppo"
        with pytest.raises(ConfigError, match=expected) as refused:
            agent.make_buffer(64)
        assert refused.value.key == "n_envs"
        env = SubProcVecParallelEnv([Clock] * 64, n_workers=0)
        with pytest.raises(ConfigError, match="32 environments fit"):
            agent.train(env, tmp_path / "run", show=False)
        assert env.closed
        Agent(Clock(), replace(CONFIG, n_envs=32)).make_buffer(32)


class TestActing:
    def test_explore(self, agent, first):
        agent.load_state(first)
        actions, log_probs = agent.explore(*observe(N_ENVS))
        assert sorted(actions) == ["bell_0", "hand_0", "hand_1"]
        assert isinstance(actions, AgentDict)
        for name, values in actions.items():
            assert values.shape == log_probs[name].shape == (N_ENVS,)
            assert isinstance(values, np.ndarray)
            assert all(Clock().action_space(name).contains(x) for x in np.int64(values))
            assert (log_probs[name] < 0).all()
        assert agent.step == 1

    def test_exploring_again_draws_anew_and_the_same_step_draws_the_same(self, agent, first):
        seen = observe(N_ENVS)
        agent.load_state(first)
        draws = [dict(agent.explore(*seen)[0]) for _ in range(20)]
        assert len({str(draw) for draw in draws}) > 10
        agent.load_state(first)
        again = [dict(agent.explore(*seen)[0]) for _ in range(20)]
        assert str(again) == str(draws)

    def test_select_action_is_the_mode_for_any_number_of_environments(self, agent, first):
        agent.load_state(first)
        few, many = (agent.select_action(*observe(n)) for n in (1, 5))
        assert many["bell_0"].shape == (5,)
        for name in few:
            assert (many[name] == few[name][0]).all()  # all see the same, all choose the same
        assert agent.step == 0

    def test_select_action_can_sample_and_leaves_the_counters_of_training(self, agent, first):
        agent.load_state(first)
        seen = observe(50)
        one, two = (agent.select_action(*seen, sample=True) for _ in range(2))
        assert len(set(one["hand_0"].tolist())) > 1
        assert (one["hand_0"] != two["hand_0"]).any()
        assert agent.step == 0

    def test_plain_dicts_will_do(self, agent):
        observations, _ = observe(N_ENVS)
        assert agent.select_action(dict(observations))["hand_0"].shape == (N_ENVS,)
        with pytest.raises(ValueError, match=r"missing: \['hand_1'\]"):
            agent.select_action({"hand_0": observations["hand_0"]})

    def test_it_is_an_agent(self, agent):
        assert isinstance(agent, IAgent)
        assert [g.name for g in agent.groups] == ["hand", "bell"]


class TestTraining:
    def test_summary_and_files(self, whole_run):
        path, summary, last = whole_run
        assert summary["env_steps"] == CONFIG.env_steps
        assert summary["agent_steps"] == 3 * CONFIG.env_steps
        assert summary["complete"] is True
        assert {"return/mean", "return/team", "return/hand_0"} <= set(summary["returns"])
        assert json.loads((path / "summary.json").read_text()) == summary
        assert contents.read_config(path) == CONFIG
        assert sorted(p.name for p in path.iterdir()) == [
            "agents.json",
            "checkpoints",
            "config.json",
            "logs",
            "metrics.csv",
            "summary.json",
        ]
        assert int(last.step) == LENGTH * N_UPDATES
        with (path / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        per_update = N_ENVS * LENGTH
        assert [int(row["step"]) for row in rows] == [
            per_update * (i + 1) for i in range(N_UPDATES)
        ]
        assert all(float(row["episode/length"]) == LENGTH for row in rows)

    def test_it_learns(self, whole_run, first):
        _, _, last = whole_run
        assert not same_bits(last.state["hand"].params, first.state["hand"].params)
        assert all(int(group.n_updates) == N_UPDATES for group in last.state.values())

    def test_the_environment_is_closed(self, agent, first):
        agent.load_state(first)
        env = make_env()
        agent.train(env, show=False)
        assert env.closed

    def test_two_runs_are_equal(self, agent, first, whole_run):
        agent.load_state(first)
        agent.train(make_env(), show=False)
        assert same_bits(agent.run_state(), whole_run[2])

    def test_a_folder_in_use_is_refused_and_the_environment_closed(self, agent, first, whole_run):
        agent.load_state(first)
        env = make_env()
        with pytest.raises(RunExistsError):
            agent.train(env, whole_run[0], show=False)
        assert env.closed

    def test_a_trained_agent_has_nothing_left_to_train(self, agent, whole_run):
        agent.load_state(whole_run[2])
        env = make_env()
        with pytest.raises(ConfigError, match="more than the 96 steps already done"):
            agent.train(env, show=False)
        assert env.closed

    def test_another_game_is_refused_and_closed(self, agent, first):
        agent.load_state(first)
        env = SubProcVecParallelEnv([Solo] * N_ENVS, n_workers=0)
        with pytest.raises(ValueError, match=r"expected .*, got"):
            agent.train(env, show=False)
        assert env.closed

    def test_the_wrong_number_of_environments_is_refused_and_closed(self, agent, first):
        agent.load_state(first)
        env = SubProcVecParallelEnv([Clock] * 3, n_workers=0)
        message = "expected 2 environments, the config's n_envs, got 3"
        with pytest.raises(ValueError, match=message):
            agent.train(env, show=False)
        assert env.closed

    def test_nothing_is_compiled_after_the_first_update(self, agent, first, caplog):
        agent.load_state(first)
        agent.train(make_env(), show=False)  # everything is compiled now
        agent.load_state(first)
        with jax.log_compiles(), caplog.at_level(logging.DEBUG, logger="jax"):
            agent.train(make_env(), show=False)
            lines = [r.getMessage() for r in caplog.records if "ompil" in r.getMessage()]
        assert lines == []
        assert agent._update._cache_size() == 1


@pytest.fixture(scope="module")
def stopped_run(agent, first, tmp_path_factory) -> Any:
    """A run that gets a signal in the middle of its fourth rollout."""
    path = tmp_path_factory.mktemp("runs") / "stopped"
    agent.load_state(first)
    env = make_env()
    step, count = env.step, 0

    def step_and_signal(actions: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3 * LENGTH + 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(actions)

    env.step = step_and_signal
    with pytest.raises(SystemExit) as caught:
        agent.train(env, path, show=False)
    assert caught.value.code == 143
    assert env.closed
    return path


class TestContinuing:
    def test_a_signal_saves_what_was_learned(self, stopped_run):
        summary = json.loads((stopped_run / "summary.json").read_text())
        assert summary["complete"] is False
        assert summary["env_steps"] == 3 * LENGTH * N_ENVS
        assert sorted(p.name for p in (stopped_run / "checkpoints").iterdir()) == [
            "step_32",
            "step_48",
        ]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def test_ctrl_c_raises_what_python_raises(self, agent, first):
        agent.load_state(first)
        env = make_env()
        step = env.step
        env.step = lambda actions: (os.kill(os.getpid(), signal.SIGINT), step(actions))[1]
        with pytest.raises(KeyboardInterrupt):
            agent.train(env, show=False)
        assert env.closed

    def test_a_loaded_agent_continues_to_the_bit(self, stopped_run, whole_run, agent, first):
        loaded = Agent.load(stopped_run)  # another agent, without the game
        assert loaded.step == 3 * LENGTH
        assert loaded.possible_agents == agent.possible_agents
        assert loaded.groups == agent.groups
        loaded.resume(make_env(), stopped_run, show=False)
        assert same_bits(loaded.run_state(), whole_run[2])
        assert self.metrics(stopped_run) == self.metrics(whole_run[0])

    @staticmethod
    def metrics(path: Path) -> list[dict[str, str]]:
        """What was logged, without what depends on the machine."""
        with (path / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: v for k, v in row.items() if not k.startswith(CLOCKED)} for row in rows]

    def test_a_finished_run_has_nothing_left_to_do(self, agent, whole_run):
        summary = agent.resume(make_env(), whole_run[0], show=False)
        assert summary["env_steps"] == CONFIG.env_steps
        assert same_bits(agent.run_state(), whole_run[2])

    def test_an_older_checkpoint_can_be_named(self, agent, whole_run):
        agent.load_checkpoint(whole_run[0], step=4 * LENGTH * N_ENVS)
        assert agent.step == 4 * LENGTH
        assert all(int(group.n_updates) == 4 for group in agent.state.values())
        with pytest.raises(NoCheckpointError, match=r"no checkpoint of step 7 .* there are \["):
            agent.load_checkpoint(whole_run[0], step=7)

    @pytest.mark.parametrize("old", [False, True])
    def test_steps_are_those_of_the_run_whatever_the_config_at_hand(self, whole_run, tmp_path, old):
        path = shutil.copytree(whole_run[0], tmp_path / "run")
        if old:
            make_old(path)
        wider = replace(CONFIG, n_envs=4)
        loaded = Agent.load(path, step=4 * LENGTH * N_ENVS, config=wider)
        assert loaded.learned_step == 4 * LENGTH
        assert same_bits(Agent.load(path, config=wider).run_state(), whole_run[2])

    def test_a_run_loaded_with_another_width_goes_on_from_its_own_steps(self, whole_run, tmp_path):
        """16 joint steps of 2 environments are 8 of 4: the same 32 environment steps."""
        wider = replace(CONFIG, n_envs=4, env_steps=2 * CONFIG.env_steps)
        loaded = Agent.load(whole_run[0], step=4 * LENGTH * N_ENVS, config=wider)
        root = loaded.root_key
        assert loaded.env_steps == 4 * LENGTH * N_ENVS
        seen = []

        class Steps(Callback):
            def after_update(self, step, metrics, agent):
                seen.append((step, agent.env_steps, agent.step * 4))

        env = SubProcVecParallelEnv([Clock] * 4, n_workers=0)
        summary = loaded.train(env, tmp_path / "on", show=False, callbacks=[Steps()])
        begun, rollout = 4 * LENGTH * N_ENVS, CONFIG.learner.n_steps * 4
        expected = [begun + rollout * k for k in range(1, len(seen) + 1)]
        assert seen == [(step, step, step) for step in expected]
        assert summary["env_steps"] == expected[-1] == 2 * CONFIG.env_steps
        assert loaded.root_key != root  # its keys of these steps have been used

    def test_a_width_whose_rollouts_do_not_divide_the_steps_is_refused(self, whole_run):
        for other in (
            replace(CONFIG, n_envs=5),
            replace(CONFIG, ppo=replace(CONFIG.ppo, n_steps=6)),
        ):
            loaded = Agent.load(whole_run[0], step=4 * LENGTH * N_ENVS, config=other)
            with pytest.raises(ConfigError, match=f"to divide the {4 * LENGTH * N_ENVS} env"):
                loaded.train(make_env(), show=False)

    def test_a_run_of_old_names_goes_on_from_an_environment_step(self, whole_run, tmp_path):
        path = shutil.copytree(whole_run[0], tmp_path / "run")
        make_old(path)
        names = lambda: sorted(p.name for p in (path / "checkpoints").iterdir())  # noqa: E731
        assert names() == ["16", "32", "48"]
        assert saved(path) == saved(whole_run[0]) == [32, 64, 96]
        loaded = Agent.load(path)
        assert same_bits(loaded.run_state(), whole_run[2])
        with pytest.raises(NoCheckpointError, match=r"step 16 in .*; there are \[32, 64, 96\]"):
            loaded.resume(make_env(), path, step=16, show=False)
        shutil.rmtree(path / "checkpoints" / "32")  # what is held already is not written again
        loaded.resume(make_env(), path, step=32, show=False)
        assert same_bits(loaded.run_state(), whole_run[2])
        assert self.metrics(path) == self.metrics(whole_run[0])
        assert names() == ["16", "step_64", "step_96"]

    def test_no_run_is_an_error_not_a_fresh_start(self, agent, tmp_path):
        with pytest.raises(NoCheckpointError, match="no run at"):
            Agent.load(tmp_path / "nothing")
        with pytest.raises(NoCheckpointError, match="no readable checkpoint"):
            agent.load_checkpoint(tmp_path)

    def test_rollouts_of_another_size_cannot_continue(self, agent, whole_run, monkeypatch):
        monkeypatch.setattr(agent, "config", replace(CONFIG, n_envs=4))
        with pytest.raises(ConfigError, match="n_envs: the run was trained with 2, got 4"):
            agent.resume(make_env(), whole_run[0], show=False)

    def test_another_config_is_refused(self, whole_run):
        wider = replace(CONFIG, ppo=replace(CONFIG.ppo, hidden_sizes=(9,)))
        message = r"expected float32\[9, 2\], got float32\[8, 2\]"
        with pytest.raises(CheckpointIncompatibleError, match=message):
            Agent.load(whole_run[0], config=wider)


def test_first_parameters_depend_on_the_seed_alone(first):
    same, other = (Agent(Clock(), replace(CONFIG, seed=seed)) for seed in (3, 4))
    assert same_bits(same.run_state(), first)
    assert not same_bits(other.state["hand"].params, first.state["hand"].params)


@pytest.mark.usefixtures("usual_fusions")
def test_first_parameters_are_those_of_the_optimised_program():
    agent = Agent(Clock(), CONFIG)
    train_state = agent.algorithm.train_state(agent.groups, CONFIG)
    lowered = jax.jit(lambda root: train_state(key_for(root, INIT, 0))).lower(agent.root_key)
    usual = {"xla_llvm_disable_expensive_passes": False}
    quickly, optimised = (
        lowered.compile(compiler_options=usual | options)
        for options in (compiling.QUICKLY, {"xla_backend_optimization_level": 3})
    )
    assert same_bits(quickly(agent.root_key), optimised(agent.root_key))
    assert same_bits(agent.state, optimised(agent.root_key))


@pytest.mark.parametrize("drawn", [False, True])
def test_a_copy_has_parameters_of_its_own(drawn, first):
    agent = Agent(Clock(), CONFIG)
    if drawn:
        assert agent.state
    twin = copy.deepcopy(agent)
    agent.state = jax.tree.map(lambda leaf: leaf + leaf, agent.state)
    assert same_bits(twin.run_state(), first)


def test_a_loaded_agent_draws_no_parameters(whole_run, monkeypatch):
    monkeypatch.setattr("kitae_marl.loops.compiling.LongCall", lambda function: 1 // 0)
    loaded = Agent.load(whole_run[0])
    assert same_bits(loaded.run_state(), whole_run[2])
    with pytest.raises(ZeroDivisionError):
        Agent(Clock(), CONFIG).run_state()


HOOKS = ("callbacks", "evaluate", "evaluate_every")


@pytest.mark.parametrize(
    ("method", "parameters"),
    {
        Agent.explore: ["self", "observations", "infos"],
        Agent.select_action: ["self", "observations", "infos", "sample"],
        Agent.should_update: ["self", "step", "buffer"],
        Agent.update: ["self", "buffer"],
        Agent.train: [
            "self",
            "env",
            "run_dir",
            "overwrite",
            "show",
            "callbacks",
            "evaluate",
            "evaluate_every",
        ],
        Agent.resume: [
            "self",
            "env",
            "run_dir",
            "step",
            "exact",
            "show",
            "callbacks",
            "evaluate",
            "evaluate_every",
        ],
        Agent.load: ["run", "step", "policy", "config", "simulations"],
    }.items(),
)
def test_signatures(method, parameters):
    assert list(inspect.signature(method).parameters) == parameters


def test_networks_that_do_not_fit_are_refused_before_they_are_made():
    ppo = replace(CONFIG.ppo, hidden_sizes=(16384,) * 64)
    with pytest.raises(ConfigError, match=r"parameters and optimiser of at most .*, got .* GB"):
        Agent(make_env(), replace(CONFIG, ppo=ppo))
