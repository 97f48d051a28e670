"""IP addresses of nodes as numbers in host order, and how text becomes one."""

from __future__ import annotations

import socket
from collections.abc import Callable

#: Host name to the IP that MOSIX shall use, None without one: mosix(7), note 1, "first result of gethostbyname(3)".
Resolver = Callable[[str], str | None]

#: Manual, chapter 3; mosix(7), note 3. 255.255.255.x cannot be because programs get addresses as the return value of
#: open(), where numbers of -255 and up are errors.
LOWEST = 0x00010000
HIGHEST = 0xFFFFFEFF


def is_number(text: str) -> bool:
    """Is ``text`` an address in one of the spellings of inet_aton(3), such as ``10.0.0.3``, ``3``, ``0x3`` or ``127.3``?"""
    try:
        socket.inet_aton(text)
    except (OSError, ValueError):
        return False
    return True


def system_resolver(name: str) -> str | None:
    """gethostbyname(3), but for what it takes for a number or for nobody's address: no name, ``0x3``, ``127.3``.

    May wait for a name server: not for the event loop of a daemon.
    """
    if not name or (is_number(name) and to_int(name) is None):
        return None
    try:
        return socket.gethostbyname(name)
    except (OSError, ValueError, TypeError):  # ValueError: a name that IDNA cannot encode; TypeError: one with a NUL
        return None


def to_int(ip: str) -> int | None:
    """The address ``a.b.c.d`` as a number; None for anything else (fewer parts, leading zeros, blanks)."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, ip), "big")
    except (OSError, ValueError):
        return None


def as_unsigned(ip: str) -> int:
    """As `to_int`, which the manual's interface calls an unsigned integer; ValueError when it is no IP."""
    address = to_int(ip)
    if address is None:
        raise ValueError(f"{ip!r} is not an IP address")
    return address


def to_ip(address: int) -> str:
    """Inverse of `to_int`; OverflowError when it is no address."""
    return socket.inet_ntop(socket.AF_INET, address.to_bytes(4, "big"))


def lookup(text: str, resolver: Resolver) -> int | None:
    """The address that ``text`` means: an IP, or a host name. Digits and dots alone are never a host name."""
    address = to_int(text)
    if address is not None or not text or not text.strip("0123456789."):
        return address
    return to_int(resolver(text) or "")


def allowed(first: int, count: int = 1) -> bool:
    """May the ``count`` addresses from ``first`` be nodes?"""
    return first >= LOWEST and first + count - 1 <= HIGHEST
