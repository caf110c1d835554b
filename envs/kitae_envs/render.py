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

    def text(self, x: float, y: float, text: str, size: float, color: Color = BLACK) -> None:
        font = ImageFont.load_default(_SCALE * size)
        self._draw.text((_SCALE * x, _SCALE * y), text, fill=color, font=font, anchor="mm")

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
    canvas = _Canvas(pixels, pixels, WHITE)
    reach = max(1.2, float(np.abs(position).max()) + 0.15)
    unit = pixels / 2 / reach
    edge = pixels / 2 - unit, pixels / 2 + unit
    for i in (0, 1):
        canvas.line(edge[i], edge[0], edge[i], edge[1], (225, 225, 225), 1)
        canvas.line(edge[0], edge[i], edge[1], edge[i], (225, 225, 225), 1)
    n = len(agents)
    for i in [*range(n, len(position)), *range(n)]:
        x, y = pixels / 2 + position[i, 0] * unit, pixels / 2 - position[i, 1] * unit
        red, green, blue = (int(255 * min(1.0, c)) for c in colors[i])
        radius = max(3.0, float(sizes[i]) * unit)
        canvas.disc(x, y, radius, (red, green, blue), BLACK)
        if i < n:
            canvas.text(x, y - radius - pixels / 40, agents[i], pixels / 36, GREY)
    for row, (agent, word) in enumerate(words.items()):
        y = pixels * (0.97 - 0.045 * row)
        canvas.text(pixels / 2, y, f"{agent} says {word}", pixels / 28, BLACK)
    return canvas.finish()


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
    shared: str,
    chips: Sequence[int],
    turn: int | None,
    names: Sequence[str],
    note: str = "",
) -> np.ndarray:
    """Draw a card table for two.

    Args:
        hands: each seat's card.
        shared: the card on the table; empty while it is hidden.
        chips: what each seat has put in.
        turn: the seat to move; None at the end.
        names: each seat's name.
        note: a line of text at the bottom.
    """
    canvas = _Canvas(360, 400, FELT)
    for seat, y in ((0, 70), (1, 300)):
        ink = GOLD if turn == seat else WHITE
        _card(canvas, 120, y, hands[seat])
        canvas.text(120, y - 54, names[seat], 15, ink)
        for chip in range(int(chips[seat])):
            canvas.disc(200 + 22 * (chip % 7), y + 20 - 22 * (chip // 7), 9, RED, WHITE)
        canvas.text(265, y + 42, f"{int(chips[seat])} in the pot", 13, WHITE)
    if shared:
        _card(canvas, 180, 185, shared)
    canvas.text(180, 385, note, 14, WHITE)
    return canvas.finish()


def _card(canvas: _Canvas, x: float, y: float, label: str) -> None:
    """Draw one card around a point."""
    canvas.panel(x - 27, y - 40, 54, 80, WHITE, 7)
    canvas.text(x, y, label, 34, RED if label in ("J", "K") else BLACK)


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
