"""The drawings on a page of mosmon(1), --html, as SVG: nodes in a ring with the ways of programs, and loads over time.

Pure functions of numbers and names. Colours are classes of the page's style, so that they follow its light and dark scheme.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import ceil, cos, hypot, log2, pi, sin
from typing import NamedTuple

from mosfs.cluster.words import printable

#: Loads from which on a node has the next colour; 1 is one program for each standard processor.
STEPS = (0.1, 0.5, 1.0, 2.0)

Curve = Sequence[float | None]


def text(anything: object) -> str:
    """For HTML, also within quotes: whoever chose it, it is text and no control."""
    return escape(printable(str(anything)))


def colour(load: float) -> str:
    """The class of a load: q0 (idle) to q4 (overloaded)."""
    return f"q{sum(load >= step for step in STEPS)}"


def _runs(curve: Curve) -> Iterator[list[tuple[int, float]]]:
    """Index and value of what is known, in pieces without a gap."""
    run: list[tuple[int, float]] = []
    for at, value in enumerate(curve):
        if value is not None:
            run.append((at, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


# --------------------------------------------------------------------------- ring


class Dot(NamedTuple):
    """A node. ``load`` None: it is not up; ``told``: what is said of it; ``here``: it is this one."""

    name: str
    load: float | None
    told: str
    here: bool = False


class Way(NamedTuple):
    """Programs between two nodes, by their places in the ring; ``now``: they are there, else they only were."""

    start: int
    end: int
    programs: int
    now: bool
    told: str


RING, CENTRE = 196.0, 270.0
#: Nodes of a ring of discs with their names inside; bars stand for the nodes of a larger one.
MOST_DISCS = 40
#: Length of the bar of `BAR_LOAD` and more, and the least one.
BAR, BAR_LOAD, LEAST = 44.0, 3.0, 4.0
#: At least so far are two names apart, on the circle.
APART = 26.0


def ring(dots: Sequence[Dot], ways: Sequence[Way]) -> str:
    """The nodes in a circle, clockwise from the top."""
    angles = [2 * pi * at / max(1, len(dots)) for at in range(len(dots))]
    lowest = max((_at(angle, RING)[1] for angle in angles), default=CENTRE) + CENTRE - RING
    parts = [f'<svg class="ring" viewBox="0 0 {2 * CENTRE:.0f} {lowest:.0f}" role="img" '
             f'aria-label="{len(dots)} nodes, and the ways of programs between them">']
    radius = min(30.0, RING * pi / max(1, len(dots)) * 0.72)
    bars = len(dots) > MOST_DISCS
    inner = RING - (4 if bars else radius)
    for way in sorted(ways, key=lambda each: each.now):
        parts.append(_way(way, angles, inner))
    parts += (_bar if bars else _disc)(dots, angles, radius)
    return "".join([*parts, "</svg>"])


def _at(angle: float, distance: float) -> tuple[float, float]:
    return CENTRE + sin(angle) * distance, CENTRE - cos(angle) * distance


def _way(way: Way, angles: Sequence[float], inner: float) -> str:
    """An arc that bends towards the middle, and more for nodes that are far apart."""
    (x1, y1), (x2, y2) = (_at(angles[place], inner) for place in (way.start, way.end))
    bend = 0.1 + 0.35 * (1 - hypot(x2 - x1, y2 - y1) / (2 * RING))
    cx, cy = (CENTRE + (x1 + x2 - 2 * CENTRE) / 2 * bend, CENTRE + (y1 + y2 - 2 * CENTRE) / 2 * bend)
    width = 1.5 + 1.2 * log2(max(1, way.programs)) if way.now else 1.0
    return (f'<path class="{"now" if way.now else "once"}" d="M{x1:.1f},{y1:.1f}Q{cx:.1f},{cy:.1f} {x2:.1f},{y2:.1f}" '
            f'stroke-width="{width:.1f}"><title>{text(way.told)}</title></path>')


def _disc(dots: Sequence[Dot], angles: Sequence[float], radius: float) -> Iterator[str]:
    size = max(9.0, min(16.0, radius * 0.75))
    for dot, angle in zip(dots, angles):
        x, y = _at(angle, RING)
        look = "down" if dot.load is None else colour(dot.load)
        halo = f'<circle class="halo" cx="{x:.1f}" cy="{y:.1f}" r="{radius + 5:.1f}"/>' if dot.here else ""
        outside = radius + 20
        lx, ly = _at(angle, RING + outside)
        side = "start" if lx > CENTRE + 8 else "end" if lx < CENTRE - 8 else "middle"
        inside = radius >= 9 and len(dot.name) * size * 0.58 < 2 * radius
        value = "down" if dot.load is None else f"{dot.load:.2f}"
        label = value if inside else dot.name
        yield (f'<g><title>{text(dot.told)}</title>{halo}<circle class="node {look}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
               + (f'<text class="in {look}" x="{x:.1f}" y="{y + size * 0.35:.1f}" font-size="{size:.0f}">{text(dot.name)}</text>'
                  if inside else "")
               + f'<text class="out" x="{lx - _towards(side, outside):.1f}" y="{ly + 4:.1f}" text-anchor="{side}">'
               f"{text(label)}</text></g>")


def _towards(side: str, outside: float) -> float:
    """A word beside a disc begins nearer to it than one above or below."""
    return {"start": 8.0, "end": -8.0}.get(side, 0.0) * (outside > 30)


def _bar(dots: Sequence[Dot], angles: Sequence[float], _: float) -> Iterator[str]:
    width = 2 * pi * RING / len(dots) * 0.7
    every = ceil(APART / (2 * pi * (RING + BAR) / len(dots)))
    yield f'<circle class="base" cx="{CENTRE}" cy="{CENTRE}" r="{RING - 2}"/>'
    for place, (dot, angle) in enumerate(zip(dots, angles)):
        share = min(1.0, (dot.load or 0.0) / BAR_LOAD)
        (x1, y1), (x2, y2) = _at(angle, RING), _at(angle, RING + LEAST + (BAR - LEAST) * share)
        look = "down" if dot.load is None else colour(dot.load)
        yield (f'<path class="bar {look}" d="M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}" stroke-width="{width:.1f}">'
               f'<title>{text(dot.told)}</title></path>')
        if (place % every == 0 and place + every <= len(dots)) or dot.here:
            x, y = _at(angle, RING + BAR + 14)
            yield (f'<text class="{"here" if dot.here else "out"}" x="{x:.1f}" y="{y + 4:.1f}" '
                   f'text-anchor="middle">{text(dot.name)}</text>')
        if dot.here:
            x, y = _at(angle, RING - 9)
            yield f'<circle class="me" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


# --------------------------------------------------------------------------- loads over time

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 540.0, 350.0, 34.0, 52.0, 12.0, 26.0
#: Minutes between two marks of time, and of the whole.
MARK, HOUR = 15, 60


def nice(most: float, parts: int = 4) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten, at least 0.25, that ``parts`` times is ``most`` at least."""
    power = 0.01
    while True:
        for factor in (1, 2, 2.5, 5):
            if factor * power >= 0.25 and factor * power * parts >= most:
                return factor * power
        power *= 10


class Scale:
    """From a time in ``notes`` notes, the last of which is now, and a load to places in the chart."""

    def __init__(self, notes: int, most: float) -> None:
        self.notes, self.step = max(2, notes), nice(most)

    def at(self, note: int, load: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * note / (self.notes - 1)
        return f"{x:.1f},{self.height(load):.1f}"

    def height(self, load: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * load / (4 * self.step)


def hour(curves: Mapping[str, Curve], notes: int) -> str:
    """A line each for a few nodes; what most have, and the range of all, for more. ``curves``: by name, of ``notes`` values."""
    known = [value for curve in curves.values() for value in curve if value is not None]
    scale = Scale(notes, max(known, default=1.0))
    parts = [f'<svg class="hour" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="loads over the last hour">']
    parts += _grid(scale)
    parts += _lines(curves, scale) if len(curves) <= len(LINES) else _bands(list(curves.values()), scale)
    return "".join([*parts, "</svg>"])


#: Classes of the lines of a few nodes.
LINES = ("c0", "c1", "c2", "c3", "c4", "c5")


def _grid(scale: Scale) -> Iterator[str]:
    for mark in range(5):
        y = scale.height(mark * scale.step)
        yield (f'<path class="{"axis" if mark == 0 else "grid"}" d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}"/>'
               f'<text class="mark" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark * scale.step:g}</text>')
    for minute in range(0, HOUR + 1, MARK):
        x = LEFT + (WIDTH - LEFT - RIGHT) * minute / HOUR
        said = "now" if minute == HOUR else f"{HOUR - minute} min ago" if minute == 0 else f"{HOUR - minute}"
        anchor = "start" if minute == 0 else "middle"
        yield f'<text class="mark" x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{said}</text>'


def _path(run: Sequence[tuple[int, float]], scale: Scale) -> str:
    return "M" + "L".join(scale.at(at, load) for at, load in run)


def _lines(curves: Mapping[str, Curve], scale: Scale) -> Iterator[str]:
    ends = []
    for (name, curve), look in zip(curves.items(), LINES):
        for run in _runs(curve):
            yield f'<path class="{look} line" d="{_path(run, scale)}{"h1" * (len(run) == 1)}"/>'
        if curve and curve[-1] is not None:
            ends.append((scale.height(curve[-1]), name, look))
    lowest = TOP
    for y, name, look in sorted(ends):
        lowest = max(lowest + 14, y + 4)
        yield f'<text class="{look} end" x="{WIDTH - RIGHT + 8}" y="{min(lowest, HEIGHT - 2):.1f}">{text(name)}</text>'


def _bands(curves: Sequence[Curve], scale: Scale) -> Iterator[str]:
    """The range of all, that of all but the tenth at either end, and the median."""
    columns = [sorted(value for value in column if value is not None) for column in zip(*curves)]
    for look, low, high in (("all", 0.0, 1.0), ("most", 0.1, 0.9)):
        lower = list(_runs([_share(column, low) for column in columns]))
        upper = list(_runs([_share(column, high) for column in columns]))
        for under, over in zip(lower, upper):
            yield f'<path class="{look}" d="{_path(over, scale)}L{_path(under[::-1], scale)[1:]}Z"/>'
    last = ""
    for run in _runs([_share(column, 0.5) for column in columns]):
        yield f'<path class="median" d="{_path(run, scale)}"/>'
        last = f'<text class="end" x="{WIDTH - RIGHT + 8}" y="{scale.height(run[-1][1]) + 4:.1f}">median</text>'
    yield last


def _share(column: Sequence[float], share: float) -> float | None:
    """The value below which so much of the sorted ``column`` is."""
    return column[round(share * (len(column) - 1))] if column else None


def spark(curve: Curve, notes: int, most: float) -> str:
    """A small chart without words, of ``notes`` values up to ``most``; the line is a load of 1."""
    wide, high = 120.0, 30.0

    def at(note: int, load: float) -> str:
        return f"{wide * note / max(1, notes - 1):.1f},{high - 1 - (high - 3) * min(1.0, load / most):.1f}"

    y = at(0, 1.0).partition(",")[2]
    parts = [f'<svg class="spark" viewBox="0 0 {wide:.0f} {high:.0f}" preserveAspectRatio="none" aria-hidden="true">',
             f'<path class="one" d="M0,{y}H{wide:.0f}"/>' if most > 1.0 else ""]
    for run in _runs(curve):
        line = "L".join(at(note, load) for note, load in run)
        start, end = at(run[0][0], 0).partition(",")[0], at(run[-1][0], 0).partition(",")[0]
        parts.append(f'<path class="fill" d="M{start},{high:.0f}L{line}L{end},{high:.0f}Z"/><path class="line" d="M{line}"/>')
    return "".join([*parts, "</svg>"])
