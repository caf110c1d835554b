"""This file writes the TensorBoard file of a run."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 5.0
"""Seconds between two moments at which the TensorBoard file is written out."""
SHOWN = ("return/mean", "win_rate/mean", "evaluation/return/mean", "speed/env_steps_per_s")
"""Metrics that stand beside the settings in the table of hyperparameters."""


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
        self._start = resume_step
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

    def describe(self, settings: Mapping[str, Any], text: str) -> None:
        """Write the settings of the run: as a page of text, and for the table of hyperparameters.

        Args:
            settings: by name.
            text: all of them, as the page shows them.
        """
        from tensorboardX.summary import hparams
        from tensorboardX.summary import text as text_page

        plain = {key: _plain(value) for key, value in settings.items() if value is not None}
        indented = "\n".join(f"    {line}" for line in text.splitlines())  # Markdown for code
        for summary in (text_page("config", indented), *hparams(plain, dict.fromkeys(SHOWN))[:2]):
            self._write(step=self._start, summary=summary)

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


def _plain(value: Any) -> bool | float | str:
    """Return a setting as the table of hyperparameters can hold it: integers are of 64 bits."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return str(value)
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
