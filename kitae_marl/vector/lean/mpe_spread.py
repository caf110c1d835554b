"""What the agents of mpe2's simple_spread see and earn, in plain floats, equal to the last bit."""

from __future__ import annotations

import sys
from math import sqrt
from typing import Any

import numpy as np

from kitae_marl.vector.lean.fingerprints import is_as_written, is_known_source


def has_plain_view(core: Any) -> bool:
    """Whether a game is simple_spread, as it was tested, with everything in sight."""
    module = sys.modules.get("mpe2.simple_spread.simple_spread")
    return (
        module is not None
        and type(core) is module.raw_env
        and type(core.scenario) is module.Scenario
        and core.scenario.num_agent_neighbors is None
        and core.scenario.num_landmark_neighbors is None
        and is_as_written(core.scenario)
        and is_known_source(module.__name__)
    )


class SpreadView:
    """Observations and rewards of one game of simple_spread.

    Args:
        core: the game.
    """

    def __init__(self, core: Any) -> None:
        self._core = core

    def observations(self) -> dict[str, np.ndarray]:
        """Velocity, position, the way to each landmark and each other agent, their messages."""
        world = self._core.world
        agents = world.agents
        positions = [agent.state._p_pos.tolist() for agent in agents]
        landmarks = [landmark.state._p_pos.tolist() for landmark in world.landmarks]
        messages = [agent.state._c.tolist() for agent in agents]
        observations = {}
        for i, agent in enumerate(agents):
            x, y = positions[i]
            values = agent.state._p_vel.tolist()
            values += (x, y)
            for other_x, other_y in landmarks:
                values += (other_x - x, other_y - y)
            for j, (other_x, other_y) in enumerate(positions):
                if j != i:
                    values += (other_x - x, other_y - y)
            for j, message in enumerate(messages):
                if j != i:
                    values += message
            observations[agent.name] = np.array(values, dtype=np.float32)
        return observations

    def rewards(self) -> dict[str, float]:
        """Blend the common reward for covered landmarks with each agent's own for collisions."""
        core = self._core
        scenario, agents = core.scenario, core.world.agents
        positions = [agent.state._p_pos.tolist() for agent in agents]
        stage = scenario.CURRICULUM_STAGES[scenario.curriculum_stage]
        penalised = not scenario.curriculum or stage["collision_penalty"]
        common = 0.0
        for landmark in core.world.landmarks:
            x, y = landmark.state._p_pos.tolist()
            common -= min([_distance(ax - x, ay - y) for ax, ay in positions])
        ratio = core.local_ratio
        common *= 1 - ratio
        rewards = {}
        for i, agent in enumerate(agents):
            collisions = 0
            if penalised and agent.collide:
                x, y = positions[i]
                for j, (other_x, other_y) in enumerate(positions):
                    near = agents[j].size + agent.size
                    if j != i and _distance(other_x - x, other_y - y) < near:
                        collisions += 1
            rewards[agent.name] = common + -float(collisions) * ratio
        return rewards


def _distance(x: float, y: float) -> float:
    """Length of a vector, with the operations that mpe2 uses."""
    return sqrt(x * x + y * y)
