"""Datagrams of gossip (UDP 249): a header, entries of fixed size, a keyed hash over all of it (docs/design/protocols.md).

    header   "MG", version, flags, sender, epoch, counter, question, echo, number of entries
    entry*   node, age in ms, priority, facts
    hash     BLAKE2b, 16 bytes, with a key made of the cluster's secret

A node says to each node of another cluster, and to its own, what programs from there are on it: in an entry of the address 0,
which is no node's, so that who does not know of this ignores it.

Who knows the key is one of us. Against replay a sender counts its datagrams in an *epoch*, a random number it draws when
it starts. A stranger's epoch may be an old recording, so it must be proved: a datagram that has a *question* (a random
number) is answered by one whose *echo* is that number. Ages travel, never times: no two clocks are compared.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from hashlib import blake2b

from mosfs.abi.cpu import PACKED
from mosfs.wire.messages import PeerStatus

MAX_DATAGRAM = 1400  #: fits into one Ethernet frame, tunnels included
_MAGIC = b"MG"
#: Changes when an old node could misunderstand a new datagram.
VERSION = 2
_HASH_SIZE = 16

_HEADER = struct.Struct("!2sBBIQQQQH")
#: load, speed, ncpus, memory free and total, swap free and total, paging, guests, frozen, processes, level, bits,
#: version, processor
_FACTS = struct.Struct(f"!IIHIIIIIHHHHHBBB{PACKED}s")
_ENTRY = struct.Struct(f"!IiB{_FACTS.size}s")
_DEAD = bytes(_FACTS.size)
#: Megabytes, and a 1 so that no entry of this kind looks like that of a dead node.
_WELCOME = struct.Struct("!IB")
#: The address in such an entry.
NOBODY = 0
#: Of the priorities in it (mosix(7), partners).
_MAX_STANDING = 65535

MAX_ENTRIES = (MAX_DATAGRAM - _HEADER.size - _HASH_SIZE) // _ENTRY.size
_MAX_AGE = (1 << 31) - 1
_MAX_PRIORITY = 255

_ALIVE = 2  #: of bits: information is available (mosctl(1), rstatus)
_BLOCKED = 16

#: node, age in ms, priority, facts (b"" = dead)
Item = tuple[int, int, int, bytes]


class Fault(Enum):
    """Why a datagram or an entry counts for nothing; the values are the names of counters."""

    TRUNCATED = "truncated"
    HUGE = "huge"
    FORGED = "forged"
    MALFORMED = "malformed"
    STRANGER = "stranger"
    REPLAYED = "replayed"
    UNPROVEN = "unproven"
    FUTURE = "future"


class BadDatagram(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class Flag(IntFlag):
    NONE = 0
    WANTS_WINDOW = 1  #: answer with the window, not only with the own entry


@dataclass(frozen=True, slots=True)
class Datagram:
    """``sender`` and nodes are IP addresses as numbers; ``question`` and ``echo`` 0 for none."""

    sender: int
    epoch: int
    counter: int
    question: int = 0
    echo: int = 0
    flags: Flag = Flag.NONE
    items: Sequence[Item] = field(default=())


def seal(datagram: Datagram, key: bytes) -> bytes:
    """The bytes to send. At most `MAX_ENTRIES` items; numbers too big for their place are cut down to the biggest."""
    if len(datagram.items) > MAX_ENTRIES:
        raise ValueError(f"{len(datagram.items)} entries")
    d = datagram
    head = _HEADER.pack(_MAGIC, VERSION, d.flags, d.sender, d.epoch, d.counter, d.question, d.echo, len(d.items))
    pack = _ENTRY.pack
    body = b"".join([
        head,
        *(pack(n, min(age, _MAX_AGE), min(priority, _MAX_PRIORITY), facts) for n, age, priority, facts in d.items),
    ])
    return body + blake2b(body, key=key, digest_size=_HASH_SIZE).digest()


def unseal(data: bytes, key: bytes) -> Datagram:
    """The datagram in ``data``; `BadDatagram` for one that is not of our cluster or not as `seal` makes it."""
    if len(data) > MAX_DATAGRAM:
        raise BadDatagram(Fault.HUGE)
    end = len(data) - _HASH_SIZE
    if end < _HEADER.size:
        raise BadDatagram(Fault.TRUNCATED)
    if not hmac.compare_digest(blake2b(data[:end], key=key, digest_size=_HASH_SIZE).digest(), data[end:]):
        raise BadDatagram(Fault.FORGED)
    magic, version, flags, sender, epoch, counter, question, echo, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != VERSION or end - _HEADER.size != count * _ENTRY.size or flags > max(Flag):
        raise BadDatagram(Fault.MALFORMED)
    items = [
        (node, age, priority, b"" if facts == _DEAD else facts)
        for node, age, priority, facts in _ENTRY.iter_unpack(data[_HEADER.size:end])
    ]
    if len({item[0] for item in items}) != count:
        raise BadDatagram(Fault.MALFORMED)
    return Datagram(sender, epoch, counter, question, echo, Flag(flags), items)


def pack_facts(status: PeerStatus, version: str, processor: bytes = b"") -> bytes:
    """What a node says about itself, as facts of its entry. Numbers too big for their place are cut down.

    ``processor``: `abi.cpu.packed`, b"" for unknown."""
    digits = [int(part) if part.isdecimal() else 0 for part in (*version.split("."), "", "")][:3]
    bits = status.bits | _ALIVE | _BLOCKED * status.blocked
    wide, narrow = (1 << 32) - 1, (1 << 16) - 1
    sizes = (status.mem_free, status.mem_total, status.swap_free, status.swap_total, status.paging)
    counts = (status.guests, status.frozen, status.processes, status.level, bits)
    return _FACTS.pack(
        min(status.load, wide), min(status.speed, wide), min(status.ncpus, narrow), *(min(size, wide) for size in sizes),
        *(min(count, narrow) for count in counts), *(min(digit, 255) for digit in digits), processor,
    )


def unpack_facts(facts: bytes) -> tuple[PeerStatus, str, bytes]:
    """Status, version and processor (`abi.cpu.unpacked`) of a live node."""
    load, speed, ncpus, free, total, swap_free, swap, paging, guests, frozen, processes, level, bits, *version, processor = (
        _FACTS.unpack(facts)
    )
    status = PeerStatus(
        load, speed, ncpus, free, total, guests, bool(bits & _BLOCKED), swap_free, swap, frozen, bits & ~_ALIVE, level,
        paging, processes,
    )
    return status, ".".join(map(str, version)), processor


@dataclass(frozen=True, slots=True)
class Welcome:
    """What programs of the receiver's node are at the sender's: their ``priority`` there, -1 if it takes none; megabytes of
    guests that would make way for them; and whether it has as many of other clusters as it takes."""

    priority: int
    privileged_mb: int = 0
    full: bool = False


def pack_welcome(welcome: Welcome) -> Item:
    size = _WELCOME.pack(min(welcome.privileged_mb, (1 << 32) - 1), 1)
    return NOBODY, welcome.priority + 1, int(welcome.full), size.ljust(_FACTS.size, b"\0")


def unpack_welcome(item: Item) -> Welcome:
    """`BadDatagram` for nonsense."""
    _, shifted, full, facts = item
    if not 0 <= shifted <= _MAX_STANDING + 1 or len(facts) != _FACTS.size:
        raise BadDatagram(Fault.MALFORMED)
    return Welcome(shifted - 1, _WELCOME.unpack_from(facts)[0], bool(full))


@dataclass(slots=True)
class Seen:
    """Which counters of a sender's epoch came already: the highest, and a bit for each of the 64 below."""

    epoch: int
    highest: int
    bits: int = 1

    def take(self, counter: int) -> bool:
        """False for a counter that came before, or is too far behind to tell."""
        ahead = counter - self.highest
        if ahead > 0:
            self.bits = (self.bits << ahead | 1) & _WINDOW_MASK if ahead < _WINDOW else 1
            self.highest = counter
            return True
        bit = 1 << -ahead
        if -ahead >= _WINDOW or self.bits & bit:
            return False
        self.bits |= bit
        return True


_WINDOW = 64
_WINDOW_MASK = (1 << _WINDOW) - 1


def parts(items: Sequence[Item]) -> Iterable[Sequence[Item]]:
    """``items`` in portions that fit into a datagram; one empty portion for none."""
    for start in range(0, max(len(items), 1), MAX_ENTRIES):
        yield items[start:start + MAX_ENTRIES]
