"""Configuration of a run: frozen dataclasses, one sentence under each field, stored as JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kitae_marl.config.alphazero import AlphaZeroConfig
from kitae_marl.config.checks import is_grouping, is_json, require, require_count
from kitae_marl.config.counts import NEWEST, read_keep, require_reached, whole
from kitae_marl.config.described import described
from kitae_marl.config.learner import DECLARED, LearnerConfig
from kitae_marl.config.opponents import FROZEN as FROZEN
from kitae_marl.config.opponents import Opponents
from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.table import TableConfig as TableConfig
from kitae_marl.config.wrapping import require_wrappers
from kitae_marl.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000
MAX_ENVS = 1 << 20
"""Environments side by side, each with a seed of its own."""
SECTIONS: dict[str, type[LearnerConfig]] = {
    settings.SECTION: settings for settings in (PPOConfig, AlphaZeroConfig)
}
"""Fields of the Config that hold the settings of one family of algorithms each."""


def is_seat(value: Any) -> bool:
    """Whether a value names who plays a seat: ``random``, or ``frozen:RUN``."""
    if not isinstance(value, str):
        return False
    return value == "random" or (value.startswith(FROZEN) and value != FROZEN)


@described
@dataclass(frozen=True)
class Config:
    """Everything that decides what a run learns; ``config.json`` of the run folder."""

    env_id: str = "mpe/simple_spread-v3"
    """Id of the game, as listed by ``kitae-marl list``."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the game; values as in JSON."""
    wrap: tuple[str, ...] = ()
    """Wrappers around the game, the first innermost: ``pictures:84,84`` for small grey pictures
    with their past (``pictures:42,42,skip=4`` repeats actions, too), ``supersuit.clip_reward_v0``,
    or your own as module.name."""
    max_episode_steps: int | None = None
    """Truncate episodes of that many steps; None: they end by themselves."""
    strict_bounds: bool = False
    """Stop where an observation lies outside its declared Box, instead of one warning."""
    seats: dict[str, str] = field(default_factory=dict)
    """Who plays the agents that do not learn: ``random`` or ``frozen:RUN`` by pattern of names,
    with RUN the name of a run in the runs folder; ``frozen:RUN@STEP`` names its checkpoint."""
    opponents: dict[str, Any] = field(default_factory=dict)
    """Who plays the other seats in which share of the environments: ``{"latest": 0.5, "pool":
    0.5}``, with settings of the pool beside them; ``kitae_marl.Opponents`` explains both."""
    groups: dict[str, Any] = field(default_factory=dict)
    """Agents that are stacked together and may share a network, by the group's name: a list of
    names and patterns, ``{"team": ["alice", "bob"], "rest": ["p_*_red"]}``. The others are grouped
    by spaces and by name before a trailing number."""
    algo: str = "ippo"
    """Learning algorithm: ippo or mappo, which differ in what the critic sees (its agent's view,
    or the game); alphazero, which searches, in games of two that hide nothing; or one of your own,
    by its registered name or as module:name."""
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
    keep: int | str = NEWEST
    """Checkpoints that stay: that many, the newest; ``all``; or ``every:500k``, for good the first
    at or after each 500,000 steps. The one that was evaluated best stays beside them."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Settings of the PPO family: ippo and mappo."""
    alphazero: AlphaZeroConfig = field(default_factory=AlphaZeroConfig)
    """Settings of alphazero."""
    own: Any = None
    """Settings of an algorithm of your own: of the class it declares, or a dict of them."""

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
        self._check_opponents()
        expected = "a list of names or patterns by name of the group"
        require(is_grouping(self.groups), "groups", expected, self.groups)
        for name, settings in SECTIONS.items():
            value = getattr(self, name)
            require(isinstance(value, settings), name, f"a {settings.__name__}", value)
        backends = ("auto", "compiled", "python")
        require(self.backend in backends, "backend", f"one of {backends}", self.backend)
        require_count("seed", self.seed, 0)
        require(self.seed < 2**31 - MAX_ENVS, "seed", "a seed below 2**31 - 2**20", self.seed)
        for name in ("n_envs", "env_steps", "save_every"):
            object.__setattr__(self, name, whole(getattr(self, name)))
            require_count(name, getattr(self, name))
        require_reached(read_keep(self.keep), self.save_every)
        self._check_vector()
        require(self.n_envs <= MAX_ENVS, "n_envs", f"at most {MAX_ENVS}", self.n_envs)
        self._check_learner()
        joint_steps = self.n_updates * self.learner.n_steps  # counted in uint32, as keys are
        most = (2**32 - 1) * self.n_envs
        require(joint_steps < 2**32, "env_steps", f"at most {most} steps", self.env_steps)
        self.learner.require_rollout(self.n_envs)
        require(
            not (self.central and self.ppo.shared_trunk),
            "ppo.shared_trunk",
            f"false with {self.algo}, whose critic sees more than the actor",
            self.ppo.shared_trunk,
        )

    def _check_opponents(self) -> None:
        """Check who plays the other seats, and keep it as a dict, as JSON has it."""
        others = Opponents.of(self.opponents)
        object.__setattr__(self, "opponents", {} if others is None else others.to_dict())
        storable = is_json(self.opponents)
        require(storable, "opponents", "values as in JSON, functions as module:name", others)
        require(not (others and self.seats), "seats", "nothing beside opponents", self.seats)

    @property
    def others(self) -> Opponents | None:
        """Who plays the other seats; None: the learner, or those of ``seats``."""
        return Opponents.of(self.opponents)

    def _check_vector(self) -> None:
        """Check what says how games in Python are stepped."""
        if self.n_workers is not None:
            require_count("n_workers", self.n_workers, 0)
        if self.max_episode_steps is not None:
            require_count("max_episode_steps", self.max_episode_steps)
        object.__setattr__(self, "wrap", require_wrappers(self.wrap))
        require(isinstance(self.strict_bounds, bool), "strict_bounds", "a bool", self.strict_bounds)
        for name, why in (
            ("n_workers", "None with the compiled backend, which has no workers"),
            ("max_episode_steps", "None with the compiled backend, whose games end by themselves"),
            ("strict_bounds", "False with the compiled backend, whose games were compared"),
            ("wrap", "nothing with the compiled backend, whose games are as they are"),
        ):
            value = getattr(self, name)
            given = value is not None and value is not False and value != ()
            require(self.backend != "compiled" or not given, name, why, value)

    @property
    def needs_python(self) -> bool:
        """Whether a setting is given that only games in Python have."""
        given = self.n_workers is not None or self.max_episode_steps is not None
        return given or self.strict_bounds or bool(self.wrap)

    def vector_options(self) -> dict[str, Any]:
        """Return the options of the vector that steps the games in Python."""
        options: dict[str, Any] = {"with_state": None} if self.central else {}
        if self.max_episode_steps is not None:
            options["max_episode_steps"] = self.max_episode_steps
        return options | ({"strict_bounds": True} if self.strict_bounds else {})

    def _check_learner(self) -> None:
        """Check the algorithm's name, and that no settings are given that it would not read."""
        known = isinstance(self.algo, str) and (self.algo in DECLARED or ":" in self.algo)
        # Settings as a dict may be those of a run whose algorithm is not registered here.
        stored = isinstance(self.own, dict) and bool(self.own)
        expected = f"one of {sorted(DECLARED)}, or module:name"
        require(known or (isinstance(self.algo, str) and stored), "algo", expected, self.algo)
        settings = DECLARED[self.algo].settings if self.algo in DECLARED else LearnerConfig
        if settings.SECTION != "own":
            require(not self.own, "own", f"nothing, {self.algo} reads {settings.SECTION}", self.own)
        elif self.algo in DECLARED:
            own = {} if self.own is None else self.own
            own = _build(settings, own, "own.") if isinstance(own, dict) else own
            require(isinstance(own, settings), "own", f"a {settings.__name__}", own)
            as_stored = "values as in JSON, with which config.json can keep them"
            require(is_json(_without_tuples(dataclasses.asdict(own))), "own", as_stored, own)
            object.__setattr__(self, "own", own)
        else:
            expected = f"a dict, or {self.algo} to be registered before (kitae_marl.register)"
            require(self.own is None or isinstance(self.own, dict), "own", expected, self.own)
        for section, other in SECTIONS.items():
            value = getattr(self, section)
            unread = section == settings.SECTION or value == other()
            require(unread, section, f"nothing, {self.algo} reads {settings.SECTION}", value)

    @property
    def learner(self) -> LearnerConfig:
        """Settings of the run's algorithm; of one that is not registered, what all have."""
        if self.algo not in DECLARED:
            shared = [f.name for f in dataclasses.fields(LearnerConfig)]
            return LearnerConfig(**{k: v for k, v in (self.own or {}).items() if k in shared})
        settings = DECLARED[self.algo].settings
        value = getattr(self, settings.SECTION)
        return _build(settings, value, "own.") if isinstance(value, dict) else value

    @property
    def section(self) -> str:
        """Name of the field that holds the settings of the run's algorithm."""
        return self.learner.SECTION

    @property
    def modules(self) -> list[str]:
        """What the settings name as ``module:name``, code to import: algorithm and networks."""
        learner = self.learner
        named = [self.algo, *(getattr(learner, name) for name in learner.REGISTERED)]
        return [text for text in named if ":" in text]

    @property
    def central(self) -> bool:
        """Whether the algorithm learns from the game's global state, where there is one."""
        return self.algo in DECLARED and DECLARED[self.algo].central

    @property
    def needs_compiled(self) -> bool:
        """Whether the algorithm learns on compiled games alone."""
        return self.algo in DECLARED and DECLARED[self.algo].compiled

    def with_learner(self, settings: LearnerConfig) -> Config:
        """Return this config with other settings of its algorithm."""
        return dataclasses.replace(self, **{self.section: settings})

    def with_simulations(self, simulations: int) -> Config:
        """Return this config with a number of simulations when it plays; 0: without search.

        Raises:
            ConfigError: if the algorithm does not search, or for what is no such number.
        """
        learner = self.learner
        if not learner.SIMULATIONS:
            raise ConfigError(
                f"simulations: expected an algorithm that searches, such as alphazero, got "
                f"{self.algo}, which plays by its network alone; leave simulations out.",
                "simulations",
            )
        require_count("simulations", simulations, 0)
        return self.with_learner(dataclasses.replace(learner, **{learner.SIMULATIONS: simulations}))

    @property
    def rollout_size(self) -> int:
        """Environment steps between two updates."""
        return self.learner.n_steps * self.n_envs

    @property
    def n_updates(self) -> int:
        """Updates of the whole run: enough to take ``env_steps``."""
        return -(-self.env_steps // self.rollout_size)

    @property
    def n_joint_steps(self) -> int:
        """Joint steps of the whole run, each of them a step of every environment."""
        return self.n_updates * self.learner.n_steps

    def to_json(self) -> str:
        """Return the configuration as JSON text, with the settings of its algorithm alone."""
        values = dataclasses.asdict(self)
        unread = {*SECTIONS, "own"} - {self.section}
        return json.dumps({k: v for k, v in values.items() if k not in unread}, indent=2) + "\n"

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


def _without_tuples(value: Any) -> Any:
    """Return a value with lists for its tuples, as JSON has them."""
    if isinstance(value, dict):
        return {key: _without_tuples(part) for key, part in value.items()}
    return [*map(_without_tuples, value)] if isinstance(value, list | tuple) else value


def _build(cls: Any, data: Any, prefix: str) -> Any:
    """Build a dataclass from a dict, refusing unknown keys."""
    require(isinstance(data, dict), prefix.rstrip(".") or "config", "an object", data)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        key = f"{prefix}{unknown[0]}"
        raise ConfigError(f"{key}: unknown key; expected one of {sorted(fields)}.", key)
    nested = {} if prefix else SECTIONS
    values = {
        name: _build(nested[name], value, f"{name}.") if name in nested else value
        for name, value in data.items()
    }
    for name, value in values.items():  # JSON has no tuples
        if isinstance(value, list) and isinstance(fields[name].default, tuple):
            values[name] = tuple(value)
    return cls(**values)


def differing(configs: Sequence[Config]) -> dict[str, list[float]]:
    """Return the traced settings that differ between configs, a value for each config.

    Raises:
        ConfigError: if they differ in anything else but the seed.
    """
    first = configs[0]
    names = first.learner.TRACED
    varied: dict[str, list[float]] = {}
    for name in names if all(config.algo == first.algo for config in configs) else ():
        values = [float(getattr(config.learner, name)) for config in configs]
        if any(value != values[0] for value in values):
            varied[name] = values
    same = {name: getattr(first.learner, name) for name in names}
    for config in configs:
        alike = config.algo == first.algo
        if not alike or with_traced(dataclasses.replace(config, seed=first.seed), same) != first:
            raise ConfigError(
                f"expected runs that differ in the seed and in {', '.join(names)} at most, got "
                f"{first} and {config}; train the others by themselves."
            )
    return varied


def with_traced(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a config with settings of its algorithm that may be traced arrays, unchecked."""
    other = copy.copy(config)
    other.__dict__[config.section] = config.learner.traced(values)
    return other


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Return the values in which two configurations differ, ``{dotted key: (old, new)}``."""
    flat_old, flat_new = (flat(config) for config in (old, new))
    return {
        key: (flat_old.get(key), value)
        for key, value in flat_new.items()
        if key not in flat_old or flat_old[key] != value
    }


def flat(config: Config) -> dict[str, Any]:
    """Return all settings by key, those of the algorithm under dotted keys, ``ppo.gamma``."""
    values = dataclasses.asdict(config)
    flat = {key: value for key, value in values.items() if key not in (*SECTIONS, "own")}
    return flat | {f"{config.section}.{k}": v for k, v in (values[config.section] or {}).items()}
