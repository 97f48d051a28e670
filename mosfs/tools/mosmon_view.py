"""What mosmon(1) shows, as pure functions: nodes and a view make a frame, a key makes another view.

    nodes --shown--> those to be seen --frame(view, size)--> lines of text
    view --press(key)--> view, or None to end
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count

SOLID, EXTENDED, DEAD = "#", "+", "DEAD"
#: Width of the scale to the left of the bars, with its line.
SCALE = 8
QUARTERS = 4  #: marks on the scale
SMALLEST = (6, SCALE + 6)  #: rows and columns of the smallest window with bars in it

UP = ("alive", "blocked")


@dataclass(frozen=True, slots=True)
class Node:
    """A numbered node. Memory and swap in megabytes; ``load`` in the manual's unit: 100 = 1."""

    number: int
    ip: str
    status: str
    load: int = 0
    speed: int = 0
    ncpus: int = 0
    mem_free: int = 0
    mem_total: int = 0
    swap_free: int = 0
    swap_total: int = 0
    frozen: int = 0
    paging: int = 0
    guests: int = 0

    @property
    def up(self) -> bool:
        return self.status in UP


class Numbering(Enum):
    AUTO = "a"
    HORIZONTAL = "w"
    VERTICAL = "v"
    TIGHT = "V"


@dataclass(frozen=True, slots=True)
class Subject:
    """What bars stand for. ``value`` and ``total`` (the part of the bar shown by '+') in the unit of the scale.

    ``steps``: what the distance between two marks may begin with; ``least``: the smallest one.
    """

    title: str
    value: Callable[[Node], float]
    total: Callable[[Node], float] | None = None
    digits: int = 0
    steps: Sequence[float] = (1, 2, 5)
    least: float = 1


class Show(Enum):
    LOAD = Subject("load", lambda n: n.load / 100, digits=2, steps=(1, 2, 2.5, 5), least=0.25)
    SPEED = Subject("CPU speed (10000 = standard)", lambda n: n.speed)
    MEMORY = Subject("memory, used and total (MB)", lambda n: n.mem_total - n.mem_free, lambda n: n.mem_total)
    SWAP = Subject("swap space, used and total (GB)", lambda n: (n.swap_total - n.swap_free) / 1024,
                   lambda n: n.swap_total / 1024, digits=1, steps=(1, 2, 5), least=0.1)
    FROZEN = Subject("frozen processes", lambda n: n.frozen)
    CORES = Subject("cores", lambda n: n.ncpus)
    PAGING = Subject("paging (pages a second from and to swap)", lambda n: n.paging)


@dataclass(frozen=True, slots=True)
class View:
    """What the user chose. ``first``: how many of the shown nodes are left of the screen; ``keys``: there is a keyboard."""

    show: Show = Show.LOAD
    numbering: Numbering = Numbering.AUTO
    dead: bool = False
    count: bool = False
    first: int = 0
    help: bool = False
    keys: bool = False


NUMBER = 3  #: columns of the number above a bar
SHORT_HELP = "h help  q quit"

Size = tuple[int, int]  #: rows and columns

# --------------------------------------------------------------------------- which nodes, how wide


def shown(nodes: Sequence[Node], view: View) -> list[Node]:
    """Nodes that do not respond only if they are asked for."""
    return [node for node in nodes if node.up or view.dead]


def digits(nodes: Sequence[Node]) -> int:
    """Digits of the longest node-number."""
    return max((len(str(node.number)) for node in nodes), default=1)


def numbering(nodes: Sequence[Node], view: View, columns: int) -> Numbering:
    """AUTO resolved: vertical only if it makes the difference between seeing all nodes or not."""
    if view.numbering is not Numbering.AUTO:
        return view.numbering
    room = columns - SCALE
    all_fit = {way: len(nodes) * cell(nodes, way) <= room for way in (Numbering.HORIZONTAL, Numbering.VERTICAL)}
    vertical = all_fit[Numbering.VERTICAL] and not all_fit[Numbering.HORIZONTAL]
    return Numbering.VERTICAL if vertical else Numbering.HORIZONTAL


def cell(nodes: Sequence[Node], way: Numbering) -> int:
    """Columns that a node takes."""
    return {Numbering.TIGHT: 1, Numbering.VERTICAL: 2}.get(way, max(3, digits(nodes)) + 1)


def fitting(nodes: Sequence[Node], view: View, size: Size) -> int:
    """How many of the ``nodes`` to be seen fit on the screen; at least 1."""
    return max(1, (size[1] - SCALE) // cell(nodes, numbering(nodes, view, size[1])))


def scrolled(view: View, nodes: Sequence[Node], size: Size, by: int = 0) -> View:
    """``view`` moved by so many nodes to the right, as far as there are any."""
    last = max(0, len(nodes) - fitting(nodes, view, size))
    return replace(view, first=min(max(0, view.first + by), last))


# --------------------------------------------------------------------------- scale


def quarter(subject: Subject, most: float) -> float:
    """The round distance between two marks with which ``QUARTERS`` of them reach ``most``."""
    for power in count(-2):
        for step in subject.steps:
            distance = step * 10.0**power
            if distance >= subject.least - 1e-9 and distance * QUARTERS >= most - 1e-9:
                return distance
    raise AssertionError("numbers do not end")


def height(value: float, top: float, rows: int) -> int:
    """Rows of a bar: nothing only for 0."""
    return min(rows, max(1, round(value / top * rows))) if value > 0 else 0


# --------------------------------------------------------------------------- the frame


def frame(nodes: Sequence[Node], view: View, size: Size, notice: str = "") -> list[str]:
    """The screen: ``size`` rows of at most so many columns. ``notice`` takes the place of the title."""
    rows, columns = size
    if view.help:
        lines = HELP
    elif not nodes:
        lines = [notice or "no node has a node-number (userview.map)"]
    elif rows < SMALLEST[0] or columns < SMALLEST[1]:
        lines = ["window too small"]
    else:
        lines = _chart(nodes, view, size, notice)
    padded = [*lines[:rows], *[""] * (rows - len(lines))]
    return [line[:columns].rstrip() for line in padded]


def _chart(everything: Sequence[Node], view: View, size: Size, notice: str) -> list[str]:
    rows, columns = size
    nodes = shown(everything, view)
    view = scrolled(view, nodes, size)
    visible = nodes[view.first : view.first + fitting(nodes, view, size)]
    way = numbering(nodes, view, columns)
    width = cell(nodes, way)
    labels = list(_labels(visible, way, width, digits(nodes)))
    if view.show is Show.SPEED and way is Numbering.HORIZONTAL:
        labels.append("".join((f"x{node.ncpus}" if node.up and node.ncpus > 1 else "").center(width - 1) + " " for node in visible))
    numbers = width > NUMBER and rows - 3 - len(labels) >= QUARTERS  #: above the bars
    space = rows - 2 - len(labels) - numbers
    bar_rows = max(1, space // QUARTERS) * QUARTERS if space >= QUARTERS else max(1, space)
    subject = view.show.value
    step = quarter(subject, max((_extent(node, subject) for node in nodes if node.up), default=0))
    bars = [_bar(node, subject, step * QUARTERS, bar_rows) for node in visible]
    title = notice or _title(everything, nodes, visible, view)
    if view.keys and len(title) + 2 <= columns - len(SHORT_HELP):
        title = title.ljust(columns - len(SHORT_HELP)) + SHORT_HELP
    lines = [title]
    said = [short(subject.value(node)) if numbers and node.up else "" for node in visible]
    for row in range(bar_rows + numbers, 0, -1):
        cells = (_at(bar, row, number, max(1, width - 1)).ljust(width) for bar, number in zip(bars, said))
        lines.append(_mark(row, bar_rows, step, subject) + "".join(cells))
    lines.append("0".rjust(SCALE - 2) + "+" + "-" * (columns - SCALE + 1))
    return lines + [" " * SCALE + label for label in labels]


def _extent(node: Node, subject: Subject) -> float:
    return max(subject.value(node), subject.total(node) if subject.total else 0)


def _bar(node: Node, subject: Subject, top: float, rows: int) -> str:
    """The bar's characters from below."""
    if not node.up:
        return DEAD[::-1].ljust(rows)[:rows] if rows >= len(DEAD) else "D".ljust(rows)
    solid = height(subject.value(node), top, rows)
    whole = max(solid, height(subject.total(node), top, rows)) if subject.total else solid
    return (SOLID * solid).ljust(whole, EXTENDED).ljust(rows)


def short(value: float) -> str:
    """A number of at most ``NUMBER`` characters: 0, 0.5, 12, 640, 4k, 32k, .1M, 2M; "" when even those are too few."""
    for unit, letter in ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")):
        scaled = value / unit
        exact = scaled < 0.95 if letter else scaled < 9.95 and scaled != round(scaled)
        text = f"{scaled:.1f}".removeprefix("0" if letter else "") if exact else f"{scaled:.0f}"
        if len(text + letter) <= NUMBER:
            return text + letter
    return ""


def _at(bar: str, row: int, number: str, width: int) -> str:
    """What stands in ``row`` (from 1, below): a part of the bar, or its number just above it."""
    if row == len(bar.rstrip()) + 1:
        return number.center(width)
    return _cell(bar[row - 1], width) if row <= len(bar) else ""


def _cell(character: str, width: int) -> str:
    """A bar is as wide as its place, a letter is not."""
    return character * width if character in (SOLID, EXTENDED) else character.center(width)


def _mark(row: int, rows: int, step: float, subject: Subject) -> str:
    """The scale beside a row (from 1, below)."""
    marks = rows // QUARTERS if rows >= QUARTERS else rows
    if row % marks or row > rows:
        return " " * (SCALE - 2) + "| "
    value = step * QUARTERS * row / rows
    return f"{value:.{subject.digits}f}"[: SCALE - 2].rjust(SCALE - 2) + "| "


def _labels(visible: Sequence[Node], way: Numbering, width: int, longest: int) -> Iterator[str]:
    """The numbers below the bars: in a line, or from top to bottom."""
    if way is Numbering.HORIZONTAL:
        yield "".join(str(node.number).center(width - 1) + " " for node in visible)
        return
    texts = [str(node.number).rjust(longest) for node in visible]
    for at in range(longest):
        yield "".join(text[at].ljust(width) for text in texts)


def _title(everything: Sequence[Node], nodes: Sequence[Node], visible: Sequence[Node], view: View) -> str:
    parts = [f"MOSIX {view.show.value.title}"]
    if view.count:
        up = [node for node in everything if node.up]
        parts.append(f"{len(up)} node{'s' * (len(up) != 1)} up, {sum(node.ncpus for node in up)} CPUs")
    if not nodes:
        parts.append("no node responds")
    elif len(visible) < len(nodes):
        parts.append(f"{view.first + 1}-{view.first + len(visible)} of {len(nodes)}")
    return "  ".join(parts)


# --------------------------------------------------------------------------- keys

RIGHT, LEFT, ENTER = "right", "left", "enter"

#: Key (one character, or a name above) to its line of help, in the manual's order.
KEYS: Mapping[str, str] = {
    "v": "vertical numbering: more nodes are visible",
    "V": "tight vertical numbering: most nodes are visible",
    "w": "horizontal numbering: better display",
    "a": "automatic numbering",
    "s": "CPU-speeds, and number of CPUs (if more than 1)",
    "m": "used and total memory; again: swap space",
    "f": "number of frozen processes",
    "c": "number of cores",
    "g": "paging: pages a second from and to swap (not in the MOSIX manual)",
    "l": "load",
    "d": "dead nodes too",
    "D": "no dead nodes",
    "t": "count of operational nodes and CPUs, on and off",
    RIGHT: "one node to the right",
    LEFT: "one node to the left",
    "n": "one screen to the right",
    "p": "one screen to the left",
    "h": "this help",
    ENTER: "redraw the screen",
    "q": "quit",
}
HELP = ["mosmon - MOSIX monitor", "", *(f"  {key:6} {text}" for key, text in KEYS.items()), "", "press a key to go on"]

_SHOWS = {"s": Show.SPEED, "m": Show.MEMORY, "f": Show.FROZEN, "c": Show.CORES, "g": Show.PAGING, "l": Show.LOAD}


def press(view: View, key: str, nodes: Sequence[Node], size: Size) -> View | None:
    """The view after ``key``; None to end. Unknown keys change nothing; a key of the help screen only leaves it."""
    if key == "q":
        return None
    if view.help:
        return replace(view, help=False)
    seen = shown(nodes, view)
    page = fitting(seen, view, size)
    if key in _SHOWS:
        again = key == "m" and view.show is Show.MEMORY
        return replace(view, show=Show.SWAP if again else _SHOWS[key])
    if key in ("v", "V", "w", "a"):
        changed = replace(view, numbering=Numbering(key))
    elif key in ("d", "D"):
        changed = replace(view, dead=key == "d")
    elif key == "t":
        changed = replace(view, count=not view.count)
    elif key == "h":
        changed = replace(view, help=True)
    else:
        steps = {RIGHT: 1, LEFT: -1, "n": page, "p": -page}
        return scrolled(view, seen, size, steps.get(key, 0))
    return scrolled(changed, shown(nodes, changed), size)
