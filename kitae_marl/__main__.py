"""This file starts the program ``kitae-marl``, also by ``python -m kitae_marl``."""

import os
import signal
import sys
from typing import Any


def main() -> None:
    """Run the command line; while that is imported, too, Ctrl-C ends the process with one line."""
    signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _report
    from kitae_marl.cli.main import main as run  # takes a quarter of a second

    run()


def _stop(number: int, frame: object) -> None:
    """End the process: to raise in the middle of an import would end in a traceback."""
    del frame
    os.write(sys.stderr.fileno(), f"stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def _report(unraisable: Any) -> None:
    """Report an error that could not be raised, unless nobody needs to know of it.

    Where the disk refuses one array of a checkpoint, Orbax closes its event loop; TensorStore's
    threads then cannot report the other arrays to it, and Python would print that for each of them.
    """
    trace = unraisable.exc_traceback
    name = "" if trace is None else trace.tb_frame.f_code.co_name
    alone = name == "call_soon_threadsafe"  # as the outermost call: C called it
    if not (alone and str(unraisable.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
