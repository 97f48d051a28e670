"""The addresses of this machine's interfaces."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCGIFCONF = 0x8912  # linux/sockios.h
_IFREQ = struct.Struct("16s4x4s16x")  # netdevice(7): name, then a sockaddr_in whose address is at offset 4
_ROOM = 1024


def local_addresses() -> list[str]:
    """Every IPv4 address that ifconfig(8) would show, in its order."""
    return [ip for _, ip in interfaces()]


def interfaces() -> list[tuple[str, str]]:
    """Name and IPv4 address of each (netdevice(7), SIOCGIFCONF); one with several addresses is there for each."""
    buffer = array.array("B", bytes(_IFREQ.size * _ROOM))
    address, length = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iP", length, address))
    filled, _ = struct.unpack("iP", answer)
    rows = _IFREQ.iter_unpack(buffer.tobytes()[:filled])
    return [(_name(row), socket.inet_ntop(socket.AF_INET, ip)) for row, ip in rows]


def _name(row: bytes) -> str:
    """Of an interface; what ifconfig(8) calls eth0:1 is an address of eth0."""
    return row.rstrip(b"\0").decode(errors="replace").partition(":")[0]
