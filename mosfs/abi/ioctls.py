"""Requests of ioctl(2): how many bytes the third argument points to, in which direction; which requests are refused.

Old requests (before _IOC) say nothing of sizes in their number, so they are tabled here; newer ones carry direction and
size. Requests in `POINTING` and `TRAILING` reach more memory than that: look there before `describe`.
Sources: ioctl_list(2), ioctl_tty(2), netdevice(7), asm-generic/ioctls.h, linux/sockios.h.
"""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Bytes that go to the kernel and bytes that come back; ``by_value``: the argument is a number, not an address."""

    in_bytes: int
    out_bytes: int
    by_value: bool


def _number() -> Shape:
    return Shape(0, 0, True)


def _in(size: int) -> Shape:
    return Shape(size, 0, False)


def _out(size: int) -> Shape:
    return Shape(0, size, False)


def _inout(size: int) -> Shape:
    return Shape(size, size, False)


TERMIOS, TERMIO, TERMIOS2, WINSIZE, IFREQ, INT, ARPREQ = 36, 18, 44, 8, 40, 4, 68

#: request: (name, shape)
IOCTLS: dict[int, tuple[str, Shape]] = {
    0x5401: ("TCGETS", _out(TERMIOS)),
    0x5402: ("TCSETS", _in(TERMIOS)),
    0x5403: ("TCSETSW", _in(TERMIOS)),
    0x5404: ("TCSETSF", _in(TERMIOS)),
    0x5405: ("TCGETA", _out(TERMIO)),
    0x5406: ("TCSETA", _in(TERMIO)),
    0x5407: ("TCSETAW", _in(TERMIO)),
    0x5408: ("TCSETAF", _in(TERMIO)),
    0x5409: ("TCSBRK", _number()),
    0x540A: ("TCXONC", _number()),
    0x540B: ("TCFLSH", _number()),
    0x540C: ("TIOCEXCL", _number()),
    0x540D: ("TIOCNXCL", _number()),
    0x540E: ("TIOCSCTTY", _number()),
    0x540F: ("TIOCGPGRP", _out(INT)),
    0x5410: ("TIOCSPGRP", _in(INT)),
    0x5411: ("TIOCOUTQ", _out(INT)),
    0x5412: ("TIOCSTI", _in(1)),
    0x5413: ("TIOCGWINSZ", _out(WINSIZE)),
    0x5414: ("TIOCSWINSZ", _in(WINSIZE)),
    0x5415: ("TIOCMGET", _out(INT)),
    0x5416: ("TIOCMBIS", _in(INT)),
    0x5417: ("TIOCMBIC", _in(INT)),
    0x5418: ("TIOCMSET", _in(INT)),
    0x5419: ("TIOCGSOFTCAR", _out(INT)),
    0x541A: ("TIOCSSOFTCAR", _in(INT)),
    0x541B: ("FIONREAD", _out(INT)),
    0x541C: ("TIOCLINUX", _inout(1)),
    0x541D: ("TIOCCONS", _number()),
    0x541E: ("TIOCGSERIAL", _out(72)),
    0x541F: ("TIOCSSERIAL", _in(72)),
    0x5420: ("TIOCPKT", _in(INT)),
    0x5421: ("FIONBIO", _in(INT)),
    0x5422: ("TIOCNOTTY", _number()),
    0x5423: ("TIOCSETD", _in(INT)),
    0x5424: ("TIOCGETD", _out(INT)),
    0x5425: ("TCSBRKP", _number()),
    0x5427: ("TIOCSBRK", _number()),
    0x5428: ("TIOCCBRK", _number()),
    0x5429: ("TIOCGSID", _out(INT)),
    0x542E: ("TIOCGRS485", _out(32)),
    0x542F: ("TIOCSRS485", _inout(32)),
    0x5432: ("TCGETX", _out(16)),
    0x5433: ("TCSETX", _in(16)),
    0x5434: ("TCSETXF", _in(16)),
    0x5435: ("TCSETXW", _in(16)),
    0x40045436: ("TIOCSIG", _number()),  # _IOW(int), yet the kernel takes the signal from the argument itself
    0x5437: ("TIOCVHANGUP", _number()),
    0x5441: ("TIOCGPTPEER", _number()),
    0x5450: ("FIONCLEX", _number()),
    0x5451: ("FIOCLEX", _number()),
    0x5452: ("FIOASYNC", _in(INT)),
    0x5453: ("TIOCSERCONFIG", _number()),
    0x5456: ("TIOCGLCKTRMIOS", _out(TERMIOS)),
    0x5457: ("TIOCSLCKTRMIOS", _in(TERMIOS)),
    0x5459: ("TIOCSERGETLSR", _out(INT)),
    0x545C: ("TIOCMIWAIT", _number()),
    0x545D: ("TIOCGICOUNT", _out(80)),
    0x5460: ("FIOQSIZE", _out(8)),
    0x8901: ("FIOSETOWN", _in(INT)),
    0x8902: ("SIOCSPGRP", _in(INT)),
    0x8903: ("FIOGETOWN", _out(INT)),
    0x8904: ("SIOCGPGRP", _out(INT)),
    0x8905: ("SIOCATMARK", _out(INT)),
    0x8906: ("SIOCGSTAMP", _out(16)),
    0x8907: ("SIOCGSTAMPNS", _out(16)),
    0x8910: ("SIOCGIFNAME", _inout(IFREQ)),
    0x8913: ("SIOCGIFFLAGS", _inout(IFREQ)),
    0x8914: ("SIOCSIFFLAGS", _in(IFREQ)),
    0x8915: ("SIOCGIFADDR", _inout(IFREQ)),
    0x8916: ("SIOCSIFADDR", _in(IFREQ)),
    0x8917: ("SIOCGIFDSTADDR", _inout(IFREQ)),
    0x8918: ("SIOCSIFDSTADDR", _in(IFREQ)),
    0x8919: ("SIOCGIFBRDADDR", _inout(IFREQ)),
    0x891A: ("SIOCSIFBRDADDR", _in(IFREQ)),
    0x891B: ("SIOCGIFNETMASK", _inout(IFREQ)),
    0x891C: ("SIOCSIFNETMASK", _in(IFREQ)),
    0x891D: ("SIOCGIFMETRIC", _inout(IFREQ)),
    0x891E: ("SIOCSIFMETRIC", _in(IFREQ)),
    0x8921: ("SIOCGIFMTU", _inout(IFREQ)),
    0x8922: ("SIOCSIFMTU", _in(IFREQ)),
    0x8923: ("SIOCSIFNAME", _in(IFREQ)),
    0x8924: ("SIOCSIFHWADDR", _in(IFREQ)),
    0x8927: ("SIOCGIFHWADDR", _inout(IFREQ)),
    0x8929: ("SIOCGIFSLAVE", _inout(IFREQ)),
    0x8930: ("SIOCSIFSLAVE", _in(IFREQ)),
    0x8931: ("SIOCADDMULTI", _in(IFREQ)),
    0x8932: ("SIOCDELMULTI", _in(IFREQ)),
    0x8933: ("SIOCGIFINDEX", _inout(IFREQ)),
    0x8934: ("SIOCSIFPFLAGS", _in(IFREQ)),
    0x8935: ("SIOCGIFPFLAGS", _inout(IFREQ)),
    0x8937: ("SIOCSIFHWBROADCAST", _in(IFREQ)),
    0x8942: ("SIOCGIFTXQLEN", _inout(IFREQ)),
    0x8943: ("SIOCSIFTXQLEN", _in(IFREQ)),
    0x8947: ("SIOCGMIIPHY", _inout(IFREQ)),
    0x8948: ("SIOCGMIIREG", _inout(IFREQ)),
    0x8949: ("SIOCSMIIREG", _in(IFREQ)),
    0x894B: ("SIOCOUTQNSD", _out(INT)),
    0x894C: ("SIOCGSKNS", _number()),
    0x8953: ("SIOCDARP", _in(ARPREQ)),
    0x8954: ("SIOCGARP", _inout(ARPREQ)),
    0x8955: ("SIOCSARP", _in(ARPREQ)),
    0x8970: ("SIOCGIFMAP", _inout(IFREQ)),
    0x8971: ("SIOCSIFMAP", _in(IFREQ)),
    0x8B01: ("SIOCGIWNAME", _inout(32)),
    0x8990: ("SIOCBONDENSLAVE", _in(IFREQ)),
    0x8991: ("SIOCBONDRELEASE", _in(IFREQ)),
    0x8992: ("SIOCBONDSETHWADDR", _in(IFREQ)),
    0x8993: ("SIOCBONDSLAVEINFOQUERY", _inout(IFREQ)),
    0x8994: ("SIOCBONDINFOQUERY", _inout(IFREQ)),
    0x8995: ("SIOCBONDCHANGEACTIVE", _in(IFREQ)),
    0x89A0: ("SIOCBRADDBR", _in(16)),
    0x89A1: ("SIOCBRDELBR", _in(16)),
    0x89A2: ("SIOCBRADDIF", _in(IFREQ)),
    0x89A3: ("SIOCBRDELIF", _in(IFREQ)),
    0x802C542A: ("TCGETS2", _out(TERMIOS2)),
    0x402C542B: ("TCSETS2", _in(TERMIOS2)),
    0x402C542C: ("TCSETSW2", _in(TERMIOS2)),
    0x402C542D: ("TCSETSF2", _in(TERMIOS2)),
    0x80045430: ("TIOCGPTN", _out(INT)),
    0x40045431: ("TIOCSPTLCK", _in(INT)),
    0x80045432: ("TIOCGDEV", _out(INT)),
    0x80045438: ("TIOCGPKT", _out(INT)),
    0x80045439: ("TIOCGPTLCK", _out(INT)),
    0x80045440: ("TIOCGEXCL", _out(INT)),
    0x80081272: ("BLKGETSIZE64", _out(8)),
    0x801C581F: ("FS_IOC_FSGETXATTR", _out(28)),
    0x401C5820: ("FS_IOC_FSSETXATTR", _in(28)),
    0x4020940D: ("FICLONERANGE", _in(32)),
    # _IO() of linux/fs.h, which carry no size.
    0x125D: ("BLKROSET", _in(INT)),
    0x125E: ("BLKROGET", _out(INT)),
    0x125F: ("BLKRRPART", _number()),
    0x1260: ("BLKGETSIZE", _out(8)),
    0x1261: ("BLKFLSBUF", _number()),
    0x1262: ("BLKRASET", _number()),
    0x1263: ("BLKRAGET", _out(8)),
    0x1264: ("BLKFRASET", _number()),
    0x1265: ("BLKFRAGET", _out(8)),
    0x1267: ("BLKSECTGET", _out(2)),
    0x1268: ("BLKSSZGET", _out(INT)),
    0x1277: ("BLKDISCARD", _in(16)),
    0x1278: ("BLKIOMIN", _out(INT)),
    0x1279: ("BLKIOOPT", _out(INT)),
    0x127A: ("BLKALIGNOFF", _out(INT)),
    0x127B: ("BLKPBSZGET", _out(INT)),
    0x127C: ("BLKDISCARDZEROES", _out(INT)),
    0x127E: ("BLKROTATIONAL", _out(2)),
    0x127F: ("BLKZEROOUT", _in(16)),
    0x0001: ("FIBMAP", _inout(INT)),
    0x0002: ("FIGETBSZ", _out(INT)),
    # _IOR/_IOW of "size_t" or "long", of which the kernel moves only an int (linux/fs.h, ioctl_iflags(2)).
    0x80086601: ("FS_IOC_GETFLAGS", _out(INT)),
    0x40086602: ("FS_IOC_SETFLAGS", _in(INT)),
    0x80087601: ("FS_IOC_GETVERSION", _out(INT)),
    0x40087602: ("FS_IOC_SETVERSION", _in(INT)),
    0x80081270: ("BLKBSZGET", _out(INT)),
    0x40081271: ("BLKBSZSET", _in(INT)),
    # Numbers that may look like addresses (linux/nbd.h, linux/kd.h).
    0xAB01: ("NBD_SET_BLKSIZE", _number()),
    0xAB02: ("NBD_SET_SIZE", _number()),
    0xAB07: ("NBD_SET_SIZE_BLOCKS", _number()),
    0x4B2F: ("KIOCSOUND", _number()),
    0x4B30: ("KDMKTONE", _number()),
    # _IOW(int) of which the argument itself is the descriptor or the number (linux/fs.h, linux/if_tun.h).
    0x40049409: ("FICLONE", _number()),
    0x400454C8: ("TUNSETNOCSUM", _number()),
    0x400454C9: ("TUNSETDEBUG", _number()),
    0x400454CA: ("TUNSETIFF", _inout(IFREQ)),
    0x400454CB: ("TUNSETPERSIST", _number()),
    0x400454CC: ("TUNSETOWNER", _number()),
    0x400454CD: ("TUNSETLINK", _number()),
    0x400454CE: ("TUNSETGROUP", _number()),
    0x400454D0: ("TUNSETOFFLOAD", _number()),
    0x800454D2: ("TUNGETIFF", _out(IFREQ)),
}  # fmt: skip


class Pointing(NamedTuple):
    """Memory of ``size`` bytes that comes back, with pointers at ``offsets`` to memory of a length that only the kernel knows.

    ``out``: that is filled, too.
    """

    name: str
    size: int
    offsets: tuple[int, ...]
    out: bool = True


class Trailing(NamedTuple):
    """``head`` bytes, whose number at ``count_at`` (of ``count_size`` bytes) says how many ``entry`` bytes follow."""

    name: str
    head: int
    count_at: int
    count_size: int
    entry: int


POINTING: dict[int, Pointing] = {
    0x890B: Pointing("SIOCADDRT", 120, (88,), out=False),
    0x890C: Pointing("SIOCDELRT", 120, (88,), out=False),
    0x8912: Pointing("SIOCGIFCONF", 16, (8,)),
    0x8946: Pointing("SIOCETHTOOL", IFREQ, (16,)),
    0x89B0: Pointing("SIOCSHWTSTAMP", IFREQ, (16,)),
    0x89B1: Pointing("SIOCGHWTSTAMP", IFREQ, (16,)),
    0x40806685: Pointing("FS_IOC_ENABLE_VERITY", 128, (16, 32), out=False),
    0xC0286687: Pointing("FS_IOC_READ_VERITY_METADATA", 40, (24,)),
}

TRAILING: dict[int, Trailing] = {
    0xC020660B: Trailing("FS_IOC_FIEMAP", 32, 24, 4, 56),
    0xC0189436: Trailing("FIDEDUPERANGE", 24, 16, 2, 32),
    0xC0C0583B: Trailing("FS_IOC_GETFSMAP", 192, 8, 4, 64),
    0xC0046686: Trailing("FS_IOC_MEASURE_VERITY", 4, 2, 2, 1),
    0xC0096616: Trailing("FS_IOC_GET_ENCRYPTION_POLICY_EX", 8, 0, 8, 1),
    0xC0506617: Trailing("FS_IOC_ADD_ENCRYPTION_KEY", 80, 40, 4, 1),
    0xC0709411: Trailing("BTRFS_IOC_TREE_SEARCH_V2", 112, 104, 8, 1),
    0x40085203: Trailing("RNDADDENTROPY", 8, 4, 4, 1),
}

#: Requests that point to memory which nothing here describes; ranges of numbers, and whole families (`_FAMILIES`).
_UNSERVED = (
    range(0x8940, 0x8942),  # SIOCGIFBR, SIOCSIFBR
    range(0x894A, 0x894B),  # SIOCWANDEV
    range(0x89F0, 0x8A00),  # SIOCDEVPRIVATE
    range(0x8B02, 0x8C00),  # linux/wireless.h, but for SIOCGIWNAME
    range(0x1269, 0x126A),  # BLKPG
    range(0x2285, 0x2286),  # SG_IO
    range(0x4B66, 0x4B68), range(0x4B6B, 0x4B6D), range(0x4B72, 0x4B73),  # fonts and maps of consoles
)  # fmt: skip
#: The letter of _IOC: direct rendering, virtual machines, InfiniBand, USB devices.
_FAMILIES = frozenset({0x64, 0xAE, 0x1B, 0x55})


def unserved(request: int) -> bool:
    """The memory of a request without a row points to more, of which only the kernel knows what it is."""
    request &= 0xFFFFFFFF
    if request in IOCTLS:
        return False
    return any(request in numbers for numbers in _UNSERVED) or (request >> 30 > 0 and request >> 8 & 0xFF in _FAMILIES)


#: mosrun(1), LIMITATIONS, under the names of the kernel (the manual misspells some, e.g. TIOCSESGSTRUCT).
REFUSED: dict[int, str] = {
    0x5458: "TIOCSERGSTRUCT",
    0x545A: "TIOCSERGETMULTI",
    0x545B: "TIOCSERSETMULTI",
    0x8914: "SIOCSIFFLAGS",
    0x891E: "SIOCSIFMETRIC",
    0x8922: "SIOCSIFMTU",
    0x8924: "SIOCSIFHWADDR",
    0x8930: "SIOCSIFSLAVE",
    0x8931: "SIOCADDMULTI",
    0x8932: "SIOCDELMULTI",
    0x8937: "SIOCSIFHWBROADCAST",
    0x8943: "SIOCSIFTXQLEN",
    0x8949: "SIOCSMIIREG",
    0x8971: "SIOCSIFMAP",
    0x8990: "SIOCBONDENSLAVE",
    0x8991: "SIOCBONDRELEASE",
    0x8992: "SIOCBONDSETHWADDR",
    0x8993: "SIOCBONDSLAVEINFOQUERY",
    0x8994: "SIOCBONDINFOQUERY",
    0x8995: "SIOCBONDCHANGEACTIVE",
    0x89A2: "SIOCBRADDIF",
    0x89A3: "SIOCBRDELIF",
}


def describe(request: int) -> Shape:
    """(in_bytes, out_bytes, by_value) of a request (its low 32 bits count).

    Of a request without a table row the direction and size in its number are believed; one without a direction passes
    its argument as a number. Output may be partial: a caller that copies back must start from the program's bytes.
    """
    request &= 0xFFFFFFFF
    if request in IOCTLS:
        return IOCTLS[request][1]
    direction, size = request >> 30, request >> 16 & 0x3FFF
    return Shape(size if direction & 1 else 0, size if direction & 2 else 0, direction == 0)


def name(request: int) -> str:
    """The request's name, or its number in hexadecimal as the manual's message shows it."""
    request &= 0xFFFFFFFF
    for table in (IOCTLS, POINTING, TRAILING):
        if request in table:
            return table[request][0]
    return REFUSED.get(request) or f"{request:#x}"
