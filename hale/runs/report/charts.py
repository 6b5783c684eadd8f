"""Line charts as SVG text: many runs on one pair of axes, no library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 330
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 44
DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""Line patterns; the empty one is solid."""


@dataclass(frozen=True)
class Line:
    """One run's curve.

    Args:
        run: what connects it with a row of the table.
        label: shown when the pointer is over it.
        color: a CSS colour.
        dash: one of ``DASHES``.
        points: (x, y), finite, in the order of x.
    """

    run: str
    label: str
    color: str
    dash: str
    points: Sequence[tuple[float, float]]


def line_chart(title: str, x_label: str, lines: Sequence[Line]) -> str:
    """An ``<svg>`` of all lines, scaled to what they hold; a note where there is no point."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return f'<p class="none">{escape(title)}: no validations were kept</p>'
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    x_ticks, y_ticks = ticks(0.0, max(xs)), ticks(min(ys), max(ys))
    x_low, x_high = 0.0, max(xs) or x_ticks[-1]
    y_low, y_high = min(*ys, y_ticks[0]), max(*ys, y_ticks[-1])

    def x_at(x: float) -> float:
        return LEFT + (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def y_at(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / ((y_high - y_low) or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
    ]
    for y in y_ticks:
        at = f"{y_at(y):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="y" x="{LEFT - 8}" y="{at}">{y:.6g}</text>')
    for x in (x for x in x_ticks if x <= x_high):
        parts.append(f'<text class="x" x="{x_at(x):.1f}" y="{HEIGHT - BOTTOM + 17}">{x:.6g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="x label" x="{middle}" y="{HEIGHT - 8}">{escape(x_label)}</text>')
    for line in drawn:
        at = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in line.points)
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        end_x, end_y = at.split(" ")[-1].split(",")
        parts.append(
            f'<g class="run" data-run="{escape(line.run)}" stroke="{line.color}">'
            f"<title>{escape(line.label)}</title>"
            f'<polyline points="{at}"{dash}/><circle cx="{end_x}" cy="{end_y}" r="2.5"/></g>'
        )
    return "\n".join([*parts, "</svg>"])


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, about so many, from at most ``low`` to at least ``high``."""
    size = max(abs(low), abs(high), 1e-9)
    span = high - low if high - low > 1e-6 * size else size
    rough = span / about
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, max(last, first + 1) + 1)]
