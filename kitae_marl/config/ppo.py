"""Settings of the PPO family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from kitae_marl.config.checks import require, require_count, require_number

MAX_WIDTH = 1 << 14
"""Width of the widest layer; a run folder from elsewhere must not fill the memory."""


MAX_LAYERS = 64
"""Hidden layers of the deepest network."""


TRACED = (
    "learning_rate",
    "gamma",
    "gae_lambda",
    "clip",
    "entropy_coef",
    "value_coef",
    "max_grad_norm",
)
"""Settings of PPO in which runs of one compiled program may differ."""


CENTRAL = ("mappo",)
"""Algorithms whose critics see the whole game."""


Sharing: TypeAlias = bool | dict[str, Literal["shared", "independent"]]
"""Whether agents of a group share parameters: all or none, or by patterns of agents' names."""


def _require_sharing(value: Any) -> None:
    """Require a valid ``ppo.share_params``."""
    kinds = ("shared", "independent")
    good = isinstance(value, bool) or (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(pattern, str) for pattern in value)
        and all(kind in kinds for kind in value.values())
    )
    expected = f"true, false, or one of {kinds} by pattern of agent names"
    require(good, "ppo.share_params", expected, value)


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017), one learner per group."""

    n_steps: int = 128
    """Joint steps of the vector environment between two updates."""
    n_epochs: int = 4
    """Passes over the rollout in one update."""
    n_minibatches: int = 4
    """Parts the rollout is cut into in each pass; must divide n_steps * n_envs."""
    learning_rate: float = 2.5e-3
    """Step size of Adam."""
    anneal: bool = True
    """Lower the learning rate linearly, to zero after the last update."""
    gamma: float = 0.99
    """Discount factor per own decision."""
    gae_lambda: float = 0.95
    """Decay of the generalised advantage estimator (Schulman et al. 2016)."""
    clip: float = 0.2
    """Largest change of the probability ratio that is rewarded."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 10.0
    """Gradients of larger global norm are scaled down to it."""
    normalize_advantage: bool = True
    """Give the advantages of each minibatch mean 0 and standard deviation 1."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, of the actor and of the critic; none: linear."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Nonlinearity of the hidden layers."""
    share_params: Sharing = True
    """One network for all agents of a group, or one for each; or by patterns of agents' names."""
    agent_id: bool = False
    """Tell a network that several agents share for which of them it acts."""
    gru_size: int = 0
    """Width of a recurrent layer (GRU) in actor and critic, so that they remember; 0: none."""
    chunk_length: int = 16
    """Steps that gradients go back through memory; must divide n_steps; with gru_size only."""
    normalize_observation: bool = False
    """Shift and scale observations by their running mean and standard deviation."""
    normalize_return: bool = False
    """Let the critic learn returns in units of their running standard deviation."""
    clip_value: float | None = None
    """Largest change of a value in one update that lowers its loss; none: any."""
    target_kl: float | None = None
    """End an update of a group once its policy has diverged so far; none: never."""

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_epochs", "n_minibatches"):
            require_count(f"ppo.{name}", getattr(self, name))
        require_number("ppo.learning_rate", self.learning_rate, 0.0, 1.0, above=True)
        for name in ("gamma", "gae_lambda"):
            require_number(f"ppo.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("clip", "max_grad_norm"):
            require_number(f"ppo.{name}", getattr(self, name), 0.0, 1e6, above=True)
        for name in ("entropy_coef", "value_coef"):
            require_number(f"ppo.{name}", getattr(self, name), 0.0, 1e6)
        for name in (
            "anneal", "normalize_advantage", "normalize_observation", "normalize_return",
            "agent_id",
        ):  # fmt: skip
            value = getattr(self, name)
            require(isinstance(value, bool), f"ppo.{name}", "true or false", value)
        for name in ("clip_value", "target_kl"):
            if getattr(self, name) is not None:
                require_number(f"ppo.{name}", getattr(self, name), 0.0, 1e6, above=True)
        require_count("ppo.gru_size", self.gru_size, 0)
        require(self.gru_size <= MAX_WIDTH, "ppo.gru_size", f"at most {MAX_WIDTH}", self.gru_size)
        require_count("ppo.chunk_length", self.chunk_length)
        _require_sharing(self.share_params)
        shared = self.share_params is True or "shared" in dict(self.share_params or {}).values()
        require(
            shared or not self.agent_id,
            "ppo.agent_id",
            "false where no parameters are shared",
            self.agent_id,
        )
        require(
            not self.gru_size or self.n_steps % self.chunk_length == 0,
            "ppo.chunk_length",
            f"a divisor of ppo.n_steps = {self.n_steps}",
            self.chunk_length,
        )
        require(
            self.activation in ("tanh", "relu"), "ppo.activation", "tanh or relu", self.activation
        )
        widths = self.hidden_sizes
        require(isinstance(widths, list | tuple), "ppo.hidden_sizes", "a list of widths", widths)
        require(len(widths) <= MAX_LAYERS, "ppo.hidden_sizes", f"at most {MAX_LAYERS}", len(widths))
        object.__setattr__(self, "hidden_sizes", tuple(widths))
        for width in self.hidden_sizes:
            require_count("ppo.hidden_sizes", width)
            require(width <= MAX_WIDTH, "ppo.hidden_sizes", f"at most {MAX_WIDTH}", width)
