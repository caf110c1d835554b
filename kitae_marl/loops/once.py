"""Functions that are called once: what to compile with little care, beside other work."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from kitae_marl.loops.compiling import LongCall

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
