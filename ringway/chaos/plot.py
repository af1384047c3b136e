"""Line plots over time as inline SVG, with the faults as bands behind. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 190
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 24
X_MARKS, Y_MARKS = 8, 4


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: `points` are (seconds, value). `color` is a CSS variable's name."""

    name: str
    color: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Band:
    """A time with a name."""

    name: str
    start: float
    end: float


def round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... at or above a value."""
    step = 1.0
    while step < value:
        step *= 2.5 if str(step)[0] == "2" else 2.0
    return step


def number(value: float) -> str:
    """With a thousands separator, and a fraction only below ten."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


class _Scale:
    def __init__(self, seconds: float, top: float) -> None:
        self.seconds, self.top = max(seconds, 0.001), top

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(at / self.seconds, 0.0), 1.0)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value / self.top, 1.0)


def plot(lines: Sequence[Line], bands: Sequence[Band], seconds: float, unit: str) -> str:
    """An `<svg>`; its text takes the page's font and colors."""
    scale = _Scale(seconds, round_up(max((value for line in lines for _, value in line.points), default=1.0)))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', *(_band(band, scale) for band in bands)]
    parts += _grid(scale, unit)
    parts += [_curve(line, scale) for line in lines]
    return "\n".join([*parts, "</svg>"])


def _band(band: Band, scale: _Scale) -> str:
    left, right = scale.x(band.start), scale.x(band.end)
    box = f'x="{left:.1f}" y="{TOP}" width="{max(2.0, right - left):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
    return f'<rect class="fault" {box}><title>{escape(band.name)}</title></rect>'


def _grid(scale: _Scale, unit: str) -> list[str]:
    parts = []
    for mark in range(Y_MARKS + 1):
        value = scale.top * mark / Y_MARKS
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for mark in range(X_MARKS + 1):
        at = scale.seconds * mark / X_MARKS
        text = f"{at:.3g} s"
        parts.append(f'<text x="{scale.x(at):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>')
    return [*parts, f'<text x="{LEFT + 6}" y="{TOP + 12}">{escape(unit)}</text>']


def _curve(line: Line, scale: _Scale) -> str:
    points = " ".join(f"{scale.x(at):.1f},{scale.y(value):.1f}" for at, value in line.points)
    return f'<polyline style="stroke:var({line.color})" points="{points}"><title>{escape(line.name)}</title></polyline>'
