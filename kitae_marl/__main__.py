"""The program ``kitae-marl``, also called by ``python -m kitae_marl``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line; until it can be, too, Ctrl-C ends the process with one line."""
    signal.signal(signal.SIGINT, _stop)
    from kitae_marl.cli import main as run  # takes a quarter of a second

    run()


def _stop(number: int, frame: object) -> None:
    """End the process: to raise in the middle of an import would end in a traceback."""
    del frame
    os.write(sys.stderr.fileno(), f"stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
