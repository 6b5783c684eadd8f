"""Line charts as SVG text, without a library."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 66, 26, 36, 50
SMALLEST = 1e-6
"""A chart whose values are all below it is drawn up to 1."""


@dataclass(frozen=True)
class Line:
    """The curve of a run.

    Args:
        run: connects it with a row of the table.
        label: shown when the pointer is over it.
        color: a CSS colour.
        dash: one of :data:`hale.runs.report.colors.DASHES`.
        points: (x, y), finite and not negative, in the order of x.
    """

    run: str
    label: str
    color: str
    dash: Sequence[int]
    points: Sequence[tuple[float, float]]


def line_chart(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """An ``<svg>`` of all lines, both axes from 0; a note if no line has a point."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return f'<p class="none">{escape(title)}: no validations were recorded</p>'
    x_high = max(x for line in drawn for x, _ in line.points)
    y_high = max(y for line in drawn for _, y in line.points)
    x_ticks, y_ticks = ticks(x_high), ticks(y_high)
    x_end, y_end = max(x_high, SMALLEST), y_ticks[-1]

    def x_at(x: float) -> float:
        return LEFT + x / x_end * (WIDTH - LEFT - RIGHT)

    def y_at(y: float) -> float:
        return HEIGHT - BOTTOM - y / y_end * (HEIGHT - TOP - BOTTOM)

    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return "\n".join([
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
        *(_y_tick(y, y_at(y)) for y in y_ticks),
        *(_x_tick(x, x_at(x)) for x in x_ticks if x <= x_end),
        f'<text class="x label" x="{middle_x}" y="{HEIGHT - 8}">{escape(x_label)}</text>',
        f'<text class="x label" transform="translate(17 {middle_y}) rotate(-90)">'
        f"{escape(y_label)}</text>",
        *_curves(drawn, x_at, y_at),
        "</svg>",
    ])  # fmt: skip


def _y_tick(y: float, at: float) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text class="y" x="{LEFT - 8}" y="{at:.1f}">{y:.6g}</text>'
    )


def _x_tick(x: float, at: float) -> str:
    return f'<text class="x" x="{at:.1f}" y="{HEIGHT - BOTTOM + 20}">{x:.6g}</text>'


def _curves(
    lines: Sequence[Line], x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> Iterator[str]:
    for line in lines:
        at = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in line.points)
        end_x, end_y = at.split(" ")[-1].split(",")
        yield (
            f'<g class="run" data-run="{escape(line.run)}" stroke="{line.color}"'
            f' color="{line.color}"><title>{escape(line.label)}</title>'
            f'<polyline points="{at}"{dash_attribute(line.dash)}/>'
            f'<circle cx="{end_x}" cy="{end_y}" r="2.5"/></g>'
        )


def dash_attribute(dash: Sequence[int]) -> str:
    """The attribute of an SVG line that draws a dash; none for a solid line."""
    return f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""


def ticks(high: float, about: int = 5) -> list[float]:
    """Round numbers from 0 to at least ``high``; to 1 if that is all but 0."""
    high = high if high >= SMALLEST else 1.0
    rough = high / about
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    return [float(f"{k * step:.12g}") for k in range(math.ceil(high / step - 1e-9) + 1)]
