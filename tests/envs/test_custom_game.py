"""The example of a compiled game of one's own runs."""

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_game.py"


def test_the_example_runs() -> None:
    spec = importlib.util.spec_from_file_location("custom_game", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    trained, chance = module.main(env_steps=2048, n_envs=16)
    assert -2.1 < chance < 1.0
    assert -2.1 < trained <= 1.0
