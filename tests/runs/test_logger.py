"""Metrics on the disk and on the terminal; logging never stops training."""

from __future__ import annotations

import csv
import struct
import sys
from pathlib import Path

import pytest

from kitae_marl.config.ppo import PPOConfig
from kitae_marl.config.run import Config
from kitae_marl.runs import board, terminal
from kitae_marl.runs import logger as module
from kitae_marl.runs.board import FLUSH_SECONDS, BoardFile
from kitae_marl.runs.logger import Logger
from kitae_marl.runs.store.metrics import MetricsFile
from kitae_marl.runs.terminal import PlainDisplay, make_display, say, say_error
from kitae_marl.types import RunWriter


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Steps and scalars of the TensorBoard files, in the order in which they were written."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted((path / "logs").iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            values = {v.tag: v.simple_value for v in event.summary.value}
            if values:
                found.append((event.step, values))
    return found


def make(path: Path | None, **options) -> Logger:
    return Logger(path, **{"total_steps": 100, "show": False, **options})


class TestLogger:
    def test_it_is_the_writer_that_the_loops_ask_for(self):
        logger = make(None)
        assert isinstance(logger, RunWriter)
        logger.add_mean("x", 2.0, 3)
        logger.add_scalar("x", 6.0, 1)
        assert logger.flush_step(1)["x"] == 3.0
        assert "x" not in logger.flush_step(2)

    def test_means_since_the_last_row(self, tmp_path):
        logger = make(tmp_path)
        for value in (1.0, 2.0, 6.0):
            logger.add_scalar("return/mean", value, 5)
        logger.add_scalar("update/loss", 0.5, 10)
        values = logger.flush_step(10)
        assert list(values) == ["return/mean", "update/loss", "speed/env_steps_per_s"]
        assert (values["return/mean"], values["update/loss"]) == (3.0, 0.5)
        logger.add_scalar("update/loss", 0.25, 20)
        logger.flush_step(20)
        logger.close()
        first, second = rows(tmp_path)
        assert (first["step"], first["return/mean"], first["update/loss"]) == ("10", "3.0", "0.5")
        assert (second["return/mean"], second["update/loss"]) == ("", "0.25")
        assert float(first["speed/env_steps_per_s"]) > 0
        scalars = [(step, v["update/loss"]) for step, v in events(tmp_path) if "update/loss" in v]
        assert scalars == [(10, 0.5), (20, 0.25)]

    def test_compiling_is_left_out_of_the_speed(self, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
        logger = make(None)
        now[0] += 60.0
        logger.leave_out(50.0)
        assert logger.flush_step(100)["speed/env_steps_per_s"] == pytest.approx(10.0)
        assert logger.left_out == 50.0

    def test_settings_are_shown_and_what_is_annealed_is_logged(self, tmp_path):
        config = Config(env_steps=4 * 2048, ppo=PPOConfig(learning_rate=0.4))
        logger = make(tmp_path, config=config)
        for step in (2048, 4096, 8192):
            logger.flush_step(step)
        logger.close()
        rates = [float(row["update/learning_rate"]) for row in rows(tmp_path)]
        assert rates == pytest.approx([0.4, 0.3, 0.1])
        tags = [tag for _, values in events(tmp_path) for tag in values]
        assert tags[:3] == [
            "config/text_summary",
            "_hparams_/experiment",
            "_hparams_/session_start_info",
        ]
        (file,) = (tmp_path / "logs").iterdir()
        assert b'"learning_rate": 0.4' in file.read_bytes()
        assert b"ppo.learning_rate" in file.read_bytes()

    def test_settings_that_no_64_bits_hold_are_shown_as_text(self, tmp_path):
        board = BoardFile(tmp_path / "logs", 0)
        board.describe({"own.large": 10**30, "own.list": [1]}, "{}")
        board.close()
        (file,) = (tmp_path / "logs").iterdir()
        assert str(10**30).encode() in file.read_bytes()

    def test_returns_are_averaged_over_the_last_episodes(self):
        logger = make(None)
        for i in range(module.WINDOW + 50):
            logger.add_scalar("return/mean", float(i), i)
            logger.add_scalar("update/loss", float(i), i)
            logger.flush_step(i)
        assert logger.means() == {"return/mean": 50 + (module.WINDOW - 1) / 2}

    def test_a_column_that_comes_late_does_not_spoil_the_file(self, tmp_path):
        logger = make(tmp_path)
        for i, tag in enumerate(("a", "b", "a")):
            logger.add_scalar(tag, float(i), i)
            logger.flush_step(10 * i)
        logger.close()
        assert [(row["a"], row["b"]) for row in rows(tmp_path)] == [
            ("0.0", ""),
            ("", "1.0"),
            ("2.0", ""),
        ]

    def test_nothing_is_written_without_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        logger = make(None)
        logger.add_scalar("x", 1.0, 1)
        logger.flush_step(1)
        logger.close()
        assert list(tmp_path.iterdir()) == []

    def test_resume_drops_what_came_after_the_checkpoint(self, tmp_path):
        logger = make(tmp_path)
        for step in (10, 20, 30):
            logger.add_scalar("x", float(step), step)
            logger.flush_step(step)
        logger.close()
        logger = make(tmp_path, resume_step=20)
        logger.add_scalar("x", 31.0, 30)
        logger.flush_step(30)
        logger.close()
        assert [(r["step"], r["x"]) for r in rows(tmp_path)] == [
            ("10", "10.0"),
            ("20", "20.0"),
            ("30", "31.0"),
        ]
        assert len(list((tmp_path / "logs").iterdir())) == 2

    @pytest.mark.parametrize("tail", ["3", "30,", ",,", "x,1.0\n", "25,1.0,2.0,3.0,4.0\n", "\x00"])
    def test_a_torn_or_foreign_line_does_not_stop_a_resume(self, tmp_path, tail):
        logger = make(tmp_path)
        logger.add_scalar("x", 1.0, 10)
        logger.flush_step(10)
        logger.close()
        with (tmp_path / "metrics.csv").open("a") as file:
            file.write(tail)
        logger = make(tmp_path, resume_step=20)
        logger.add_scalar("x", 2.0, 30)
        logger.flush_step(30)
        logger.close()
        kept = rows(tmp_path)
        assert [(row["step"], row["x"]) for row in kept] == [("10", "1.0"), ("30", "2.0")]


def records(data: bytes) -> list[bytes]:
    """The whole records of a TensorBoard file, every checksum compared; a torn tail is left out."""
    from tensorboardX.crc32c import crc32c

    def masked(part: bytes) -> int:
        crc = crc32c(part)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    found = []
    while len(data) >= 12:
        length, check = struct.unpack("<QI", data[:12])
        assert check == masked(data[:8])
        if len(data) < 12 + length + 4:
            break
        record = data[12 : 12 + length]
        assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked(record),)
        found.append(record)
        data = data[16 + length :]
    return found


@pytest.mark.faults
class TestTornFiles:
    """A killed trainer: what was written can be read, up to the step of the checkpoint."""

    def test_records_are_whole_up_to_a_torn_tail(self, tmp_path):
        logger = make(tmp_path)
        for step in range(1, 6):
            logger.add_scalar("x", float(step), step)
            logger.flush_step(step)
        logger.close()
        (file,) = (tmp_path / "logs").iterdir()
        data = file.read_bytes()
        whole = records(data)
        assert len(whole) == 1 + 5
        for cut in range(1, 40):
            assert records(data[:-cut]) == whole[: len(records(data[:-cut]))]
            assert len(records(data[:-cut])) >= 4

    def test_steps_after_the_checkpoint_are_made_void(self, tmp_path):
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        for resume_step in (0, 20):
            logger = make(tmp_path, resume_step=resume_step)
            for step in (10, 20, 30):
                if step > resume_step:
                    logger.add_scalar("x", float(step), step)
                    logger.flush_step(step)
            logger.close()
        newest = max((tmp_path / "logs").iterdir(), key=lambda path: path.name.rsplit(".", 1)[1])
        loaded = [Event.FromString(record) for record in records(newest.read_bytes())]
        starts = [e.step for e in loaded if e.session_log.status == SessionLog.START]
        assert starts == [21]

    def test_little_is_lost_without_a_close(self, tmp_path, monkeypatch):
        monkeypatch.setattr(board, "FLUSH_SECONDS", 0.0)
        logger = make(tmp_path)
        logger.add_scalar("x", 1.0, 1)
        logger.flush_step(1)
        (file,) = (tmp_path / "logs").iterdir()
        assert len(records(file.read_bytes())) == 2
        assert 0 < FLUSH_SECONDS <= 10
        logger.close()


class TestRefusingDisk:
    def test_a_write_that_fails_costs_one_warning_and_the_logs(self, tmp_path, monkeypatch):
        logger = make(tmp_path)

        def refuse(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(MetricsFile, "append", refuse)
        logger.add_scalar("x", 1.0, 1)
        with pytest.warns(UserWarning, match=r"No space left on device.*training goes on"):
            logger.flush_step(1)
        logger.add_scalar("x", 2.0, 2)
        # No second warning, which would be an error here.
        assert logger.flush_step(2)["x"] == 2.0
        logger.close()

    def test_a_folder_that_cannot_be_written_too(self, tmp_path):
        (tmp_path / "logs").write_text("a file in the way")
        with pytest.warns(UserWarning, match="training goes on"):
            logger = make(tmp_path)
        logger.flush_step(1)
        logger.close()


class TestTerminal:
    def test_plain_lines_at_most_one_a_second_and_the_last(self, capsys):
        display = PlainDisplay(500_000)
        for step in (12_288, 12_300, 12_400, 500_000):
            display.update(step, 1000.4, "return/mean -26.33")
        display.close()
        assert capsys.readouterr().out.splitlines() == [
            "step 12288/500000  1000 env steps/s, 8.1 min left  return/mean -26.33",
            "step 500000/500000  1000 env steps/s  return/mean -26.33",
        ]

    def test_zero_sum_games_show_sides_and_win_rates(self, capsys):
        """Their mean is zero whatever was learned; one that is not zero is shown."""
        logger = make(None, show=True)
        for agent, value in (("x", 0.5), ("o", -0.5), ("mean", 0.0), ("team", 0.0)):
            logger.add_scalar(f"return/{agent}", value, 1)
        logger.add_row(1, {"win_rate/x": 1.0, "win_rate/o": 0.5, "win_rate/mean": 0.75})
        logger.flush_step(100)
        logger.close()
        shown = capsys.readouterr().out
        assert "wins 75% against random  return x 0.50, o -0.50" in shown
        assert "return/mean" not in shown
        assert logger.zero_sum

    def test_a_game_with_one_other_sum_is_no_zero_sum_game(self):
        logger = make(None)
        for values in ({"x": 0.0, "o": 0.0}, {"x": 1.0, "o": 1.0}, {"x": 1.0, "o": -1.0}):
            for agent, value in values.items():
                logger.add_scalar(f"return/{agent}", value, 1)
            logger.flush_step(1)
            assert not logger.zero_sum
        logger.close()

    def test_no_terminal_means_plain_lines(self):
        assert not sys.stdout.isatty()
        assert isinstance(make_display(10, 0), PlainDisplay)

    def test_the_bar_of_a_terminal(self, capsys):
        display = terminal.RichDisplay(100, 0)
        display.update(50, 10.0, "return/mean 1.50")
        display.close()
        assert "50/100" in capsys.readouterr().out

    def test_progress_is_shown_when_asked_for(self, capsys):
        logger = make(None, show=True)
        logger.flush_step(100)
        logger.close()
        assert capsys.readouterr().out.startswith("step 100/100")

    def test_control_characters_cannot_steer_the_terminal(self, capsys):
        say("a\x1b]0;evil\x07b\r\u202e\u009bc\n\td")
        say_error("error: x\x1b[2J")
        printed = capsys.readouterr()
        assert printed.out == "a\\x1b]0;evil\\x07b\\r\\u202e\\x9bc\n\td\n"
        assert printed.err == "error: x\\x1b[2J\n"


def test_training_without_the_end_of_an_episode_is_told_once(monkeypatch, capsys) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    log = Logger(None, total_steps=1000)
    for second, longest in ((4, 900), (6, 400), (7, 900), (8, 950), (70, 999)):
        now[0] = float(second)
        log.add_scalar("episode/running_steps_max", longest, second)
        log.flush_step(second)
    (told,) = (line for line in capsys.readouterr().out.splitlines() if "no episode" in line)
    assert told.startswith("no episode has ended in 7 s; the longest has taken 900 steps. ")
    assert "--max-episode-steps" in told


def test_a_slow_game_has_a_minute_and_an_ended_episode_is_enough(monkeypatch, capsys) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    slow, sound = (Logger(None, total_steps=1000) for _ in range(2))
    sound.add_scalar("episode/length", 3, 1)
    for second in (30, 61):
        now[0] = float(second)
        slow.flush_step(second)
        sound.flush_step(second)
    assert capsys.readouterr().out.count("no episode has ended in 61 s.") == 1


def told_of(monkeypatch: pytest.MonkeyPatch, capsys, flushes: list[tuple[float, int]]) -> list[str]:
    """What a run of a million steps says of its length where updates end at these seconds."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    logger = Logger(None, total_steps=1_000_000)
    for second, step in flushes:
        now[0] = second
        logger.flush_step(step)
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("at this speed the run will take ")]


def test_a_run_that_takes_longer_than_a_day_says_so_by_its_first_updates(monkeypatch, capsys):
    (line,) = told_of(monkeypatch, capsys, [(30.0, 1000), (230.0, 2000), (430.0, 3000)])
    assert line.startswith("at this speed the run will take 2.3 days (5 env steps/s, 998000 to go)")
    (line,) = told_of(monkeypatch, capsys, [(920.0, 2000), (1720.0, 4000)])  # at once, if clear
    assert line.startswith("at this speed the run will take 4.6 days (2.5 env steps/s, 998000")


@pytest.mark.parametrize(
    "flushes",
    [
        [(110.0, 100), (111.0, 1000), (140.0, 30_000)],  # compiling took long
        [(3.0, 64), (4.0, 128), (4.0, 6400), (15.0, 60_000)],  # a chunk tells of many at once
    ],
)
def test_one_that_does_not_says_nothing(monkeypatch, capsys, flushes):
    assert told_of(monkeypatch, capsys, flushes) == []


@pytest.mark.parametrize(("returns", "told"), [((1.0, -1.0), 1), ((1.0, 1.0), 0)])
def test_a_policy_of_a_zero_sum_game_that_hardly_varies_is_told_once(returns, told, capsys):
    logger = Logger(None, total_steps=1000)
    for step, entropy in enumerate([1.5, 0.5, 0.05, 0.02, 0.001, 1.0, 0.001], 1):
        for agent, value in zip(("a", "b"), returns, strict=True):
            logger.add_scalar(f"return/{agent}", value, step)
        logger.add_scalar("update/group/entropy", entropy, step)
        logger.flush_step(step)
    said = [line for line in capsys.readouterr().out.splitlines() if "entropy" in line]
    assert len(said) == told
    assert all("has fallen to 0.02, from 1.5" in line for line in said)
