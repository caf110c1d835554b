"""Multiwalker and pursuit with their dearest small computations done in fewer calls of NumPy.

The replaced parts are equal to the games' own to the last bit. They are used with the versions of
the games that are fingerprinted; with any other the game computes by itself.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from kitae_marl.vector.fingerprints import is_known_source
from kitae_marl.vector.lean import LeanParallelEnv, Peeled, Step

_FPS = 50
_WIDTH, _HEIGHT = 600 / 30.0, 400 / 30.0
_HIP_SPEED, _KNEE_SPEED = 4, 6
_REACH = 160 / 30.0
_ANGLES = [1.5 * i / 10.0 for i in range(10)]
_RAYS = [(math.sin(angle) * _REACH, math.cos(angle) * _REACH) for angle in _ANGLES]
"""How far across and down the rays reach by which a walker feels the ground."""


class LeanMultiwalkerEnv(LeanParallelEnv):
    """Multiwalker whose time limit is a truncation and whose state outlives a walker."""

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        started = super().reset(seed, options)
        if is_known_source(type(self.core.env).__module__):
            for walker in self.core.env.walkers:
                walker.apply_action = partial(_drive_motors, walker)
                walker.get_observation = partial(_feel, walker)
        return started

    def step(self, actions: dict[str, Any]) -> Step:
        """Let every walker act once."""
        observations, rewards, terminations, truncations, infos = super().step(actions)
        game = self.core.env
        if game.frames >= game.max_cycles:
            fell = game.get_last_dones()
            for agent in terminations:
                if not fell[self.possible_agents.index(agent)]:
                    terminations[agent], truncations[agent] = False, True
        return observations, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        """Return what all walkers observe of themselves and the package's position and angle."""
        game = self.core.env
        if all(walker.hull is not None for walker in game.walkers):
            return self.core.state()
        n_values = (self.state_space.shape[0] - 3) // len(game.walkers)
        walkers = [
            np.zeros(n_values) if walker.hull is None else np.asarray(walker.get_observation())
            for walker in game.walkers
        ]
        package = game.package
        place = [package.position.x, package.position.y, package.angle]
        return np.concatenate([*walkers, place]).astype(np.float32)


def _drive_motors(walker: Any, action: np.ndarray) -> None:
    """Set speed and torque of a walker's hips and knees."""
    for joint, speed, value in zip(
        walker.joints, (4.0, 6.0, 4.0, 6.0), action.tolist(), strict=True
    ):
        joint.motorSpeed = speed if value > 0.0 else -speed if value < 0.0 else 0.0
        joint.maxMotorTorque = 80.0 * min(abs(value), 1.0)


def _feel(walker: Any) -> list[float]:
    """What a walker feels of itself and, by ten rays, of the ground before it."""
    hull, lidar, cast = walker.hull, walker.lidar, walker.world.RayCast
    position, velocity = hull.position, hull.linearVelocity
    x, y = position.x, position.y
    for ray, (across, down) in zip(lidar, _RAYS, strict=True):
        ray.fraction = 1.0
        ray.p1 = position
        ray.p2 = end = (x + across, y - down)
        cast(ray, position, end)
    hip, knee, other_hip, other_knee = walker.joints
    _, foot, _, other_foot = walker.legs
    return [
        hull.angle,
        2.0 * hull.angularVelocity / _FPS,
        0.3 * velocity.x * _WIDTH / _FPS,
        0.3 * velocity.y * _HEIGHT / _FPS,
        hip.angle,
        hip.speed / _HIP_SPEED,
        knee.angle + 1.0,
        knee.speed / _KNEE_SPEED,
        1.0 if foot.ground_contact else 0.0,
        other_hip.angle,
        other_hip.speed / _HIP_SPEED,
        other_knee.angle + 1.0,
        other_knee.speed / _KNEE_SPEED,
        1.0 if other_foot.ground_contact else 0.0,
        *[ray.fraction for ray in lidar],
    ]


class LeanPursuitEnv(LeanParallelEnv):
    """Pursuit that tags the evaders around all pursuers at once."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        if is_known_source(type(self.core.env).__module__):
            self.core.env.reward = self._tag_rewards
            self.core.env.obs_clip = self._window

    def _tag_rewards(self) -> np.ndarray:
        """For each pursuer the reward for the evaders on the four squares beside it."""
        game = self.core.env
        evaders = game.evader_layer.get_state_matrix()
        places = np.array([ally.current_position() for ally in game.pursuer_layer.allies])
        beside = places[: game.n_pursuers, None] + game.surround_mask
        xs = np.minimum(np.maximum(beside[..., 0], 0), game.x_size - 1)
        ys = np.minimum(np.maximum(beside[..., 1], 0), game.y_size - 1)
        return game.tag_reward * evaders[xs, ys].sum(axis=1)

    def _window(self, x: Any, y: Any) -> tuple[int, ...]:
        """What a pursuer sees of the map, and where that lies in its observation."""
        game = self.core.env
        reach, x, y = game.obs_offset, int(x), int(y)
        x_from, x_to = max(x - reach, 0), min(x + reach, game.x_size - 1)
        y_from, y_to = max(y - reach, 0), min(y + reach, game.y_size - 1)
        left, top = max(reach - x, 0), max(reach - y, 0)
        right, bottom = left + x_to - x_from, top + y_to - y_from
        return x_from, x_to + 1, y_from, y_to + 1, left, right + 1, top, bottom + 1
