"""This file owns ``metrics.csv`` of a run: no other module writes it or reads it back.

The first line names the columns, among them ``step`` (environment steps); each further line is what
was logged at one step. One rule says what counts, whoever reads:

* A row is a line with a line end, as many cells as there are columns, and a whole number as its
  step. A killed process may leave a torn line at the end, which is no row.
* A cell has a value if it holds a finite number. Where it is empty, nothing was logged under that
  name at that step; NaN and infinity are no values to show or to average.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kitae_marl.runs.store.files import write_text

METRICS_FILE = "metrics.csv"
"""The name of the file in a run folder."""
STEP = "step"
"""The column of the environment steps."""
TAIL = 1 << 16
"""Bytes that ``last_values`` reads, from the start and from the end of a file."""
_STEP = re.compile(r"[0-9]{1,18}")


class _Row(NamedTuple):
    """One line: its step, and the text of all its cells."""

    step: int
    cells: list[str]


class MetricsFile:
    """Writes the file row by row, columns in the order in which they first came.

    Args:
        path: the file.
        resume_step: environment step that the run goes on from: rows up to it are kept. 0: the file
            begins empty.
    """

    def __init__(self, path: Path, resume_step: int) -> None:
        self._path = path
        self._columns = [STEP]
        kept: list[list[str]] = []
        if resume_step and path.exists():
            columns, rows = self._read()
            if STEP in columns:
                self._columns = columns
                kept = [row.cells for row in rows if row.step <= resume_step]
        self._rewrite(kept)

    def append(self, step: int, values: dict[str, float]) -> None:
        """Add one row; a column not seen before makes the file be written anew.

        The rows so far are then read back from the file: they are not kept in memory, which would
        grow for as long as the run lasts.
        """
        row = {STEP: step, **values}
        new = [name for name in row if name not in self._columns]
        old = [old.cells for old in self._read()[1]] if new else []
        self._columns += new
        cells = [repr(row[name]) if name in row else "" for name in self._columns]
        if new:
            self._rewrite([*old, cells])
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(cells)

    def _read(self) -> tuple[list[str], list[_Row]]:
        """Return the columns and all rows of the file."""
        with self._path.open(newline="", encoding="utf-8", errors="replace") as file:
            records = _records(file)
            columns = next(records, [])
            return columns, list(_rows(columns, records))

    def _rewrite(self, rows: Iterable[list[str]]) -> None:
        """Write the whole file; cells of columns that came after a row are empty."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self._columns)
        for cells in rows:
            writer.writerow(cells + [""] * (len(self._columns) - len(cells)))
        write_text(self._path, text.getvalue())


def last_values(path: Path, column: str) -> tuple[int, float | None]:
    """Return the last step, and the last value of a column, as far as the end of the file says.

    Whatever the file is, this neither fails nor takes long: only the columns and the last ``TAIL``
    bytes are read. Without rows there the step is 0, without a value it is None.
    """
    if not path.is_file():
        return 0, None
    with path.open("rb") as file:
        head = file.readline(TAIL)
        start = max(len(head), path.stat().st_size - TAIL)
        file.seek(start)
        tail = file.read(TAIL)
    if start > len(head):  # the first line is cut, and its cells would stand for other columns
        tail = tail[tail.find(b"\n") + 1 :]
    columns = next(_records([head.decode(errors="replace")]), [])
    lines = io.StringIO(tail.decode(errors="replace"), newline="")
    rows = list(_rows(columns, _records(lines)))
    place = columns.index(column) if column in columns else None
    values = [] if place is None else [_value(row.cells[place]) for row in rows]
    known = [value for value in values if value is not None]
    return (rows[-1].step if rows else 0), (known[-1] if known else None)


def column_names(run_dir: Path) -> list[str]:
    """Return the names of all columns; none where there is no such file."""
    path = run_dir / METRICS_FILE
    if not path.is_file():  # reading a pipe would wait for ever
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return next(_records(file), [])


def read_column(run_dir: Path, column: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a column has a value, and the values.

    Args:
        run_dir: the run folder.
        column: name of the column, as in TensorBoard.

    Raises:
        ValueError: if there is no such file, column, or value; the message names the columns.
    """
    path = run_dir / METRICS_FILE
    if not path.is_file():  # reading a pipe would wait for ever
        raise ValueError(f"expected the metrics of a run in {path}, got no file.")
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        records = _records(file)
        columns = next(records, [])
        if column not in columns:
            listed = ", ".join(columns) or "none"
            raise ValueError(f"{path} has no column {column!r}; it has {listed}.")
        place = columns.index(column)
        pairs = [(row.step, _value(row.cells[place])) for row in _rows(columns, records)]
    known = [(step, value) for step, value in pairs if value is not None]
    if not known:
        raise ValueError(f"{path} has no value of {column!r} yet; train the run for longer.")
    return [step for step, _ in known], [value for _, value in known]


def _records(lines: Iterable[str]) -> Iterator[list[str]]:
    """Split the lines that have an end into cells; what is no CSV is left out."""
    reader = csv.reader(line for line in lines if line.endswith("\n"))
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:  # a cell that is too long, for instance
            continue


def _rows(columns: list[str], records: Iterable[list[str]]) -> Iterator[_Row]:
    """Yield those records that are rows."""
    if STEP not in columns:
        return
    place = columns.index(STEP)
    for cells in records:
        if len(cells) == len(columns) and _STEP.fullmatch(cells[place]):
            yield _Row(int(cells[place]), cells)


def _value(cell: str) -> float | None:
    """Return the number in a cell, None where it has no value."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
