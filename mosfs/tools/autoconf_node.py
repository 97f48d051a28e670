"""A node that waits to be found by mos_autoconf(1), and writes what that gives it: ``mos_autoconf --answer``."""

from __future__ import annotations

import heapq
import os
import random
import shlex
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from mosfs import __version__
from mosfs.cluster.address import system_resolver
from mosfs.cluster.discovery import (
    FIND,
    HERE,
    MAX_DATAGRAM,
    MAX_TEXT,
    TAKE,
    TAKEN,
    fingerprint,
    key_of,
    packed,
    unpacked,
)
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import load_map
from mosfs.cluster.local import local_addresses
from mosfs.cluster.paths import NodePaths
from mosfs.cluster.secret import read_secret
from mosfs.tools.mosconf_files import apply, refused
from mosfs.tools.mosconf_talk import MAP, VIEW
from mosfs.tools.options import UserError

Address = tuple[str, int]

#: Seconds for which a ticket is good, and how many there are at most.
TICKET_LASTS, MOST_TICKETS = 60.0, 64
#: Seconds over which the nodes spread their answers, so that those of thousands do not meet.
SPREAD = 0.3
#: Answers that wait for their moment; more are not given.
MOST_WAITING = 64
#: Datagrams of our key that are answered in a second.
RATE = 200


@dataclass(slots=True)
class Ticket:
    """``asker``: the only one who may use it; ``of``: `fingerprint` of what he asked first; ``results``: by whether it was to be
    written, once that was done."""

    asker: Address
    until: float
    of: str = ""
    results: dict[bool, str] = field(default_factory=dict)


@dataclass(slots=True)
class Answerer:
    """What a node answers, without sockets and clocks. ``take`` gets the two files, and whether to write them; it returns "" or
    what is wrong. ``known`` tells how many nodes our map has, "" without one."""

    key: bytes
    take: Callable[[str, str, bool], str]
    known: Callable[[], str]
    name: str
    version: str = __version__
    node: str = field(default_factory=lambda: os.urandom(16).hex())
    tickets: OrderedDict[str, Ticket] = field(default_factory=OrderedDict)
    _second: int = 0
    _count: int = 0

    def answer(self, data: bytes, asker: Address, now: float) -> tuple[bytes, float] | None:
        """The datagram to send back, and after how many seconds; None for none."""
        message = unpacked(data, self.key)
        if message is None or not self._may(now):
            return None
        kind, fields = message
        if kind == FIND:
            ticket = os.urandom(16).hex()
            self.tickets[ticket] = Ticket(asker, now + TICKET_LASTS)
            while len(self.tickets) > MOST_TICKETS:
                self.tickets.popitem(last=False)
            return packed(
                HERE, self.key, nonce=fields["nonce"], version=self.version, ticket=ticket, node=self.node, name=self.name[:64],
                nodes=self.known(),
            ), random.uniform(0, SPREAD)
        if kind == TAKE and (error := self._take(fields, asker, now)) is not None:
            return packed(TAKEN, self.key, ticket=fields["ticket"], error=error[:MAX_TEXT]), 0.0
        return None

    def _may(self, now: float) -> bool:
        """A flood of datagrams that somebody has recorded costs us no more than this."""
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        return self._count <= RATE

    def _take(self, fields: dict[str, str], asker: Address, now: float) -> str | None:
        """The result; None for a ticket that is none. What is asked twice, as the answer was lost or is late, is done once."""
        ticket = self.tickets.get(fields["ticket"])
        if ticket is None or ticket.asker != asker or now > ticket.until:
            return None
        of = fingerprint(fields)
        if ticket.of not in ("", of):
            return None
        ticket.of = of
        write = fields["write"] == "1"
        if write not in ticket.results:
            ticket.results[write] = self.take(fields["map"], fields["view"], write)
        return ticket.results[write]


def take(paths: NodePaths, mosix_map: str, view: str, write: bool) -> str:
    """The files of this node, checked as mosconf(1) does and, if ``write``, written; "" or why not."""
    changes: dict[str, str | None] = {MAP: mosix_map, VIEW: view or None}
    if not view and not os.path.lexists(f"{paths.etc}/{VIEW}"):
        del changes[VIEW]
    try:
        new, _ = refused(paths, changes, system_resolver, local_addresses)
        if new:
            return new[0]
        if write:
            apply(paths, changes)
    except (UserError, OSError) as error:
        return str(error)
    return ""


def known(paths: NodePaths) -> str:
    try:
        return str(len(load_map(paths)))
    except ConfigError:
        return ""


def listen(port: int) -> socket.socket:
    """UserError when the port cannot be had."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # nodes of a lab share their machine
        sock.bind(("", port))
    except OSError as error:
        sock.close()
        raise UserError(f"UDP port {port}: {error.strerror}") from None
    return sock


def serve(paths: NodePaths, port: int, then: str) -> int:
    """Answer until somebody ends us; ``then``: a command that is run when the files were written and mosd does not run, "" for
    none. UserError without a key."""
    try:
        key = key_of(read_secret(paths.secret))
    except (ConfigError, OSError) as error:
        raise UserError(str(error) if isinstance(error, ConfigError) else f"{paths.secret}: {error.strerror}") from None
    written: list[bool] = []

    def taking(mosix_map: str, view: str, write: bool) -> str:
        wrong = take(paths, mosix_map, view, write)
        if write:
            print(f"mos_autoconf: {wrong or 'a new mosix.map was written'}", file=sys.stderr, flush=True)
            written.append(not wrong)
        return wrong

    answerer = Answerer(key, taking, lambda: known(paths), socket.gethostname())
    waiting: list[tuple[float, bytes, Address]] = []
    with listen(port) as sock:
        while True:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, data, asker = heapq.heappop(waiting)
                _send(sock, data, asker)
            if True in written and not waiting:
                written.clear()
                _start(paths, then)
            sock.settimeout(max(0.001, waiting[0][0] - now) if waiting else None)
            with suppress(TimeoutError, ConnectionError):
                data, asker = sock.recvfrom(MAX_DATAGRAM + 1)
                reply = answerer.answer(data, asker, time.monotonic())
                if reply is not None and len(waiting) < MOST_WAITING:
                    heapq.heappush(waiting, (time.monotonic() + reply[1], reply[0], asker))


def _send(sock: socket.socket, data: bytes, asker: Address) -> None:
    with suppress(OSError):  # who cannot be reached asks again, or never
        sock.sendto(data, asker)


def _start(paths: NodePaths, then: str) -> None:
    """mosd reads new files by itself; where it does not run it is started."""
    if then and not os.path.exists(f"{paths.mount}/node/pid"):
        status = subprocess.run(shlex.split(then), stdin=subprocess.DEVNULL, check=False).returncode
        if status:
            print(f"mos_autoconf: {then}: exit status {status}", file=sys.stderr, flush=True)
