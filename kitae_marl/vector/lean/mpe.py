"""MPE games in one pass: actions in, one world step, observations out."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np

from kitae_marl.vector.lean.aec import LeanParallelEnv, Peeled, Step
from kitae_marl.vector.lean.mpe_physics import (
    has_plain_physics,
    own_forces,
    set_actions,
    step_world,
)
from kitae_marl.vector.lean.mpe_spread import SpreadView, has_plain_view


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
