"""This file is the program ``kitae-marl``: it runs a command and ends with a code that tells."""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import suppress
from importlib.metadata import version
from signal import SIGINT, Signals
from typing import Any, NoReturn

from kitae_marl.cli.parsing import COMMANDS, load_function, parse
from kitae_marl.errors import (
    OWN_CODE,
    CheckpointError,
    CheckpointWriteError,
    GameRuleError,
    KitaeError,
    NoCheckpointError,
    RunLockedError,
    TrainingDivergedError,
    VectorEnvError,
)
from kitae_marl.loops.long_calls import is_busy
from kitae_marl.loops.xla import set_up_xla
from kitae_marl.runs.store.files import remove_unfinished
from kitae_marl.runs.terminal import UNREAD, pass_on, plain_warnings, say_error, stop_on_signal

__all__ = ["COMMANDS", "load_function", "main", "parse"]

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
        unread = isinstance(error, BrokenPipeError) or code == 128 + UNREAD
        if _shut_unread_output() and unread:
            _leave_if_busy(128 + UNREAD)
            sys.exit(128 + UNREAD)
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
    if not hasattr(select, "poll"):  # on Windows nothing but writing tells it
        return False
    poll = select.poll()
    poll.register(STANDARD_OUTPUT, 0)  # POLLERR, for a pipe without a reader, comes unasked
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    # Python writes out what is left when it ends, which must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
    return True


def _run(args: list[str]) -> int:
    """Parse and run a command, with warnings as single lines; print its JSON; return exit code."""
    if args and args[0] in ("--version", "-V"):
        print(f"kitae-marl {version('kitae-marl')}", flush=True)
        return 0
    command = parse(args)
    set_up_xla()
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
