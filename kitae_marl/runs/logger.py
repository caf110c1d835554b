"""This file is the writer of a run: metrics on disk, for TensorBoard too, and progress."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kitae_marl.runs.returns import adds_up_to_zero, by_agent, headline
from kitae_marl.runs.store.contents import BOARD
from kitae_marl.runs.store.metrics import METRICS_FILE, MetricsFile
from kitae_marl.runs.terminal import make_display, say

WINDOW = 100
"""Episodes in the running mean of the returns that summary and terminal show."""
ENDLESS_SECONDS = 5.0, 60.0
"""Seconds of training without the end of an episode that deserve a word: where an episode has taken
``ENDLESS_STEPS``, and in any case."""
ENDLESS_STEPS = 500
COMPILING_SECONDS, MEASURED_SECONDS, DAY_SECONDS = 120.0, 10.0, 86400.0
"""Seconds that compiling may take, that must have been measured to judge a speed, of a day."""
FLUSH_SECONDS = 5.0
"""Seconds between two moments at which the TensorBoard file is written out."""


class BoardFile:
    """A TensorBoard file: one event per log interval, written by the caller.

    The writer of tensorboardX hands events to a thread; where the disk is full that thread dies and
    the training waits for it for ever. Here the error is raised.

    Args:
        folder: the folder of the files; made if it is missing.
        resume_step: step after which a continuation makes what older files hold void, or 0.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        from tensorboardX.proto import event_pb2  # here: it takes a third of a second
        from tensorboardX.record_writer import RecordWriter

        self._protobuf: Any = event_pb2  # which makes its classes at run time
        folder.mkdir(exist_ok=True)
        stamp = f"{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{resume_step}"
        self._file = RecordWriter(str(folder / f"events.out.tfevents.{stamp}"))
        self._flushed = time.monotonic()
        self._write(file_version="brain.Event:2")
        if resume_step:
            start = self._protobuf.SessionLog(status=self._protobuf.SessionLog.START)
            self._write(step=resume_step + 1, session_log=start)

    def _write(self, **content: Any) -> None:
        """Write one event."""
        event = self._protobuf.Event(wall_time=time.time(), **content)
        self._file.write(event.SerializeToString())

    def append(self, step: int, values: dict[str, float]) -> None:
        """Write values at a step; a killed process loses those of about ``FLUSH_SECONDS``."""
        summary = {"value": [{"tag": tag, "simple_value": x} for tag, x in values.items()]}
        self._write(step=step, summary=summary)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


class _Window:
    """Mean of the last ``WINDOW`` values or somewhat more, as they may come as means of several."""

    def __init__(self) -> None:
        self._parts: deque[tuple[float, int]] = deque()
        self._count = 0

    def add(self, mean: float, count: int) -> None:
        """Add values and drop the oldest parts that are no longer needed."""
        self._parts.append((mean, count))
        self._count += count
        while self._count - self._parts[0][1] >= WINDOW:
            self._count -= self._parts.popleft()[1]

    def mean(self) -> float:
        """Mean of the values in the window."""
        return sum(mean * count for mean, count in self._parts) / self._count


class Logger:
    """Collects scalars and writes their means at every ``flush_step``.

    It is a ``types.RunWriter`` and can be passed as the ``writer`` of ``vectorized_train``. A disk
    that refuses a write costs one warning and the logs, never the training.

    Args:
        run_dir: folder of the run, or None to keep nothing on disk.
        total_steps: environment steps of the whole run, for the progress display.
        resume_step: environment step the run continues from, 0 for a new one.
        show: whether to print progress.
        on_unread: called once, if nobody reads the progress any more (``... | head``).

    Attributes:
        newest: the value of every metric that was written last, by tag.
        left_out: seconds of compiling so far, which no speed counts.
    """

    def __init__(
        self,
        run_dir: Path | None,
        *,
        total_steps: int,
        resume_step: int = 0,
        show: bool = True,
        on_unread: Callable[[], None] = lambda: None,
    ) -> None:
        self.newest: dict[str, float] = {}
        self.left_out = 0.0
        self._told_endless = self._told_long = False
        self._total = total_steps
        self._first_flush: tuple[float, int] | None = None
        self._windows: dict[str, _Window] = defaultdict(_Window)
        self._pending: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._started, self._first_step = time.perf_counter(), resume_step
        self._display = make_display(total_steps, resume_step) if show else None
        self._on_unread = on_unread
        self._zero_sum, self._decided = True, False
        self._csv: MetricsFile | None = None
        self._board: BoardFile | None = None
        if run_dir is not None:
            self._guarded(self._open, run_dir, resume_step)

    def _open(self, run_dir: Path, resume_step: int) -> None:
        """Open the files of a run folder."""
        self._csv = MetricsFile(run_dir / METRICS_FILE, resume_step)
        self._board = BoardFile(run_dir / BOARD, resume_step)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Record one value; ``flush_step`` writes the mean of all that came since the last one."""
        del global_step
        self.add_mean(tag, scalar_value, 1)

    def add_mean(self, tag: str, mean: float, count: int) -> None:
        """Record the mean of ``count`` values as if they had been added one by one."""
        self._pending[tag].append((float(mean), count))
        if tag.startswith("return/") or tag == "episode/length":
            self._windows[tag].add(float(mean), count)

    def flush_step(self, global_step: int) -> dict[str, float]:
        """Write the means of the recorded values at one environment step, and show progress.

        Returns:
            What was written, by tag: the mean of each tag that got values since the last call, and
            ``speed/env_steps_per_s``. The same where nothing is kept on disk, or the disk refused.
        """
        elapsed = time.perf_counter() - self._started
        rate = (global_step - self._first_step) / max(elapsed - self.left_out, 1e-9)
        values = {
            tag: sum(mean * n for mean, n in xs) / sum(n for _, n in xs)
            for tag, xs in self._pending.items()
        }
        values["speed/env_steps_per_s"] = rate
        self._pending.clear()
        self._tell_endless(elapsed, values.get("episode/running_steps_max", 0.0))
        self._tell_long(elapsed, global_step)
        if by_agent(values):
            self._zero_sum &= adds_up_to_zero(values)
            self._decided |= any(by_agent(values).values())
        self.add_row(global_step, values)
        if self._display is not None:
            shown = headline(self.means(), self.newest)
            self._show(self._display.update, global_step, rate, shown)
        return values

    def _tell_endless(self, elapsed: float, longest: float) -> None:
        """Say once that no episode has ended, so that there is no return to show."""
        patience = ENDLESS_SECONDS[longest < ENDLESS_STEPS]
        if self._told_endless or "episode/length" in self._windows or elapsed < patience:
            return
        self._told_endless = True
        lasted = f"; the longest has taken {longest:.0f} steps" if longest else ""
        self.tell(
            f"no episode has ended in {elapsed:.0f} s{lasted}. There is no return until one does; "
            "if the game never ends by itself, stop and train with --max-episode-steps "
            f"{ENDLESS_STEPS} or so (in Python max_episode_steps)"
        )

    def _tell_long(self, elapsed: float, step: int) -> None:
        """Say once, by the first updates, that the run will take longer than a day.

        The first one holds the compilation: of it counts what it took beyond
        ``COMPILING_SECONDS``. Those after it count from ``MEASURED_SECONDS`` on: several come at
        once where a chunk of the compiled loop ends.
        """
        if self._told_long:
            return
        if self._first_flush is None:
            since, start = COMPILING_SECONDS, self._first_step
            self._first_flush = elapsed, step
        else:
            since, start = self._first_flush
            if elapsed - since < MEASURED_SECONDS:
                return
            self._told_long = True
        pace = (elapsed - since) / max(step - start, 1)
        days = pace * (self._total - step) / DAY_SECONDS
        if days > 1:
            self._told_long = True
            self.tell(
                f"at this speed the run will take {days:.1f} days ({1 / pace:.3g} env steps/s, "
                f"{self._total - step} to go); fewer --env-steps make it shorter, Ctrl-C saves it "
                "and --resume goes on"
            )

    def add_row(self, global_step: int, values: dict[str, float]) -> None:
        """Write some values as a row of their own, as those of an evaluation."""
        self.newest |= values
        if self._csv is not None:
            self._guarded(self._write, global_step, values)

    def _show(self, function: Any, *args: Any) -> None:
        """Call a function that prints; once nobody reads, nothing more is shown."""
        try:
            function(*args)
        except BrokenPipeError:
            self._display = None
            self._on_unread()

    def _write(self, step: int, values: dict[str, float]) -> None:
        """Write one row of metrics."""
        if self._csv is not None:
            self._csv.append(step, values)
        if self._board is not None:
            self._board.append(step, values)

    def _guarded(self, function: Any, *args: Any) -> None:
        """Call a function that writes; if the disk refuses, warn once and stop logging to it."""
        try:
            function(*args)
        except OSError as error:
            board, self._csv, self._board = self._board, None, None
            warnings.warn(
                f"metrics are no longer written ({error}); training goes on.", stacklevel=2
            )
            if board is not None:
                with suppress(OSError):  # what it could not write is lost, as was said
                    board.close()

    def leave_out(self, seconds: float) -> None:
        """Leave seconds of compiling out of the speed."""
        self.left_out += seconds

    def tell(self, text: str) -> None:
        """Print one line, where progress is printed."""
        if self._display is not None:
            self._show(say, text)

    @property
    def zero_sum(self) -> bool:
        """Whether agents have won and lost, and their returns have always added up to zero."""
        return self._zero_sum and self._decided

    def means(self) -> dict[str, float]:
        """Mean of each return over the last ``WINDOW`` episodes, by tag."""
        return {tag: window.mean() for tag, window in self._windows.items()}

    def close(self) -> None:
        """Finish the files and the display."""
        if self._board is not None:
            self._guarded(self._board.close)
        if self._display is not None:
            self._show(self._display.close)
