"""This file is the program ``kitae-marl``: it parses the command line, runs a command and ends.

Options are generated from dataclasses (``cli.options``), those of training from the ``Config``.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGPIPE, Signals
from typing import Annotated, Any, NamedTuple, NoReturn, Union

import tyro
from tyro.conf import subcommand

from kitae_marl.cli.options.fields import REGISTRY
from kitae_marl.cli.options.games import Bench, Doctor, List, Verify
from kitae_marl.cli.options.playing import Brackets, Compare, Evaluate
from kitae_marl.cli.options.showing import Export, Plot, Watch
from kitae_marl.cli.options.training import Runs, Train
from kitae_marl.config.run import Config
from kitae_marl.errors import (
    OWN_CODE,
    CheckpointError,
    CheckpointWriteError,
    ConfigError,
    GameRuleError,
    KitaeError,
    NoCheckpointError,
    RunLockedError,
    TrainingDivergedError,
    VectorEnvError,
)
from kitae_marl.loops.long_calls import is_busy
from kitae_marl.runs.store.files import remove_unfinished
from kitae_marl.runs.terminal import pass_on, plain_warnings, say_error, stop_on_signal

DESCRIPTION = (
    "Train agents on any PettingZoo game, in JAX; evaluate, compare, film and export them."
)
"""What ``--help`` says first."""
STANDARD_OUTPUT = 1
"""Its file descriptor."""
REASONS: dict[Any, str] = {
    2: "bad command line; standard error says what was expected",
    130: "stopped by SIGINT",
    143: "stopped by SIGTERM",
}
"""What an exit code means that comes without a message."""
REPORTED = KitaeError | ValueError | TypeError | OSError | ImportError
"""Errors that are reported in one line; of others the traceback is needed."""


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
    "plot": Command(Plot, "showing:plot"),
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
    """Parse a command line; ``train --resume`` takes the run's settings as defaults."""
    resumes = any(arg.startswith("--resume") for arg in args)
    commands: Any = Union[
        *(
            Annotated[_Unchecked if c.options is Train and resumes else c.options, subcommand(name)]
            for name, c in COMMANDS.items()
        )
    ]
    parsed: Any = tyro.cli(
        commands, args=args, prog="kitae-marl", description=DESCRIPTION, registry=REGISTRY
    )
    if not isinstance(parsed, _Unchecked):
        return parsed
    from kitae_marl.runs.store import sets
    from kitae_marl.runs.store.contents import read_config
    from kitae_marl.runs.store.folders import default_name
    from kitae_marl.runs.store.search import find_runs

    name = parsed.run or default_name(parsed, parsed.seeds)
    path = parsed.path(name)
    stored = read_config(find_runs(path)[0])
    if stored.env_id != parsed.env_id:
        raise ConfigError(
            f"env_id: the run {path.name} trains on {stored.env_id}, got {parsed.env_id}; give its "
            "own id, or another --run.",
            "env_id",
        )
    _require_asked(stored, args, parsed.allow_import)
    values = {f.name: getattr(stored, f.name) for f in dataclasses.fields(Config)}
    if sets.is_set(path):
        seeds = sets.read_set(path)
        values |= {"seed": seeds[0], "seeds": len(seeds)}
    rest = args[args.index("train") + 1 :]
    parsed = tyro.cli(
        Train, args=rest, prog="kitae-marl train", default=Train(**values), registry=REGISTRY
    )
    if isinstance(stored.own, dict) and isinstance(parsed.own, dict):  # given over stored ones
        parsed = dataclasses.replace(parsed, own={**stored.own, **parsed.own})
    return parsed


def _require_asked(stored: Config, args: list[str], allow_import: bool) -> None:
    """Raise a ConfigError where a run names code to import that nobody has asked for.

    Its config may come from somebody else; what stands on the command line was asked for.
    """
    own = stored.own if isinstance(stored.own, dict) else {}
    for text in [*stored.modules, *(str(value) for value in own.values())]:
        asked = any(arg == text or arg.endswith(f"={text}") for arg in args)
        if ":" in text and not asked and not allow_import:
            raise ConfigError(
                f"algo: the run was trained with {text}, which is a module to import; add "
                "--allow-import if you trust it.",
                "algo",
            )


def _set_up_xla() -> None:
    """Choose what XLA reads from the environment, where the user has not.

    One thread: networks of the usual size gain nothing from more, and results depend on the number.
    Programs are kept in the user's cache folder, so a second start need not compile.
    """
    os.environ.setdefault("NPROC", "1")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "kitae_marl" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def main(args: list[str] | None = None) -> None:
    """Run a command.

    Exits with 0; with 1 where something failed, or ``verify`` found a difference; with 2 after bad
    input, with 74 where the disk refused a checkpoint, with 130 or 143 after a signal, with 141
    where nobody reads the output any more. With ``--json`` the last line is a JSON object after a
    failure, too: ``error`` and ``exit_code``.
    """
    args = sys.argv[1:] if args is None else args
    early: list[int] = []

    def end(number: int) -> None:
        early.append(number)
        pass_on(number)

    try:
        with stop_on_signal(end, amid_import=lambda number: _stop_at_once(number, args)):
            code = _run(args)
    except BaseException as error:
        if early:
            _stop_at_once(early[0], args)
        code = _exit_code(error)
        unread = isinstance(error, BrokenPipeError) or code == 128 + SIGPIPE
        if _shut_unread_output() and unread:
            _leave_if_busy(128 + SIGPIPE)
            sys.exit(128 + SIGPIPE)
        # What the user's own code raised is shown with its lines, whatever it is.
        known = isinstance(error, REPORTED) and not _of_own_code(error)
        if known:
            say_error(f"error: {error}")
        _end_json(args, str(error) if known else REASONS.get(code, repr(error)), code)
        _leave_if_busy(code, None if known else error)
        if not known and not isinstance(error, KeyboardInterrupt):
            raise
    if code:
        sys.exit(code)


def _of_own_code(error: BaseException) -> bool:
    """Whether a callback or an evaluation of the user's raised an error, as a note on it says."""
    return any(note.startswith(OWN_CODE) for note in getattr(error, "__notes__", ()))


def _end_json(args: list[str], reason: str, code: Any) -> None:
    """With ``--json``, say as JSON that a command has failed."""
    if "--json" in args and code:
        with suppress(OSError):  # a full disk has been reported on standard error already
            print(json.dumps({"error": reason, "exit_code": code}), flush=True)


def _stop_at_once(number: int, args: list[str]) -> NoReturn:
    """End the process after a signal.

    It may have come in the middle of an import, so nothing is imported here, and no thread that may
    need the module is waited for. Workers end with their parent.
    """
    remove_unfinished()
    with suppress(BrokenPipeError):
        print(f"stopped by {Signals(number).name}", file=sys.stderr, flush=True)
        _end_json(args, REASONS[128 + number], 128 + number)
        sys.stdout.flush()
    os._exit(128 + number)


def _leave_if_busy(code: Any, unreported: BaseException | None = None) -> None:
    """End the process at once where a chunk of the compiled loop was given up and still runs.

    All is saved and closed by now; Python would wait for the chunk's end. An error that was not
    reported yet is reported as Python would do it.
    """
    if is_busy():
        if isinstance(unreported, Exception):
            sys.excepthook(type(unreported), unreported, unreported.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _shut_unread_output() -> bool:
    """Shut standard output if it is a pipe whose reader (``head``) has gone; say whether it is."""
    poll = select.poll()
    poll.register(STANDARD_OUTPUT, 0)  # POLLERR, for a pipe without a reader, comes unasked
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    # Python writes out what is left when it ends, which must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
    return True


def _run(args: list[str]) -> int:
    """Parse and run a command, with warnings as single lines; print its JSON; return exit code."""
    command = parse(args)
    _set_up_xla()
    with plain_warnings():
        result = load_function(type(command))(command)
    if command.json:
        from kitae_marl.runs.store.strict_json import json_text

        print(json_text(result), flush=True)
    return int(result.get("ok") is False)


def _exit_code(error: BaseException) -> Any:
    """Tell bad input (2) from what failed on the way (1, or 74 for a checkpoint not written).

    A game that breaks a rule before its first step is bad input, wherever that is noticed.
    """
    if isinstance(error, KeyboardInterrupt):
        return 128 + SIGINT
    if isinstance(error, SystemExit):
        return error.code
    if not isinstance(error, REPORTED) or _of_own_code(error):
        return 1
    if isinstance(error, CheckpointWriteError):
        return 74
    if isinstance(error, GameRuleError) and error.phase != "step":
        return 2
    failed = isinstance(
        error, VectorEnvError | CheckpointError | RunLockedError | TrainingDivergedError
    )
    return 1 if failed and not isinstance(error, NoCheckpointError) else 2
