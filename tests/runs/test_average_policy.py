"""The average policy of a run: saved, gone on with to the bit, chosen by name, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from pytrees import same_bits

from kitae_marl import Agent, Callback, Config, PPOConfig, export_policy, frozen, train
from kitae_marl.cli.main import main
from kitae_marl.errors import ConfigError
from kitae_marl.loops import chunks
from kitae_marl.runs.store.search import run_at
from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

pytestmark = pytest.mark.usefixtures("quickest_compilation")
KUHN = "kitae/kuhn_poker-v0"
N_ENVS, N_STEPS, N_UPDATES = 8, 4, 6
SEEN = {f"player_{i}": np.eye(7, dtype=np.float32) for i in range(2)}
"""What nobody sees in the game: seven environments side by side."""


def config(**ppo: Any) -> Config:
    settings = {"n_steps": N_STEPS, "hidden_sizes": (8,), "magnet_coef": 0.3, "average": True}
    steps = N_UPDATES * N_STEPS * N_ENVS
    own = PPOConfig(**(settings | ppo))
    return Config(env_id=KUHN, n_envs=N_ENVS, env_steps=steps, save_every=1, ppo=own)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of runs: with an average, with networks by agent, and without an average."""
    folder = tmp_path_factory.mktemp("average") / "runs"
    train(config(), folder / "kept", show=False)
    train(config(share_params=False), folder / "apart", show=False)
    train(config(average=False), folder / "without", show=False)
    return folder


class Early(Callback):
    """Ends a run after its second update."""

    def after_update(self, step: int, metrics: Any, agent: Any) -> bool:
        return step >= 2 * N_ENVS * N_STEPS


def actor(agent: Agent) -> Any:
    return {name: state.params["actor"] for name, state in agent.state.items()}


def average(agent: Agent) -> Any:
    return {name: state.actors["average"] for name, state in agent.state.items()}


def probabilities(agent: Any) -> np.ndarray:
    return np.concatenate([agent.probabilities(SEEN)[name] for name in SEEN])


@pytest.mark.parametrize("run", ["kept", "apart"])
def test_it_is_saved_and_played_where_it_is_asked_for(runs, run):
    last, other = Agent.load(runs / run), Agent.load(runs / run, policy="average")
    assert same_bits(actor(other), average(last))
    assert not same_bits(actor(last), average(last))
    found = [probabilities(x) for x in (other, last.player(policy="average"))]
    assert same_bits(*found)
    assert np.abs(found[0] - probabilities(last)).max() > 1e-4
    assert same_bits(actor(Agent.load(f"{runs / run}@average")), average(last))
    assert same_bits(actor(Agent.load(runs / run, policy="last")), actor(last))


def test_an_earlier_one_is_that_of_its_checkpoint(runs):
    steps = min(int(path.name[5:]) for path in (runs / "kept" / "checkpoints").glob("step_*"))
    early = Agent.load(runs / "kept", step=steps)
    assert same_bits(actor(Agent.load(f"{runs / 'kept'}@{steps}@average")), average(early))
    assert not same_bits(average(early), average(Agent.load(runs / "kept")))
    assert str(run_at(f"kept@{steps}@average", runs)) == f"kept@{steps}@average"


@pytest.mark.parametrize("run", ["kept", "apart"])
def test_a_run_goes_on_to_the_last_bit(runs, run, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)  # it stops after any update
    whole, path = Agent.load(runs / run), tmp_path / run

    stopped = train(whole.config, path, show=False, callbacks=[Early()]).agent
    assert 0 < stopped.env_steps < whole.env_steps
    resumed = train(whole.config, path, show=False, resume=True).agent
    assert same_bits(resumed.state, whole.state)


def test_what_the_run_did_not_keep_is_refused_with_advice(runs, capsys):
    with pytest.raises(ConfigError, match=r"policy: expected a run that keeps.*--ppo\.average"):
        Agent.load(runs / "without", policy="average")
    with pytest.raises(ConfigError, match=r"policy: expected last or average, got 'mean'"):
        Agent.load(runs / "kept", policy="mean")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="policy: expected one policy, got last and"):
        Agent.load(f"{runs / 'kept'}@average", policy="last")
    for refused in ("kept@average", f"kept@{N_ENVS * N_STEPS}@average"):
        with pytest.raises(SystemExit):
            main(["league", refused, "--runs-dir", str(runs)])
        assert "@average out" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="it is its last policy that learns"):
        train(config(), f"{runs / 'kept'}@average", resume=True, show=False)


def call(capsys: Any, *args: str) -> tuple[str, dict[str, Any]]:
    capsys.readouterr()
    main([*args, "--json"])
    out = capsys.readouterr().out
    return out, json.loads(out.strip().splitlines()[-1])


def test_commands_play_it(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    few = ("--n-workers", "0", "--episodes", "4")
    out, found = call(capsys, "evaluate", "kept", "--policy", "average", *few)
    assert found["which_policy"] == "average"
    assert "average policy" in out
    _, found = call(capsys, "evaluate", "kept", "kept@average", *few)
    assert [one["which_policy"] for one in found["results"]] == ["last", "average"]
    _, found = call(capsys, "compare", "kept", "kept@average", *few)
    assert (found["policy_a"], found["policy_b"]) == ("last", "average")
    games = ("--games", "4", "--n-workers", "0")
    _, found = call(capsys, "tournament", "kept", "kept@average", "random", *games)
    assert set(found["players"]) == {"kept", "kept@average", "random"}
    out, _ = call(capsys, "play", KUHN, "kept", "--policy", "average", "--moves", "q")
    with pytest.raises(SystemExit):
        main(["play", KUHN, "without", "--policy", "average", "--moves", "q"])
    assert "--ppo.average" in capsys.readouterr().err
    film = str(tmp_path / "film.gif")
    call(capsys, "watch", "kept@average", "--out", film, "--episodes", "1")


def test_it_is_exported(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    file = tmp_path / "policy.npz"
    _, found = call(capsys, "export", "kept", "--policy", "average", "--out", str(file))
    assert found["policy"] == "average"
    arrays, last = np.load(file), tmp_path / "last.npz"
    export_policy(Agent.load(runs / "kept"), last)
    name = next(name for name in arrays.files if name.endswith("Dense_0/kernel"))
    kernels = arrays[name], np.load(last)[name]
    leaves = jax.tree.leaves(average(Agent.load(runs / "kept")))
    assert any(x.shape == kernels[0].shape and same_bits(x, kernels[0]) for x in leaves)
    assert not same_bits(*kernels)


def test_it_takes_a_seat_of_another_run_which_keeps_it(runs):
    player = frozen(f"{runs / 'kept'}@average").player
    assert same_bits(probabilities(player), probabilities(Agent.load(runs / "kept@average")))
    seats = {"player_1": "frozen:kept@average"}
    learner = Config(env_id=KUHN, n_envs=4, env_steps=64, seats=seats, ppo=PPOConfig(n_steps=8))
    train(learner, runs / "against", show=False)
    copy = Agent.load(runs / "against" / "seats" / "0")
    assert same_bits(actor(copy), average(Agent.load(runs / "kept")))


def test_another_run_begins_with_it(runs):
    first = Agent.load(runs / "kept")
    env = CompiledVecParallelEnv(KUHN, N_ENVS)
    agent = Agent(env, config(magnet_coef=1.0))
    agent.begin_with(Agent.load(runs / "kept@average"))
    env.close()
    for state in agent.state.values():
        for part in (state.actors["magnet"], state.actors["average"]):
            assert same_bits(part, state.params["actor"])
    assert same_bits(actor(agent), average(first))
