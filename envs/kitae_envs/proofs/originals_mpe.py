"""How to build and read the games of mpe2."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kitae_envs.proofs.originals import Fields, Original


def _particles(name: str, goals: Callable[[Any], Sequence[int]] = lambda world: ()) -> Original:
    """Describe a game of mpe2."""

    def build(*, curriculum_stage: int = 0, **kwargs: Any) -> Any:
        env = importlib.import_module(f"mpe2.{name}").parallel_env(**kwargs)
        if curriculum_stage:
            env.unwrapped.set_curriculum_stage(curriculum_stage)
            if env.unwrapped.curriculum_stage != curriculum_stage:
                env.close()
                raise ValueError(
                    f"this mpe2 cannot be put into curriculum stage {curriculum_stage} (its setter "
                    "does nothing), so that there is nothing to compare with; leave it at 0."
                )
        return env

    def read(env: Any) -> Fields:
        world = env.unwrapped.world
        spoken = [a.state.c for a in world.agents if not a.silent]
        return {
            "position": np.array([e.state.p_pos for e in world.entities], np.float32),
            "velocity": np.array([a.state.p_vel for a in world.agents], np.float32),
            "message": np.array(spoken, np.float32).reshape(len(spoken), world.dim_c),
            "goal": np.array(goals(world), np.int32),
            "cycle": np.int32(env.unwrapped.steps),
        }

    return Original(build, read, settle=_round)


def _round(env: Any) -> None:
    """Round positions, velocities and words to float32."""
    world = env.unwrapped.world
    for entity in world.entities:
        entity.state.p_pos = entity.state.p_pos.astype(np.float32).astype(np.float64)
        entity.state.p_vel = entity.state.p_vel.astype(np.float32).astype(np.float64)
    for agent in world.agents:
        agent.state.c = agent.state.c.astype(np.float32).astype(np.float64)


def _target(agent: int, name: str) -> Callable[[Any], list[int]]:
    return lambda world: [world.landmarks.index(getattr(world.agents[agent], name))]


def _code(world: Any) -> list[int]:
    """Return message and key of simple_crypto."""
    agents, marks = world.agents, world.landmarks
    key = [bool((mark.color == agents[2].key).all()) for mark in marks].index(True)
    return [marks.index(agents[0].goal_a), key]


ORIGINALS: dict[str, Original] = {
    "mpe/simple-v3": _particles("simple_v3"),
    "mpe/simple_adversary-v3": _particles("simple_adversary_v3", _target(0, "goal_a")),
    "mpe/simple_crypto-v3": _particles("simple_crypto_v3", _code),
    "mpe/simple_push-v3": _particles("simple_push_v3", _target(0, "goal_a")),
    "mpe/simple_reference-v3": _particles(
        "simple_reference_v3", lambda w: [*_target(0, "goal_b")(w), *_target(1, "goal_b")(w)]
    ),
    "mpe/simple_speaker_listener-v4": _particles(
        "simple_speaker_listener_v4", _target(0, "goal_b")
    ),
    "mpe/simple_spread-v3": _particles("simple_spread_v3"),
    "mpe/simple_tag-v3": _particles("simple_tag_v3"),
    "mpe/simple_world_comm-v3": _particles("simple_world_comm_v3"),
}
"""The originals of the games of particles."""
