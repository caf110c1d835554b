"""Several runs in one program; memory known before it is allocated."""

from __future__ import annotations

import dataclasses
import signal
import threading
from typing import Any

import jax
import numpy as np
import pytest

from kitae_marl import Agent, Config, PPOConfig
from kitae_marl.config.run import differing, with_traced
from kitae_marl.errors import ConfigError
from kitae_marl.loops import compiling, devices, long_calls
from kitae_marl.loops.chunks import train_in_chunks
from kitae_marl.loops.compiled import chunk_factory, rollout_factory, start_loop
from kitae_marl.loops.compiling import n_bytes, program_bytes
from kitae_marl.loops.long_calls import LongCall
from kitae_marl.loops.program import CompiledLoop
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")
GAME = "mpe/simple-v3"


def config(seed: int = 0, **ppo: Any) -> Config:
    settings = PPOConfig(n_steps=26, n_epochs=1, n_minibatches=2, hidden_sizes=(16,), **ppo)
    return Config(env_id=GAME, seed=seed, n_envs=4, env_steps=26 * 4 * 3, ppo=settings)


def loop_of(*configs: Config) -> CompiledLoop:
    env = CompiledVecParallelEnv(GAME, configs[0].n_envs)
    seeds = [settings.seed for settings in configs]
    return CompiledLoop(env.game, [Agent(env, settings) for settings in configs], seeds)


def assert_close(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-5, atol=1e-5)


def assert_returned_stays_whole(loop: CompiledLoop, copied: int) -> None:
    """What the loop gave away outlasts its next chunk; what that costs is in its memory."""
    before = loop.games()
    values = jax.tree.map(np.array, before)
    loop.run(1)
    jax.tree.map(np.testing.assert_array_equal, before, values)
    assert loop.program_bytes == program_bytes(loop._run) + copied


def test_a_signal_is_heard_while_the_program_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_calls, "LOOK_SECONDS", 0.0)
    settings = config()
    env = CompiledVecParallelEnv(GAME, settings.n_envs)
    agent = Agent(env, settings)
    agent.stopping = signal.SIGINT
    train_in_chunks([0], [agent], env, 26, 1, [None], [None])
    assert long_calls.is_busy()
    assert agent.learned_step == 0
    for thread in threading.enumerate():
        if thread.name == long_calls.GIVEN_UP:
            thread.join(60.0)
    assert not long_calls.is_busy()


@pytest.mark.long
@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), "gpu"])
def test_runs_in_one_program_are_the_runs_by_themselves(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "on_cpu", lambda: device == "cpu")
    configs = [
        config(seed=5, learning_rate=1e-3, gamma=0.9, clip=0.1, entropy_coef=0.1),
        config(seed=6, learning_rate=3e-3, gamma=0.95, clip=0.3, entropy_coef=0.0),
    ]
    together = loop_of(*configs)
    metrics = together.run(2)
    for k, settings in enumerate(configs):
        alone = loop_of(settings)
        [expected] = alone.run(2)
        assert_close(together.states()[k], alone.states()[0])
        assert_close(metrics[k], expected)
    assert_returned_stays_whole(together, copied=0)
    assert_returned_stays_whole(alone, copied=n_bytes(alone.loop._replace(state=())))
    assert metrics[0]["update/agent/entropy"][1] != metrics[1]["update/agent/entropy"][1]


@pytest.mark.long
@pytest.mark.usefixtures("usual_fusions")
def test_seeds_on_a_cpu_are_the_runs_by_themselves_to_the_last_bit() -> None:
    configs = [config(seed=5), config(seed=6)]
    together = loop_of(*configs)
    metrics = together.run(2)
    assert together.rollout_bytes == loop_of(configs[0]).rollout_bytes
    for k, settings in enumerate(configs):
        alone = loop_of(settings)
        (expected,) = alone.run(2)
        jax.tree.map(np.testing.assert_array_equal, together.states()[k], alone.states()[0])
        jax.tree.map(np.testing.assert_array_equal, metrics[k], expected)


@pytest.mark.parametrize("game", ["mpe/simple_spread-v3", "classic/connect_four-v3"])
def test_the_program_can_be_built_for_a_gpu(game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "on_cpu", lambda: False)
    settings = dataclasses.replace(config(gru_size=8, chunk_length=13), env_id=game)
    env = CompiledVecParallelEnv(game, 4)
    agent = Agent(env, settings)
    carry = agent.algorithm.carry(agent.groups, settings)(4)
    key = jax.random.key(0)
    first = jax.eval_shape(
        lambda: start_loop(env.game, agent.groups, 4, agent.state, carry, key, key)
    )
    rollout = rollout_factory(env.game, agent.algorithm, agent.groups, settings)
    run = chunk_factory(rollout, agent.algorithm, agent.groups, settings)
    program = jax.jit(run).trace(first, np.int32(1), ()).lower(lowering_platforms=("cuda",))
    assert "custom_call" not in program.as_text()  # nothing that only a CPU has


def test_what_draws_first_parameters_is_compiled_once_for_all_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []

    def count(function: Any) -> LongCall[Any]:
        compiled.append(function)
        return LongCall(function)

    monkeypatch.setattr(compiling, "LongCall", count)
    loop = loop_of(config(seed=5, learning_rate=1e-3), config(seed=6, learning_rate=1e-2))
    assert len(compiled) == 2  # the other one begins the games
    monkeypatch.undo()
    alone = loop_of(config(seed=6, learning_rate=1e-2))
    jax.tree.map(np.testing.assert_array_equal, loop.states()[1], alone.states()[0])


def test_traced_settings_are_those_that_differ() -> None:
    one, two = config(0, gamma=0.9), config(1, gamma=0.8)
    assert differing([one, two]) == {"gamma": [0.9, 0.8]}
    assert differing([one, dataclasses.replace(one, seed=4)]) == {}
    assert with_traced(one, {"gamma": "anything"}).ppo.gamma == "anything"
    assert one.ppo.gamma == 0.9


def test_other_differences_are_refused() -> None:
    with pytest.raises(ConfigError, match="differ in the seed and in learning_rate"):
        differing([config(), dataclasses.replace(config(), n_envs=8)])
    with pytest.raises(ConfigError, match="differ in the seed"):
        differing([config(), config(anneal=False)])


def test_a_rollout_takes_the_memory_that_is_said() -> None:
    settings = dataclasses.replace(config(), n_envs=256)
    loop = loop_of(settings)
    agent = Agent(CompiledVecParallelEnv(GAME, 1), settings)
    game = CompiledVecParallelEnv(GAME, 1).game
    rollout = rollout_factory(game, agent.algorithm, agent.groups, settings)
    key = jax.random.key(0)
    start = jax.eval_shape(lambda: start_loop(game, agent.groups, 256, agent.state, (), key, key))
    need = jax.jit(rollout).lower(start, ()).compile().memory_analysis()
    held = need.output_size_in_bytes + need.temp_size_in_bytes
    assert loop.rollout_bytes <= held < 1.3 * loop.rollout_bytes
    per_row = 2 * 4 * 4 + 4 + 4 + 4 + 4  # observations, action, reward, log_prob, four flags
    per_row += 2  # the environment was reset, will be reset
    assert loop.rollout_bytes == 26 * 256 * per_row
    assert loop.program_bytes > loop.rollout_bytes


def test_what_does_not_fit_is_refused_with_a_number_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = dataclasses.replace(config(), n_envs=64)
    needed = loop_of(settings).program_bytes
    monkeypatch.setattr(compiling, "free_bytes", lambda: needed)
    with pytest.raises(ConfigError, match=r"for 64 environments; 32 environments fit") as refused:
        loop_of(settings)
    assert refused.value.key == "n_envs"
    loop_of(dataclasses.replace(settings, n_envs=32))
    env = CompiledVecParallelEnv(GAME, 64)
    agent = Agent(env, settings)
    monkeypatch.setattr(compiling, "free_bytes", lambda: 100)
    with pytest.raises(ConfigError, match="not even one environment fits"):
        CompiledLoop(env.game, [agent], [0])


def test_bytes_are_counted() -> None:
    assert n_bytes({"a": np.zeros((3, 2), np.int16), "b": jax.ShapeDtypeStruct((5,), "f4")}) == 32
    double = jax.jit(lambda x: 2 * x).lower(jax.ShapeDtypeStruct((250,), "f4")).compile()
    assert 2000 <= program_bytes(double) < 2200
    assert 2**20 < compiling.free_bytes() < 2**50
