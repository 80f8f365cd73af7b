"""Small plots: values to the path of a line. Geometry only, the template makes SVG of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 120.0, 28.0  # of the view box
MARGIN = 1.5  # half a line's width must not be cut


@dataclass(frozen=True, slots=True)
class Plot:
    """A line and the area below it, both as SVG path data; empty where nothing is known. `peak` is the highest value,
    `last` the newest one.
    """

    line: str
    area: str
    peak: float
    last: float | None


def plot(values: Sequence[float | None]) -> Plot:
    """The plot of equally distant values, oldest first; a gap where one is None. Its lower edge is zero."""
    known = [value for value in values if value is not None]
    peak = max(known, default=0.0)
    step = WIDTH / max(len(values) - 1, 1)
    line: list[str] = []
    area: list[str] = []
    for run in _runs(values):
        points = [f"{place * step:.1f} {_height(value, peak):.1f}" for place, value in run]
        first, last = run[0][0] * step, run[-1][0] * step
        if len(points) == 1:
            points.append(f"{first + 0.5:.1f} {points[0].partition(' ')[2]}")
        line.append("M" + "L".join(points))
        area.append(f"M{first:.1f} {HEIGHT:.0f}L{'L'.join(points)}L{last:.1f} {HEIGHT:.0f}Z")
    return Plot("".join(line), "".join(area), peak, values[-1] if values else None)


def _height(value: float, peak: float) -> float:
    room = HEIGHT - 2 * MARGIN
    return HEIGHT - MARGIN - (room * value / peak if peak > 0 else 0.0)


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Values without a gap between them, with their places."""
    runs: list[list[tuple[int, float]]] = []
    after_gap = True
    for place, value in enumerate(values):
        if value is not None:
            if after_gap:
                runs.append([])
            runs[-1].append((place, value))
        after_gap = value is None
    return runs
