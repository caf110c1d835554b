"""This file does the costliest small computations of multiwalker and pursuit in fewer NumPy calls.

The replaced parts are equal to the games' own to the last bit. They are used with the versions of
the games that are fingerprinted; with any other the game computes by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from kitae_marl.vector.lean.aec import LeanParallelEnv, Peeled, Step
from kitae_marl.vector.lean.fingerprints import is_as_written, is_known_source

_FPS, _SCALE = 50, 30.0
_WIDTH, _HEIGHT = 600 / _SCALE, 400 / _SCALE
_TERRAIN_STEP, _TERRAIN_HEIGHT = 14 / _SCALE, _HEIGHT / 4
_TERRAIN_GRASS, _TERRAIN_START = 10, 20
_FRICTION, _SEPARATION = 2.5, 10
_HIP_SPEED, _KNEE_SPEED = 4, 6
_REACH = 160 / 30.0
_ANGLES = [1.5 * i / 10.0 for i in range(10)]
_RAYS = [(math.sin(angle) * _REACH, math.cos(angle) * _REACH) for angle in _ANGLES]
"""How far across and down the rays reach by which a walker feels the ground."""


class LeanMultiwalkerEnv(LeanParallelEnv):
    """Multiwalker whose time limit is a truncation and whose state outlives a walker."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        game = self.core.env
        self._known = is_as_written(game) and is_known_source(type(game).__module__)
        if self._known:
            _require_noise(game)
            game.scroll_subroutine = partial(_look_around, game)
            game._generate_terrain = partial(_lay_grass, game)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode."""
        started = super().reset(seed, options)
        if self._known:
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


def _require_noise(game: Any) -> None:
    """Raise what the game would, of the same type, where its noise cannot be drawn."""
    for name in ("position_noise", "angle_noise"):
        scale = getattr(game, name)
        try:
            np.array([0.0, np.random.default_rng().normal(0.0, scale)])
        except (TypeError, ValueError) as error:
            message = f"{name}: expected a number of at least 0, got {scale!r}."
            raise type(error)(message) from error


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


def _look_around(game: Any) -> tuple[np.ndarray, list[bool], list[np.ndarray]]:
    """Rewards, who is done, and what all walkers observe; all noise is drawn in one call."""
    walkers, package, length = game.walkers, game.package, game.package_length
    front = package.position.x
    target = (front, package.position.y)
    hulls = [walker.hull for walker in walkers]
    places = [None if hull is None else (hull.position.x, hull.position.y) for hull in hulls]
    rewards, xs = np.zeros(len(walkers)), np.zeros(len(walkers))
    felt, means, scales = [], [], []
    for i, (walker, place) in enumerate(zip(walkers, places, strict=True)):
        if place is None:
            continue
        xs[i] = place[0]
        own = walker.get_observation()
        beside = (places[i - 1] if i else None, places[i + 1] if i + 1 < len(walkers) else None)
        seen = [other for other in (*beside, target) if other is not None]
        for x, y in seen:
            means += ((x - place[0]) / length, (y - place[1]) / length)
        means.append(package.angle)
        scales += [float(game.position_noise)] * (2 * len(seen)) + [float(game.angle_noise)]
        felt.append((own, beside))
        shaping = -5.0 * abs(own[0])
        rewards[i] = shaping - game.prev_shaping[i]
        game.prev_shaping[i] = shaping
    noisy = iter(game.np_random.normal(means, scales).tolist() if means else ())
    observed = iter([_observed(own, beside, noisy) for own, beside in felt])
    observations = [
        np.zeros_like(space.low) if place is None else next(observed)
        for space, place in zip(game.observation_space, places, strict=True)
    ]
    moved = game.forward_reward * 130 * front / _SCALE
    rewards += moved - game.prev_package_shaping
    game.prev_package_shaping = moved
    count = len(walkers)
    game.scroll = xs.mean() - _WIDTH / 5 - (count - 1) * _SEPARATION * _TERRAIN_STEP
    return rewards, _fallen(game, front, rewards), observations


def _observed(own: list[float], beside: Any, noisy: Iterator[float]) -> np.ndarray:
    """What one walker observes: itself, its neighbours (zeros for none) and the package."""
    others = [0.0 if other is None else next(noisy) for other in beside for _ in range(2)]
    return np.array([*own, *others, next(noisy), next(noisy), next(noisy)])


def _fallen(game: Any, front: float, rewards: np.ndarray) -> list[bool]:
    """Who is done; what a fall costs is added to the rewards."""
    done = game.fallen_walkers.tolist()
    for i, (walker, fallen) in enumerate(zip(game.walkers, done, strict=True)):
        if fallen:
            rewards[i] += game.fall_reward
            if game.remove_on_fall:
                walker._destroy()
            if not game.terminate_on_fall:
                rewards[i] += game.terminate_reward
    if (game.terminate_on_fall and any(done)) or game.game_over or front < 0:
        rewards += game.terminate_reward
        return [True] * len(done)
    if front > (game.terrain_length - _TERRAIN_GRASS) * _TERRAIN_STEP:
        return [True] * len(done)
    return done


def _lay_grass(game: Any, hardcore: bool) -> None:
    """Lay the ground of an episode: hills of grass, one edge a step, all made from one mould."""
    if hardcore:
        type(game)._generate_terrain(game, hardcore)
        return
    import Box2D as b2  # an extra, which the game itself has imported

    draw, y, slope, left = game.np_random, _TERRAIN_HEIGHT, 0.0, _TERRAIN_START
    xs, ys = [], []
    fresh = False
    for i in range(game.terrain_length):
        if not fresh:
            slope = 0.8 * slope + 0.01 * ((y < _TERRAIN_HEIGHT) - (y > _TERRAIN_HEIGHT))
            if i > _TERRAIN_START:
                slope += draw.uniform(-1, 1) / _SCALE
            y += slope
        xs.append(i * _TERRAIN_STEP)
        ys.append(y)
        left -= 1
        fresh = left == 0
        if fresh:
            left = draw.integers(_TERRAIN_GRASS / 2, _TERRAIN_GRASS)
    edge = b2.b2EdgeShape()
    mould = b2.b2BodyDef(
        type=b2.b2_staticBody, fixtures=b2.b2FixtureDef(shape=edge, friction=_FRICTION)
    )
    create = game.world.CreateBody
    game.terrain, game.terrain_x, game.terrain_y, game.terrain_poly = [], xs, ys, []
    for i, (start, end) in enumerate(pairwise(zip(xs, ys, strict=True))):
        edge.vertices = [start, end]
        body = create(mould)
        body.color1 = body.color2 = (76, 204 if i % 2 else 255, 76)
        game.terrain.append(body)
        game.terrain_poly.append(([start, end, (end[0], 0), (start[0], 0)], (102, 153, 76)))
    game.terrain.reverse()


class LeanPursuitEnv(LeanParallelEnv):
    """Pursuit that tags the evaders around all pursuers at once."""

    def __init__(self, peeled: Peeled) -> None:
        super().__init__(peeled)
        game = self.core.env
        if is_as_written(game) and is_known_source(type(game).__module__):
            game.reward, game.obs_clip = self._tag_rewards, self._window

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
