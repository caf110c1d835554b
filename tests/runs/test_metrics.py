"""``metrics.csv``: what is written, and what counts when it is read, whoever reads it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from kitae_marl.runs.store.metrics import TAIL, MetricsFile, last_values, read_column

NAME = "return/mean"
LINES = {
    "whole": ("20,2.0,5", True),
    "without a value": ("20,,5", True),
    "a step that is no number": ("x,2.0,5", False),
    "a step below zero": ("-3,2.0,5", False),
    "a step in digits without end": ("9" * 5000 + ",2.0,5", False),
    "a cell too few": ("20,2.0", False),
    "a cell too many": ("20,2.0,5,6", False),
    "empty": ("", False),
    "bytes": ("\x00\x01", False),
}


def write(path: Path, text: str) -> Path:
    file = path / "metrics.csv"
    file.write_text(text, newline="")
    return file


def text_of(file: Path) -> list[str]:
    return file.read_bytes().decode().split("\r\n")


class TestWriting:
    def test_columns_in_the_order_in_which_they_came(self, tmp_path):
        file = MetricsFile(tmp_path / "metrics.csv", 0)
        for step, values in ((1, {"b": 0.5}), (2, {"a": 1e-30}), (3, {"b": float("nan")})):
            file.append(step, values)
        assert text_of(tmp_path / "metrics.csv") == [
            "step,b,a", "1,0.5,", "2,,1e-30", "3,nan,", "",
        ]  # fmt: skip

    def test_a_new_run_begins_with_an_empty_file(self, tmp_path):
        path = write(tmp_path, "step\n5\n")
        MetricsFile(path, resume_step=0)
        assert text_of(path) == ["step", ""]

    def test_a_resumed_run_keeps_the_rows_up_to_its_step(self, tmp_path):
        path = write(tmp_path, "step,a\r\n1,0.1\r\n2,\r\n3,0.3\r\n2,0.")
        MetricsFile(path, resume_step=2).append(3, {"c": 4.0})
        assert text_of(path) == ["step,a,c", "1,0.1,", "2,,", "3,,4.0", ""]

    def test_names_are_not_taken_apart(self, tmp_path):
        path = tmp_path / "metrics.csv"
        file = MetricsFile(path, 0)
        file.append(1, {'return/a,"b"\nc': 1.0})
        file.append(2, {"x": 2.0})
        assert read_column(tmp_path, 'return/a,"b"\nc') == ([1], [1.0])
        MetricsFile(path, 1).append(2, {'return/a,"b"\nc': 3.0})
        assert read_column(tmp_path, 'return/a,"b"\nc') == ([1, 2], [1.0, 3.0])


@pytest.mark.faults
class TestOneRule:
    """All three readers agree on what a row is, and on what has a value."""

    @pytest.mark.parametrize(("line", "is_row"), LINES.values(), ids=LINES)
    def test_of_lines(self, tmp_path, line, is_row):
        path = write(tmp_path, f"step,{NAME},x\n10,1.0,4\n{line}\n")
        steps, values = read_column(tmp_path, "x")
        assert (steps, values) == (([10, 20], [4.0, 5.0]) if is_row else ([10], [4.0]))
        assert last_values(path, "x") == (steps[-1], values[-1])
        MetricsFile(path, resume_step=100)
        assert len(text_of(path)) - 2 == len(steps)

    def test_a_line_without_its_end_is_torn(self, tmp_path):
        path = write(tmp_path, f"step,{NAME}\n10,1.0\n20,2.5")
        assert read_column(tmp_path, NAME) == ([10], [1.0])
        assert last_values(path, NAME) == (10, 1.0)
        MetricsFile(path, resume_step=100)
        assert text_of(path) == [f"step,{NAME}", "10,1.0", ""]

    @pytest.mark.parametrize("cell", ["", "nan", "inf", "-inf", "x", "0x1"])
    def test_of_cells(self, tmp_path, cell):
        path = write(tmp_path, f"step,{NAME}\n10,1.0\n20,{cell}\n")
        assert read_column(tmp_path, NAME) == ([10], [1.0])
        assert last_values(path, NAME) == (20, 1.0)
        MetricsFile(path, resume_step=100)
        assert text_of(path)[2] == f"20,{cell}"

    def test_the_tail_of_a_long_file(self, tmp_path):
        """The line that the tail begins with is cut, so that its cells stand for other columns."""
        rows = [f"{step},{'' if step > 5 else 7.0},{step}.5" for step in range(TAIL // 4)]
        path = write(tmp_path, "\n".join([f"step,{NAME},x", *rows, ""]))
        assert path.stat().st_size > 2 * TAIL
        assert last_values(path, NAME) == (len(rows) - 1, None)
        assert last_values(path, "x") == (len(rows) - 1, len(rows) - 0.5)
        assert read_column(tmp_path, NAME)[0] == [0, 1, 2, 3, 4, 5]

    def test_damage_costs_rows_and_no_error(self, tmp_path):
        whole = "".join(f"{step},{step}.25,nan\r\n" for step in range(50))
        whole = f"step,{NAME},x\r\n{whole}".encode()
        chance = random.Random(0)
        for _ in range(100):
            data = bytearray(whole[: chance.randrange(len(whole))])
            for _ in range(chance.randrange(5)):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
            path = tmp_path / "metrics.csv"
            path.write_bytes(data)
            step, value = last_values(path, NAME)
            try:
                steps, values = read_column(tmp_path, NAME)
            except ValueError:
                assert value is None
            else:
                assert step >= steps[-1]
                assert value == values[-1]
            MetricsFile(path, resume_step=10).append(11, {NAME: 1.0})
            assert last_values(path, NAME) == (11, 1.0)

    def test_a_cell_that_is_too_long_for_csv(self, tmp_path):
        write(tmp_path, f"step,x\n10,1.0\n20,{'5' * 200_000}\n30,3.0\n")
        assert read_column(tmp_path, "x") == ([10, 30], [1.0, 3.0])
        assert last_values(tmp_path / "metrics.csv", "x") == (30, 3.0)

    def test_what_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "metrics.csv")
        assert last_values(tmp_path / "metrics.csv", NAME) == (0, None)
        with pytest.raises(ValueError, match=r"metrics.csv, got no file"):
            read_column(tmp_path, NAME)
