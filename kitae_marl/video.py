"""Films of episodes, written by imageio."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def write_video(out: str | Path, frames: Iterable[np.ndarray], *, fps: float) -> int:
    """Write frames to a file, whole or not at all.

    Args:
        out: path ending in ``.gif`` or ``.mp4``; its folder must exist.
        frames: uint8 ``[H, W, 3]`` each, all of one shape.
        fps: frames a second.

    Returns:
        Number of frames.

    Raises:
        ValueError: for another ending, a missing folder, no frames, or frames of other shapes.
        ImportError: for ``.mp4`` without imageio-ffmpeg.
    """
    out = Path(out)
    kind = out.suffix.lower()
    if kind not in (".gif", ".mp4"):
        raise ValueError(f"expected a file that ends in .gif or .mp4, got {out}.")
    if not out.parent.is_dir():
        raise ValueError(f"expected a folder that exists, got {out.parent}; make it first.")
    if out.is_dir():
        raise ValueError(f"expected the name of a file, got the folder {out}.")
    if fps <= 0:
        raise ValueError(f"expected a positive number of frames a second, got {fps}.")
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=".film-", suffix=kind)
    os.close(handle)
    try:
        count = _encode(temporary, kind, frames, fps)
        os.replace(temporary, out)
    except BaseException:
        os.unlink(temporary)
        raise
    return count


def _encode(path: str, kind: str, frames: Iterable[np.ndarray], fps: float) -> int:
    """Write the frames one by one."""
    import imageio.v2 as imageio

    options: dict[str, Any] = {"duration": 1000 / fps, "loop": 0}
    if kind == ".mp4":
        _require_ffmpeg()
        options = {"fps": fps, "macro_block_size": 2, "ffmpeg_log_level": "error"}
    count, shape = 0, None
    writer: Any
    with imageio.get_writer(path, mode="I", **options) as writer:
        for frame in frames:
            if not isinstance(frame, np.ndarray):
                raise ValueError(
                    f"expected frames as arrays, got {type(frame).__name__}; the game may not "
                    "render, or not with render_mode='rgb_array'."
                )
            shape = shape or frame.shape
            if frame.shape != shape or frame.dtype != np.uint8 or frame.ndim != 3:
                raise ValueError(
                    f"expected frames of uint8 and shape {shape}, got {frame.dtype} {frame.shape}."
                )
            writer.append_data(frame)
            count += 1
        if not count:
            raise ValueError("expected at least one frame, got none.")
    return count


def _require_ffmpeg() -> None:
    """Raise an error that helps where mp4 cannot be written."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'writing .mp4 needs imageio-ffmpeg; pip install "kitae-marl[video]", or write a .gif.'
        ) from error
