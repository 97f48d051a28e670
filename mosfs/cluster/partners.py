"""``/etc/mosix/partners/NAME``: another cluster that this one works with (mosix(7); readings, rows 24 and 25).

    a description                     line 1, for people
    PRIORITY CANGO CANTAKE            0-65535, the lower the better; 0 or 1: ours may go there; 0 or 1: theirs may come here
    HOST COUNT 1 1 PROXIMATE          COUNT nodes from HOST (IP or host name); PROXIMATE 1: images are not compressed

The third and fourth field of a range are obsolete, and so is a fourth number in line 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mosfs.cluster.address import Resolver
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import Position, data_lines, find, sorted_apart
from mosfs.cluster.mosix_map import MAX_COUNT, NodeRange, Nodes

MAX_NAME = 128
MAX_PRIORITY = 65535
#: Of a partner that mosconf(1) defines (manual, section 4.3.4), and of the cluster itself.
DEFAULT_PRIORITY = 50
OWN_PRIORITY = 0


@dataclass(frozen=True, slots=True)
class PartnerRange:
    """A range as written. ``line`` (from 1, 0 = not from a file) is for errors only."""

    host: str
    count: int
    near: bool = False
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.host} {self.count} 1 1 {int(self.near)}"


@dataclass(frozen=True, slots=True)
class PartnerFile:
    """A file as written. ``priority``: 0-65535; ``cango``: ours may go there; ``cantake``: theirs may come here."""

    description: str
    priority: int = DEFAULT_PRIORITY
    cango: bool = True
    cantake: bool = True
    ranges: tuple[PartnerRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Partner:
    """A valid file: its name is that of the cluster, its ranges are sorted and apart."""

    name: str
    description: str
    priority: int
    cango: bool
    cantake: bool
    ranges: tuple[NodeRange, ...]


def parse_partner(text: str, file: str) -> PartnerFile:
    """What ``text`` says. Grammar only; ConfigError at the first wrong line."""
    description, _, rest = text.partition("\n")
    if not description.strip():
        raise ConfigError(file, "line 1 must describe the cluster", line=1, value=description)
    lines = list(data_lines(file, f"\n{rest}"))
    if not lines:
        raise ConfigError(file, "line 2 must be: priority cango cantake", line=2, value="")
    (position, relation), *ranges = lines
    match relation.split():
        case [priority, cango, cantake] | [priority, cango, cantake, _]:
            return PartnerFile(
                description.strip(), position.number(priority, 0, MAX_PRIORITY), bool(position.number(cango, 0, 1)),
                bool(position.number(cantake, 0, 1)), tuple(_parse_range(position, line) for position, line in ranges),
            )
        case _:
            raise position.error(relation, "line 2 must be: priority cango cantake")


def print_partner(partner: PartnerFile) -> str:
    """The text of which `parse_partner` makes ``partner``."""
    relation = f"{partner.priority} {int(partner.cango)} {int(partner.cantake)}"
    return "".join(f"{line}\n" for line in (partner.description, relation, *partner.ranges))


def with_priority(text: str, priority: int) -> str:
    """``text``, which `parse_partner` accepts, with another priority and everything else as it was."""
    description, _, rest = text.partition("\n")
    lines = rest.split("\n")
    at = next(number for number, line in enumerate(lines) if line.strip() and not line.strip().startswith("#"))
    lines[at] = " ".join([str(priority), *lines[at].split()[1:]])
    return "\n".join([description, *lines])


#: How the names of copies end that editors and dpkg leave beside a file.
_COPIES = ("~", ".old", ".bak", ".orig", ".dpkg-old", ".dpkg-new", ".dpkg-dist")


def valid_name(name: str) -> bool:
    """Can this be the name of a partner? Copies that editors and dpkg leave are not read, nor what begins with '.'."""
    return 0 < len(name) <= MAX_NAME and not name.startswith(".") and not name.endswith(_COPIES) and "/" not in name


def validate_partners(
    files: Mapping[str, PartnerFile], own: Nodes, resolver: Resolver, folder: str = "partners"
) -> tuple[Partner, ...]:
    """What the files mean, by name. ConfigError for names that are too long or no text, unknown and forbidden addresses, a cluster
    without nodes, and a node that is in two clusters, or in ours."""
    spans: list[tuple[NodeRange, Position, str]] = []
    partners = []
    for name, written in sorted(files.items()):
        path = f"{folder}/{name}"
        if len(name) > MAX_NAME:
            raise ConfigError(path, f"the name of a cluster has at most {MAX_NAME} characters", value=name)
        if not name.isprintable():
            raise ConfigError(path, "the name of a cluster has only characters that can be printed, in UTF-8", value=name)
        if not written.ranges:
            raise ConfigError(path, "no nodes")
        mine = []
        for line in written.ranges:
            position = Position(path, line.line)
            first = position.address(line.host, resolver, line.count)
            for inside in own.ranges:
                if first < inside.first + inside.count and inside.first < first + line.count:
                    raise position.error(str(line), "overlaps our own cluster (mosix.map)")
            mine.append((NodeRange(first, line.count, line.near), position, str(line)))
        _apart(spans, mine)
        partners.append(Partner(
            name, written.description, written.priority, written.cango, written.cantake, sorted_apart(mine),
        ))
    return tuple(partners)


def _apart(spans: list[tuple[NodeRange, Position, str]], more: Iterable[tuple[NodeRange, Position, str]]) -> None:
    """Add ``more`` to the ranges of the clusters before; ConfigError for a node that is in one of those."""
    for span, position, text in more:
        for other, where, _ in spans:
            if where.file != position.file and span.first < other.first + other.count and other.first < span.first + span.count:
                raise position.error(text, f"overlaps a range of {where.file}")
        spans.append((span, position, text))


def partner_of(partners: Iterable[Partner], address: int) -> tuple[Partner, NodeRange] | None:
    """The cluster that has the node ``address``, and the range in which it is."""
    for partner in partners:
        if found := find(partner.ranges, address):
            return partner, found
    return None


def _parse_range(position: Position, text: str) -> PartnerRange:
    match text.split():
        case [host, number, _, _, near]:
            return PartnerRange(host, position.number(number, 1, MAX_COUNT), bool(position.number(near, 0, 1)), position.line)
        case _:
            raise position.error(text, "a range is: IP or host-name, number of nodes, 1, 1, and proximate (0 or 1)")
