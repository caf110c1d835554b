"""This file builds lean games, and puts right what some of them get wrong.

``stock=True`` leaves all this as it is:

* ``sisl/multiwalker`` reports its time limit as termination: here it is truncation, so that a value
  function bootstraps there. A walker that falls on that very step is terminated. Its ``state()``
  fails once a fallen walker is removed: here the removed walker's part is zero.
* ``butterfly/knights_archers_zombies`` keeps its zombie timer (and agents about to be removed)
  across ``reset(seed)``: here an episode depends on its seed alone. Its arrows and swords leave the
  bounds of the observation space: here the space is wide enough.
* ``butterfly/pistonball`` and ``butterfly/cooperative_pong`` draw what their agents see only when a
  render mode is given, and show a frozen picture without one: here they always draw.
* ``classic/hanabi`` and ``openspiel:*`` take new entropy at every ``reset()`` without a seed: here
  such a reset goes on from the last seed, as in every other game.
* ``atari/*`` finds no ROMs: here it is given the ones that ``ale-py`` ships.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import (
    aec_to_parallel_wrapper,
    parallel_to_aec_wrapper,
    turn_based_aec_to_parallel_wrapper,
)

from kitae_marl.vector.lean.aec import LeanNativeParallelEnv, LeanParallelEnv, peel
from kitae_marl.vector.lean.boards import ConnectFourEnv, TicTacToeEnv
from kitae_marl.vector.lean.butterfly import (
    LeanCooperativePongEnv,
    LeanKnightsArchersZombiesEnv,
    LeanPistonballEnv,
)
from kitae_marl.vector.lean.cards import CardGameEnv, LeducEnv
from kitae_marl.vector.lean.mpe import LeanMPEParallelEnv, is_mpe
from kitae_marl.vector.lean.sisl import LeanMultiwalkerEnv, LeanPursuitEnv
from kitae_marl.vector.lean.turn_based import ContinuedSeedEnv, TurnBasedParallelEnv

QUIRKS = {
    "sisl/multiwalker": "the time limit is reported as termination; made truncation",
    "butterfly/knights_archers_zombies": (
        "state survives reset(seed); made to depend on the seed; observations leave their space; "
        "the space was widened"
    ),
    "butterfly/pistonball": "observations are frozen without a render mode; always drawn",
    "butterfly/cooperative_pong": "observations are frozen without a render mode; always drawn",
    "classic/hanabi": "reset() without a seed takes new entropy; made to go on from the last seed",
    "openspiel": "reset() without a seed takes new entropy; made to go on from the last seed",
    "atari": "finds no ROMs; given those of ale-py",
}
"""What is put right, by family or by family and name without version; ``doctor`` prints it."""

_DRAWS_ONLY_WHEN_RENDERING = ("butterfly/pistonball", "butterfly/cooperative_pong")


def parallel_class(core: Any, turn_based: bool) -> type[LeanParallelEnv | TurnBasedParallelEnv]:
    """Choose the class that puts this game's quirk right, else the plain one."""
    module = type(core).__module__
    if turn_based:
        if module.startswith("pettingzoo.classic.connect_four"):
            return ConnectFourEnv
        if module.startswith("pettingzoo.classic.tictactoe"):
            return TicTacToeEnv
        if module.startswith("pettingzoo.classic.rlcard_envs.leduc_holdem"):
            return LeducEnv
        if module.startswith("pettingzoo.classic.rlcard_envs"):
            return CardGameEnv
        reseeds = module.startswith(("pettingzoo.classic.hanabi", "shimmy.openspiel"))
        return ContinuedSeedEnv if reseeds else TurnBasedParallelEnv
    if module.startswith("pettingzoo.sisl.multiwalker"):
        return LeanMultiwalkerEnv
    if module.startswith("pettingzoo.sisl.pursuit"):
        return LeanPursuitEnv
    if module.startswith("pettingzoo.butterfly.knights_archers_zombies"):
        return LeanKnightsArchersZombiesEnv
    if module.startswith("pettingzoo.butterfly.pistonball"):
        return LeanPistonballEnv
    if module.startswith("pettingzoo.butterfly.cooperative_pong"):
        return LeanCooperativePongEnv
    return LeanParallelEnv


def corrected_arguments(id: str, kwargs: dict[str, Any], stock: bool) -> dict[str, Any]:
    """Complete the arguments of a game.

    Args:
        id: the canonical id.
        kwargs: the arguments that the user gave; they win.
        stock: whether the stock construction was asked for. The ROMs are found for it too.
    """
    corrected = dict(kwargs)
    if id.startswith("atari/") and "auto_rom_install_path" not in kwargs:
        spec = importlib.util.find_spec("ale_py")
        if spec is not None and spec.origin is not None:
            corrected["auto_rom_install_path"] = str(Path(spec.origin).parent / "roms")
    if not stock and id.startswith(_DRAWS_ONLY_WHEN_RENDERING) and not kwargs.get("render_mode"):
        corrected["render_mode"] = "rgb_array"
    return corrected


def lean(env: ParallelEnv[str, Any, Any]) -> ParallelEnv[str, Any, Any]:
    """Rebuild a parallel environment without PettingZoo's checking wrappers.

    Args:
        env: a parallel environment. One that is not made by PettingZoo's converters is returned
            as it is. It must not be used any more afterwards.

    Returns:
        An environment equal to it in every value, flag and list of agents.
    """
    if type(env) is aec_to_parallel_wrapper or type(env) is turn_based_aec_to_parallel_wrapper:
        return aec_as_parallel(env.aec_env)
    return env


def aec_as_parallel(env: AECEnv[str, Any, Any]) -> ParallelEnv[str, Any, Any]:
    """Convert an AEC game, turn-based or not, to a parallel one, the lean way.

    Args:
        env: the game. Where ``metadata["is_parallelizable"]`` all agents act in each step,
            otherwise one of them does and ``infos[agent]["active"]`` says which.
    """
    peeled = peel(env)
    if isinstance(peeled.core, parallel_to_aec_wrapper):
        return LeanNativeParallelEnv(peeled.core.env)
    if is_mpe(peeled.core):
        return LeanMPEParallelEnv(peeled)
    turn_based = not env.metadata.get("is_parallelizable", False)
    return parallel_class(peeled.core, turn_based)(peeled)
