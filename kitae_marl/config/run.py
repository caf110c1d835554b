"""Configuration of a run: frozen dataclasses, one sentence under each field, stored as JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kitae_marl.config.checks import is_json, require, require_count
from kitae_marl.config.ppo import TRACED, PPOConfig
from kitae_marl.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000
MAX_ENVS = 1 << 20
"""Environments side by side, each with a seed of its own."""
FROZEN = "frozen:"
"""What a seat of a trained agent begins with, before the name of its run."""


def is_seat(value: Any) -> bool:
    """Whether a value names who plays a seat: ``random``, or ``frozen:RUN``."""
    if not isinstance(value, str):
        return False
    return value == "random" or (value.startswith(FROZEN) and value != FROZEN)


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
