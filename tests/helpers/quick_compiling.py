"""Options by which XLA compiles for a CPU in a fraction of the time, to slower programs."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax

QUICK: dict[str, Any] = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,  # several are quicker on idle cores alone
}


@cache
def known() -> dict[str, Any]:
    """Those of the options that this version of XLA knows: it refuses what it does not."""
    found = {}
    for option in QUICK.items():
        try:
            jax.jit(lambda: 0).lower().compile(compiler_options=dict([option]))
        except jax.errors.JaxRuntimeError:
            continue
        found |= dict([option])
    return found


def flags() -> str:
    """The same for a process that is started, in ``XLA_FLAGS``."""
    told = [f"--{name}={str(value).lower()}" for name, value in known().items()]
    return " ".join(["--xla_backend_optimization_level=0", *told])
