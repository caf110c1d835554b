"""Every example runs, with small numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = {
    "spread": ["--seeds", "0", "--env-steps", "2048", "--episodes", "16"],
    "speaker_listener": ["--seeds", "0", "--env-steps", "2048", "--episodes", "16"],
    "multiwalker": ["--env-steps", "2048", "--episodes", "2"],
    "cartpole": ["--seeds", "0", "--env-steps", "2048", "--episodes", "8"],
    "compiled_spread": ["--seeds", "0", "1", "--env-steps", "2048", "--episodes", "8"],
    "compiled_connect_four": ["--env-steps", "2048", "--n-envs", "64", "--episodes", "4"],
    "custom_environment": ["--env-steps", "2048", "--episodes", "8"],
}


@pytest.mark.parametrize("name", SMALL)
def test_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *SMALL[name]]
    environment = {**os.environ, "NPROC": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert "step 2048/2048" in done.stdout


def test_command_line_trains_on_a_game_of_your_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kitae_marl", "train", "custom_environment:Meeting"]
    options = ["--env-steps", "256", "--n-envs", "2", "--n-workers", "0", "--runs-dir", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    done = subprocess.run(
        [*command, *map(str, options)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "done: 256 steps" in done.stdout
