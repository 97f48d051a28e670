"""How mos_autoconf(1) finds the nodes of a subnet and gives all of them the same files. Nothing here asks a person."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network

from mosfs import __version__
from mosfs.cluster.address import allowed, to_int
from mosfs.cluster.discovery import FIND, HERE, MAX_DATAGRAM, TAKE, TAKEN, Found, packed, unpacked
from mosfs.tools.options import UserError
from mosfs.wire.versions import compatible

#: No subnet is larger than a class B one (manual, 4.2.2).
WIDEST = 16
#: Seconds in which the answers to one round come: nodes spread theirs over `autoconf_node.SPREAD`.
ROUND = 0.5
#: A look ends after so many rounds without news, and after so many in all.
QUIET, MOST_ROUNDS = 3, 20
#: How often one node is asked before it is given up, and how many are asked at once.
TRIES, AT_ONCE = 20, 100
#: Bytes of answers that may wait for us.
ROOM = 8 << 20

_ADDRESS, _NETMASK = 0x8915, 0x891B  # SIOCGIFADDR and SIOCGIFNETMASK (netdevice(7))
_IFREQ = struct.Struct("16s4x4s16x")


def interfaces() -> list[IPv4Interface]:
    """The addresses of this machine with their subnets, the loopback's last."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                words = [_IFREQ.unpack(fcntl.ioctl(sock, request, _IFREQ.pack(name.encode(), b"")))[1]
                         for request in (_ADDRESS, _NETMASK)]
                found.append(IPv4Interface("/".join(map(socket.inet_ntoa, words))))
    return sorted(found, key=lambda each: each.is_loopback)


def subnet_of(word: str) -> IPv4Network:
    """``word``: a.b.c.d/n. ValueError with what is wrong."""
    try:
        subnet = IPv4Network(word, strict=False)
    except ValueError:
        raise ValueError(f"{word}: not a subnet, a.b.c.d/n") from None
    if subnet.prefixlen < WIDEST:
        raise ValueError(f"{word}: larger than a class B network (/{WIDEST})")
    return subnet


@dataclass(slots=True)
class Survey:
    """``nodes`` by IP; ``twice``: addresses from which two nodes answer; ``others``: of our key, but of a version that does not
    work with ours."""

    nodes: dict[str, Found] = field(default_factory=dict)
    others: dict[str, Found] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)

    def heard(self, ip: str, fields: Mapping[str, str]) -> bool:
        """Take an answer up; was it news?"""
        found = Found(ip, fields["node"], fields["version"], fields["name"], fields["nodes"])
        place = self.nodes if compatible(found.version, __version__) else self.others
        known = self.nodes.get(ip) or self.others.get(ip)
        if known is not None:
            if known.node == found.node or ip in self.twice:
                return False
            self.twice.add(ip)
            return True
        place[ip] = found
        return True


@dataclass(slots=True)
class Asker:
    """Asks the nodes of ``subnet`` from ``own``, an address of this machine in it. ``now`` returns seconds."""

    sock: socket.socket
    key: bytes
    own: IPv4Interface
    subnet: IPv4Network
    port: int
    now: Callable[[], float] = time.monotonic

    @classmethod
    def open(cls, key: bytes, own: IPv4Interface, subnet: IPv4Network, port: int) -> Asker:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        sock.bind((str(own.ip), 0))
        return cls(sock, key, own, subnet, port)

    def _replies(self, kind: str, seconds: float) -> Iterator[tuple[str, Mapping[str, str]]]:
        """IP and fields of each answer of this kind that comes in time, from within the subnet; whatever else comes is dropped."""
        until = self.now() + seconds
        while (left := until - self.now()) > 0:
            self.sock.settimeout(left)
            try:
                data, (ip, port) = self.sock.recvfrom(MAX_DATAGRAM + 1)
            except (TimeoutError, ConnectionError):
                continue
            message = unpacked(data, self.key)
            number = to_int(ip)
            if message and message[0] == kind and port == self.port and _within(ip, self.subnet) and number and allowed(number, 1):
                yield ip, message[1]

    def look(self) -> Survey:
        """All nodes that answer. UserError when the question cannot be sent."""
        survey, quiet, nonces = Survey(), 0, set()
        for _ in range(MOST_ROUNDS):
            nonce = os.urandom(16).hex()
            nonces.add(nonce)
            try:
                data = packed(FIND, self.key, nonce=nonce, version=__version__)
                self.sock.sendto(data, (str(self.own.network.broadcast_address), self.port))
            except OSError as error:
                raise UserError(f"{self.own.network}: {error.strerror}") from None
            news = False
            for ip, fields in self._replies(HERE, ROUND):
                if fields["nonce"] in nonces and ip != str(self.own.ip):  # an answer may come a round later
                    news = survey.heard(ip, fields) or news
            quiet = 0 if news else quiet + 1
            if quiet == QUIET:
                break
        return survey

    def _each(
        self, asked: Mapping[str, bytes], kind: str, fits: Callable[[str, Mapping[str, str]], bool]
    ) -> dict[str, Mapping[str, str]]:
        """Send every node its datagram until it has answered, or not for long; the answers of those that did, by IP."""
        got: dict[str, Mapping[str, str]] = {}
        for _ in range(TRIES):
            left = [ip for ip in asked if ip not in got]
            for at in range(0, len(left), AT_ONCE):
                part = left[at : at + AT_ONCE]
                for ip in part:
                    with suppress(OSError):  # who cannot be reached does not answer
                        self.sock.sendto(asked[ip], (ip, self.port))
                waiting = set(part)
                for ip, fields in self._replies(kind, ROUND):
                    if ip in asked and fits(ip, fields):
                        got[ip] = fields
                        waiting.discard(ip)
                    if not waiting:
                        break
            if len(got) == len(asked):
                break
        return got

    def give(self, ips: list[str], mosix_map: str, view: str) -> tuple[bool, dict[str, str]]:
        """Give the files to all the nodes; nobody writes them unless everybody would. Whether they were told to write, and what is
        wrong, by IP: {} when all have them."""
        nonces = {ip: os.urandom(16).hex() for ip in ips}
        here = self._each(
            {ip: packed(FIND, self.key, nonce=nonces[ip], version=__version__) for ip in ips}, HERE,
            lambda ip, fields: fields["nonce"] == nonces[ip],
        )
        silent = {ip: "does not answer any more" for ip in ips if ip not in here}
        if silent:
            return False, silent
        for write in ("0", "1"):
            asked = {
                ip: packed(TAKE, self.key, ticket=here[ip]["ticket"], map=mosix_map, view=view, write=write) for ip in ips
            }
            taken = self._each(asked, TAKEN, lambda ip, fields: fields["ticket"] == here[ip]["ticket"])
            wrong = {ip: taken[ip]["error"] if ip in taken else "does not answer any more" for ip in ips}
            wrong = {ip: error for ip, error in wrong.items() if error}
            if wrong:
                return write == "1", wrong
        return True, {}


def _within(ip: str, subnet: IPv4Network) -> bool:
    number = to_int(ip)
    return number is not None and int(subnet.network_address) <= number <= int(subnet.broadcast_address)
