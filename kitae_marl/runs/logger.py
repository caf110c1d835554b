"""This file is the writer of a run: metrics on disk, for TensorBoard too, and progress."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kitae_marl.config.run import Config, flat
from kitae_marl.runs.board import BoardFile
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
COLLAPSED = 0.02
"""Part of its first entropy at which a policy hardly tries anything any more."""


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
        config: settings of the run, which TensorBoard shows, and which say what is in effect at a
            step (``update/learning_rate``); None: nothing is said of them.

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
        config: Config | None = None,
    ) -> None:
        self._config = config
        self.newest: dict[str, float] = {}
        self.left_out = 0.0
        self._told_endless = self._told_long = False
        self._entropies: dict[str, float] = {}
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
        if self._config is not None:
            self._board.describe(flat(self._config), self._config.to_json())

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
        values |= self._in_effect(global_step)
        values["speed/env_steps_per_s"] = rate
        self._pending.clear()
        self._tell_endless(elapsed, values.get("episode/running_steps_max", 0.0))
        self._tell_long(elapsed, global_step)
        if by_agent(values):
            self._zero_sum &= adds_up_to_zero(values)
            self._decided |= any(by_agent(values).values())
        self._tell_collapse(values)
        self.add_row(global_step, values)
        if self._display is not None:
            shown = headline(self.means(), self.newest)
            self._show(self._display.update, global_step, rate, shown)
        return values

    def _in_effect(self, global_step: int) -> dict[str, float]:
        """Return settings that change as a run goes on, as the update up to a step began with."""
        if self._config is None:
            return {}
        done = global_step // self._config.rollout_size - 1
        settings = self._config.learner.in_effect(done / self._config.n_updates)
        return {f"update/{name}": value for name, value in settings.items()}

    def _tell_collapse(self, values: dict[str, float]) -> None:
        """Say once of each group of a zero-sum game that its policy hardly varies any more.

        Players who learn from each other then meet the same few games again and again.
        """
        for tag, value in values.items():
            if not tag.endswith("/entropy"):
                continue
            first = self._entropies.setdefault(tag, value)
            if self.zero_sum and first > 0 and value < COLLAPSED * first:
                self._entropies[tag] = 0.0  # told
                self.tell(
                    f"the entropy of the policy has fallen to {value:.2g}, from {first:.2g}: "
                    "players who hardly vary what they do learn little from each other; a larger "
                    "bonus for entropy (entropy_coef) or more opponents (--opponents) help"
                )

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
