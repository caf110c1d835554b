"""This file lets all agents of the butterfly games observe at once.

Pistonball and cooperative pong copy the screen pixel by pixel for every agent; here one frame is
read out and every agent gets a **read-only view** of its part. Knights, archers and zombies
describes the whole battlefield anew for every agent; here once. Observations are equal to the
games' own. The frames are used with the versions of the games that are fingerprinted; with any
other the game observes by itself.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from kitae_marl.vector.lean.aec import LeanParallelEnv, Peeled
from kitae_marl.vector.lean.fingerprints import is_as_written, is_known_source


class LeanKnightsArchersZombiesEnv(LeanParallelEnv):
    """Knights, archers and zombies: episodes depend on their seed alone, spaces hold what is seen.

    Arrows and swords reach over the edge of the screen, and then lie outside the bounds of [-1, 1]
    that the game declares; here the bounds are [-2, 2].
    """

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        self._spaces = {
            agent: _widened(self.core.observation_space(agent)) for agent in self.possible_agents
        }
        self.state_space = _widened(self.state_space)

    def observation_space(self, agent: str) -> gym.Space:
        """Return the space of an agent's observations."""
        return self._spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        self.core.zombie_spawn_interval.reset()
        self.core.kill_list = []
        return super().reset(seed, options)

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        core = self.core
        if not core.vector_state or not agents:
            return super()._observe(agents)
        everything = core.get_vector_state()
        core.get_vector_state = everything.copy
        try:
            return super()._observe(agents)
        finally:
            del core.get_vector_state


def _widened(space: gym.Space) -> gym.Space:
    """Return the space with twice the bounds where it holds the coordinates of what is around."""
    if not isinstance(space, gym.spaces.Box) or space.dtype == np.uint8:
        return space
    return gym.spaces.Box(2 * space.low, 2 * space.high, space.shape, space.dtype.type)


class LeanPistonballEnv(LeanParallelEnv):
    """Pistonball that reads the screen once a step."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        core = self.core
        self._frames = is_as_written(core) and is_known_source(type(core).__module__)
        bottom = core.screen_height - core.wall_width - core.piston_body_height
        self._rect = (0, core.wall_width, core.screen_width, bottom - core.wall_width)
        self._columns = {
            agent: slice(
                core.wall_width + core.piston_width * (i - 1),
                core.wall_width + core.piston_width * (i + 2),
            )
            for agent, i in core.agent_name_mapping.items()
        }

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        if not self._frames:
            return super()._observe(agents)
        frame = read_frame(self.core.screen.subsurface(self._rect))
        return {agent: frame[:, self._columns[agent]] for agent in agents}


class LeanCooperativePongEnv(LeanParallelEnv):
    """Cooperative pong that reads the screen once a step."""

    def _observe(self, agents: list[str]) -> dict[str, Any]:
        core = self.core
        if not (is_as_written(core) and is_known_source(type(core).__module__)):
            return super()._observe(agents)
        return dict.fromkeys(agents, read_frame(core.env.screen))


def read_frame(surface: Any) -> np.ndarray:
    """Read a pygame surface into a read-only array ``[H, W, 3]``."""
    import pygame

    width, height = surface.get_size()
    pixels = pygame.image.tobytes(surface, "RGB")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
