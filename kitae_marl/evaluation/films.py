"""Films of episodes, written by Pillow and imageio."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kitae_marl.runs.store.files import replacing, require_output

ENDINGS = (".gif", ".mp4")


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
    out = require_output(out, ENDINGS)
    if fps <= 0:
        raise ValueError(f"expected a positive number of frames a second, got {fps}.")
    write = _write_gif if out.suffix.lower() == ".gif" else _write_mp4
    count = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal count
        for frame in _checked(frames):
            count += 1
            yield frame

    with replacing(out) as temporary:
        write(temporary, counted(), fps)
        if not count:
            raise ValueError("expected at least one frame, got none.")
    return count


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Pass on frames that are all of one shape."""
    shape = None
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
        yield frame


def _write_gif(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Write a GIF; each frame is reduced to 256 colours as it comes."""
    from PIL import Image

    images = map(Image.fromarray, frames)
    for first in images:
        rest: Any = {"append_images": images, "duration": 1000 / fps, "loop": 0}
        first.save(path, format="GIF", save_all=True, **rest)


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Write an MP4 by ffmpeg, frame by frame."""
    import imageio.v2 as imageio

    _require_ffmpeg()
    options: Any = {"fps": fps, "macro_block_size": 2, "ffmpeg_log_level": "error"}
    writer: Any
    with warnings.catch_warnings():
        # JAX warns of every fork; this one becomes ffmpeg at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        with imageio.get_writer(path, mode="I", **options) as writer:
            for frame in frames:
                writer.append_data(frame)


def _require_ffmpeg() -> None:
    """Raise an error that helps where mp4 cannot be written."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'writing .mp4 needs imageio-ffmpeg; pip install "kitae-marl[video]", or write a .gif.'
        ) from error
