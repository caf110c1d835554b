"""The file of a run's league: it only grows, and what is damaged is told and left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kitae_marl.errors import CheckpointWriteError, ConfigError
from kitae_marl.runs.store.league import (
    Games,
    LeagueFile,
    games_event,
    leave_event,
    member_event,
    seats_event,
)

WON = Games(10, "step_0", "a", True, 4, 3, 1, 3.0, -3.0, 0)


@pytest.fixture
def file(tmp_path: Path) -> LeagueFile:
    """A league of two draws."""
    file = LeagueFile(tmp_path)
    file.begin(0, again=False)
    file.append([member_event(0), seats_event(0, ["step_0"])])
    file.append([games_event(WON), member_event(10), seats_event(10, ["step_10"])])
    later = WON._replace(step=20, opponent="step_10")
    file.append([games_event(later), leave_event(20, 0), member_event(20), seats_event(20, [])])
    return file


def test_what_the_disk_refuses_is_not_there_in_part(
    file: LeagueFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.path.read_bytes()

    def refuse(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointWriteError, match="No space left"):
        file.append([games_event(WON._replace(step=30))])
    assert file.path.read_bytes() == before


def test_what_was_written_is_read(file: LeagueFile) -> None:
    recorded = file.read()
    assert recorded.members == [0, 10, 20]
    assert recorded.pool == [10, 20]
    assert recorded.left == {0: 20}
    assert recorded.seats == [(0, ["step_0"]), (10, ["step_10"]), (20, [])]
    assert recorded.games[0] == WON
    assert recorded.games[0].losses == 0
    assert [games.step for games in recorded.games] == [10, 20]


def test_no_file_is_an_empty_league(tmp_path: Path) -> None:
    assert LeagueFile(tmp_path).read() == ([], {}, [], [])


@pytest.mark.parametrize(("again", "left"), [(True, [10]), (False, [10, 20])])
def test_a_run_that_goes_back_forgets_what_came_later(
    file: LeagueFile, again: bool, left: list[int]
) -> None:
    before = file.path.read_bytes()
    file.begin(20, again=again)
    recorded = file.read()
    assert file.path.read_bytes().startswith(before)  # nothing is rewritten
    assert [games.step for games in recorded.games] == left
    assert recorded.members == [0, *left]
    assert recorded.pool == ([0, 10] if again else [10, 20])
    assert recorded.seats[-1][0] == left[-1]


def test_a_torn_last_line_is_left_out_and_the_next_begins_a_new_one(file: LeagueFile) -> None:
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-30])
    with pytest.warns(UserWarning, match=r"line 10 is no event of a league \(the last one is torn"):
        recorded = file.read()
    assert recorded.seats[-1][0] == 10
    file.append([member_event(30)])
    with pytest.warns(UserWarning, match="line 10 is no event"):
        assert file.read().members == [0, 10, 20, 30]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "3",
        "{}",
        '{"event": "member", "step": -1}',
        '{"event": "member", "step": true}',
        '{"event": "member", "step": "10"}',
        '{"event": "seats", "step": 1, "slots": [1]}',
        '{"event": "dance", "step": 1}',
        json.dumps({**games_event(WON), "wins": 4.0}),
        json.dumps({**games_event(WON), "wins": 9}),
        json.dumps({**games_event(WON), "opponent": None}),
        json.dumps({**games_event(WON), "own": None}),
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_a_damaged_line_is_left_out_and_named(file: LeagueFile, line: str) -> None:
    expected = file.read()
    with file.path.open("ab") as out:
        out.write(line.encode("latin-1") + b"\n")
    with pytest.warns(UserWarning, match="line 11 is no event of a league and is left out"):
        assert file.read() == expected


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    file = LeagueFile(tmp_path)
    file.path.mkdir(parents=True)
    with pytest.raises(ConfigError, match="expected a file of events"):
        file.read()
    with pytest.raises(CheckpointWriteError, match="games of the league could not be written"):
        file.append([member_event(0)])
