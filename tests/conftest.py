"""Settings of every test: strict JAX, and the option ``--slow``."""

import os
import signal
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import jax
import pytest

# A run started in the background may ignore Ctrl-C; the processes that tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_rank_promotion", "raise")  # (B,) minus (B, 1) is an error
jax.config.update("jax_cpu_enable_async_dispatch", False)  # as Agent sets it, but before any use


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """Let XLA optimise less: compiling is nearly all the time that such a module takes."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
