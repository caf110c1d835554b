"""One call that trains a run from its settings, in this process, as the command does."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import numpy as np
import pytest

import kitae_marl
from kitae_marl.cli.main import main
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError, RunExistsError
from kitae_marl.loops.xla import set_up_xla
from kitae_marl.runs.agent import Agent
from kitae_marl.training import train, with_settings

GAME = "classic/rps-v2"
SMALL: dict[str, Any] = {"n_envs": 2, "n_steps": 8, "hidden_sizes": (8,), "n_minibatches": 2}
SMALL |= {"n_epochs": 1, "env_steps": 64}
OPTIONS = ["--n-envs", "2", "--env-steps", "64", "--ppo.n-steps", "8", "--ppo.hidden-sizes", "8"]
OPTIONS += ["--ppo.n-minibatches", "2", "--ppo.n-epochs", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quickest_compilation):
    """A run of the compiled twin, kept."""
    set_up_xla()  # JAX is here already; the command does it in any case
    return train(GAME, tmp_path_factory.mktemp("runs") / "small", **SMALL)


def test_it_returns_what_was_trained_and_keeps_it(trained):
    assert isinstance(trained.agent, Agent)
    assert trained.agent.config.backend == "compiled"
    assert trained.summary["env_steps"] == trained.agent.env_steps == 64
    assert Agent.load(trained.run_dir).env_steps == 64


def test_the_command_ends_with_the_same_parameters(trained, tmp_path, capsys):
    main(["train", GAME, "--run", "x", "--runs-dir", str(tmp_path), *OPTIONS])
    assert "kitae-marl evaluate x" in capsys.readouterr().out
    mine, theirs = (
        jax.tree.leaves({name: state.params for name, state in agent.state.items()})
        for agent in (trained.agent, Agent.load(tmp_path / "x"))
    )
    for own, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(own, other)


def test_a_run_goes_on_with_its_own_settings(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(trained.run_dir.parent)
    more = train(GAME, "small", resume=True, env_steps=96)  # by its name
    assert more.run_dir == trained.run_dir.resolve()
    assert more.agent.config == dataclasses.replace(
        trained.agent.config, env_steps=96, backend="compiled"
    )
    assert more.summary["env_steps"] == 96
    assert "resumed from step 64" in capsys.readouterr().out


def test_what_cannot_be_is_said_before_anything_is_made(trained, tmp_path):
    with pytest.raises(RunExistsError):
        train(GAME, trained.run_dir)
    with pytest.raises(ConfigError, match=r"learning_rat: .* did you mean learning_rate"):
        train(GAME, tmp_path / "x", learning_rat=1.0)
    with pytest.raises(ConfigError, match=r"gama: .* did you mean gamma"):
        train(GAME, tmp_path / "x", ppo={"gama": 1.0})
    with pytest.raises(ConfigError, match=r"algo: expected one of"):
        train(GAME, tmp_path / "x", algo=["ippo"])
    with pytest.raises(ValueError, match=r"evaluate_every as .* got 1\.5"):
        train(GAME, tmp_path / "x", evaluate_every=1.5)
    with pytest.raises(TypeError, match=r"expected a kitae_marl\.Config, got dict"):
        Agent.load(trained.run_dir, config=cast(Any, {}))
    with pytest.raises(ConfigError, match=r"ppo\.gamma"):
        train(GAME, tmp_path / "x", gamma=2.0)
    with pytest.raises(ConfigError, match="trains on"):
        train("mpe/simple_v3", trained.run_dir, resume=True)
    with pytest.raises(ConfigError, match="resume"):
        train(GAME, resume=True)
    with pytest.raises(ConfigError, match="init: expected one new run"):
        train(GAME, trained.run_dir, resume=True, init=trained.agent)
    with pytest.raises(TypeError, match=r"id of a game, got int.*Agent\(env, config\)"):
        train(cast(Any, 3))
    assert not list(tmp_path.iterdir())


def test_settings_of_the_algorithm_may_stand_beside_those_of_the_run():
    config = with_settings(Config(), {"ppo": {"gamma": 0.5}, "clip": 0.1, "algo": "mappo"})
    assert config.ppo == PPOConfig(gamma=0.5, clip=0.1)
    assert with_settings(config, {"ppo": PPOConfig(clip=0.3)}).ppo == PPOConfig(clip=0.3)
    assert with_settings(config, {}) == config


def test_it_can_be_silent(capsys, quickest_compilation):
    result = train(GAME, show=False, **SMALL)
    assert result.run_dir is None
    assert not capsys.readouterr().out


def test_the_package_shows_public_names_only():
    assert set(dir(kitae_marl)) == {*kitae_marl.__all__, "__version__"}
