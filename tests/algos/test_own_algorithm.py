"""An algorithm and a network of a user's: registered, trained by both loops, gone on with.

The package knows nothing of them; they are written in ``linear_q`` as a user would write them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from command_line import program
from compiled_runs import OnHost
from linear_q import LinearQConfig, SmallNet, linear_q
from probe_checks import N_ENVS as N_PROBES
from probe_checks import teach, vector
from probe_games import PROBES

from kitae_marl import (
    Agent,
    AlgoType,
    CompiledVecParallelEnv,
    Config,
    LearnerConfig,
    PPOConfig,
    export_policy,
    register,
    train_many,
    vectorized_train,
)
from kitae_marl.algos import ALGORITHMS, get_algorithm
from kitae_marl.algos.nets.networks import NETWORKS
from kitae_marl.config.learner import DECLARED
from kitae_marl.errors import ConfigError

pytestmark = pytest.mark.usefixtures("quickest_compilation")
register(linear_q)
register(SmallNet)

GAME, N_ENVS = "mpe/simple_spread-v3", 4
CONFIG = Config(
    env_id=GAME, algo="linear_q", n_envs=N_ENVS, env_steps=N_ENVS * 8 * 6, save_every=1, seed=3,
    own=LinearQConfig(learning_rate=0.01),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def forgotten() -> Iterator[None]:
    """Forget what is registered here, for the sake of other files."""
    yield
    for table, name in ((ALGORITHMS, "linear_q"), (DECLARED, "linear_q"), (NETWORKS, "SmallNet")):
        del table[name]


def make_env() -> CompiledVecParallelEnv:
    return CompiledVecParallelEnv(GAME, N_ENVS)


def same(a: Any, b: Any) -> bool:
    """Whether all arrays of two states are equal, to the last bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def trained(env: Any, config: Config = CONFIG) -> Agent:
    agent = Agent(env, config)
    n = config.n_joint_steps
    vectorized_train(config.seed, agent, env, n, AlgoType.OFF_POLICY)
    return agent


@pytest.mark.usefixtures("usual_fusions")
def test_both_loops_end_with_the_same_state_replay_included():
    inside, on_host = trained(make_env()), trained(OnHost(make_env()))
    assert np.abs(inside.state["agent"]["weights"]).max() > 0
    assert (inside.state["agent"]["replay"].weight > 0).sum() == 6 * 8 * N_ENVS * 3
    assert same(inside.state, on_host.state)


@pytest.mark.parametrize(
    "wrap",
    [lambda env: env, pytest.param(OnHost, marks=pytest.mark.slow)],
    ids=["compiled", "host"],
)
def test_a_run_is_kept_and_gone_on_with(tmp_path: Path, wrap: Any):
    first = Agent(make_env(), replace(CONFIG, env_steps=CONFIG.env_steps // 2))
    first.train(wrap(make_env()), tmp_path / "run", show=False)
    loaded = Agent.load(tmp_path / "run")
    assert loaded.config.own == CONFIG.own
    assert same(loaded.state, first.state)
    again = Agent(make_env(), CONFIG)
    again.resume(wrap(make_env()), tmp_path / "run", show=False)
    assert again.learned_step == CONFIG.n_joint_steps
    if wrap is not OnHost:  # games in Python begin new episodes
        assert same(again.state, trained(make_env()).state)


@pytest.mark.usefixtures("usual_fusions")
def test_seeds_and_traced_settings_share_a_program():
    runs = train_many(GAME, CONFIG, [3, 4], {"learning_rate": [0.01, 0.02]}, show=False)
    rates = [run.agent.config.own.learning_rate for run in runs]
    assert rates == [0.01, 0.01, 0.02, 0.02]
    assert same(runs[0].agent.state, trained(make_env()).state)
    assert not same(runs[2].agent.state, runs[0].agent.state)
    other = replace(CONFIG, own=replace(CONFIG.own, learning_rate=0.02))
    alone = Agent(make_env(), other)
    alone.train(make_env(), show=False)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-5), runs[2].agent.state, alone.state)
    )


@pytest.mark.parametrize("name", ["one step", "discount", "truncation", "own reward"])
def test_it_solves_the_probes_that_are_linear(name: str):
    probe = PROBES[name]
    own = LinearQConfig(gamma=probe.gamma, learning_rate=0.3)
    config = Config(env_id="probe", algo="linear_q", n_envs=N_PROBES, env_steps=12_800, own=own)
    agent = teach(Agent(vector(probe.game), config), probe.game)
    for known in probe.known:
        (group,) = (g for g in agent.groups if known.agent in g.agents)
        weights = np.asarray(agent.state[group.name]["weights"])
        value = np.append(known.observation, 1.0) @ weights
        if known.value is not None:
            assert abs(value.max() - known.value) < probe.tolerance
        if known.action is not None:
            assert value.argmax() == known.action


@pytest.mark.long
def test_the_command_line_finds_both_by_module_and_name(tmp_path: Path):
    own = json.dumps({"learning_rate": 0.01, "capacity": 16})
    train = ["train", GAME, "--n-envs", "4", "--env-steps", "128", "--json"]
    ran = program(*train, "--algo", "linear_q:linear_q", "--own", own, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (tmp_path / "runs/simple_spread-v3-linear_q_linear_q-0").rename(tmp_path / "runs/q")
    stored = json.loads((tmp_path / "runs/q/config.json").read_text())
    assert stored["algo"] == "linear_q:linear_q"
    assert stored["own"]["capacity"] == 16
    assert "ppo" not in stored
    listed = program("runs", cwd=tmp_path)  # reads the folder without importing what it names
    assert "linear_q:linear_q" in listed.stdout
    refused = program("evaluate", "q", "--episodes", "2", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--allow-import" in refused.stderr
    played = program("evaluate", "q", "--episodes", "2", "--allow-import", cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    small = [*train, "--run", "net", "--ppo.n-steps", "8", "--ppo.n-minibatches", "2"]
    ran = program(*small, "--ppo.network", "linear_q:SmallNet", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr


class TestNetwork:
    CONFIG = Config(
        env_id=GAME, n_envs=N_ENVS, env_steps=64, seed=3,
        ppo=PPOConfig(n_steps=8, n_minibatches=2, n_epochs=1, network="SmallNet"),
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("settings", "algo"),
        [
            ({}, "mappo"),
            ({"share_params": False}, "ippo"),
            ({"gru_size": 4}, "mappo"),
            pytest.param({}, "ippo", marks=pytest.mark.slow),
            pytest.param({"share_params": False}, "mappo", marks=pytest.mark.slow),
            pytest.param({"gru_size": 4}, "ippo", marks=pytest.mark.slow),
        ],
    )
    def test_it_stands_where_observations_are_seen(self, algo: str, settings: dict[str, Any]):
        ppo = replace(self.CONFIG.ppo, chunk_length=4, **settings)
        env = CompiledVecParallelEnv(GAME, N_ENVS, with_state=None)
        agent = Agent(env, replace(self.CONFIG, algo=algo, ppo=ppo))
        before = jax.tree.map(np.array, agent.state["agent"].params)
        agent.train(env, show=False)
        after = agent.state["agent"].params
        networks = ["actor", "critic"] if algo == "ippo" else ["actor"]
        for name in networks:
            old = before[name]["params"]["network"]["Dense_0"]["kernel"]
            assert old.shape[-2:] == (18, 7)
            assert (old != after[name]["params"]["network"]["Dense_0"]["kernel"]).any()

    def test_it_cannot_be_exported_and_says_so(self, tmp_path: Path):
        agent = Agent(make_env(), self.CONFIG)
        with pytest.raises(ValueError, match=r"own networks to export, got ppo.network = 'Small"):
            export_policy(agent, tmp_path / "policy.npz")
        with pytest.raises(ValueError, match="expected an algorithm whose policies can be export"):
            export_policy(Agent(make_env(), CONFIG), tmp_path / "policy.npz")

    def test_a_name_that_is_not_registered(self):
        ppo = replace(self.CONFIG.ppo, network="BigNet")
        with pytest.raises(ConfigError, match=r"one of \['SmallNet'\], got 'BigNet'; register"):
            Agent(make_env(), replace(self.CONFIG, ppo=ppo))


class TestRefusals:
    def test_things_that_are_neither(self):
        with pytest.raises(
            TypeError, match=r"expected a kitae_marl.Algorithm, or what makes a flax module"
        ):
            register(3, "three")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"class derived from kitae_marl.LearnerConfig"):
            register(linear_q._replace(settings=dict))
        with pytest.raises(ConfigError, match="'ippo' is one of the package's own"):
            register(linear_q, "ippo")
        with pytest.raises(ConfigError, match="expected a name to register by"):
            register(SmallNet, "")

    def test_settings_of_another_algorithm(self):
        with pytest.raises(ConfigError, match="own: expected nothing, ippo reads ppo"):
            Config(own=LinearQConfig())
        with pytest.raises(ConfigError, match="ppo: expected nothing, linear_q reads own"):
            replace(CONFIG, ppo=PPOConfig(gamma=0.5))
        with pytest.raises(ConfigError, match="own: expected a LinearQConfig"):
            replace(CONFIG, own=LearnerConfig())
        with pytest.raises(ConfigError, match=r"own.lr: unknown key; expected one of \[.*epsilon"):
            replace(CONFIG, own={"lr": 1})

    def test_names_that_nobody_knows(self):
        with pytest.raises(ConfigError, match=r"algo: expected one of \['alphazero', 'ippo'"):
            Config(algo="linear_r")
        with pytest.raises(ConfigError, match=r"expected one of .* got 'linear_r'; register it"):
            get_algorithm("linear_r")

    def test_a_run_of_what_is_not_registered_is_read_all_the_same(self, monkeypatch):
        text = replace(CONFIG, own=replace(CONFIG.own, n_steps=16)).to_json()
        monkeypatch.delitem(DECLARED, "linear_q")
        config = Config.from_json(text)
        assert config.rollout_size == 16 * N_ENVS
        assert config.own["capacity"] == 64
        assert Config.from_json(config.to_json()) == config

    def test_the_type_of_the_algorithm_is_checked(self):
        env = make_env()
        with pytest.raises(ValueError, match=r"expected AlgoType.OFF_POLICY, the type of the"):
            vectorized_train(0, Agent(env, CONFIG), env, 8, AlgoType.ON_POLICY)
