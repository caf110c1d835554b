"""This file parses the command line.

Options are generated from dataclasses (``cli.options``), those of training from the ``Config``.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union

import tyro
from tyro.conf import subcommand

from kitae_marl.cli.options.exact import Exploit, Solve
from kitae_marl.cli.options.fields import REGISTRY
from kitae_marl.cli.options.games import Bench, Doctor, List, Verify
from kitae_marl.cli.options.hints import require_known
from kitae_marl.cli.options.human import Play
from kitae_marl.cli.options.league import League
from kitae_marl.cli.options.playing import Brackets, Compare, Evaluate
from kitae_marl.cli.options.showing import Export, Plot, Watch
from kitae_marl.cli.options.tournament import Tournament
from kitae_marl.cli.options.training import Runs, Train
from kitae_marl.config.opponents import imports_opponents
from kitae_marl.config.run import Config
from kitae_marl.config.wrapping import imports_wrappers
from kitae_marl.errors import ConfigError

DESCRIPTION = (
    "Train agents on any PettingZoo game, in JAX; evaluate, compare, film and export them. "
    "--version says which version this is; COMMAND --help explains the options of a command."
)
"""What ``--help`` says first."""


class Command(NamedTuple):
    """A command of the program.

    Attributes:
        options: the dataclass of what it takes.
        function: ``module:function`` below ``kitae_marl.cli.commands``: what it does with them. It
            is imported when it is called, so that the command line is parsed without it.
    """

    options: type
    function: str


@dataclass(frozen=True)
class _Unchecked(Train):
    """Train agents on a game and keep the run in a folder.

    Settings that do not fit the defaults may fit those of the run that goes on, so they are checked
    with these.
    """

    def __post_init__(self) -> None:
        """Nothing is checked yet."""


COMMANDS = {
    "train": Command(Train, "training:train"),
    "runs": Command(Runs, "training:show_runs"),
    "evaluate": Command(Evaluate, "playing:evaluate"),
    "compare": Command(Compare, "playing:compare"),
    "brackets": Command(Brackets, "playing:brackets"),
    "watch": Command(Watch, "showing:watch"),
    "tournament": Command(Tournament, "tournament:tournament"),
    "league": Command(League, "league:league"),
    "play": Command(Play, "human:play"),
    "exploit": Command(Exploit, "exact:exploit"),
    "solve": Command(Solve, "exact:solve"),
    "plot": Command(Plot, "plotting:plot"),
    "export": Command(Export, "showing:export"),
    "list": Command(List, "games:list_games"),
    "doctor": Command(Doctor, "games:doctor"),
    "verify": Command(Verify, "games:verify"),
    "bench": Command(Bench, "games:bench"),
}
"""All commands by name, in the order in which ``--help`` lists them."""


def load_function(options: type) -> Callable[[Any], dict[str, Any]]:
    """Import what a command does: a function that takes its options and returns its JSON."""
    functions = {command.options: command.function for command in COMMANDS.values()}
    module, _, name = functions[options].partition(":")
    return getattr(importlib.import_module(f"kitae_marl.cli.commands.{module}"), name)


def parse(args: list[str]) -> Any:
    """Parse a command line.

    ``train --resume`` takes the run's settings as defaults, ``train --config FILE`` those of a
    file.

    Raises:
        ConfigError: for an option that the command does not have; the message says what was meant.
        SystemExit: for what else is wrong, after it was reported, and after ``--help``.
    """
    if not args or args[0] not in COMMANDS:
        commands: Any = Union[
            *(Annotated[c.options, subcommand(name)] for name, c in COMMANDS.items())
        ]
        return tyro.cli(
            commands, args=args, prog="kitae-marl", description=DESCRIPTION, registry=REGISTRY
        )
    name, rest = args[0], args[1:]
    if name != "train":
        return _parse_one(COMMANDS[name].options, name, rest)
    file = _value_of(rest, "--config")
    if file is None and not any(arg.startswith("--resume") for arg in rest):
        return _parse_one(Train, name, rest)
    asked = _parse_one(_Unchecked, name, rest)
    if asked.resumes:
        return _parse_resuming(asked, rest)
    stored = _config_of(asked.config_file)
    if stored.backend == "compiled":  # so a run says where it was; here another game may be given
        stored = dataclasses.replace(stored, backend="auto")
    return _parse_with_defaults(stored, rest, asked)


def _parse_one(options: type, name: str, args: list[str], default: Any = None) -> Any:
    """Parse what follows the name of a command."""
    more = {} if default is None else {"default": default}
    parsed, unknown = tyro.cli(
        options,
        args=args,
        prog=f"kitae-marl {name}",
        registry=REGISTRY,
        return_unknown_args=True,
        **more,
    )
    require_known(unknown, options, name)
    return parsed


def _value_of(args: list[str], option: str) -> str | None:
    """Return what an option is given, if it stands among arguments; its last value counts."""
    found = None
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        if arg == option:
            found = following
        elif arg.startswith(f"{option}="):
            found = arg.removeprefix(f"{option}=")
    return found


def _config_of(path: Path) -> Config:
    """Read a file of settings, a run's ``config.json`` for one, or that of a run's folder.

    Raises:
        ConfigError: if it is none; the message names the file.
    """
    from kitae_marl.runs.store.contents import CONFIG_FILE
    from kitae_marl.runs.store.strict_json import read_json

    file = path / CONFIG_FILE if path.is_dir() else path
    text = json.dumps(read_json(file))
    try:
        return Config.from_json(text)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}", error.key) from None


def _parse_with_defaults(stored: Config, args: list[str], asked: Train, **more: Any) -> Train:
    """Parse the options of training once more, over stored settings."""
    _require_asked(stored, args, asked.allow_import)
    values = {f.name: getattr(stored, f.name) for f in dataclasses.fields(Config)}
    parsed = _parse_one(Train, "train", args, Train(**{**values, **more}))
    if isinstance(stored.own, dict) and isinstance(parsed.own, dict):  # given over stored ones
        parsed = dataclasses.replace(parsed, own={**stored.own, **parsed.own})
    return parsed


def _parse_resuming(asked: Train, args: list[str]) -> Train:
    """Parse the options of training over the settings of the run that goes on."""
    from kitae_marl.runs.store import sets
    from kitae_marl.runs.store.contents import read_config
    from kitae_marl.runs.store.folders import default_name
    from kitae_marl.runs.store.search import find_runs, split_step

    if asked.config_file is not None:
        raise ConfigError(
            "config: expected without --resume, which takes the settings of the run, got both; "
            "give those that are to change as options.",
            "config",
        )
    name, step, policy = split_step(asked.run or "")
    if policy is not None:
        raise ConfigError(
            f"run: expected the name of a run, got {asked.run}; the last policy is what goes on: "
            f"leave @{policy} out.",
            "run",
        )
    if step is not None:
        raise ConfigError(
            f"run: expected the name of a run, got {asked.run}; --run {name} --resume "
            f"--resume-step {step} goes on from that step.",
            "run",
        )
    path = asked.path(asked.run or default_name(asked, asked.seeds))
    stored = read_config(find_runs(path)[0])
    if stored.env_id != asked.env_id and asked.env_id in args:  # else it was not given
        raise ConfigError(
            f"env_id: the run {path.name} trains on {stored.env_id}, got {asked.env_id}; give its "
            "own id, or another --run.",
            "env_id",
        )
    seeds = sets.read_set(path) if sets.is_set(path) else []
    more = {"seed": seeds[0], "seeds": len(seeds)} if seeds else {}
    return _parse_with_defaults(stored, args, asked, **more)


def _require_asked(stored: Config, args: list[str], allow_import: bool) -> None:
    """Raise a ConfigError where a run names code to import that nobody has asked for.

    Its config may come from somebody else; what stands on the command line was asked for.
    """
    from kitae_marl.runs.own_code import require_allowed
    from kitae_marl.vector.ids import imports_code

    def unasked(texts: Iterable[str]) -> list[str]:
        return [t for t in texts if not any(arg == t or arg.endswith(f"={t}") for arg in args)]

    own = stored.own if isinstance(stored.own, dict) else {}
    named = [*stored.modules, *(str(value) for value in own.values())]
    code = {
        "env_id": [stored.env_id] if imports_code(stored.env_id) else [],
        "wrap": imports_wrappers(stored.wrap if _value_of(args, "--wrap") is None else ()),
        "algo": [text for text in named if ":" in text],
        "opponents": imports_opponents(
            stored.opponents if _value_of(args, "--opponents") is None else {}
        ),
    }
    require_allowed({key: unasked(texts) for key, texts in code.items()}, allow_import)
