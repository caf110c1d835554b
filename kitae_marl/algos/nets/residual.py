"""This file has the network of search: one trunk of residual blocks, a policy and a value on it."""

from __future__ import annotations

import flax.linen as nn
import gymnasium as gym
import jax.numpy as jnp
from jaxtyping import Array, Float

from kitae_marl.algos.nets.networks import Encoder
from kitae_marl.loops.devices import board_convolution, dense_product

VALUE_WIDTH = 64
"""Width of the layer before the value."""
_HE = nn.initializers.he_normal()


class ResidualNet(nn.Module):
    """Logits and value of what is seen (He et al. 2016, without normalisation).

    Each block adds something to what comes in, nothing before it learns: its last layer begins at
    zero, as does that of the value, so that all values are 0 at first.

    Attributes:
        space: of what is seen; with channels a Box ``[H, W, C]``.
        n_actions: number of logits.
        channels: of the convolutions of 3 by 3; 0: none.
        blocks: residual blocks of two convolutions.
        width: of the dense layers behind; 0: none.
        dense_blocks: residual blocks of two of these.
    """

    space: gym.Space
    n_actions: int
    channels: int
    blocks: int
    width: int = 0
    dense_blocks: int = 0

    @nn.compact
    def __call__(self, seen: Array) -> tuple[Float[Array, "B K"], Float[Array, " B"]]:
        """Return logits, and values in (-1, 1), of ``seen [B, ...]``."""
        if self.channels:
            x = self._convolved(seen.astype(jnp.float32)).reshape(seen.shape[0], -1)
        else:
            x = Encoder(self.space)(seen)
        if self.width:
            x = self._dense_layers(x)
        logits = _dense(self.n_actions, nn.initializers.orthogonal(0.01), "policy")(x)
        value = nn.relu(_dense(VALUE_WIDTH, _HE, "value_hidden")(x))
        value = _dense(1, nn.initializers.zeros, "value")(value)
        return logits, jnp.tanh(value[..., 0])

    def _convolved(self, x: Array) -> Array:
        """Apply the convolutions."""
        x = nn.relu(_conv(self.channels)(x))
        for _ in range(self.blocks):
            y = nn.relu(_conv(self.channels)(x))
            x = nn.relu(x + _conv(self.channels, nn.initializers.zeros)(y))
        return x

    def _dense_layers(self, x: Array) -> Array:
        """Apply the dense layers."""
        x = nn.relu(_dense(self.width, _HE)(x))
        for _ in range(self.dense_blocks):
            y = nn.relu(_dense(self.width, _HE)(x))
            x = nn.relu(x + _dense(self.width, nn.initializers.zeros)(y))
        return x


def _conv(channels: int, init: nn.initializers.Initializer = _HE) -> nn.Conv:
    """Make a convolution of 3 by 3 that keeps the size of a board."""
    return nn.Conv(channels, (3, 3), kernel_init=init, conv_general_dilated=board_convolution)


def _dense(width: int, init: nn.initializers.Initializer, name: str | None = None) -> nn.Dense:
    """Make a dense layer."""
    return nn.Dense(width, kernel_init=init, dot_general=dense_product, name=name)
