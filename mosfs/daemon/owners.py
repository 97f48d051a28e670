"""Which user of this node the guests of each owner run as: no two owners' guests have the same one (docs/design/security.md).

An owner is a user of a home-node. What guests may do to each other the filter decides; different users are there for what slips
through, and for what the kernel counts by user (processes, queued signals, locked memory).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from hashlib import blake2b

log = logging.getLogger(__name__)

NOBODY = 65534

#: Seconds that a number is kept for a host that is being forked.
STARTING = 60.0

Owner = tuple[str, int]


def mapped(wanted: range, *maps: str) -> range:
    """The part of ``wanted`` that the first line of each of ``maps`` with anything of it has (user_namespaces(7), uid_map)."""
    for text in maps:
        parts = (_common(wanted, first, count) for first, _, count in (map(int, line.split()) for line in text.splitlines()))
        wanted = next(filter(None, parts), range(0))
    return wanted


def _common(wanted: range, first: int, count: int) -> range:
    return range(max(wanted.start, first), min(wanted.stop, first + count))


def usable(wanted: range) -> range:
    """The part of ``wanted`` that exists for this process; nobody alone, and a line in the log, if there is none."""
    texts = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            texts.append(file.read())
    found = mapped(wanted, *texts)
    if found:
        return found
    log.warning("users %d-%d do not exist in this name space: guests of all owners run as %d", wanted[0], wanted[-1], NOBODY)
    return range(NOBODY, NOBODY + 1)


@dataclass(slots=True)
class Owners:
    """``numbers`` may change; those in use stay. A number is in use as long as a host has it, or may soon."""

    numbers: range
    clock: Callable[[], float]
    _hosts: dict[int, tuple[Owner, int]] = field(default_factory=dict)
    _starting: dict[Owner, tuple[int, float]] = field(default_factory=dict)

    def user_of(self, home: str, uid: int) -> int:
        """The number for a host that is about to be forked. When all are in use two owners share one, and the log says so."""
        owner, now = (home, uid), self.clock()
        self._starting = {other: entry for other, entry in self._starting.items() if entry[1] > now}
        used = [*self._hosts.values(), *((other, number) for other, (number, _) in self._starting.items())]
        number = next((number for other, number in used if other == owner and number in self.numbers), None)
        if number is None:
            number = self._free(owner, {number for _, number in used})
        self._starting[owner] = number, now + STARTING
        return number

    def _free(self, owner: Owner, taken: Container[int]) -> int:
        """The first that is not taken, from where a hash says: after a restart, which forgets, owners get the same again."""
        count = len(self.numbers)
        start = int.from_bytes(blake2b(repr(owner).encode(), digest_size=8).digest()) % count
        for i in range(count):
            if (number := self.numbers[(start + i) % count]) not in taken:
                return number
        number = self.numbers[start]
        log.warning("guests of user %d of %s run as user %d, as others' do: all %d are in use", owner[1], owner[0], number, count)
        return number

    def has(self, host: int, home: str, uid: int, number: int) -> None:
        """The host process ``host`` says what it has; also one that a mosd before this one has started."""
        self._hosts[host] = (home, uid), number
        self._starting.pop((home, uid), None)

    def ended(self, host: int) -> None:
        self._hosts.pop(host, None)
