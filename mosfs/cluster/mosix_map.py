"""``/etc/mosix/mosix.map``: which computers are in the cluster (mosix(7); readings, rows 22 and 23).

    HOST COUNT [p]        a range of COUNT nodes from HOST (IP or host name); p: near, images are not compressed
    A.B.C.D=HOST          alias: messages from A.B.C.D come from the node HOST
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mosfs.cluster.address import Resolver, to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import Position, data_lines, find, sorted_apart

#: Data and alias lines together; comments and empty lines are free.
MAX_LINES = 256

#: The most nodes of a range.
MAX_COUNT = 1 << 32


@dataclass(frozen=True, slots=True)
class RangeLine:
    """A data line as written. ``line`` (from 1, 0 = not from a file) is for errors only."""

    host: str
    count: int
    near: bool = False
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.host} {self.count}{' p' if self.near else ''}"


@dataclass(frozen=True, slots=True)
class AliasLine:
    """An alias line as written: ``alias`` is an IP, ``host`` an IP or a host name."""

    alias: str
    host: str
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.alias}={self.host}"


MapLine = RangeLine | AliasLine


@dataclass(frozen=True, slots=True)
class NodeRange:
    """``count`` nodes from the address ``first``; ``near``: do not compress what is sent to them."""

    first: int
    count: int
    near: bool


@dataclass(frozen=True, slots=True)
class Nodes:
    """A valid mosix.map: ranges sorted and apart, and the addresses that are other names of nodes."""

    ranges: tuple[NodeRange, ...]
    aliases: dict[int, int]


def parse_map(text: str, file: str = "mosix.map") -> tuple[MapLine, ...]:
    """The lines of a map, in their order. Grammar only; ConfigError at the first wrong line."""
    lines = tuple(_parse_line(position, line) for position, line in data_lines(file, text))
    for line in lines[MAX_LINES:]:
        raise Position(file, line.line).error(str(line), f"more than {MAX_LINES} data and alias lines")
    return lines


def print_map(lines: Iterable[MapLine]) -> str:
    """The text of which `parse_map` makes ``lines``."""
    return "".join(f"{line}\n" for line in lines)


def validate_map(
    lines: Iterable[MapLine],
    resolver: Resolver,
    file: str = "mosix.map",
    partner: Callable[[int], bool] = lambda address: False,
) -> Nodes:
    """What the lines mean. ConfigError for unknown and forbidden addresses, ranges that overlap, contradictory aliases.

    ``partner`` tells whether an address belongs to a node of a partner-cluster: an alias may refer to those too.
    """
    ranges = []
    alias_lines = []
    for line in lines:
        position = Position(file, line.line)
        if isinstance(line, RangeLine):
            first = position.address(line.host, resolver, line.count)
            ranges.append((NodeRange(first, line.count, line.near), position, str(line)))
        else:
            alias_lines.append((line, position, position.address(line.alias, _nobody), position.address(line.host, resolver)))
    if not ranges:
        raise ConfigError(file, "no nodes")
    nodes = sorted_apart(ranges)
    aliases: dict[int, int] = {}
    for line, position, alias, target in alias_lines:
        if find(nodes, alias):
            raise position.error(str(line), f"{to_ip(alias)} is a node, so it cannot be an alias")
        if not find(nodes, target) and not partner(target):
            raise position.error(str(line), f"{to_ip(target)} is not a node")
        if aliases.setdefault(alias, target) != target:
            raise position.error(str(line), f"{to_ip(alias)} is an alias of {to_ip(aliases[alias])} already")
    return Nodes(nodes, aliases)


def _parse_line(position: Position, text: str) -> MapLine:
    if "=" in text:
        alias, host = (part.strip() for part in text.split("=", 1))
        if "=" in host or len(alias.split()) != 1 or len(host.split()) != 1:
            raise position.error(text, "an alias line is a.b.c.d=e.f.g.h or a.b.c.d=host-name")
        return AliasLine(alias, host, position.line)
    match text.split():
        case [host, count]:
            return RangeLine(host, position.number(count, 1, MAX_COUNT), False, position.line)
        case [host, count, "p"]:
            return RangeLine(host, position.number(count, 1, MAX_COUNT), True, position.line)
        case _:
            raise position.error(text, "a data line is: IP or host-name, number of nodes, and perhaps p")


def _nobody(name: str) -> None:
    """The resolver of places where only an IP may stand."""
