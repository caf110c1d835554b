"""The command line for tests: calls of it as a program, and arguments for a small run.

Programs find the games in this folder, as ``small_games:make_clock``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from quick_compiling import flags

GAME = "small_games:make_clock"
SMALL = ["--n-envs", "2", "--n-workers", "0", "--ppo.n-steps", "8", "--ppo.hidden-sizes", "8"]
SMALL += ["--ppo.n-minibatches", "2", "--ppo.n-epochs", "1"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    ),
    "XLA_FLAGS": flags(),
    "PYTHONWARNINGS": "ignore",
}


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "kitae_marl", *args]


def program(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        command(*args), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def start(*args: str, cwd: Path, env: dict[str, str] = ENVIRONMENT) -> subprocess.Popen[str]:
    """Start the command line in a session of its own."""
    return subprocess.Popen(
        command(*args),
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Any, process: subprocess.Popen[str], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition(), process.communicate()


def last_json(text: str) -> dict[str, Any]:
    return json.loads(text.strip().splitlines()[-1])
