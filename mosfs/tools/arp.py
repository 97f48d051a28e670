"""Has another machine the address of this one? An ARP probe (RFC 5227, 2.1.1) asks, as the kernel itself does not."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress

from mosfs.cluster.local import interfaces

#: Seconds in which an answer comes, and how often it is asked: one may be lost.
ROUND, TIMES = 0.25, 2
ETHER_TYPE, REQUEST, REPLY = 0x0806, 1, 2
BROADCAST = b"\xff" * 6
#: An Ethernet header, and a packet of ARP for IPv4: hardware, protocol, lengths, operation, sender and target.
_PACKET = struct.Struct("!6s6sH HHBBH 6s4s6s4s")
_KIND = (1, 0x0800, 6, 4)
#: ARPHRD_ETHER; the loopback's interface is of another kind.
_ETHERNET = 1


def probe(mac: bytes, ip: bytes) -> bytes:
    """The question who has ``ip``, which tells nobody that we have it."""
    return _PACKET.pack(BROADCAST, mac, ETHER_TYPE, *_KIND, REQUEST, mac, bytes(4), bytes(6), ip)


def claims(data: bytes, mac: bytes, ip: bytes) -> bytes:
    """The hardware address of a machine that says in this packet that it has ``ip``; b"" for none, and for our ``mac``."""
    if len(data) < _PACKET.size:
        return b""
    _, _, ether, *kind, operation, sender, address, _, _ = _PACKET.unpack(data[: _PACKET.size])
    if ether != ETHER_TYPE or (*kind,) != _KIND or operation not in (REQUEST, REPLY) or address != ip or sender == mac:
        return b""
    return bytes(sender)


def rival(ip: str) -> str:
    """The hardware address of another machine in the subnet that has ``ip``; "" for none, or where we cannot ask: root may."""
    name = next((name for name, address in interfaces() if address == ip), "")
    with suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHER_TYPE)) as sock:
        sock.bind((name, ETHER_TYPE))
        mac = sock.getsockname()[4]
        if not name or sock.getsockname()[3] != _ETHERNET:
            return ""
        for _ in range(TIMES):
            sock.send(probe(mac, socket.inet_aton(ip)))
            until = time.monotonic() + ROUND
            while (left := until - time.monotonic()) > 0:
                sock.settimeout(left)
                with suppress(TimeoutError):
                    if found := claims(sock.recv(2048), mac, socket.inet_aton(ip)):
                        return found.hex(":")
    return ""
