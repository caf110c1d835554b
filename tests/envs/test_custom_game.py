"""The example of a compiled game of one's own."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest
from kitae_envs.parallel import GameParallelEnv

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_game.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("custom_game", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_game_is_a_parallel_env() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from pettingzoo.test import parallel_api_test
    env = GameParallelEnv(load().Ring(), render_mode="rgb_array")
    parallel_api_test(env, num_cycles=50)
    env.reset(seed=0)
    frame = env.render()
    assert frame is not None
    assert frame.shape == (40, 360, 3)


@pytest.mark.slow
def test_the_example_learns() -> None:
    trained, chance = load().main(env_steps=200_000, n_envs=64)
    assert chance < 0.2
    assert trained > 0.6
