"""Settings of the PPO family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kitae_marl.config.checks import require, require_count, require_number
from kitae_marl.config.described import described
from kitae_marl.config.learner import DECLARED, Declared, LearnerConfig

MAX_WIDTH = 1 << 14
"""Width of the widest layer; a run folder from elsewhere must not fill the memory."""
MAX_LAYERS = 64
"""Hidden layers of the deepest network."""


@described
@dataclass(frozen=True)
class PPOConfig(LearnerConfig):
    """Proximal policy optimisation (Schulman et al. 2017), one learner per group."""

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
    entropy_end: float = 1.0
    """Share of entropy_coef that is left at the end of the run; it is lowered linearly."""
    magnet_coef: float = 0.0
    """Weight of the pull to the magnet, a slower copy of the actor: of the divergence
    KL(policy || magnet) in the loss (Sokota et al. 2023); 0: there is no magnet."""
    magnet_rate: float = 0.05
    """Share of its way to the actor that the magnet goes after each update."""
    average: bool = False
    """Keep the average policy, too: the mean of the actor's parameters over the run, later updates
    counted for more. It is saved with the run, and ``--policy average`` plays it."""
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
    network: str = ""
    """A registered network, or one to import as module:name, that turns an observation into
    features in place of encoder and hidden layers, wherever what an agent observes is seen."""
    shared_trunk: bool = False
    """Let the critic see through the actor's layers, up to memory and last layer: about half the
    work where observations are pictures; for critics that see what their agent sees (ippo)."""
    agent_id: bool = False
    """Tell a network that several agents share for which of them it acts."""
    gru_size: int = 0
    """Width of a recurrent layer (GRU) in actor and critic, so that they remember; 0: none."""
    chunk_length: int = 16
    """Steps that gradients go back through memory; must divide n_steps; with gru_size only."""
    normalize_observation: bool = False
    """Shift and scale observations by their running mean and standard deviation."""
    normalize_return: bool = True
    """Let the critic learn how far returns are from their running mean, in standard deviations, so
    that rewards may be of any scale."""
    clip_value: float | None = None
    """Largest change of a value in one update that lowers its loss; none: any."""
    target_kl: float | None = None
    """End an update of a group once its policy has diverged so far; none: never."""

    SECTION: ClassVar[str] = "ppo"
    TRACED: ClassVar[tuple[str, ...]] = (
        "learning_rate", "gamma", "gae_lambda", "clip", "entropy_coef", "value_coef",
        "max_grad_norm", "magnet_rate",
    )  # fmt: skip
    FIXED: ClassVar[tuple[str, ...]] = (
        *LearnerConfig.FIXED, "hidden_sizes", "activation", "network", "average",
    )  # fmt: skip
    SIZES: ClassVar[tuple[str, ...]] = ("hidden_sizes", "gru_size")
    REGISTERED: ClassVar[tuple[str, ...]] = ("network",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_epochs", "n_minibatches"):
            require_count(f"ppo.{name}", getattr(self, name))
        require_number("ppo.learning_rate", self.learning_rate, 0.0, 1.0, above=True)
        for name in ("gamma", "gae_lambda", "magnet_rate", "entropy_end"):
            require_number(f"ppo.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("clip", "max_grad_norm"):
            require_number(f"ppo.{name}", getattr(self, name), 0.0, 1e6, above=True)
        for name in ("entropy_coef", "magnet_coef", "value_coef"):
            require_number(f"ppo.{name}", getattr(self, name), 0.0, 1e6)
        for name in (
            "anneal", "normalize_advantage", "normalize_observation", "normalize_return",
            "agent_id", "shared_trunk", "average",
        ):  # fmt: skip
            value = getattr(self, name)
            require(isinstance(value, bool), f"ppo.{name}", "true or false", value)
        for name in ("clip_value", "target_kl"):
            if getattr(self, name) is not None:
                require_number(f"ppo.{name}", getattr(self, name), 0.0, 1e6, above=True)
        require_count("ppo.gru_size", self.gru_size, 0)
        require(self.gru_size <= MAX_WIDTH, "ppo.gru_size", f"at most {MAX_WIDTH}", self.gru_size)
        require_count("ppo.chunk_length", self.chunk_length)
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
        require(isinstance(self.network, str), "ppo.network", "a name", self.network)
        widths = self.hidden_sizes
        require(isinstance(widths, list | tuple), "ppo.hidden_sizes", "a list of widths", widths)
        require(len(widths) <= MAX_LAYERS, "ppo.hidden_sizes", f"at most {MAX_LAYERS}", len(widths))
        object.__setattr__(self, "hidden_sizes", tuple(widths))
        for width in self.hidden_sizes:
            require_count("ppo.hidden_sizes", width)
            require(width <= MAX_WIDTH, "ppo.hidden_sizes", f"at most {MAX_WIDTH}", width)

    def require_rollout(self, n_envs: int) -> None:
        """Raise a ConfigError unless the minibatches divide the rows of a rollout.

        With memory a row is a sequence of ``chunk_length`` steps.
        """
        rows, what = self.n_steps * n_envs, "ppo.n_steps * n_envs"
        if self.gru_size:
            rows, what = rows // self.chunk_length, f"{what} / ppo.chunk_length"
        expected = f"a divisor of {what} = {rows}"
        require(rows % self.n_minibatches == 0, "ppo.n_minibatches", expected, self.n_minibatches)

    def in_effect(self, progress: float) -> dict[str, float]:
        """Return the learning rate after a share of the updates.

        Example:
            >>> PPOConfig(learning_rate=0.5).in_effect(0.75)
            {'learning_rate': 0.125}
        """
        left = 1.0 - progress if self.anneal else 1.0
        return {"learning_rate": self.learning_rate * left}


DECLARED["ippo"] = Declared(PPOConfig)
DECLARED["mappo"] = Declared(PPOConfig, central=True)
