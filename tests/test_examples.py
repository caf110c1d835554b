"""The commands at the top of every example run as they are written, with small numbers behind.

Each day it is a third of the scripts; commands that show further options of a script run with
``--slow``, as do all.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from quick_compiling import flags

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = {
    "spread": "--env-steps 2048 --episodes 16",
    "speaker_listener": "--env-steps 2048 --episodes 16",
    "multiwalker": "--env-steps 2048 --episodes 2",
    "cartpole": "--env-steps 2048 --episodes 8",
    "pistonball": "--n-pistons 2 --env-steps 32 --n-envs 2 --n-steps 16 --episodes 1",
    "compiled_spread": "--env-steps 2048 --episodes 8",
    "compiled_connect_four": "--env-steps 2048 --n-envs 64 --episodes 4",
    "custom_environment": "--env-steps 2048 --episodes 8",
    "custom_game": "--env-steps 8192",
    "solve_kuhn": "--games 20",
    "leduc_exploitability": "--game kitae/kuhn_poker-v0 --env-steps 4096 --n-envs 16",
    "self_play_connect_four": "--env-steps 4096 --n-envs 64 --games 4",
    "league_predators_prey": "--env-steps 8000 --n-envs 16 --slots 2",
    "alphazero_connect_four": "--env-steps 1024 --n-envs 16 --simulations 4 --games 4",
    "tournament": "--env-steps 2048 --n-envs 64 --games 4",
    "play_against_it": "--env-steps 2048 --n-envs 64 --moves 0,u,1,2,3,4,5,6,7,8",
}
"""Options that follow those of a script's commands, and count in their place."""
SMALL_RUN = {
    "custom_environment": "--env-steps 256 --n-envs 2 --n-workers 0",
    "pistonball": "--env-kwargs '{\"n_pistons\": 2}' --env-steps 32 --n-envs 2 --ppo.n-steps 16"
    " --n-workers 0",
}
"""The same of ``kitae-marl train``."""
SOLVED = {"solve_kuhn"}
"""Scripts that train nothing."""
SEEDS = {"spread", "speaker_listener", "cartpole", "compiled_spread"}
"""Scripts that train five runs where no seeds are given: two have an interval, too."""


def commands(name: str) -> list[str]:
    """The commands that a script's docstring shows, without the words behind them."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or ""
    lines = [line.strip().partition("  #")[0].strip() for line in docstring.splitlines()]
    return [line for line in lines if re.match(r"python examples/|(cd \w+ && )?kitae-marl ", line)]


def rows() -> list[Any]:
    """Script and command of each test; of those that call one script, the later ones are slow."""
    found = []
    for name in SMALL:
        first = True
        for command in commands(name):
            later = command.startswith("python") and not first
            # A script's commands go on with what the ones before have left.
            marks = [pytest.mark.slow] if later else [pytest.mark.long(name)]
            found.append(pytest.param(name, command, marks=marks, id=command))
            first &= not command.startswith("python")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, and in ``bin`` the programs that their commands call."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("pictures"))
    (folder / "bin").mkdir()
    for program, arguments in (("python", ""), ("kitae-marl", "-m kitae_marl ")):
        path = folder / "bin" / program
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        path.chmod(0o755)
    return folder


def test_every_script_shows_how_it_is_run() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == SMALL.keys()
    for name in scripts:
        assert commands(name)[0] == f"python examples/{name}.py"


@pytest.mark.parametrize(("name", "command"), rows())
def test_the_command_runs_as_written(name: str, command: str, folder: Path) -> None:
    of_script = command.startswith("python")
    trains = of_script or "kitae-marl train" in command
    small = SMALL[name] if of_script else SMALL_RUN[name] if trains else ""
    if name in SEEDS and "--seeds" not in command:
        small += " --seeds 0 1"
    done = subprocess.run(
        f"{command} {small}",
        shell=True,
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "NPROC": "1",
            "XLA_FLAGS": flags(),
            # What one command of a script has compiled, the next one need not.
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    if trains and name not in SOLVED:
        assert re.search(r"step (\d+)/\1\b" if of_script else "done: ", done.stdout)
    assert not re.search(r"\bnan\b", done.stdout)
