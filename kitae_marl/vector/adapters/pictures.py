"""This file makes pictures small enough to learn from, and finds wrappers by what a user wrote."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

from kitae_marl.config.wrapping import parse_wrapper
from kitae_marl.errors import ConfigError

LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def wrapped(env: ParallelEnv[str, Any, Any], wrappers: Iterable[str]) -> ParallelEnv[str, Any, Any]:
    """Put wrappers around a game, the first of them innermost.

    Args:
        env: the game.
        wrappers: ``"pictures:84,84"`` for :class:`Pictures`, ``"supersuit.frame_stack_v1:4"`` for
            one of a package's; behind the colon values as in JSON, ``name=value`` for keyword
            arguments, what is no JSON is text.

    Raises:
        ConfigError: if there is none of that name, or it does not take the game or its arguments.
    """
    for text in wrappers:
        name, args, kwargs = parse_wrapper(text)
        make: Any = Pictures
        if name != "pictures":
            module, _, attribute = name.rpartition(".")
            try:
                make = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise ConfigError(
                    f"wrap: expected pictures or module.name of a wrapper, got {text!r} "
                    f"({type(error).__name__}: {error}).",
                    "wrap",
                ) from error
        try:
            env = make(env, *args, **kwargs)
        except Exception as error:  # wrappers say in many ways what they do not take
            raise ConfigError(
                f"wrap: expected a wrapper that takes this game and these arguments, got {text!r} "
                f"({type(error).__name__}: {error}).",
                "wrap",
            ) from error
        if not isinstance(env, ParallelEnv):
            raise ConfigError(
                f"wrap: expected {name} to return a ParallelEnv, got {type(env).__name__}.", "wrap"
            )
    return env


class Pictures(BaseParallelWrapper[str, Any, Any]):
    """A game seen as pictures, with smaller ones, fewer of them, and some of the past in each.

    As is usual for Atari (Machado et al. 2018): an action is repeated, of the last two pictures
    each pixel's larger value counts (what flickers is seen), colours become grey, each pixel is
    the mean of the area that it covers, and the last pictures are stacked as channels.

    Args:
        env: a game whose agents observe pictures, uint8 height x width x (1 or 3).
        height: of the smaller pictures, at most that of the game's.
        width: likewise.
        stack: how many of the last pictures an observation holds; before the first there are
            copies of it.
        skip: steps of the game in one step. Rewards add up, and where an agent's episode ends the
            repetition ends, too.
        grey: whether colours become grey.

    Raises:
        ValueError: if a number is out of its range.
        TypeError: if an agent observes something else.
    """

    def __init__(
        self,
        env: ParallelEnv[str, Any, Any],
        height: int = 84,
        width: int = 84,
        stack: int = 4,
        skip: int = 1,
        grey: bool = True,
    ) -> None:
        super().__init__(env)
        self._size, self._stack, self._skip, self._grey = (height, width), stack, skip, grey
        for name, value in (("height", height), ("width", width), ("stack", stack), ("skip", skip)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"expected {name} to be a whole number above 0, got {value!r}")
        self._spaces = {agent: self._space(agent) for agent in self.possible_agents}
        self._past: dict[str, np.ndarray] = {}
        self._products: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}

    def _space(self, agent: str) -> gym.spaces.Box:
        """Return what an agent observes here."""
        space = self.env.observation_space(agent)
        shape = space.shape or ()
        if space.dtype != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3):
            raise TypeError(
                f"expected pictures, uint8 height x width x (1 or 3), agent {agent!r} sees {space}"
            )
        if shape[0] < self._size[0] or shape[1] < self._size[1]:
            raise ValueError(
                f"expected at most the game's {shape[0]} x {shape[1]} pixels, got "
                f"{self._size[0]} x {self._size[1]}"
            )
        channels = (1 if self._grey else shape[2]) * self._stack
        return gym.spaces.Box(0, 255, (*self._size, channels), np.uint8)

    def observation_space(self, agent: str) -> gym.spaces.Box:
        """Return the space of the smaller pictures."""
        return self._spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._seen(observations, {}, first=True), infos

    def step(self, actions: dict[str, Any]) -> Any:
        """Repeat the actions, and show what came of it."""
        before: dict[str, Any] = {}
        came: Any = None
        totals: dict[str, Any] = {}
        for i in range(self._skip):
            came = self.env.step(actions)
            observations, rewards, terminated, truncated, _ = came
            for agent, reward in rewards.items():
                totals[agent] = totals.get(agent, 0.0) + reward
            if any(terminated.values()) or any(truncated.values()):
                break
            if i == self._skip - 2:  # games may draw into the same array again
                copies = {id(x): x.copy() for x in observations.values()}
                before = {agent: copies[id(x)] for agent, x in observations.items()}
        observations, _, *flags = came  # a skip is at least one step
        return self._seen(observations, before), totals, *flags

    def _seen(self, now: dict[str, Any], before: dict[str, Any], first: bool = False) -> Any:
        """Make the observations; a picture that several agents see is made smaller once."""
        if first:
            self._past = {}
        made: dict[tuple[int, int], np.ndarray] = {}
        for agent, picture in now.items():
            earlier = before.get(agent)
            key = id(picture), id(earlier)
            if key not in made:
                both = picture if earlier is None else np.maximum(picture, earlier)
                made[key] = self._small(both)
            small = made[key]
            past = self._past.get(agent)
            if past is None:
                self._past[agent] = np.concatenate([small] * self._stack, axis=-1)
            else:
                self._past[agent] = np.concatenate([past[..., small.shape[-1] :], small], axis=-1)
        return {agent: self._past[agent] for agent in now}

    def _small(self, picture: np.ndarray) -> np.ndarray:
        """Make one picture grey and smaller: two products of matrices, rounded."""
        height, width, channels = picture.shape
        if picture.shape not in self._products:
            colours = LUMA if self._grey and channels == 3 else np.eye(channels, dtype=np.float32)
            columns = np.kron(_means(width, self._size[1]).T, colours)
            self._products[picture.shape] = _means(height, self._size[0]), columns
        rows, columns = self._products[picture.shape]
        small = rows @ picture.reshape(height, -1).astype(np.float32) @ columns
        return (small + 0.5).astype(np.uint8).reshape(*self._size, -1)


def wrappers_for(spaces: Sequence[gym.Space[Any]]) -> tuple[str, ...]:
    """Return what helps where all agents see one picture each, nothing elsewhere.

    Example:
        >>> wrappers_for([gym.spaces.Box(0, 255, (210, 160, 3), np.uint8)])
        ('pictures:84,84',)
    """
    shapes = [space.shape or () for space in spaces if space.dtype == np.uint8]
    if (
        not shapes
        or len(shapes) < len(spaces)
        or not all(len(s) == 3 and s[2] in (1, 3) for s in shapes)
    ):
        return ()
    height, width = (min([84, *(shape[axis] for shape in shapes)]) for axis in (0, 1))
    return (f"pictures:{height},{width}",)


def _means(n_in: int, n_out: int) -> np.ndarray:
    """Return the matrix ``[n_out, n_in]`` that takes means over parts of almost equal length."""
    part = np.arange(n_in) * n_out // n_in
    belongs = part == np.arange(n_out)[:, None]
    return (belongs / belongs.sum(axis=1, keepdims=True)).astype(np.float32)
