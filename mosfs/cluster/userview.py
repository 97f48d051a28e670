"""``/etc/mosix/userview.map``: the small numbers by which users call nodes (mosix(7)).

    NUMBER HOST COUNT     the COUNT nodes from HOST (IP or host name) are NUMBER, NUMBER+1, ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from mosfs.cluster.address import Resolver, to_int, to_ip
from mosfs.cluster.lines import Position, data_lines, find, sorted_apart

#: Node numbers are 1-65535; the last one of a range too.
MAX_NUMBER = 65535


@dataclass(frozen=True, slots=True)
class ViewLine:
    """A line as written. ``line`` (from 1, 0 = not from a file) is for errors only."""

    number: int
    host: str
    count: int
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.number} {self.host} {self.count}"


@dataclass(frozen=True, slots=True)
class Numbered:
    """``count`` consecutive numbers from ``first`` and the offset from a number to its address."""

    first: int
    count: int
    offset: int


@dataclass(frozen=True)
class UserView:
    """Numbers and addresses of nodes, one to one. ``ranges`` are sorted by number; neither kind overlaps."""

    ranges: tuple[Numbered, ...] = ()

    @cached_property
    def _by_address(self) -> tuple[Numbered, ...]:
        turned = (Numbered(r.first + r.offset, r.count, -r.offset) for r in self.ranges)
        return tuple(sorted(turned, key=lambda r: r.first))

    def ip_of(self, number: int) -> str | None:
        """The IP of a node number; None when no line gives that number."""
        found = find(self.ranges, number)
        return to_ip(number + found.offset) if found else None

    def number_of(self, ip: str) -> int | None:
        """The node number of an IP; None when it has none."""
        address = to_int(ip)
        found = find(self._by_address, address) if address is not None else None
        return address + found.offset if found and address is not None else None

    def numbers(self) -> Iterator[tuple[str, int]]:
        """Every (IP, number), in the order of numbers."""
        for r in self.ranges:
            for number in range(r.first, r.first + r.count):
                yield to_ip(number + r.offset), number


def parse_userview(text: str, file: str = "userview.map") -> tuple[ViewLine, ...]:
    """The lines in their order, without empty lines and '#' lines. ConfigError at the first wrong one."""
    return tuple(_parse_line(position, line) for position, line in data_lines(file, text))


def print_userview(lines: Iterable[ViewLine]) -> str:
    """The text of which `parse_userview` makes ``lines``."""
    return "".join(f"{line}\n" for line in lines)


def validate_userview(lines: Iterable[ViewLine], resolver: Resolver, file: str = "userview.map") -> UserView:
    """What the lines mean. ConfigError for unknown and forbidden addresses, numbers and addresses given twice."""
    numbers = []
    addresses = []
    for line in lines:
        position = Position(file, line.line)
        address = position.address(line.host, resolver, line.count)
        offset = address - line.number
        numbers.append((Numbered(line.number, line.count, offset), position, str(line)))
        addresses.append((Numbered(address, line.count, -offset), position, str(line)))
    sorted_apart(addresses)
    return UserView(sorted_apart(numbers))


def _parse_line(position: Position, text: str) -> ViewLine:
    match text.split():
        case [number, host, count]:
            first = position.number(number, 1, MAX_NUMBER)
            return ViewLine(first, host, position.number(count, 1, MAX_NUMBER + 1 - first), position.line)
        case _:
            raise position.error(text, "a line is: node number, IP or host-name, number of nodes")
