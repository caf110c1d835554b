"""What a person at the terminal is told: here of signals that cannot be handled yet."""

from __future__ import annotations

import signal
import subprocess
import sys

BLIND = """
import hashlib
from kitae_marl.runs.terminal import answering_signals, stop_on_signal
with stop_on_signal(print), answering_signals("it ends after this"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # in C, for minutes
"""


def test_a_signal_amid_a_long_call_is_answered_and_a_second_one_ends_it():
    with subprocess.Popen(
        [sys.executable, "-c", BLIND], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        line = process.stdout.readline()
        assert line == "SIGINT: it ends after this; a second signal ends it at once\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
