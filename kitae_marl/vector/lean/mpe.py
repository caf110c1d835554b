"""This file steps MPE games in one pass: actions in, one step of the world, observations out.

``mpe_physics`` moves the world in plain floats, and :class:`SpreadView` observes and rewards
simple_spread so; both only for the versions of mpe2 that they were compared with.
"""

from __future__ import annotations

import sys
from functools import partial
from math import sqrt
from typing import Any

import numpy as np

from kitae_marl.vector.lean.aec import LeanParallelEnv, Peeled, Step
from kitae_marl.vector.lean.fingerprints import is_as_written, is_known_source
from kitae_marl.vector.lean.mpe_physics import (
    has_plain_physics,
    own_forces,
    set_actions,
    step_world,
)


def is_mpe(core: Any) -> bool:
    """Whether a game is one of mpe2's and steps the way they all do."""
    base = _simple_env(core)
    return base is not None and type(core).step is base.step and core.render_mode != "human"


class LeanMPEParallelEnv(LeanParallelEnv):
    """A game of mpe2, stepped as one world instead of agent by agent.

    Args:
        peeled: the game without its checking wrappers.

    Attributes:
        plain_physics: whether the world is moved by ``mpe_physics`` (the game is the one that was
            tested against it) or by mpe2's own code.
    """

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        core, base = self.core, _simple_env(self.core)
        self.plain_physics = has_plain_physics(core)
        self._own_step = base is None or type(core)._execute_world_step != base._execute_world_step
        self._view: SpreadView | None = None
        if core.render_mode is None:
            core.screen = None  # 2 MB that nothing will be drawn on
        if self.plain_physics and self._own_step:
            core.world.step = partial(_step_by_actions, core.world)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        core = self.core
        core.reset(seed=seed, options=options)
        if self.plain_physics:
            self._view = SpreadView(core) if has_plain_view(core) else None
        self.agents, self._was_reset = list(core.agents), True
        return self._observe(self.agents), dict(core.infos)

    def step(self, actions: dict[str, Any]) -> Step:
        """Let every agent act once; after the end everything is empty until ``reset``."""
        core, agents = self.core, self._agents_to_act(actions)
        if not agents:
            return self._nothing()
        checked = [self._checks[agent](actions[agent]) for agent in agents]
        if self._own_step or not self.plain_physics:
            core.current_actions = checked
            core._execute_world_step()
        else:
            step_world(core.world, set_actions(core, checked))
            core.rewards = self._rewards()
            core._populate_benchmark_data()
        core.steps += 1
        truncated = bool(core.steps >= core.max_cycles)
        terminated = bool(not truncated and core.scenario.is_terminal(core.world))
        observations = self._observe(agents)
        rewards, infos = dict(core.rewards), dict(core.infos)
        terminations = dict.fromkeys(agents, terminated)
        truncations = dict.fromkeys(agents, truncated)
        if truncated or terminated:
            self.agents = []
            core.agents = []
        return observations, rewards, terminations, truncations, infos

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        """Observe for every agent: in these games all stay to the end."""
        if self._view is not None:
            return self._view.observations()
        core = self.core
        return {
            agent.name: core.scenario.observation(agent, core.world).astype(np.float32)
            for agent in core.world.agents
        }

    def _rewards(self) -> dict[str, float]:
        """Blend each agent's reward with the common one, as mpe2 does."""
        if self._view is not None:
            return self._view.rewards()
        core = self.core
        world, scenario, ratio = core.world, core.scenario, core.local_ratio
        own = {agent.name: float(scenario.reward(agent, world)) for agent in world.agents}
        if ratio is None:
            return own
        common = float(scenario.global_reward(world)) * (1 - ratio)
        return {agent: common + reward * ratio for agent, reward in own.items()}


def _simple_env(core: Any) -> Any:
    """The class that all games of mpe2 derive from, None for other games."""
    module = sys.modules.get("mpe2._mpe_utils.simple_env")
    base = getattr(module, "SimpleEnv", None)
    return base if base is not None and isinstance(core, base) else None


def _step_by_actions(world: Any) -> None:
    """Step a world whose agents hold their actions already."""
    step_world(world, own_forces(world))


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
