"""The notation for arguments of system calls: how much memory each one points to, and in which direction it moves.

A row of `abi.syscalls` describes arguments in words separated by ", ". Grammar of a word::

    arg      = scalar | "str" | "path" | "@" handler | memory
    scalar   = "int" | "fd" | "size" | "flags" | "mode" | "pid" | "sig" | "off" | "ptr"
    memory   = ("in" | "out" | "inout") "[" length "]" [ ":ret" ["*" K] ["+" K] | ":always" ]
    length   = K | value ["*" K] ["*a" N] ["+" K]
    value    = "a" N | "*a" N | "fds(a" N ")"

``aN`` is argument N counted from 0, ``*aN`` the 32-bit integer it points to before the call, ``fds(aN)`` the bytes
of a set of as many bits, in whole words. ``ptr`` is an address that the kernel of the home-node never follows. ``str``
ends with NUL; ``path`` is a ``str`` that names a file. NULL is allowed everywhere.

``out`` is for memory that a successful call fills completely; ``inout`` also for memory that it may leave partly or
wholly as it was, so that what the kernel did not touch stays. The suffix says how much comes back: all bytes if the
call succeeded (none), the first <result> bytes (``:ret``, times and plus a constant), all bytes whatever the result
(``:always``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, StrEnum

#: The kernel cuts every single transfer to this many bytes (include/linux/fs.h, MAX_RW_COUNT).
MAX_BYTES = 0x7FFFF000


class Kind(StrEnum):
    INT = "int"
    FD = "fd"
    SIZE = "size"
    FLAGS = "flags"
    MODE = "mode"
    PID = "pid"
    SIG = "sig"
    OFF = "off"
    PTR = "ptr"
    STR = "str"
    MEMORY = "memory"
    IRREGULAR = "@"


#: Kinds that the kernel takes as a C int, whatever the upper half of the register says.
INTS = frozenset({Kind.INT, Kind.FD, Kind.FLAGS, Kind.MODE, Kind.PID, Kind.SIG})
_SCALARS = INTS | {Kind.SIZE, Kind.OFF, Kind.PTR}


class Direction(Flag):
    """IN: the program's bytes go to the kernel. OUT: the kernel's bytes come back."""

    NONE = 0
    IN = 1
    OUT = 2
    INOUT = 3


class Rule(Enum):
    """How many bytes of an OUT argument come back."""

    SUCCESS = ""
    RETURNED = ":ret"
    ALWAYS = ":always"


class Source(Enum):
    """Where a length is found; the value is the notation around argument N."""

    CONST = ""
    ARG = "a{}"
    DEREF = "*a{}"
    FDS = "fds(a{})"


@dataclass(frozen=True, slots=True)
class Length:
    """value(source, arg) * factor * (argument ``times``, if not -1) + plus bytes."""

    source: Source
    arg: int = 0
    factor: int = 1
    times: int = -1
    plus: int = 0

    def __str__(self) -> str:
        if self.source is Source.CONST:
            return str(self.plus)
        value: str = self.source.value
        factor = f"*{self.factor}" if self.factor != 1 else ""
        times = f"*a{self.times}" if self.times >= 0 else ""
        plus = f"+{self.plus}" if self.plus else ""
        return value.format(self.arg) + factor + times + plus

    def size(self, values: Sequence[int], peek_u32: Callable[[int], int]) -> int:
        """Bytes, 0 to MAX_BYTES. ``values``: see `values`; ``peek_u32`` reads a u32 of the program, 0 if it cannot."""
        if self.source is Source.CONST:
            return self.plus
        value = values[self.arg]
        if self.source is Source.DEREF:
            value = peek_u32(value) if value else 0
            value = 0 if value >= 1 << 31 else value
        elif self.source is Source.FDS:
            value = (max(value, 0) + 63) // 64 * 8
        if self.times >= 0:
            value *= max(values[self.times], 0)
        return min(max(value, 0) * self.factor + self.plus, MAX_BYTES)


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument. ``name`` is the handler of an IRREGULAR one, and "path" for a STR that names a file."""

    kind: Kind
    name: str = ""
    direction: Direction = Direction.NONE
    length: Length | None = None
    rule: Rule = Rule.SUCCESS
    ret_factor: int = 1
    ret_plus: int = 0

    def __str__(self) -> str:
        if self.kind is Kind.IRREGULAR:
            return f"@{self.name}"
        if self.kind is not Kind.MEMORY:
            return self.name or self.kind.value
        suffix = self.rule.value
        if self.rule is Rule.RETURNED:
            suffix += f"*{self.ret_factor}" if self.ret_factor != 1 else ""
            suffix += f"+{self.ret_plus}" if self.ret_plus else ""
        return f"{(self.direction.name or '').lower()}[{self.length}]{suffix}"

    @property
    def is_scalar(self) -> bool:
        return self.kind in _SCALARS

    def size(self, values: Sequence[int], peek_u32: Callable[[int], int]) -> int:
        """Bytes that a MEMORY argument spans before the call; 0 for all other kinds."""
        return self.length.size(values, peek_u32) if self.length is not None else 0

    def returned(self, size: int, result: int) -> int:
        """How many of ``size`` bytes come back, given the call's signed result."""
        if not self.direction & Direction.OUT:
            return 0
        if self.rule is Rule.ALWAYS:
            return size
        if result < 0:
            return 0
        return size if self.rule is Rule.SUCCESS else min(size, result * self.ret_factor + self.ret_plus)


def as_c_int(value: int) -> int:
    """The low 32 bits of a register as a C int."""
    return (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


def values(args: Sequence[Arg], registers: Sequence[int]) -> tuple[int, ...]:
    """Six registers (unsigned 64 bits) as the kernel understands them: C ints signed, everything else unsigned."""
    kinds = [arg.kind for arg in args]
    return tuple(
        as_c_int(reg) if i < len(kinds) and kinds[i] in INTS else reg
        for i, reg in enumerate(registers)
    )


_MEMORY = re.compile(r"(in|out|inout)\[([^]]+)\](?::(always)|:(ret)(?:\*(\d+))?(?:\+(\d+))?)?")
_LENGTH = re.compile(r"(?:a(\d)|\*a(\d)|fds\(a(\d)\))(?:\*(\d+))?(?:\*a(\d))?(?:\+(\d+))?")
_HANDLER = re.compile(r"@([a-z][a-z0-9_]*)")
_NAMED = {kind.value: Arg(kind) for kind in (*sorted(_SCALARS), Kind.STR)} | {"path": Arg(Kind.STR, "path")}


def parse_length(text: str) -> Length:
    """The inverse of str(Length). ValueError for anything else."""
    if text.isdecimal():
        return Length(Source.CONST, plus=int(text))
    if not (found := _LENGTH.fullmatch(text)):
        raise ValueError(f"not a length: {text!r}")
    arg, deref, fds, factor, times, plus = found.groups()
    source = Source.ARG if arg else Source.DEREF if deref else Source.FDS
    return Length(source, int(arg or deref or fds), int(factor or 1), int(times or -1), int(plus or 0))


def parse_arg(text: str) -> Arg:
    """The inverse of str(Arg). ValueError for anything else."""
    if text in _NAMED:
        return _NAMED[text]
    if found := _HANDLER.fullmatch(text):
        return Arg(Kind.IRREGULAR, found[1])
    if not (found := _MEMORY.fullmatch(text)):
        raise ValueError(f"not an argument: {text!r}")
    direction, length, always, ret, factor, plus = found.groups()
    rule = Rule.ALWAYS if always else Rule.RETURNED if ret else Rule.SUCCESS
    return Arg(
        Kind.MEMORY, "", Direction[direction.upper()], parse_length(length), rule, int(factor or 1), int(plus or 0)
    )


def parse_args(text: str) -> tuple[Arg, ...]:
    """All arguments of a row, "" for none. ValueError if a length refers to an argument that is not there."""
    args = tuple(parse_arg(word) for word in text.split(", ")) if text else ()
    for arg in args:
        if arg.length and arg.length.source is not Source.CONST and max(arg.length.arg, arg.length.times) >= len(args):
            raise ValueError(f"{arg} refers to a missing argument: {text!r}")
    return args


#: What each ``@name`` stands for. "Count" is the argument that follows.
HANDLERS = {
    "iov_in": "array of {ptr, len} of 16 bytes, count entries (at most 1024); their data goes to the kernel",
    "iov_out": "the same; the first <result> bytes, over all entries in order, come back",
    "iov_both": "the same, in one of the two directions; what has changed comes back",
    "msg_in": "struct msghdr, 56 bytes: name (ptr 0, size 8), iovec (ptr 16, count 24), control (ptr 32, size 40) in",
    "msg_out": "struct msghdr: name and control are filled, their sizes and the flags (48) come back; as iov_out",
    "mmsg_in": "array of struct mmsghdr of 64 bytes (msghdr and u32 length at 56), count entries, each as msg_in",
    "mmsg_out": "the same as msg_out; the first <result> entries come back",
    "argv": "array of pointers to strings, ended by NULL",
    "ioctl": "by the request before it: abi.ioctls",
    "sockopt_in": "by level and option before it: abi.sockopts; else as many bytes as the argument that follows says",
    "sockopt_out": "by level and option before it: abi.sockopts; else as many bytes as the next argument points to",
    "fcntl": "by the command before it: abi.commands",
    "prctl": "by the option before it: abi.commands",
    "futex": "address of a 32-bit word in the body",
    "sigmask": "set of 8 bytes, the signal mask while the call waits; a signal it lets in must reach the handler",
    "pselect_mask": "{ptr to a set as in sigmask, size}, 16 bytes",
    "sigevent": "struct sigevent, 64 bytes; if notify (at 12) is SIGEV_THREAD, value (at 0) points to 32 bytes",
    "semctl": "by the command before it: GETALL, SETALL u16 a semaphore; IPC_STAT and others a struct; else a number",
    "shmctl": "by the command before it: IPC_STAT, IPC_SET, SHM_STAT 112 bytes; IPC_INFO 72; SHM_INFO 48; else nothing",
    "msgctl": "by the command before it: IPC_STAT, IPC_SET, MSG_STAT 120 bytes; IPC_INFO, MSG_INFO 32; else nothing",
    "sysfs": "by the option before it: 1 a name goes in; 2 the next argument receives one (at most 512 bytes)",
    "sched_attr": "struct sched_attr, as long as its u32 size says (0: 48 bytes); the size comes back also on E2BIG",
    "file_handle": "struct file_handle: u32 size of the handle, s32 type, the handle; comes back also on EOVERFLOW",
}
