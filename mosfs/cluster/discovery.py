"""What mos_autoconf(1) and the nodes that it finds say to each other, in datagrams to UDP 253 (manual, 4.2.2).

    asker --- find (broadcast) --> everybody       node --- here (version, ticket) ---------> asker
    asker --- take (ticket, files, write?) --> node        node --- taken ("" or what is wrong) --> asker

A datagram is `MAGIC`, a keyed hash, and JSON. Who has another key is neither answered nor believed. A node's ``ticket`` is good for
one asker, for a short while, and for what it asked first: a datagram that somebody has kept does nothing later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.cluster.mosix_map import RangeLine, parse_map
from mosfs.cluster.userview import parse_userview

MAGIC = b"mosA"
HASH_SIZE = 32
#: Two full files of 256 lines, with room.
MAX_DATAGRAM = 32_000
#: Characters of a name or an error that is passed on.
MAX_TEXT = 200
FIND, HERE, TAKE, TAKEN = "find", "here", "take", "taken"
#: What each message holds beside its kind, and the most characters of it.
FIELDS: Mapping[str, Mapping[str, int]] = {
    FIND: {"nonce": 32, "version": 40},
    HERE: {"nonce": 32, "version": 40, "ticket": 32, "node": 32, "name": 64, "nodes": 10},
    TAKE: {"ticket": 32, "map": 12_000, "view": 12_000, "write": 1},
    TAKEN: {"ticket": 32, "error": MAX_TEXT},
}


def key_of(secret: bytes) -> bytes:
    """The key of the hash; nothing else has it."""
    return hmac.digest(secret, b"mos_autoconf", "sha256")


def packed(kind: str, key: bytes, **fields: str) -> bytes:
    """The datagram; ValueError for fields that `unpacked` would not take."""
    _check(kind, fields)
    body = json.dumps({"kind": kind, **fields}).encode()
    data = MAGIC + hmac.digest(key, body, "sha256") + body
    if len(data) > MAX_DATAGRAM:
        raise ValueError("too long")
    return data


def unpacked(data: bytes, key: bytes) -> tuple[str, dict[str, str]] | None:
    """Kind and fields; None for a datagram that is not of our key, or not as `packed` makes it."""
    mark, told, body = data[: len(MAGIC)], data[len(MAGIC) : len(MAGIC) + HASH_SIZE], data[len(MAGIC) + HASH_SIZE :]
    if mark != MAGIC or len(data) > MAX_DATAGRAM or not hmac.compare_digest(told, hmac.digest(key, body, "sha256")):
        return None
    try:
        fields = json.loads(body)
        kind = fields.pop("kind")
        _check(kind, fields)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return kind, fields


def _check(kind: str, fields: Mapping[str, object]) -> None:
    wanted = FIELDS[kind]
    if fields.keys() != wanted.keys():
        raise ValueError("not such a message")
    if not all(isinstance(value, str) and len(value) <= wanted[name] for name, value in fields.items()):
        raise ValueError("not such a message")


def fingerprint(fields: Mapping[str, str]) -> str:
    """Tells apart what two takes ask for; whether it is to be written does not count."""
    return hashlib.sha256("\0".join((fields["map"], fields["view"])).encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """A node that has answered. ``node``: random, of one start of its answerer; ``nodes``: how many are in its map, "" for none."""

    ip: str
    node: str
    version: str
    name: str
    nodes: str


def files(ips: list[str], first: int) -> tuple[str, str]:
    """mosix.map and userview.map of the nodes ``ips``, which are in order: those that follow one another are ranges, all are near.
    ``first``: the number of the first node, 0 for no numbers. ConfigError for more than the files can hold."""
    ranges: list[list[int]] = []
    for number in map(as_unsigned, ips):
        if ranges and sum(ranges[-1]) == number:
            ranges[-1][1] += 1
        else:
            ranges.append([number, 1])
    text = "".join(f"{to_ip(start)} {count} p\n" for start, count in ranges)
    view, number = "", first
    for line in parse_map(text) if first else ():
        if isinstance(line, RangeLine):
            view += f"{number} {line.host} {line.count}\n"
            number += line.count
    parse_map(text)
    parse_userview(view)
    return text, view


def in_order(ips: list[str]) -> list[str]:
    return sorted(ips, key=as_unsigned)
