"""Long calls leave the main thread free to hear signals, and can be given up."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from kitae_marl.loops.long_calls import GivenUpError, LongCall, is_busy
from kitae_marl.runs.terminal import stop_on_signal


def test_results_and_errors_come_back() -> None:
    assert LongCall(lambda: 3).wait(lambda: True, patience=30.0) == 3
    with pytest.raises(ZeroDivisionError):
        LongCall(lambda: 1 // 0).wait()
    assert not is_busy()


def test_only_a_call_that_was_given_up_keeps_busy() -> None:
    """Or the traceback of another fault, meanwhile, would be lost with the process."""
    go_on = threading.Event()
    call = LongCall(lambda: go_on.wait(30.0))
    assert not is_busy()
    go_on.set()
    assert call.wait()


def test_a_signal_is_heard_meanwhile_and_the_call_given_up() -> None:
    heard: list[int] = []
    go_on = threading.Event()
    clock = time.perf_counter()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with stop_on_signal(heard.append), pytest.raises(GivenUpError):
        LongCall(lambda: go_on.wait(30.0)).wait(lambda: bool(heard), patience=0.3)
    assert heard == [signal.SIGTERM]
    assert 0.5 <= time.perf_counter() - clock < 10.0
    assert is_busy()
    go_on.set()
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(10.0)
    assert not is_busy()
