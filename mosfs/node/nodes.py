"""What is known of a node, and which nodes there are."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Protocol

from mosfs.cluster.partners import Partner
from mosfs.cluster.relation import Relation
from mosfs.wire.messages import PeerHello, PeerStatus

#: Seconds without a sign of life after which a node counts as dead.
DEAD_AFTER = 5.0


class Bit(IntFlag):
    """Bits of a node's status, with the manual's values (mosctl(1), rstatus)."""

    OURS = 1
    KNOWN = 2
    STAY = 4
    LSTAY = 8
    BLOCK = 16
    WELCOME = 32
    FRESH = 512
    PREFERS_US = 1024


class NodeMap(Protocol):
    """The part of `cluster.load.ClusterMap` that is needed here."""

    def relation(self, ip: str) -> Relation: ...
    def contains(self, ip: str) -> bool: ...
    def canonical(self, ip: str) -> str: ...
    def nodes(self) -> Iterable[str]: ...
    def partner_nodes(self) -> Iterable[str]: ...
    @property
    def partners(self) -> Sequence[Partner]: ...
    def number_of(self, ip: str) -> int | None: ...
    def ip_of(self, number: int) -> str | None: ...
    def numbers(self) -> Iterable[tuple[str, int]]: ...


class NotInMap(LookupError):
    """The manual's "not in map"."""


@dataclass(slots=True, eq=False)
class Node:
    """What is known of a node. ``standing``: the priority of our programs there, 0-65535, -1 when it takes none of them (as it
    told us last), None while it has not told; ``privileged_mb``: memory there of guests that would make way for ours; ``full``:
    it has as many guests of other clusters as it takes; ``heard``: when its status was true (our monotonic clock, in seconds);
    ``links``: how many links to it are open; ``dead``: it did not answer; ``max_age``: seconds after which it counts as dead
    anyway; ``flags``: of its processor (`abi.cpu`), none for unknown; ``loads``: over the last hour (`node.loads`)."""

    ip: str
    hello: PeerHello | None = None
    status: PeerStatus | None = None
    heard: float = float("-inf")
    links: int = 0
    version: str = ""
    dead: bool = False
    max_age: float = DEAD_AFTER
    flags: frozenset[str] = frozenset()
    standing: int | None = None
    privileged_mb: int = 0
    full: bool = False
    loads: array[int] = field(default_factory=lambda: array("i"))

    def alive(self, now: float) -> bool:
        return not self.dead and self.status is not None and now - self.heard < self.max_age
