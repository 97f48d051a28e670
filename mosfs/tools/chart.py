"""Line charts as SVG, in a few lines: for the documents, without a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 48
COLOURS = ("#1f5fa8", "#c8501e", "#3c8c3c", "#7a4ea0", "#808080", "#b08a00", "#20858c", "#a03050")
TICKS = 5


def nice(limit: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least ``limit`` / `TICKS`."""
    step = 10.0 ** (len(f"{max(limit, 1e-9) / TICKS:.0f}") - 2)
    while True:
        for factor in (1, 2, 2.5, 5):
            if factor * step * TICKS >= limit:
                return factor * step
        step *= 10


def lines(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points], marks: Sequence[tuple[float, str]] = ()
) -> str:
    """An SVG with a line for each of ``series``; both axes start at 0. ``marks``: what happened at which x."""
    x_step = nice(max(x for points in series.values() for x, _ in points))
    y_step = nice(max(y for points in series.values() for _, y in points))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> str:
        return f"{LEFT + x / (x_step * TICKS) * width:.1f},{HEIGHT - BOTTOM - y / (y_step * TICKS) * height:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        f'<text x="{LEFT + width / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(14 {TOP + height / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    for tick in range(TICKS + 1):
        x, _, bottom = at(tick * x_step, 0).partition(",")
        left, _, y = at(0, tick * y_step).partition(",")
        parts += [
            f'<path d="M{left},{y}H{LEFT + width}M{x},{bottom}V{TOP}" stroke="#ddd"/>',
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick * x_step:g}</text>',
            f'<text x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick * y_step:g}</text>',
        ]
    for when, what in marks:
        x, _, bottom = at(when, 0).partition(",")
        beside = f"translate({float(x) + 4:.1f} {TOP + 12 + 16 * len(series)}) rotate(90)"  # below the names
        parts += [
            f'<path d="M{x},{bottom}V{TOP}" stroke="#666" stroke-dasharray="4 3"/>',
            f'<text transform="{beside}" fill="#666" font-size="11">{escape(what)}</text>',
        ]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(at(x, y) for x, y in points)
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{LEFT + width - 8}" y="{TOP + 16 + 16 * number}" text-anchor="end" fill="{colour}">{escape(name)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
