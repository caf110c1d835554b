"""This file makes films of episodes, with words below the pictures, several side by side.

A film is a stream of frames: ``shrunk`` and ``captioned`` change one frame, ``side_by_side`` joins
streams, and ``write_video`` takes frames as they come, so that no film is ever in memory as a
whole. Pillow and imageio are imported on use.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kitae_marl.runs.store.files import replacing, require_output
from kitae_marl.runs.terminal import pip_install

ENDINGS = (".gif", ".mp4")
"""What the name of a film may end in."""
Frame = UInt8[np.ndarray, "H W 3"]
"""One picture, in red, green and blue."""
MIN_WIDTH = 240
"""Pixels; smaller frames are enlarged, so that there is room for words."""
FONT_SIZE, LINE, MARGIN = 13, 17, 6
"""Pixels: height of the letters, distance of the lines, and what is left free at the sides."""
LETTER = 10
"""Pixels: distance of the letters of what a game prints."""
INK, PAPER, GRID = (20, 20, 20), (255, 255, 255), (160, 160, 160)
"""Colours of letters, of what is behind them, and of the lines between films."""
_STYLE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What colours letters in a terminal."""
_LONGEST = "-8888.88"
"""A return as wide as any that is expected, to keep room for."""


def shrunk(frame: Frame, width: int) -> Frame:
    """Return a frame of at most this width, in its own proportions."""
    from PIL import Image

    if frame.shape[1] <= width:
        return frame
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))


def captioned(frame: Frame, title: str, returns: Mapping[str, float]) -> Frame:
    """Put a title and every agent's rewards so far below a frame.

    Args:
        frame: the picture.
        title: first line.
        returns: sum of rewards by agent; as many columns as there is room for.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(FONT_SIZE)
    factor = math.ceil(MIN_WIDTH / frame.shape[1])
    picture = Image.fromarray(frame.repeat(factor, axis=0).repeat(factor, axis=1))
    cells = [f"{agent} {_short(value)}" for agent, value in returns.items()]
    # Room for the longest number, so that the layout does not change while returns grow.
    names = [font.getlength(f"{agent} {_LONGEST}") for agent in returns]
    needed = max(names, default=0) + 2 * MARGIN
    n_columns = max(1, int((picture.width - MARGIN) // needed))
    n_lines = 1 + math.ceil(len(cells) / n_columns)
    page = Image.new("RGB", (picture.width, picture.height + n_lines * LINE + MARGIN), PAPER)
    page.paste(picture, (0, 0))
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, picture.height + 2), _fitting(title, page.width, font), INK, font)
    for i, cell in enumerate(cells):
        line, column = divmod(i, n_columns)
        place = MARGIN + column * (page.width // n_columns), picture.height + 2 + (line + 1) * LINE
        pen.text(place, cell, INK, font)
    return np.asarray(page)


class TextPainter:
    """Draws what a game prints, on pages of one size: that of the first text, and some room."""

    def __init__(self) -> None:
        self._size = (0, 0)

    def __call__(self, text: str) -> Frame:
        """Draw a text, each letter in a cell of its own; what does not fit is left out."""
        from PIL import Image, ImageDraw, ImageFont

        lines = _STYLE.sub("", text).expandtabs().splitlines()
        if self._size == (0, 0):
            self._size = len(lines) + 1, max(map(len, lines), default=0) + 1
        font = ImageFont.load_default(FONT_SIZE)
        page = Image.new("RGB", (self._size[1] * LETTER, self._size[0] * LINE), PAPER)
        pen = ImageDraw.Draw(page)
        for row, line in enumerate(lines[: self._size[0]]):
            for column, letter in enumerate(line[: self._size[1]]):
                pen.text((column * LETTER, row * LINE), letter, INK, font)
        return np.asarray(page)


def _short(value: float) -> str:
    """Two decimals at most, never ``-0``."""
    return f"{round(value, 2) + 0.0:g}"


def _fitting(text: str, width: int, font: Any) -> str:
    """Cut a text at its start so that it fits: numbers stand at its end."""
    while text and font.getlength(text) > width - 2 * MARGIN:
        text = text[1:]
    return text


def side_by_side(films: Sequence[Iterable[Frame]]) -> Iterator[Frame]:
    """Show several films at once, in a grid; one that has ended keeps its last frame.

    Each film's frames must be of one shape; smaller films stand in the middle of their field.

    Args:
        films: at least one.

    Yields:
        Frames of one shape, until the longest film has ended.
    """
    running = [iter(film) for film in films]
    shown: list[Any] = [next(film) for film in running]
    height, width = (max(frame.shape[axis] for frame in shown) for axis in (0, 1))
    n_columns = math.ceil(math.sqrt(len(shown)))
    while True:
        yield _grid(shown, height, width, n_columns)
        coming = [next(film, None) for film in running]
        if all(frame is None for frame in coming):
            return
        shown = [old if new is None else new for old, new in zip(shown, coming, strict=True)]


def _grid(frames: Sequence[Frame], height: int, width: int, n_columns: int) -> Frame:
    """Arrange frames row by row, each in the middle of its field, lines between the fields."""
    if len(frames) == 1:
        return frames[0]
    n_rows = math.ceil(len(frames) / n_columns)
    page = np.empty((n_rows * (height + 2), n_columns * (width + 2), 3), np.uint8)
    page[:] = GRID
    for i, frame in enumerate(frames):
        row, column = divmod(i, n_columns)
        top, left = row * (height + 2) + 1, column * (width + 2) + 1
        page[top : top + height, left : left + width] = PAPER
        top += (height - frame.shape[0]) // 2
        left += (width - frame.shape[1]) // 2
        page[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return page


def write_video(out: str | Path, frames: Iterable[Frame], *, fps: float) -> int:
    """Write frames to a file, whole or not at all.

    Args:
        out: path ending in ``.gif`` or ``.mp4``; its folder must exist.
        frames: all of one shape; each is written before the next is asked for.
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

    def counted() -> Iterator[Frame]:
        nonlocal count
        for frame in _checked(frames):
            count += 1
            yield frame

    with replacing(out) as temporary:
        write(temporary, counted(), fps)
        if not count:
            raise ValueError("expected at least one frame, got none.")
    return count


def _checked(frames: Iterable[Frame]) -> Iterator[Frame]:
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


def _write_gif(path: Path, frames: Iterator[Frame], fps: float) -> None:
    """Write a GIF; each frame is reduced to 256 colours as it comes."""
    from PIL import Image

    images = map(Image.fromarray, frames)
    first = next(images, None)
    if first is not None:
        rest: Any = {"append_images": images, "duration": 1000 / fps, "loop": 0}
        first.save(path, format="GIF", save_all=True, **rest)


def _write_mp4(path: Path, frames: Iterator[Frame], fps: float) -> None:
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
            f"writing .mp4 needs imageio-ffmpeg; {pip_install('imageio-ffmpeg')}, or write a .gif."
        ) from error
