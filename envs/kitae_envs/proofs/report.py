"""What a verification found, and the comparison of arrays that writes it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mismatch:
    """One value that differs: which field, whose, at which move, and both values."""

    field: str
    agent: str
    move: int
    expected: str
    got: str

    def __str__(self) -> str:
        who = f" of {self.agent}" if self.agent else ""
        return f"move {self.move}: {self.field}{who}: expected {self.expected}, got {self.got}"


@dataclass
class Report:
    """What a verification found.

    Attributes:
        id: the game.
        kwargs: its keyword arguments.
        tolerance: largest difference allowed, relative to values beyond 1.
        exhaustive: every position (or deal) and every move was played.
        episodes: games of the original that were played.
        moves: joint steps that were compared.
        largest: ``{field: largest difference seen}``.
        mismatches: the first differences, at most ten for each field.
        distributions: ``{what: (statistic, limit)}``, each statistic to stay below its limit.
    """

    id: str
    kwargs: dict[str, Any]
    tolerance: float
    exhaustive: bool = False
    episodes: int = 0
    moves: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)
    distributions: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing differs."""
        within = all(value <= limit for value, limit in self.distributions.values())
        return self.moves > 0 and not self.mismatches and within

    def __str__(self) -> str:
        how = "exactly" if self.tolerance == 0 else f"within {self.tolerance:g}"
        what = "every move of every position" if self.exhaustive else f"{self.episodes} games"
        lines = [
            f"{self.id} {self.kwargs or ''}: {'equal' if self.ok else 'DIFFERENT'} "
            f"({what}, {self.moves} moves, {how})"
        ]
        lines += [f"  largest difference in {k}: {v:.3g}" for k, v in self.largest.items()]
        lines += [f"  {mismatch}" for mismatch in self.mismatches]
        lines += [
            f"  distribution of {name}: {value:.2f} (limit {limit:g})"
            for name, (value, limit) in self.distributions.items()
        ]
        return "\n".join(lines)


class Check:
    """Compares arrays and writes what differs into a report."""

    def __init__(self, report: Report, first: int = 0) -> None:
        self._report, self._first = report, first

    def __call__(self, name: str, agent: str, expected: np.ndarray, got: Any) -> None:
        got, report = np.asarray(got), self._report
        if expected.shape != got.shape:
            shapes = str(expected.shape[1:]), str(got.shape[1:])
            report.mismatches.append(Mismatch(f"shape of {name}", agent, 0, *shapes))
            return
        wanted, found = expected.astype(np.float64), got.astype(np.float64)
        gap = np.abs(wanted - found)
        if gap.size and report.tolerance:
            report.largest[name] = max(report.largest.get(name, 0.0), float(np.nanmax(gap)))
        # written so that NaN is never within the tolerance
        wrong = ~(gap <= report.tolerance * np.maximum(1.0, np.abs(wanted)))
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
        known = sum(m.field == name and m.agent == agent for m in report.mismatches)
        for row in rows[: max(0, 3 - known)]:
            pair = _short(expected[row]), _short(got[row])
            report.mismatches.append(Mismatch(name, agent, self._first + int(row), *pair))


def _short(value: np.ndarray) -> str:
    """Write a value in one line."""
    text = np.array2string(np.asarray(value), precision=6, threshold=20, max_line_width=10_000)
    return " ".join(text.split())
