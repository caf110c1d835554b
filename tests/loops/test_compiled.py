"""The compiled loop: equal to the host loop, exact on resume, one program for any chunk."""

from __future__ import annotations

import dataclasses
import signal
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from compiled_runs import N_STEPS, OnHost, config, make

from kitae_marl import Agent, evaluate, make_vec_env
from kitae_marl.data.stacking import map_leaves, starts
from kitae_marl.evaluation.export import export_policy
from kitae_marl.evaluation.exported_policy import Policy
from kitae_marl.loops import chunks
from kitae_marl.loops.program import CompiledLoop

GRU = {"gru_size": 6, "chunk_length": 4}
ALL = {
    "normalize_observation": True,
    "normalize_return": True,
    "clip_value": 0.2,
    "target_kl": 0.02,
    "agent_id": True,
}
pytestmark = pytest.mark.usefixtures("quickest_compilation")


def assert_same(a: Any, b: Any, tolerance: float = 0.0) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


@pytest.fixture(
    scope="module",
    params=[
        ("mpe/simple_spread-v3", False, "ippo", {}),
        ("mpe/simple_speaker_listener-v4", True, "ippo", {}),
        ("classic/tictactoe-v3", True, "mappo", GRU | {"normalize_observation": True}),
        *(
            pytest.param(variant, marks=pytest.mark.slow)
            for variant in [
                ("mpe/simple_spread-v3", True, "ippo", {}),
                ("classic/tictactoe-v3", False, "ippo", {}),
                ("classic/tictactoe-v3", True, "ippo", {}),
                ("mpe/simple_spread-v3", False, "mappo", GRU | ALL | {"agent_id": False}),
                ("mpe/simple_speaker_listener-v4", True, "mappo", ALL),
                ("mpe/simple_speaker_listener-v4", False, "ippo", GRU),
                ("mpe/simple_spread-v3", {"agent_0": "independent", "*": "shared"}, "mappo", GRU),
            ]
        ),
    ],
    ids=lambda variant: "-".join(map(str, variant)),
)
def trained(request: pytest.FixtureRequest, quickest_compilation: None) -> tuple[Agent, Agent]:
    """Two agents of the same settings, trained by the host loop and by the compiled one."""
    game, share_params, algo, settings = request.param
    settings = dataclasses.replace(config(game, share_params=share_params, **settings), algo=algo)
    compiled = Agent(make(game), settings)
    compiled.train(make(game), show=False)
    host = Agent(make(game), settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kitae_marl.loops.train.check_env", lambda env: env)
        host.train(OnHost(make(game)), show=False)
    return host, compiled


def test_host_and_compiled_loop_end_with_the_same_parameters(trained: tuple[Agent, Agent]) -> None:
    host, compiled = trained
    assert host.step == compiled.step == 3 * N_STEPS
    assert_same(host.state, compiled.state, tolerance=1e-5)


def test_their_exports_play_whole_episodes_as_they_do(
    trained: tuple[Agent, Agent], tmp_path: Path
) -> None:
    """In the original game, whose agents may wait for turns; a memory begins with each episode."""
    for agent in trained:
        exported = Policy(export_policy(agent, tmp_path / "policy.npz")[0])
        env = make_vec_env(agent.config.env_id, 1, n_workers=0)
        compared: list[str] = []
        lengths = evaluate(compare(agent, exported, compared), env, 3).lengths
        env.close()
        assert len(compared) >= lengths.sum()
        assert set(compared) == set(env.possible_agents)


def compare(agent: Agent, exported: Policy, compared: list[str]) -> Any:
    """Act as the agent does; whoever is to act must do the same by the exported policy."""

    def act(observations: Any, infos: Any) -> Any:
        actions = agent.select_action(observations, infos)
        if starts(infos, 1)[0]:
            exported.reset()
        for name in [name for name, active in infos["active"].items() if active[0]]:
            action = exported.act(name, map_leaves(lambda x: x[0], observations[name]))
            np.testing.assert_array_equal(action, actions[name][0])
            compared.append(name)
        return actions

    return act


@pytest.mark.parametrize(
    ("algo", "settings"),
    [("ippo", {}), pytest.param("mappo", GRU | ALL, marks=pytest.mark.slow)],
)
def test_a_run_that_continues_equals_one_that_never_stopped(
    algo: str, settings: dict[str, Any], tmp_path: Any
) -> None:
    game = "mpe/simple_spread-v3"
    whole = dataclasses.replace(config(game, 6, anneal=False, **settings), algo=algo)
    half = dataclasses.replace(whole, env_steps=whole.env_steps // 2)
    through = Agent(make(game), whole)
    through.train(make(game), tmp_path / "through", show=False)
    stopped = Agent(make(game), half)
    stopped.train(make(game), tmp_path / "stopped", show=False)
    again = Agent.load(tmp_path / "stopped", config=whole)
    assert again.step == 3 * N_STEPS
    again.resume(make(game), tmp_path / "stopped", show=False)
    assert_same(again.run_state(), through.run_state())


def test_a_chunk_that_lasts_too_long_after_a_signal_is_given_up(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned before it is saved whole, memories and moments too, and goes on to the bit.

    It is saved though the program has written on.
    """
    game = "classic/tictactoe-v3"
    settings = config(game, anneal=False, normalize_observation=True, **GRU)
    through = Agent(make(game), settings)
    through.train(make(game), tmp_path / "through", show=False)
    agent, run, go_on = Agent(make(game), settings), CompiledLoop.run, threading.Event()

    def slow(self: CompiledLoop, n_updates: int) -> Any:
        assert n_updates == 1
        metrics = run(self, n_updates)
        if agent.step:  # the second chunk
            signal.raise_signal(signal.SIGTERM)
            go_on.wait(60.0)
        return metrics

    monkeypatch.setattr(CompiledLoop, "run", slow)
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)  # one update in each
    monkeypatch.setattr(chunks, "STOP_SECONDS", 0.0)
    with pytest.raises(SystemExit) as ended:
        agent.train(make(game), tmp_path / "stopped", show=False)
    go_on.set()
    monkeypatch.undo()
    assert ended.value.code == 143
    assert agent.step == N_STEPS
    again = Agent.load(tmp_path / "stopped")
    again.resume(make(game), tmp_path / "stopped", show=False)
    assert_same(again.run_state(), through.run_state())


def test_chunks_of_any_length_are_one_program_and_give_the_same() -> None:
    game = make("mpe/simple_spread-v3")
    agent = Agent(game, config("mpe/simple_spread-v3"))
    one, three = (CompiledLoop(game.game, [agent], [3]) for _ in range(2))
    single = [one.run(1)[0] for _ in range(3)]
    [together] = three.run(3)
    assert_same(one.loop.state, three.loop.state)
    assert_same(
        [m["update/agent/entropy"][0] for m in single], list(together["update/agent/entropy"][:3])
    )


def test_returns_of_the_compiled_loop_are_those_of_its_episodes() -> None:
    game = make("classic/tictactoe-v3")
    loop = CompiledLoop(game.game, [Agent(game, config("classic/tictactoe-v3"))], [0])
    [metrics] = loop.run(4)
    episodes = metrics["episodes"][:4].sum()
    first, second = (metrics[f"return/player_{i}"][:4].sum() for i in (1, 2))
    assert episodes > 4
    assert abs(first) <= episodes
    assert first == -second  # a zero-sum game
    lengths = metrics["episode/length"][:4].sum() / episodes
    assert 5 <= lengths <= 9
