"""The path by which scripts of the first version import ``CompiledVecParallelEnv``.

New ones import it from ``kitae_marl``.
"""

from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

__all__ = ["CompiledVecParallelEnv"]
