"""Programs that are compiled: beside what the caller does, in words for it, in what memory."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import jax
import psutil

from kitae_marl.config.learner import LearnerConfig
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.loops.long_calls import LongCall
from kitae_marl.types import LeavesOut, RunWriter

QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 1}
"""Options of the compiler: it is done in two thirds of the time, and results are the same."""


class Once:
    """A function that is called once: traced at once, compiled in a thread of its own.

    Args:
        traced: the function, ``jax.jit(f).trace(...)``.
    """

    def __init__(self, traced: jax.stages.Traced) -> None:
        self._traced = traced
        self._compiling: LongCall[Any] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Once:
        """The same: a program holds nothing that a copy of its caller could change."""
        return self

    @property
    def shapes(self) -> Any:
        """What it returns, arrays replaced by their shapes and dtypes."""
        return self._traced.out_info

    def begin(self) -> LongCall[Any]:
        """Begin to compile, unless that has begun, beside what the caller does next."""
        if self._compiling is None:
            compiling = partial(self._traced.lower().compile, compiler_options=QUICKLY)
            self._compiling = LongCall(compiling)
        return self._compiling

    def __call__(self, *inputs: Any) -> Any:
        """Call it, once it is compiled."""
        return self.begin().wait()(*inputs)


SILENT_SECONDS, AGAIN_SECONDS = 2.0, 20.0
"""Seconds of compiling after which that is told, and then told again."""
Given = ParamSpec("Given")
Result = TypeVar("Result")


@contextmanager
def announced(what: str, *writers: RunWriter | None) -> Iterator[None]:
    """Tell the user that something is compiled, for how long by now, and when it is done.

    Args:
        what: what is compiled, in words.
        writers: the first one tells; all of them leave the time out of the speed of training.
    """
    begun, done = time.perf_counter(), threading.Event()
    teller = writers[0] if writers else None

    def tell() -> None:
        if teller is None or done.wait(SILENT_SECONDS):
            return
        teller.tell(f"compiling {what}, which is done once ...")
        while not done.wait(AGAIN_SECONDS):
            teller.tell(f"still compiling {what}, for {time.perf_counter() - begun:.0f} s by now")
        if finished:
            teller.tell(f"compiled {what} in {finished[0]:.0f} s")

    finished: list[float] = []
    thread = threading.Thread(target=tell, daemon=True)  # the main one may wait inside XLA
    thread.start()
    try:
        yield
        finished.append(time.perf_counter() - begun)
    finally:
        done.set()
        thread.join()
    for writer in writers:
        if isinstance(writer, LeavesOut):
            writer.leave_out(finished[0])


class FirstAnnounced(Generic[Given, Result]):
    """A function whose first call compiles, and is announced; the others are made as they are.

    What the second call takes says what the first would have taken without compiling: so much of
    the first counts as training after all.

    Args:
        function: the function.
        what: what is compiled, in words.
        writer: tells it.
    """

    def __init__(
        self, function: Callable[Given, Result], what: str, writer: RunWriter | None
    ) -> None:
        self._function, self._what, self._writer = function, what, writer
        self._calls, self._first = 0, 0.0

    @property
    def has_compiled(self) -> bool:
        """Whether the last call was the first one, which compiles."""
        return self._calls == 1

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Call it."""
        if self._calls > 1:
            return self._function(*args, **kwargs)
        self._calls += 1
        begun = time.perf_counter()
        if self._calls == 1:
            with announced(self._what, self._writer):
                result = self._function(*args, **kwargs)
            self._first = time.perf_counter() - begun
            return result
        result = self._function(*args, **kwargs)
        if isinstance(self._writer, LeavesOut):
            self._writer.leave_out(-min(self._first, time.perf_counter() - begun))
        return result


USABLE = 0.9
"""Share of the free memory that a program may fill."""


_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""Files with the limit and the use of a container's memory, of both generations of Linux."""


def n_bytes(shapes: Any) -> int:
    """Return the bytes of all arrays of a tree, given as arrays or as ShapeDtypeStructs."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def program_bytes(compiled: Any) -> int:
    """Return what a compiled program needs on one device: inputs, outputs and all in between."""
    need = compiled.memory_analysis()
    own = need.argument_size_in_bytes + need.output_size_in_bytes - need.alias_size_in_bytes
    return own + need.temp_size_in_bytes


def free_bytes() -> int:
    """Return the memory that is free for one device; for CPU devices a share of this machine's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return host_bytes() // jax.local_device_count()


def host_bytes() -> int:
    """Return the memory of this machine, or of its container, that is free."""
    free = psutil.virtual_memory().available
    for limit, used in _CGROUPS:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # not in a container, or one without a limit
            continue
    return max(free, 0)


def require_rollout_memory(rollout: int, config: Config) -> None:
    """Raise a ConfigError unless a rollout that is collected on the host fits into memory.

    An update learns from a copy of it, with rows that do not count put to zero, in the memory of
    the device; on a CPU that is the same memory.

    Args:
        rollout: bytes of the rollout.
        config: of the run, to find a number of environments that fits.
    """
    on_host = jax.local_devices()[0].platform == "cpu"
    if on_host:
        require_memory(2 * rollout, config, "rollouts of")
        return
    require_memory(rollout, config, "rollouts of", int(USABLE * host_bytes()))
    require_memory(rollout, config, "rollouts of")


def require_memory(
    needed: int, config: Config, what: str = "a training program of", free: int | None = None
) -> None:
    """Raise a ConfigError unless what needs so many bytes fits into memory.

    Args:
        needed: bytes on one device.
        config: of the run, to find a number of environments that fits.
        what: what needs them, for the message.
        free: bytes that it may take; None: what is usable of the memory of one device.
    """
    free = int(USABLE * free_bytes()) if free is None else free
    if needed <= free:
        return
    n = int(config.n_envs * free / needed)
    n = 2 ** int(math.log2(n)) if n else 0
    while n and not _is_rollout(config.learner, n):
        n //= 2
    advice = f"{n} environments fit" if n else "not even one environment fits"
    raise ConfigError(
        f"n_envs: expected {what} at most {in_words(free)}, got "
        f"{in_words(needed)} for {config.n_envs} environments; {advice}, or lower "
        f"{config.learner.key('n_steps')}.",
        "n_envs",
    )


def _is_rollout(learner: LearnerConfig, n_envs: int) -> bool:
    """Whether rollouts of so many environments can be learned from."""
    try:
        learner.require_rollout(n_envs)
    except ConfigError:
        return False
    return True


def require_state_memory(shapes: Any, learner: LearnerConfig) -> None:
    """Raise a ConfigError unless what learning changes fits into memory.

    Args:
        shapes: parameters, optimiser and the rest, as ShapeDtypeStructs.
        learner: settings of the algorithm, which name those to lower.
    """
    needed, free = n_bytes(shapes), int(USABLE * free_bytes())
    if needed > free:
        sizes = [learner.key(name) for name in learner.SIZES]
        key = sizes[0] if sizes else "n_envs"
        advice = f"lower {' or '.join(sizes)}" if sizes else "lower what sizes it"
        raise ConfigError(
            f"{key}: expected parameters and optimiser of at most {in_words(free)}, got "
            f"{in_words(needed)}; {advice}, or share parameters.",
            key,
        )


def in_words(size: int) -> str:
    """Return a number of bytes for people.

    Example:
        >>> in_words(640), in_words(1_500_000), in_words(2 * 10**9)
        ('640 bytes', '1.5 MB', '2.0 GB')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
