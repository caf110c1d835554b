"""This file is the physics of mpe2's particle worlds in plain floats, equal to it in every bit.

mpe2 computes with arrays of two numbers, where nearly all the time goes into calling NumPy. The
same operations in the same order on Python's floats give the same IEEE doubles. The one function
that is not exact arithmetic, ``logaddexp``, stays NumPy's. This holds for the version of mpe2
whose sources are fingerprinted; with any other the games step through mpe2's own physics.
"""

from __future__ import annotations

from math import nan, sqrt
from typing import Any

import numpy as np

from kitae_marl.vector.lean.fingerprints import is_known_source

Vector = tuple[float, float]

_WORLD_METHODS = (
    "step",
    "apply_action_force",
    "apply_environment_force",
    "integrate_state",
    "update_agent_state",
    "get_collision_force",
    "entities",
    "policy_agents",
    "scripted_agents",
)
_MOVES = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
_NO_CONTACT = -746.0  # exp of anything below is zero in double precision


def has_plain_physics(core: Any) -> bool:
    """Whether a game's world moves by mpe2's own rules, unchanged, and without noise."""
    from mpe2._mpe_utils import core as mpe_core
    from mpe2._mpe_utils import simple_env

    world = core.world
    plain = all(
        getattr(type(world), name) is getattr(mpe_core.World, name) for name in _WORLD_METHODS
    )
    return (
        plain
        and is_known_source(mpe_core.__name__)
        and is_known_source(simple_env.__name__)
        and type(core)._set_action is simple_env.SimpleEnv._set_action
        and world.dim_p == 2
        and all(type(entity).mass is mpe_core.Entity.mass for entity in world.entities)
        and all(
            agent.action_callback is None and not agent.u_noise and not agent.c_noise
            for agent in world.agents
        )
    )


def set_actions(core: Any, actions: list[Any]) -> list[Vector | None]:
    """Give the agents their actions; return the force each applies to itself (None: cannot move).

    Args:
        core: the game.
        actions: one per agent, in the world's order, inside its action space.
    """
    world, continuous = core.world, core.continuous_actions
    forces: list[Vector | None] = []
    for agent, action in zip(world.agents, actions, strict=True):
        force = None
        if agent.movable:
            scale = 5.0 if agent.accel is None else agent.accel
            if continuous:
                x, y = 0.0 + float(action[2] - action[1]), 0.0 + float(action[4] - action[3])
                action = action[5:]
            else:
                x, y = _MOVES[action % 5]
                action = action // 5
            force = (x * scale, y * scale)
            agent.action.u = np.array(force)
            force = (force[0] + 0.0, force[1] + 0.0)
        if agent.silent:
            agent.action.c = np.zeros(world.dim_c)
        elif continuous:
            agent.action.c = action
        else:
            agent.action.c = np.zeros(world.dim_c)
            agent.action.c[action] = 1.0
        forces.append(force)
    return forces


def own_forces(world: Any) -> list[Vector | None]:
    """The force that each agent applies to itself by the action it holds (None: cannot move)."""
    forces: list[Vector | None] = []
    for agent in world.agents:
        x, y = agent.action.u.tolist() if agent.movable else (0.0, 0.0)
        forces.append((x + 0.0, y + 0.0) if agent.movable else None)
    return forces


def step_world(world: Any, forces: list[Vector | None]) -> None:
    """Advance the world by one step of time.

    Args:
        world: the world. Positions change in place, velocities are new arrays, as in mpe2.
        forces: what each agent applies to itself, from ``set_actions``.
    """
    entities = world.agents + world.landmarks
    positions = [entity.state._p_pos.tolist() for entity in entities]
    total: list[Vector | None] = forces + [None] * len(world.landmarks)
    _add_contacts(world, entities, positions, total)
    dt, keep = world.dt, 1 - world.damping
    for entity, (x, y), force in zip(entities, positions, total, strict=True):
        if not entity.movable:
            continue
        state = entity.state
        vx, vy = state._p_vel.tolist()
        state._p_pos[:] = x + vx * dt, y + vy * dt
        vx, vy = vx * keep, vy * keep
        if force is not None:
            mass = entity.initial_mass
            vx, vy = vx + (force[0] / mass) * dt, vy + (force[1] / mass) * dt
        limit = entity.max_speed
        if limit is not None:
            speed = sqrt(vx * vx + vy * vy)
            if speed > limit:
                vx, vy = vx / speed * limit, vy / speed * limit
        state._p_vel = np.array((vx, vy))
    for agent in world.agents:
        agent.state.c = np.zeros(world.dim_c) if agent.silent else agent.action.c + 0.0


def _add_contacts(
    world: Any, entities: list[Any], positions: list[list[float]], total: list[Vector | None]
) -> None:
    """Add to the total forces those of every pair that collides, in mpe2's order."""
    margin, strength = world.contact_margin, world.contact_force
    colliders = [i for i, entity in enumerate(entities) if entity.collide]
    for first, a in enumerate(colliders):
        (xa, ya), entity_a = positions[a], entities[a]
        for b in colliders[first + 1 :]:
            entity_b = entities[b]
            dx, dy = xa - positions[b][0], ya - positions[b][1]
            distance = sqrt(dx * dx + dy * dy)
            depth = -(distance - (entity_a.size + entity_b.size)) / margin
            penetration = 0.0
            if depth > _NO_CONTACT:
                penetration = float(np.logaddexp(0, depth)) * margin
            if distance == 0.0:
                fx = fy = nan
            else:
                fx = strength * dx / distance * penetration
                fy = strength * dy / distance * penetration
            if entity_a.movable:
                old = total[a] or (0.0, 0.0)
                total[a] = (fx + old[0], fy + old[1])
            if entity_b.movable:
                old = total[b] or (0.0, 0.0)
                total[b] = (-fx + old[0], -fy + old[1])
