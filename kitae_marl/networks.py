"""Networks: encoders by observation space, actors and critics. All take any leading axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kitae_marl.distributions import Distribution
from kitae_marl.groups import without_mask

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": nn.tanh, "relu": nn.relu}


def is_image(space: gym.Space) -> bool:
    """Whether a space holds images: uint8, height x width x channels.

    Example:
        >>> is_image(gym.spaces.Box(0, 255, (84, 84, 3), np.uint8))
        True
    """
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8


def feature_space(space: gym.Space) -> gym.Space:
    """Return the part of an observation space that networks see: without the action mask.

    Example:
        >>> box, mask = gym.spaces.Box(0, 1, (3,)), gym.spaces.MultiBinary(2)
        >>> feature_space(gym.spaces.Dict(observation=box, action_mask=mask)) == box
        True
    """
    if not isinstance(space, gym.spaces.Dict):
        return space
    seen = without_mask(dict(space.spaces))
    return gym.spaces.Dict(seen) if isinstance(seen, dict) else seen


def zeros(space: gym.Space, *lead: int) -> Any:
    """Return a zero observation of a space behind leading axes ``lead``; NumPy arrays.

    Example:
        >>> zeros(gym.spaces.Discrete(3), 2, 1).shape
        (2, 1)
    """
    if isinstance(space, gym.spaces.Dict):
        return {key: zeros(part, *lead) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(zeros(part, *lead) for part in space.spaces)
    return np.zeros((*lead, *(space.shape or ())), space.dtype)


class ImageEncoder(nn.Module):
    """Three convolutions (Mnih et al. 2015) for large images, two of 3 x 3 for small ones."""

    @nn.compact
    def __call__(self, image: Float[Array, "*B H W C"]) -> Float[Array, "*B K"]:
        """Encode images with values in [0, 1]; leading axes are folded and restored."""
        lead = image.shape[:-3]
        x = image.reshape(-1, *image.shape[-3:])
        large = min(x.shape[1:3]) >= 36
        layers = [(32, 8, 4), (64, 4, 2), (64, 3, 1)] if large else [(32, 3, 1), (64, 3, 2)]
        for features, kernel, stride in layers:
            conv = nn.Conv(
                features,
                (kernel, kernel),
                (stride, stride),
                padding="VALID" if large else "SAME",
                kernel_init=nn.initializers.orthogonal(math.sqrt(2)),
            )
            x = nn.relu(conv(x))
        return x.reshape(*lead, -1)


class Encoder(nn.Module):
    """Turn an observation of any supported space into one vector per row.

    Boxes are flattened (images convolved), Discrete and MultiDiscrete become one-hot vectors, the
    parts of Dict and Tuple are encoded one by one and joined in order of their keys.
    """

    space: gym.Space

    @nn.compact
    def __call__(self, observation: Any) -> Float[Array, "*B K"]:
        """Encode ``observation``, whose leaves have the space's shapes behind the same axes."""
        return _encode(self.space, observation)


def _encode(space: gym.Space, x: Any) -> Array:
    """Encode one space; called inside a compact module, so images get parameters of their own."""
    spaces = gym.spaces
    if isinstance(space, spaces.Dict):
        parts = [_encode(part, x[key]) for key, part in sorted(space.spaces.items())]
        return jnp.concatenate(parts, axis=-1)
    if isinstance(space, spaces.Tuple):
        parts = [_encode(part, x[i]) for i, part in enumerate(space.spaces)]
        return jnp.concatenate(parts, axis=-1)
    if isinstance(space, spaces.Discrete):
        return jax.nn.one_hot(x - int(space.start), int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        start = np.broadcast_to(space.start, space.nvec.shape).reshape(-1)
        flat = x.reshape(*x.shape[: x.ndim - space.nvec.ndim], -1)
        sizes = space.nvec.reshape(-1)
        hot = [jax.nn.one_hot(flat[..., i] - int(start[i]), int(n)) for i, n in enumerate(sizes)]
        return jnp.concatenate(hot, axis=-1)
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        lead = x.shape[: x.ndim - len(space.shape)]
        if is_image(space):
            return ImageEncoder()(x.astype(jnp.float32) / 255.0)
        scale = 255.0 if space.dtype == np.uint8 else 1.0
        return x.reshape(*lead, -1).astype(jnp.float32) / scale
    raise TypeError(
        "expected an observation space Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple "
        f"of these, got {space}; wrap the environment so that it returns one of them."
    )


class MLP(nn.Module):
    """Hidden layers with orthogonal initialisation (as Andrychowicz et al. 2021 recommend)."""

    hidden_sizes: Sequence[int]
    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "*B K"]) -> Float[Array, "*B K2"]:
        """Apply the hidden layers."""
        for width in self.hidden_sizes:
            x = nn.Dense(width, kernel_init=nn.initializers.orthogonal(math.sqrt(2)))(x)
            x = ACTIVATIONS[self.activation](x)
        return x


class Actor(nn.Module):
    """Policy network: observation to the parameters of the action distribution."""

    space: gym.Space
    distribution: Distribution
    hidden_sizes: Sequence[int]
    activation: str

    @nn.compact
    def __call__(self, observation: Any) -> Float[Array, "*B K"]:
        """Return logits, or means beside a state-independent log standard deviation."""
        x = MLP(self.hidden_sizes, self.activation)(Encoder(self.space)(observation))
        n = self.distribution.n_outputs
        out = nn.Dense(n, kernel_init=nn.initializers.orthogonal(0.01))(x)
        if not self.distribution.learned_scale:
            return out
        log_std = self.param("log_std", nn.initializers.constant(-0.5), (n,))
        return jnp.concatenate([out, jnp.broadcast_to(log_std, out.shape)], axis=-1)


class Critic(nn.Module):
    """Value network: observation (or global state) to one value per row."""

    space: gym.Space
    hidden_sizes: Sequence[int]
    activation: str

    @nn.compact
    def __call__(self, observation: Any) -> Float[Array, "*B"]:
        """Return the value of each row."""
        x = MLP(self.hidden_sizes, self.activation)(Encoder(self.space)(observation))
        return nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(x)[..., 0]
