"""This file says what was probably meant by an option that a command does not have."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Sequence

from kitae_marl.errors import ConfigError

GAME = "ID"
"""What stands for the id of the game."""
ELSEWHERE: dict[str, str] = {
    "lr": "learning-rate",
    "actor-lr": "learning-rate",
    "total-timesteps": "env-steps",
    "timesteps": "env-steps",
    "total-steps": "env-steps",
    "steps": "env-steps",
    "num-steps": "n-steps",
    "rollout-length": "n-steps",
    "num-envs": "n-envs",
    "num-workers": "n-workers",
    "num-env-runners": "n-workers",
    "batch-size": "n-minibatches",
    "minibatch-size": "n-minibatches",
    "num-minibatches": "n-minibatches",
    "epochs": "n-epochs",
    "update-epochs": "n-epochs",
    "num-epochs": "n-epochs",
    "lambda": "gae-lambda",
    "ent-coef": "entropy-coef",
    "entropy-coeff": "entropy-coef",
    "vf-coef": "value-coef",
    "vf-loss-coeff": "value-coef",
    "clip-range": "clip",
    "clip-coef": "clip",
    "clip-param": "clip",
    "clip-eps": "clip",
    "grad-clip": "max-grad-norm",
    "net-arch": "hidden-sizes",
    "fcnet-hiddens": "hidden-sizes",
    "anneal-lr": "anneal",
    "norm-adv": "normalize-advantage",
    "env": f"{GAME} alone, without an option's name",
    "env-id": f"{GAME} alone, without an option's name",
    "name": "run",
    "run-name": "run",
    "exp-name": "run",
    "num-seeds": "seeds",
    "restore": "resume",
    "load": "init",
    "checkpoint": "step",
    "eval-freq": "eval-every",
    "evaluation-interval": "eval-every",
    "n-eval-episodes": "eval-episodes",
    "save-freq": "save-every",
    "num-episodes": "episodes",
    "n-episodes": "episodes",
    "deterministic": "sample (actions are the most probable ones without it)",
    "output": "out",
}
"""What is called otherwise in stable-baselines3, RLlib, CleanRL and JaxMARL: its name here, without
the section of the settings of an algorithm."""


def option_names(options: type, prefix: str = "") -> list[str]:
    """Return the names of the options of a command, without the dashes before them."""
    names: list[str] = []
    kinds = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        name, kind = field.name.replace("_", "-"), kinds[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            names += option_names(kind, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
            names += [f"{prefix}no-{name}"] if kind is bool else []
    return names


def require_known(unknown: Sequence[str], options: type, command: str) -> None:
    """Raise a ConfigError where arguments are left that a command does not know.

    Args:
        unknown: what is left of the arguments.
        options: the options of the command.
        command: its name.
    """
    if not unknown:
        return
    see = f"`kitae-marl {command} --help` shows all it takes"
    wrong = [text for text in unknown if text.startswith("-") and not text[1:2].isdigit()]
    if not wrong:
        raise ConfigError(f"{command}: expected nothing more, got {' '.join(unknown)!r}; {see}.")
    hints = []
    for text in wrong:
        name = text.lstrip("-").partition("=")[0].replace("_", "-").lower()
        meant = _meant(name, option_names(options))
        hints.append(f"{text} (did you mean {' or '.join(meant)}?)" if meant else text)
    raise ConfigError(f"{command}: expected options that it has, got {', '.join(hints)}; {see}.")


def _meant(name: str, known: Sequence[str]) -> list[str]:
    """Return the options that a name probably stands for, none where none is near."""
    section, _, last = name.rpartition(".")
    # Of options that end alike in several sections, that of the section named, else the first.
    own = [option for option in known if option.startswith(f"{section}.")]
    by_end = {option.rpartition(".")[2]: option for option in [*reversed(known), *own]}
    for text in (name, last):
        other, _, more = ELSEWHERE.get(text, "").partition(" ")
        if other in by_end:
            return [" ".join([f"--{by_end[other]}", more]).strip()]
        if other == GAME and "env-id" in known:
            return [f"{other} {more}"]
    same = [option for option in known if option.rpartition(".")[2] == last]
    near = difflib.get_close_matches(name, known, 2, 0.75)
    near += [by_end[end] for end in difflib.get_close_matches(last, by_end, 2, 0.75)]
    return [f"--{option}" for option in dict.fromkeys([*same, *near])][:2]
