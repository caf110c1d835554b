"""Settings of every test: strict JAX, programs compiled quickly and once, the option ``--slow``."""

import atexit
import os
import shutil
import signal
import tempfile
import zlib
from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import jax
import pytest
from jax._src import compiler
from quick_compiling import known

from kitae_marl.loops import compiling

# A run started in the background may ignore Ctrl-C; the processes that tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_rank_promotion", "raise")  # (B,) minus (B, 1) is an error
jax.config.update("jax_cpu_enable_async_dispatch", False)  # as Agent sets it, but before any use

DAYS = 3
"""In so many days each test that is marked ``long`` runs once."""
CACHE = "JAX_COMPILATION_CACHE_DIR"
worker = os.environ.get("PYTEST_XDIST_WORKER")
if worker is None:
    # Programs are compiled anew by every session, and once in it, also for the processes it starts.
    os.environ[CACHE] = tempfile.mkdtemp(prefix="kitae_xla_")
    atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)
else:  # a folder each: JAX's cache may be read while another process writes it
    os.environ[CACHE] = os.path.join(os.environ[CACHE], worker)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ[CACHE])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Files that train are the long ones: begun first, none of them keeps one process busy alone.
    items.sort(key=lambda item: "quick_compilation" not in getattr(item, "fixturenames", ()))
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    wait = pytest.mark.skip(reason="long: runs on another day, and with --slow")
    today = date.today().toordinal() % DAYS
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
        elif (long := item.get_closest_marker("long")) is not None:
            together = long.args[0] if long.args else item.nodeid
            if zlib.crc32(together.encode()) % DAYS != today:
                item.add_marker(wait)


OPTIONS = compiler.get_compile_options
QUICKLY = compiling.QUICKLY


def options_with(
    chosen: dict[str, Any], *args: Any, env_options_overrides: Any = None, **others: Any
) -> Any:
    return OPTIONS(
        *args, env_options_overrides={**chosen, **(env_options_overrides or {})}, **others
    )


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """Let XLA optimise less: compiling is nearly all the time that such a module takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "QUICKLY", {})  # those of first parameters would count instead
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def quickest_compilation(quick_compilation: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Let XLA also make code of fusions in the older way, which takes a third of the time.

    Users' programs have the newer one, with which ``--slow`` tests: two programs that give the same
    to the last bit with it may differ with the older one. No setting of JAX chooses it: it is an
    option of each program.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not request.config.getoption("--slow"):
            patch.setattr(compiler, "get_compile_options", partial(options_with, known()))
        yield


@pytest.fixture
def usual_fusions(quickest_compilation: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make code of fusions as users have it, for a test that compares programs to the last bit."""
    monkeypatch.setattr(compiler, "get_compile_options", OPTIONS)
    monkeypatch.setattr(compiling, "QUICKLY", QUICKLY)
