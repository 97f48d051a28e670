"""What is known of a node, and which nodes there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Protocol

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


class Availability(IntEnum):
    """Extremes of whom a node is available to (mosctl(1), rstatus)."""

    OWN_CLUSTER = 0
    ALL = 65535


class NodeMap(Protocol):
    """The part of `cluster.ClusterMap` that is needed here."""

    def contains(self, ip: str) -> bool: ...
    def near(self, ip: str) -> bool: ...
    def canonical(self, ip: str) -> str: ...
    def nodes(self) -> Iterable[str]: ...
    def number_of(self, ip: str) -> int | None: ...
    def ip_of(self, number: int) -> str | None: ...
    def numbers(self) -> Iterable[tuple[str, int]]: ...


class NotInMap(LookupError):
    """The manual's "not in map"."""


@dataclass(slots=True, eq=False)
class Node:
    """What is known of a node. ``heard``: when its status was true (our monotonic clock, in seconds); ``links``: how many
    links to it are open; ``dead``: it did not answer; ``max_age``: seconds after which it counts as dead anyway; ``flags``: of its
    processor (`abi.cpu`), none for unknown."""

    ip: str
    hello: PeerHello | None = None
    status: PeerStatus | None = None
    heard: float = float("-inf")
    links: int = 0
    version: str = ""
    dead: bool = False
    max_age: float = DEAD_AFTER
    flags: frozenset[str] = frozenset()

    def alive(self, now: float) -> bool:
        return not self.dead and self.status is not None and now - self.heard < self.max_age
