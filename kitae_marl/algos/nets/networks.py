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
from kitae_envs.spaces import parts_of

from kitae_marl.algos.nets.distributions import Distribution
from kitae_marl.data.spaces import Leaf, leaves, space_text, zeros
from kitae_marl.errors import AlgorithmError, ConfigError
from kitae_marl.loops.devices import convolution, dense_product

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": nn.tanh, "relu": nn.relu}
NETWORKS: dict[str, Callable[[gym.Space], nn.Module]] = {}
"""Networks of users by name, as registered; each makes the module for observations of a space."""


def may_make_networks(thing: Any) -> bool:
    """Whether something can be called to make a flax module: a class of them, or a function."""
    return issubclass(thing, nn.Module) if isinstance(thing, type) else callable(thing)


def network_for(name: str, space: gym.Space) -> nn.Module | None:
    """Make a registered network for observations of a space; None where no name is given.

    The module is called with an observation, leaves ``[*B, ...]`` with the shapes of the space
    behind any leading axes, and returns features ``[*B, K]``.

    Raises:
        ConfigError: if no network has this name.
        TypeError: if what is registered makes no flax module.
    """
    if not name:
        return None
    if name not in NETWORKS:
        raise ConfigError(
            f"network: expected one of {sorted(NETWORKS)}, got {name!r}; register it by "
            "kitae_marl.register(network, name) before, or name it as module:name on the command "
            "line.",
            "network",
        )
    try:
        module = NETWORKS[name](space)
    except Exception as error:
        raise AlgorithmError(
            f"expected the network {name!r} to be made for an observation space, got "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"expected the network {name!r} to make a flax.linen.Module for {space}, got "
            f"{type(module).__name__}."
        )
    _require_features(name, module, space)
    return module


def _require_features(name: str, module: nn.Module, space: gym.Space) -> None:
    """Raise an AlgorithmError unless a user's network makes features ``[*B, K]``; it is traced."""
    lead = (2, 3)
    expected = f"expected the network {name!r} to return numbers [2, 3, K] for observations [2, 3,"
    expected += f" ...] of {space_text(space)}"
    observation = zeros(space, *lead)
    try:
        variables = jax.eval_shape(module.init, jax.random.key(0), observation)
        others = sorted(set(variables) - {"params"})
        features: Any = None if others else jax.eval_shape(module.apply, variables, observation)
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else ""
        raise AlgorithmError(f"{expected}, got {type(error).__name__}: {text}") from error
    if others:
        raise AlgorithmError(
            f"expected the network {name!r} to have parameters alone, got {others} too; what "
            "changes from call to call, as of BatchNorm, has no place in a policy."
        )
    shape = getattr(features, "shape", None)
    good = shape is not None and len(shape) == 3 and shape[:2] == lead and shape[2] > 0
    if not good or not jnp.issubdtype(features.dtype, jnp.floating):
        got = type(features).__name__ if shape is None else f"{features.dtype}{list(shape)}"
        raise AlgorithmError(f"{expected}, got {got}.")


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
                conv_general_dilated=convolution,
            )
            x = nn.relu(conv(x))
        return x.reshape(*lead, -1)


class Encoder(nn.Module):
    """Turn an observation of any supported space into one vector per row.

    Boxes are flattened (images convolved), Discrete and MultiDiscrete become one-hot vectors, the
    parts of Dict and Tuple are encoded one by one and joined in order of their keys.

    With ``by_group`` the space is a Dict of what an agent of each group observes, and each part is
    observed by several agents: their vectors, ``[*B, A, K]``, are laid side by side.
    """

    space: gym.Space
    by_group: bool = False

    @nn.compact
    def __call__(self, observation: Any) -> Float[Array, "*B K"]:
        """Encode ``observation``, whose leaves have the space's shapes behind the same axes."""
        if not self.by_group:
            return _encode(self.space, observation)
        vectors = []
        for name, part in sorted((parts_of(self.space) or {}).items()):
            each = _encode(part, observation[name])
            vectors.append(each.reshape(*each.shape[:-2], -1))
        return jnp.concatenate(vectors, axis=-1)


def _encode(space: gym.Space, x: Any) -> Array:
    """Encode one agent's space; called inside a compact module, where images get parameters.

    Arrays are taken in order of their keys, whatever the order of the space: it numbers the
    encoders of images, and thereby names their parameters in checkpoints.
    """
    arrays = sorted(leaves(space, "an observation space"), key=lambda leaf: leaf.path)
    vectors = [_encode_array(leaf, leaf.of(x)) for leaf in arrays]
    return jnp.concatenate(vectors, axis=-1) if len(vectors) > 1 else vectors[0]


def _encode_array(leaf: Leaf, x: Any) -> Array:
    """Encode one array."""
    lead = x.shape[: x.ndim - len(leaf.shape)]
    if leaf.choices is not None:
        first = np.broadcast_to(leaf.low, leaf.shape).ravel()
        flat = x.reshape(*lead, -1)
        sizes = [int(n) for n in leaf.choices.ravel()]
        hot = [jax.nn.one_hot(flat[..., i] - int(first[i]), n) for i, n in enumerate(sizes)]
        return jnp.concatenate(hot, axis=-1)
    if leaf.is_image:
        return ImageEncoder()(x.astype(jnp.float32) / 255.0)
    scale = 255.0 if leaf.dtype == np.uint8 else 1.0
    return x.reshape(*lead, -1).astype(jnp.float32) / scale


CRITIC_HEAD = "Dense_0"
"""Name of the critic's last layer among its parameters."""


def _dense(width: int, scale: float = 1.0, name: str | None = None) -> nn.Dense:
    """Make a dense layer, its kernel orthogonal times a scale."""
    kernel_init = nn.initializers.orthogonal(scale)
    return nn.Dense(width, kernel_init=kernel_init, dot_general=dense_product, name=name)


class MLP(nn.Module):
    """Hidden layers with orthogonal initialisation (as Andrychowicz et al. 2021 recommend)."""

    hidden_sizes: Sequence[int]
    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "*B K"]) -> Float[Array, "*B K2"]:
        """Apply the hidden layers; products of matrices with one axis of rows are the fastest."""
        lead = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])
        for width in self.hidden_sizes:
            x = _dense(width, math.sqrt(2))(x)
            x = ACTIVATIONS[self.activation](x)
        return x.reshape(*lead, x.shape[-1])


class GRU(nn.Module):
    r"""Gated recurrent unit (Cho et al. 2014, in the form of Chung et al. 2014).

        r = sigmoid(W_r x + U_r h),  z = sigmoid(W_z x + U_z h)
        n = tanh(W_n x + r * U_n h),  h' = (1 - z) * n + z * h

    Memory advances only at own decisions: the carry begins anew in rows where ``reset``, and stays
    as it is in rows that are not ``active``.
    """

    size: int

    @nn.compact
    def __call__(self, x: Float[Array, "*B K"], carry: Any, rows: Any = None) -> tuple[Any, Any]:
        """Take one step, or all the steps of a rollout.

        Args:
            x: ``[*B, K]``; with ``rows`` ``[T, *B, K]``.
            carry: memory before, ``[*B, H]``.
            rows: None for one step of active rows; else ``(reset, active)``, bool ``[T, *B]``.

        Returns:
            The output and the memory after each step, ``[*B, H]`` or ``[T, *B, H]``.
        """
        gates = _dense(3 * self.size)(x)
        kernel = self.param("kernel", nn.initializers.orthogonal(), (self.size, 3 * self.size))

        def cell(carry: Array, gates: Array) -> Array:
            reset, update, new = jnp.split(gates, 3, axis=-1)
            from_reset, from_update, from_new = jnp.split(carry @ kernel, 3, axis=-1)
            new = jnp.tanh(new + nn.sigmoid(reset + from_reset) * from_new)
            update = nn.sigmoid(update + from_update)
            return (1.0 - update) * new + update * carry

        def step(carry: Array, row: Any) -> Any:
            gates, reset, active = row
            carry = jnp.where(reset[..., None], 0.0, carry)
            output = cell(carry, gates)
            carry = jnp.where(active[..., None], output, carry)
            return carry, (output, carry)

        if rows is None:
            output = cell(carry, gates)
            return output, output
        return jax.lax.scan(step, carry, (gates, *rows))[1]


class Actor(nn.Module):
    """Policy network: observation to the parameters of the action distribution.

    With ``trunk_only`` and the same parameters it returns the features before memory and last
    layer.
    """

    space: gym.Space
    distribution: Distribution
    hidden_sizes: Sequence[int]
    activation: str
    gru_size: int = 0
    network: nn.Module | None = None
    trunk_only: bool = False

    @nn.compact
    def __call__(self, observation: Any, carry: Any = (), rows: Any = None) -> tuple[Any, Any]:
        """Return logits, or means beside a state-independent log standard deviation; and memory.

        ``carry`` and ``rows`` as of :class:`GRU`; without one ``carry`` is returned as it is.
        """
        if self.network is None:
            x = MLP(self.hidden_sizes, self.activation)(Encoder(self.space)(observation))
        else:
            x = self.network(observation)
        if self.trunk_only:
            return x, carry
        if self.gru_size:
            x, carry = GRU(self.gru_size)(x, carry, rows)
        n = self.distribution.n_outputs
        out = _dense(n, 0.01)(x)
        if n_scales := self.distribution.n_scales:
            log_std = self.param("log_std", nn.initializers.constant(-0.5), (n_scales,))
            scales = jnp.broadcast_to(log_std, (*out.shape[:-1], n_scales))
            out = jnp.concatenate([out, scales], axis=-1)
        return out, carry


class Given(nn.Module):
    """A network that hands features on as they are, for a critic behind another one's trunk."""

    def __call__(self, features: Any) -> Any:
        """Return the features."""
        return features


class Critic(nn.Module):
    """Value network: observation, global state or the observations of all groups to values.

    With ``by_group`` it sees those of all groups, as of :class:`Encoder`. With ``n_agents`` it
    values what no agent axis has, such as a global state ``[*B, ...]``, for each of that many
    agents, ``[*B, A]``: several are told apart by a one-hot vector. With a ``first_scale`` of 0 all
    values are 0 before it learns.
    """

    space: gym.Space
    hidden_sizes: Sequence[int]
    activation: str
    gru_size: int = 0
    n_agents: int = 0
    by_group: bool = False
    network: nn.Module | None = None
    first_scale: float = 1.0

    @nn.compact
    def __call__(self, observation: Any, carry: Any = (), rows: Any = None) -> tuple[Any, Any]:
        """Return the value of each row, and memory; ``carry`` and ``rows`` as of :class:`GRU`."""
        x = self._features(observation) if self.network is None else self.network(observation)
        if self.gru_size:
            x, carry = GRU(self.gru_size)(x, carry, rows)
        return _dense(1, self.first_scale, CRITIC_HEAD)(x)[..., 0], carry

    def _features(self, observation: Any) -> Array:
        """Encode what is seen, told for which agent where there are several."""
        x = Encoder(self.space, self.by_group)(observation)
        if self.n_agents:
            x = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], self.n_agents, x.shape[-1]))
        if self.n_agents > 1:
            ids = jnp.broadcast_to(_eye(self.n_agents, x.ndim), (*x.shape[:-1], self.n_agents))
            x = jnp.concatenate([x, ids], axis=-1)
        return MLP(self.hidden_sizes, self.activation)(x)


def _eye(n: int, n_axes: int) -> np.ndarray:
    """Identity matrix behind axes of length one."""
    return np.eye(n, dtype=np.float32).reshape((1,) * (n_axes - 2) + (n, n))
