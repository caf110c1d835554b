"""Options by which XLA compiles for a CPU in a fraction of the time, to slower programs."""

from __future__ import annotations

from functools import cache

import jax

QUICK = {"xla_cpu_use_fusion_emitters": False}


@cache
def known() -> dict[str, bool]:
    """Those of the options that this version of XLA knows: it refuses what it does not."""
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=QUICK)
    except jax.errors.JaxRuntimeError:
        return {}
    return QUICK


def flags() -> str:
    """The same for a process that is started, in ``XLA_FLAGS``."""
    told = [f"--{name}={str(value).lower()}" for name, value in known().items()]
    return " ".join(["--xla_backend_optimization_level=0", *told])
