"""What compiles is announced where it takes long, and left out of the speed."""

from __future__ import annotations

import time

import pytest

from kitae_marl.loops import compiling
from kitae_marl.loops.compiling import FirstAnnounced, announced
from kitae_marl.runs.logger import Logger


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(compiling, "AGAIN_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_it_says_so_and_for_how_long(capsys) -> None:
    told, other = (Logger(None, total_steps=8, show=show) for show in (True, False))
    with announced("the program", told, None, other):
        time.sleep(0.3)
    first, *again, last = capsys.readouterr().out.splitlines()
    assert first == "compiling the program, which is done once ..."
    assert again
    assert all("still compiling the program, for" in line for line in again)
    assert last == "compiled the program in 0 s"
    assert told.left_out == other.left_out >= 0.3


def test_what_is_quick_needs_no_word(capsys) -> None:
    logger = Logger(None, total_steps=8)
    with announced("the program", logger):
        pass
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("impatient")
def test_an_error_is_raised_and_nothing_is_said_to_be_done(capsys) -> None:
    logger = Logger(None, total_steps=8)
    call = FirstAnnounced(lambda: time.sleep(0.1) or 1 // 0, "the program", logger)
    with pytest.raises(ZeroDivisionError):
        call()
    assert "compiled" not in capsys.readouterr().out


def test_of_the_first_call_what_a_later_one_takes_is_training() -> None:
    logger, seconds = Logger(None, total_steps=8, show=False), [0.3, 0.1, 0.1]
    call = FirstAnnounced(lambda k: time.sleep(seconds[k]) or k, "the update", logger)
    assert [call(k) for k in range(3)] == [0, 1, 2]
    assert logger.left_out == pytest.approx(0.2, abs=0.05)
