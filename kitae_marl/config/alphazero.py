"""Settings of AlphaZero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kitae_marl.config.checks import require, require_count, require_number
from kitae_marl.config.described import described
from kitae_marl.config.learner import DECLARED, Declared, LearnerConfig

MAX_WIDTH = 1 << 12
"""Channels, and width of dense layers, of the largest network."""
MAX_BLOCKS = 128
"""Residual blocks of each kind of the deepest network."""
MAX_SIMULATIONS = 1 << 16
"""A run folder from elsewhere must not fill the memory with its tree."""


@described
@dataclass(frozen=True)
class AlphaZeroConfig(LearnerConfig):
    """AlphaZero (Silver et al. 2018) by Gumbel search (Danihelka et al. 2022), for games of two."""

    n_steps: int = 32
    """Joint steps of the vector environment between two updates."""
    simulations: int = 16
    """Positions that a full search looks at before a move in training."""
    considered_actions: int = 16
    """Moves that a search considers at its root, the best of them by chance and network."""
    full_share: float = 1.0
    """Share of the joint steps that are searched in full (playout caps, Wu 2019); the policy learns
    from these alone, the value from all."""
    cheap_simulations: int = 4
    """Positions that a search looks at in the other joint steps."""
    gumbel_scale: float = 1.0
    """How much chance has a say in which moves are considered and made in training; 0: none."""
    value_scale: float = 0.5
    """How much the values that a search finds count beside the network's policy: logits for a
    difference of 1, times 50 more than the visits of the most visited move."""
    replay_iterations: int = 8
    """Rollouts, the newest ones, that are learned from."""
    reuse: float = 2.0
    """How often a position is learned from on average; sets the gradient steps of an update."""
    batch_size: int = 512
    """Positions in a gradient step."""
    learning_rate: float = 2e-3
    """Step size of Adam."""
    anneal: bool = True
    """Lower the learning rate linearly, to zero after the last update."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of Adam."""
    max_grad_norm: float = 10.0
    """Gradients of larger global norm are scaled down to it."""
    value_coef: float = 1.0
    """Weight of the value loss."""
    root_share: float = 0.25
    """Share of the search's own value in the value that is learned; the rest is the result."""
    symmetries: bool = True
    """Learn from each position in one of the ways in which the game stays the same, by chance."""
    channels: int = 32
    """Channels of the convolutions; 0: none, what is seen goes to the dense layers as it is."""
    blocks: int = 3
    """Residual blocks of two convolutions each."""
    width: int = 0
    """Width of the dense layers behind the convolutions; 0: none."""
    dense_blocks: int = 0
    """Residual blocks of two dense layers each, behind the first dense layer."""
    play_simulations: int = 0
    """Positions that a search looks at before a move when it plays and does not learn, as in
    evaluation and as an opponent; 0: none, it plays by its network alone."""

    SECTION: ClassVar[str] = "alphazero"
    TRACED: ClassVar[tuple[str, ...]] = (
        "learning_rate", "weight_decay", "max_grad_norm", "value_coef", "root_share",
    )  # fmt: skip
    FIXED: ClassVar[tuple[str, ...]] = (
        *LearnerConfig.FIXED, "channels", "blocks", "width", "dense_blocks", "replay_iterations",
    )  # fmt: skip
    SIZES: ClassVar[tuple[str, ...]] = ("channels", "width", "replay_iterations")
    SIMULATIONS: ClassVar[str] = "play_simulations"

    def __post_init__(self) -> None:
        super().__post_init__()
        key, alike = self.key, self.share_params is True
        require(alike, key("share_params"), "true: both seats share a network", self.share_params)
        for name in ("considered_actions", "replay_iterations", "batch_size"):
            require_count(key(name), getattr(self, name))
        for name, least in (("simulations", 1), ("cheap_simulations", 1), ("play_simulations", 0)):
            value = getattr(self, name)
            require_count(key(name), value, least)
            require(value <= MAX_SIMULATIONS, key(name), f"at most {MAX_SIMULATIONS}", value)
        for name in ("full_share", "learning_rate"):
            require_number(key(name), getattr(self, name), 0.0, 1.0, above=True)
        require_number(key("root_share"), self.root_share, 0.0, 1.0)
        require_number(key("reuse"), self.reuse, 0.0, 1e3, above=True)
        require_number(key("max_grad_norm"), self.max_grad_norm, 0.0, 1e6, above=True)
        for name in ("gumbel_scale", "value_scale", "weight_decay", "value_coef"):
            require_number(key(name), getattr(self, name), 0.0, 1e6)
        for name in ("anneal", "symmetries"):
            value = getattr(self, name)
            require(isinstance(value, bool), key(name), "true or false", value)
        self._check_network()

    def _check_network(self) -> None:
        """Check the sizes of the network, and that it has some layers."""
        for name, most in (
            ("channels", MAX_WIDTH), ("width", MAX_WIDTH),
            ("blocks", MAX_BLOCKS), ("dense_blocks", MAX_BLOCKS),
        ):  # fmt: skip
            value = getattr(self, name)
            require_count(self.key(name), value, 0)
            require(value <= most, self.key(name), f"at most {most}", value)
        some = self.channels > 0 or self.width > 0
        require(some, self.key("width"), "a width where there are no channels", self.width)
        needs_width = self.width > 0 or not self.dense_blocks
        expected = "0 without a width"
        require(needs_width, self.key("dense_blocks"), expected, self.dense_blocks)

    def n_gradient_steps(self, n_envs: int) -> int:
        """Return the gradient steps of one update.

        Example:
            >>> AlphaZeroConfig(n_steps=32, reuse=2.0, batch_size=512).n_gradient_steps(256)
            32
        """
        return max(1, round(self.reuse * self.n_steps * n_envs / self.batch_size))

    def in_effect(self, progress: float) -> dict[str, float]:
        """Return the learning rate after a share of the updates."""
        left = 1.0 - progress if self.anneal else 1.0
        return {"learning_rate": self.learning_rate * left}


DECLARED["alphazero"] = Declared(AlphaZeroConfig, compiled=True)
