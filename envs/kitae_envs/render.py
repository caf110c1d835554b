"""Pictures of the compiled games, by NumPy and Pillow only: no display, no pygame.

Every function returns uint8 ``[H, W, 3]``. Pictures are drawn at twice their size and scaled down,
which smooths edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
WHITE, BLACK, GREY = (255, 255, 255), (30, 30, 30), (120, 120, 120)
RED, BLUE, GOLD = (206, 66, 64), (52, 92, 170), (244, 200, 66)
FELT, WOOD = (28, 96, 62), (246, 241, 231)
_SCALE = 2


class _Canvas:
    """A drawing surface whose coordinates are those of the finished picture."""

    def __init__(self, width: int, height: int, background: Color) -> None:
        self.size = (width, height)
        self._image = Image.new("RGB", (width * _SCALE, height * _SCALE), background)
        self._draw = ImageDraw.Draw(self._image)

    def disc(
        self, x: float, y: float, radius: float, fill: Color, outline: Color | None = None
    ) -> None:
        box = [_SCALE * v for v in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, fill=fill, outline=outline, width=_SCALE if outline else 0)

    def ring(self, x: float, y: float, radius: float, color: Color, width: float) -> None:
        box = [_SCALE * v for v in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, outline=color, width=int(_SCALE * width))

    def line(self, x0: float, y0: float, x1: float, y1: float, color: Color, width: float) -> None:
        ends = [_SCALE * v for v in (x0, y0, x1, y1)]
        self._draw.line(ends, fill=color, width=int(_SCALE * width))

    def panel(
        self, x: float, y: float, width: float, height: float, fill: Color, radius: float = 0
    ) -> None:
        box = [_SCALE * v for v in (x, y, x + width, y + height)]
        self._draw.rounded_rectangle(box, _SCALE * radius, fill=fill)

    def text(
        self, x: float, y: float, text: str, size: float, color: Color = BLACK, halo: bool = False
    ) -> None:
        """Write a line centred on a point, moved aside where the picture would cut it."""
        font = ImageFont.load_default(_SCALE * size)
        width = 2 * _SCALE if halo else 0
        half, whole = self._draw.textlength(text, font) / 2 + width, _SCALE * self.size[0]
        middle = whole / 2 if 2 * half > whole else min(max(_SCALE * x, half), whole - half)
        border = {"stroke_width": width, "stroke_fill": WHITE}
        place = middle, _SCALE * y
        self._draw.text(place, text, fill=color, font=font, anchor="mm", **border)

    def finish(self) -> np.ndarray:
        return np.asarray(self._image.resize(self.size, Image.Resampling.BOX))


def particles(
    position: np.ndarray,
    sizes: np.ndarray,
    colors: Sequence[tuple[float, float, float]],
    agents: Sequence[str],
    words: Mapping[str, str],
    pixels: int = 400,
) -> np.ndarray:
    """Draw discs in the plane, landmarks below agents.

    Args:
        position: ``[A + L, 2]``, agents first; the picture grows beyond [-1.2, 1.2] to hold all.
        sizes: radii ``[A + L]``.
        colors: red, green and blue in [0, 1] of each particle.
        agents: names of the agents.
        words: what speaking agents say.
        pixels: width and height.
    """
    canvas = _Canvas(pixels, pixels, (236, 239, 243))
    reach = max(1.2, float(np.abs(position).max()) + 0.15)
    unit = pixels / 2 / reach
    canvas.panel(pixels / 2 - unit, pixels / 2 - unit, 2 * unit, 2 * unit, WHITE, unit / 12)
    n = len(agents)
    where = np.stack([pixels / 2 + position[:, 0] * unit, pixels / 2 - position[:, 1] * unit], 1)
    radii = np.maximum(3.0, np.asarray(sizes) * unit)
    for i in [*range(n, len(position)), *range(n)]:
        fill = _rgb(colors[i])
        x, y = where[i]
        canvas.disc(x, y, radii[i], fill, BLACK if i < n else None)
        if i >= n and radii[i] < pixels / 20:  # a target with a light middle; obstacles have none
            canvas.disc(x, y, 0.55 * radii[i], _lighter(fill))
    for i, name in enumerate(agents):  # above all discs
        x, y = where[i]
        gap = radii[i] + pixels / 40
        y += gap if y - gap < pixels / 60 else -gap  # below the disc where there is no room above
        canvas.text(x, y, name, pixels / 34, _rgb(colors[i], 0.6), True)
    for row, (agent, word) in enumerate(words.items()):
        y = pixels * (0.97 - 0.045 * row)
        canvas.text(pixels / 2, y, f"{agent} says {word}", pixels / 28, BLACK, True)
    return canvas.finish()


def _rgb(color: tuple[float, float, float], share: float = 1.0) -> Color:
    """Return a colour of [0, 1] in bytes, darkened to a share of its brightness."""
    red, green, blue = (int(255 * share * min(1.0, part)) for part in color)
    return red, green, blue


def _lighter(color: Color) -> Color:
    """Mix a colour with twice as much white."""
    red, green, blue = ((part + 2 * 255) // 3 for part in color)
    return red, green, blue


def tictactoe(board: np.ndarray, pixels: int = 300) -> np.ndarray:
    """Draw a board ``[3, 3]`` of 0 (empty), 1 (cross) and 2 (nought).

    The first index of the board is drawn from left to right, as PettingZoo does.
    """
    canvas, cell = _Canvas(pixels, pixels, WOOD), pixels / 3
    for i in (1, 2):
        canvas.line(i * cell, cell / 8, i * cell, pixels - cell / 8, BLACK, 3)
        canvas.line(cell / 8, i * cell, pixels - cell / 8, i * cell, BLACK, 3)
    for (column, row), mark in np.ndenumerate(board):
        x, y, r = (column + 0.5) * cell, (row + 0.5) * cell, cell * 0.3
        if mark == 1:
            canvas.line(x - r, y - r, x + r, y + r, RED, 8)
            canvas.line(x - r, y + r, x + r, y - r, RED, 8)
        elif mark == 2:
            canvas.ring(x, y, r, BLUE, 8)
    return canvas.finish()


def connect_four(board: np.ndarray, cell: int = 50) -> np.ndarray:
    """Draw a board ``[6, 7]`` of 0 (empty), 1 and 2, row 0 on top."""
    rows, columns = board.shape
    canvas = _Canvas((columns + 1) * cell, (rows + 1) * cell, WOOD)
    canvas.panel(cell / 4, cell / 4, (columns + 0.5) * cell, (rows + 0.5) * cell, BLUE, cell / 3)
    for (row, column), token in np.ndenumerate(board):
        fill = (WOOD, RED, GOLD)[int(token)]
        canvas.disc((column + 1) * cell, (row + 1) * cell, cell * 0.4, fill)
    return canvas.finish()


def cards(
    hands: Sequence[str],
    shared: str | None,
    chips: Sequence[int],
    turn: int | None,
    names: Sequence[str],
    note: str = "",
) -> np.ndarray:
    """Draw a card table for two.

    Args:
        hands: each seat's card.
        shared: the card on the table, empty while it lies face down; None in games without one.
        chips: what each seat has put in.
        turn: the seat to move; None at the end.
        names: each seat's name.
        note: a line of text at the bottom.
    """
    canvas = _Canvas(360, 400, FELT)
    for seat, y in ((0, 74), (1, 306)):
        ink = GOLD if turn == seat else WHITE
        if turn == seat:
            canvas.panel(48, y - 45, 64, 90, GOLD, 10)
        _card(canvas, 80, y, hands[seat])
        canvas.text(190, y - 30, names[seat], 17, ink)
        for chip in range(int(chips[seat])):
            canvas.disc(136 + 20 * (chip % 10), y + 2 + 20 * (chip // 10), 9, RED, WHITE)
        canvas.text(190, y + 34, f"{int(chips[seat])} in the pot", 14, WHITE)
    if shared is not None:
        _card(canvas, 180, 190, shared)
    canvas.text(180, 384, note, 14, WHITE)
    return canvas.finish()


def _card(canvas: _Canvas, x: float, y: float, label: str) -> None:
    """Draw one card around a point, face down without a label."""
    canvas.panel(x - 27, y - 40, 54, 80, WHITE, 7)
    if label:
        canvas.text(x, y, label, 36, RED if label in ("J", "K") else BLACK)
    else:
        canvas.panel(x - 22, y - 35, 44, 70, BLUE, 5)
        for row in range(-2, 3):
            for column in (-1, 0, 1):
                canvas.disc(x + 13 * column, y + 13 * row, 3, GOLD)


def moves(names: Sequence[str], labels: Sequence[str], note: str = "") -> np.ndarray:
    """Draw what two agents played at once: their names, a word for each move, a line of text."""
    canvas = _Canvas(360, 240, WOOD)
    for seat, x in ((0, 95), (1, 265)):
        color = (RED, BLUE)[seat]
        canvas.text(x, 40, names[seat], 16, color)
        canvas.disc(x, 125, 62, WHITE, color)
        canvas.text(x, 125, labels[seat], 24, BLACK)
    canvas.text(180, 218, note, 14, GREY)
    return canvas.finish()
