"""Configuration of a run: frozen dataclasses, one sentence under each field, stored as JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from kitae_marl.config.checks import is_json, require, require_count, require_number
from kitae_marl.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000
MAX_WIDTH = 1 << 14
"""Width of the widest layer; a run folder from elsewhere must not fill the memory."""
MAX_ENVS = 1 << 20
"""Environments side by side, each with a seed of its own."""
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
FROZEN = "frozen:"
"""What a seat of a trained agent begins with, before the name of its run."""
CENTRAL = ("mappo",)
"""Algorithms whose critics see the whole game."""

Sharing: TypeAlias = bool | dict[str, Literal["shared", "independent"]]
"""Whether agents of a group share parameters: all or none, or by patterns of agents' names."""


def is_seat(value: Any) -> bool:
    """Whether a value names who plays a seat: ``random``, or ``frozen:RUN``."""
    if not isinstance(value, str):
        return False
    return value == "random" or (value.startswith(FROZEN) and value != FROZEN)


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


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run learns; ``config.json`` of the run folder."""

    env_id: str = "mpe/simple_spread-v3"
    """Id of the game, as listed by ``kitae-marl list``."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the game; values as in JSON."""
    seats: dict[str, str] = field(default_factory=dict)
    """Who plays the agents that do not learn: ``random`` or ``frozen:RUN`` by pattern of names,
    with RUN the name of a run in the runs folder."""
    algo: Literal["ippo", "mappo"] = "ippo"
    """Learning algorithm; they differ in what the critic sees: its agent's view, or the game."""
    backend: Literal["auto", "compiled", "python"] = "auto"
    """Where the games run: inside XLA, in Python, or inside XLA where the game has a twin there."""
    seed: int = 0
    """Seed of everything random; environment i is seeded seed + i."""
    n_envs: int = 16
    """Environments stepped side by side."""
    n_workers: int | None = None
    """Worker processes for games in Python; None: one per core; 0: none but this process."""
    env_steps: int = 500_000
    """Steps of single environments, all together; rounded up to whole updates."""
    save_every: int = 50_000
    """Environment steps between two checkpoints; the last state is always saved."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Settings of the PPO family."""

    def __post_init__(self) -> None:
        require(isinstance(self.env_id, str) and bool(self.env_id), "env_id", "an id", self.env_id)
        require(isinstance(self.env_kwargs, dict), "env_kwargs", "a dict", self.env_kwargs)
        require(is_json(self.env_kwargs), "env_kwargs", "values as in JSON", self.env_kwargs)
        require(
            isinstance(self.seats, dict)
            and all(isinstance(p, str) and is_seat(seat) for p, seat in self.seats.items()),
            "seats",
            f"'random' or '{FROZEN}RUN' by pattern",
            self.seats,
        )
        require(isinstance(self.ppo, PPOConfig), "ppo", "a PPOConfig", self.ppo)
        require(self.algo in ("ippo", "mappo"), "algo", "ippo or mappo", self.algo)
        backends = ("auto", "compiled", "python")
        require(self.backend in backends, "backend", f"one of {backends}", self.backend)
        require_count("seed", self.seed, 0)
        require(self.seed < 2**31 - MAX_ENVS, "seed", "a seed below 2**31 - 2**20", self.seed)
        for name in ("n_envs", "env_steps", "save_every"):
            require_count(name, getattr(self, name))
        if self.n_workers is not None:
            require_count("n_workers", self.n_workers, 0)
            require(
                self.backend != "compiled",
                "n_workers",
                "None with the compiled backend, which has no workers",
                self.n_workers,
            )
        require(self.n_envs <= MAX_ENVS, "n_envs", f"at most {MAX_ENVS}", self.n_envs)
        ppo, rows = self.ppo, self.ppo.n_steps * self.n_envs
        what = "ppo.n_steps * n_envs"
        if ppo.gru_size:
            rows, what = rows // ppo.chunk_length, f"{what} / ppo.chunk_length"
        joint_steps = self.n_updates * self.ppo.n_steps  # keys and compiled games count in uint32
        most = (2**32 - 1) * self.n_envs
        require(joint_steps < 2**32, "env_steps", f"at most {most} steps", self.env_steps)
        require(
            rows % self.ppo.n_minibatches == 0,
            "ppo.n_minibatches",
            f"a divisor of {what} = {rows}",
            self.ppo.n_minibatches,
        )

    @property
    def rollout_size(self) -> int:
        """Environment steps between two updates."""
        return self.ppo.n_steps * self.n_envs

    @property
    def n_updates(self) -> int:
        """Updates of the whole run: enough to take ``env_steps``."""
        return -(-self.env_steps // self.rollout_size)

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read ``to_json`` back.

        Raises:
            ConfigError: for text that is not JSON, is over 1 MB, or has an unknown key or a value
                out of range; the message names the key.
        """
        if not isinstance(text, str):
            raise ConfigError(f"expected a config as JSON text, got {type(text).__name__}.")
        if len(text.encode(errors="surrogatepass")) > MAX_CONFIG_BYTES:
            raise ConfigError(f"expected a config of at most {MAX_CONFIG_BYTES} bytes, got more.")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"expected a config in JSON, got text that is not: {error}."
            ) from None
        return _build(cls, data, "")


def _build(cls: Any, data: Any, prefix: str) -> Any:
    """Build a dataclass from a dict, refusing unknown keys."""
    require(isinstance(data, dict), prefix.rstrip(".") or "config", "an object", data)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        key = f"{prefix}{unknown[0]}"
        raise ConfigError(f"{key}: unknown key; expected one of {sorted(fields)}.", key)
    nested = {"ppo": PPOConfig}
    values = {
        name: _build(nested[name], value, f"{name}.") if name in nested and not prefix else value
        for name, value in data.items()
    }
    return cls(**values)


def differing(configs: Sequence[Config]) -> dict[str, list[float]]:
    """Return the settings in ``TRACED`` that differ between configs, a value for each config.

    Raises:
        ConfigError: if they differ in anything else but the seed.
    """
    first = configs[0]
    varied: dict[str, list[float]] = {}
    for name in TRACED:
        values = [getattr(config.ppo, name) for config in configs]
        if any(value != values[0] for value in values):
            varied[name] = values
    for config in configs:
        same = {name: getattr(first.ppo, name) for name in TRACED}
        ppo = dataclasses.replace(config.ppo, **same)
        if dataclasses.replace(config, seed=first.seed, ppo=ppo) != first:
            raise ConfigError(
                f"expected runs that differ in the seed and in {', '.join(TRACED)} at most, got "
                f"{first} and {config}; train the others by themselves."
            )
    return varied


def with_traced(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a config with settings of PPO that may be traced arrays; they are not checked."""
    ppo = copy.copy(config.ppo)
    for name, value in values.items():
        object.__setattr__(ppo, name, value)
    return dataclasses.replace(config, ppo=ppo)


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Return the values in which two configurations differ, ``{dotted key: (old, new)}``."""
    flat_old, flat_new = (_flat(dataclasses.asdict(config)) for config in (old, new))
    return {
        key: (flat_old[key], value) for key, value in flat_new.items() if flat_old[key] != value
    }


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Put the settings of the algorithm beside the others, under dotted keys."""
    flat = {key: value for key, value in values.items() if key != "ppo"}
    return flat | {f"ppo.{key}": value for key, value in values["ppo"].items()}
