"""The two seccomp programs, compiled from the table of system calls (`mosfs.abi.syscalls`).

Home: everything that needs no decision is allowed *before* anything but the number is looked at, because the kernel
(5.11 and later) remembers such numbers in a bitmap and does not run the program for them at all. What is left is
trapped, unless the call comes from the stub page. A thread is made without a stop (but see `threadless_filter`).
Guest: only memory calls on anonymous memory pass; everything else is trapped, wherever it comes from. In both, what
would change our pages below 1 MB is trapped too (`abi.low`).

A 32-bit call is allowed at home: such programs run natively (mosrun(1), LIMITATIONS).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mosfs.abi.flags import CLONE_THREAD, FUTEX_COMMAND, FUTEX_WAITS, MAP_ANONYMOUS, OF_THREADS
from mosfs.abi.low import ABOVE, GUARDED
from mosfs.abi.numbers import (
    SYS_BRK,
    SYS_CLONE,
    SYS_CLONE3,
    SYS_EXIT,
    SYS_FUTEX,
    SYS_MADVISE,
    SYS_MINCORE,
    SYS_MMAP,
    SYS_MPROTECT,
    SYS_MREMAP,
    SYS_MUNMAP,
    SYS_READ,
    SYS_RSEQ,
    SYS_RT_SIGRETURN,
    SYS_SCHED_YIELD,
    SYS_SET_ROBUST_LIST,
    SYS_WRITE,
)
from mosfs.abi.syscalls import BY_NR, Home
from mosfs.native import lib
from mosfs.trace import layout

ALLOW, TRACE, NOTIFY, ERRNO, KILL = 0x7FFF0000, 0x7FF00000 | lib.MOS_OURS, 0x7FC00000, 0x00050000, 0x80000000
TRACE_STRICT = 0x7FF00000 | lib.MOS_STRICT
#: PR_SET_SECCOMP(2const).
STRICT_CALLS = (SYS_READ, SYS_WRITE, SYS_EXIT, SYS_RT_SIGRETURN)
AUDIT_ARCH_X86_64 = 0xC000003E
_LD, _JEQ, _JGE, _AND, _JA, _RET = 0x20, 0x15, 0x35, 0x54, 0x05, 0x06
_TAX, _JEQ_X, _JGT_X = 0x07, 0x1D, 0x2D
_NR, _ARCH, _IP, _ARGS = 0, 4, 8, 16

#: Calls of a guest that its own kernel may serve without a stop: they reach nothing but its own anonymous memory.
#: So may mmap of private anonymous memory, and madvise, when they say nothing of that memory which has to travel with it. An mremap
#: that lets something grow, or says where to, stops: it may be the mapping of a file, or cross what has become several mappings
#: (`migrate.remap`). What a thread tells its kernel of itself at its beginning is read when the program moves.
GUEST_FREE = frozenset({
    SYS_MPROTECT, SYS_MUNMAP, SYS_BRK, SYS_SCHED_YIELD, SYS_MREMAP, SYS_MINCORE, SYS_SET_ROBUST_LIST, SYS_RSEQ,
})  # fmt: skip

#: (argument index, mask, value): true when argument & mask == value
Test = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Insn:
    """struct sock_filter (linux/filter.h)."""

    code: int
    jt: int
    jf: int
    k: int

    def pack(self) -> bytes:
        return struct.pack("<HBBI", self.code, self.jt, self.jf, self.k)


class Assembler:
    """Instructions with labels; conditional jumps reach any distance through an unconditional one."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, str | None]] = []
        self.labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        self.labels[name] = len(self.code)

    def load(self, offset: int) -> None:
        self.code.append((_LD, offset, None))

    def mask(self, value: int) -> None:
        self.code.append((_AND, value, None))

    def note(self) -> None:
        """Keep the accumulator, to compare another with it (_JEQ_X, _JGT_X)."""
        self.code.append((_TAX, 0, None))

    def ret(self, value: int) -> None:
        self.code.append((_RET, value, None))

    def goto(self, target: str) -> None:
        self.code.append((_JA, 0, target))

    def unless(self, op: int, value: int, target: str) -> None:
        """Go on when the accumulator ``op`` value holds, else jump to target."""
        self.code.append((op | 0x10000, value, target))

    def when(self, op: int, value: int, target: str) -> None:
        self.code.append((op | 0x20000, value, target))

    def assemble(self) -> list[Insn]:
        positions: list[int] = []
        at = 0
        for op, _, _ in self.code:
            positions.append(at)
            at += 2 if op >> 16 else 1
        positions.append(at)
        out: list[Insn] = []
        for op, value, target in self.code:
            if op >> 16:
                jt, jf = (1, 0) if op >> 16 == 1 else (0, 1)  # skip the jump that follows, or fall into it
                out.append(Insn(op & 0xFFFF, jt, jf, value))
            if target is not None:
                out.append(Insn(_JA, 0, 0, positions[self.labels[target]] - len(out) - 1))
            elif not op >> 16:
                out.append(Insn(op, 0, 0, value))
        return out


def _test(asm: Assembler, tests: Sequence[Sequence[Test]], number: int) -> None:
    """Jump to ``trap`` if any alternative holds, else to ``allow``."""
    for i, alternative in enumerate(tests):
        failed = f"{number}.{i}"
        for index, mask, value in alternative:
            for half in (0, 32):
                part = mask >> half & 0xFFFFFFFF
                if part:
                    asm.load(_ARGS + 8 * index + half // 8)
                    if part != 0xFFFFFFFF:
                        asm.mask(part)
                    asm.unless(_JEQ, value >> half & 0xFFFFFFFF, failed)
        asm.goto("trap")
        asm.label(failed)
    asm.goto("allow")


def _search(asm: Assembler, segments: Sequence[tuple[int, str]], path: str = "s") -> None:
    """Binary search over sorted (first number, label): the last one that starts at or below the number."""
    if len(segments) == 1:
        asm.goto(segments[0][1])
        return
    middle = len(segments) // 2
    right = path + "r"
    asm.when(_JGE, segments[middle][0], right)
    _search(asm, segments[:middle], path + "l")
    asm.label(right)
    _search(asm, segments[middle:], right)


def _segments(action: Callable[[int], str], top: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for number in range(top):
        name = action(number)
        if not found or found[-1][1] != name:
            found.append((number, name))
    return found


@lru_cache(maxsize=2)
def home_filter(action_of_trap: int = TRACE) -> bytes:
    """struct sock_filter[] for a program at home. ``action_of_trap`` NOTIFY: on top of that one, once others trace the program."""
    asm = Assembler()
    tested: dict[int, Sequence[Sequence[Test]]] = {
        nr: row.tests for nr, row in BY_NR.items() if row.home is Home.TEST and row.tests
    }
    for nr, guards in GUARDED.items():
        if BY_NR[nr].home in (Home.TEST, Home.NATIVE):
            tested[nr] = (*tested.get(nr, ()), *guards)

    def action(number: int) -> str:
        row = BY_NR.get(number)
        if number == layout.MAGIC:
            return "trace" if action_of_trap == TRACE else "allow"
        if number in tested:
            return f"test{number}"
        if row is not None and row.home is Home.FAILS:
            return f"errno{row.errno}"
        return "allow" if row is None or row.home is Home.NATIVE else "trap"

    top = max(max(BY_NR), layout.MAGIC) + 1
    asm.load(_ARCH)
    asm.unless(_JEQ, AUDIT_ARCH_X86_64, "allow")
    asm.load(_NR)
    _search(asm, [*_segments(action, top), (top, "allow")])
    for number, tests in tested.items():
        asm.label(f"test{number}")
        if number == SYS_MREMAP:
            _grows(asm)
        if number == SYS_CLONE and action_of_trap == TRACE:
            _makes_thread(asm)
        _test(asm, tests, number)
    for error in sorted({row.errno for row in BY_NR.values() if row.home is Home.FAILS}):
        asm.label(f"errno{error}")
        asm.ret(ERRNO | error)
    _trap_unless_stub(asm, action_of_trap)
    return b"".join(i.pack() for i in asm.assemble())


@lru_cache(maxsize=8)
def trap_filter(numbers: frozenset[int], tests: tuple[tuple[int, Test], ...] = ()) -> bytes:
    """struct sock_filter[] that traps these calls too, beside the home filter. ``tests``: (call, only when this holds)."""
    asm = Assembler()
    tested = dict(tests)
    asm.load(_ARCH)
    asm.unless(_JEQ, AUDIT_ARCH_X86_64, "allow")
    asm.load(_NR)

    def action(number: int) -> str:
        return "allow" if number not in numbers else f"test{number}" if number in tested else "trap"

    top = max(numbers) + 1
    _search(asm, [*_segments(action, top), (top, "allow")])
    for number, test in tested.items():
        asm.label(f"test{number}")
        _test(asm, [[test]], number)
    _trap_unless_stub(asm)
    return b"".join(i.pack() for i in asm.assemble())


@lru_cache(maxsize=1)
def threadless_filter() -> bytes:
    """struct sock_filter[] that sends to us what would make a thread, beside the home filter."""
    return trap_filter(frozenset({SYS_CLONE}), ((SYS_CLONE, (0, CLONE_THREAD, CLONE_THREAD)),))


@lru_cache(maxsize=1)
def strict_filter() -> bytes:
    """struct sock_filter[] that sends to us what strict mode kills for: the kernel's own would kill for our calls, too."""
    asm = Assembler()
    asm.load(_ARCH)
    asm.unless(_JEQ, AUDIT_ARCH_X86_64, "trace")
    asm.load(_NR)
    for number in STRICT_CALLS:
        asm.when(_JEQ, number, "allow")
    _trap_unless_stub(asm, TRACE_STRICT)
    return b"".join(i.pack() for i in asm.assemble())


def _trap_unless_stub(asm: Assembler, action: int = TRACE) -> None:
    """The labels trap, allow and trace; calls from the stub page are ours."""
    asm.label("trap")
    asm.load(_IP)
    asm.when(_JEQ, layout.ROW_AFTER, "ours")
    asm.unless(_JEQ, layout.STUB_AFTER, "trace")
    asm.label("ours")
    asm.load(_IP + 4)
    asm.unless(_JEQ, 0, "trace")
    asm.label("allow")
    asm.ret(ALLOW)
    asm.label("trace")
    asm.ret(action)


def _grows(asm: Assembler) -> None:
    """Jump to ``trap`` if mremap's new size (argument 2) is more than the old one (argument 1)."""
    for half in (4, 0):
        asm.load(_ARGS + 8 + half)
        asm.note()
        asm.load(_ARGS + 16 + half)
        asm.when(_JGT_X, 0, "trap")
        asm.unless(_JEQ_X, 0, "shrinks")
    asm.label("shrinks")


def _makes_thread(asm: Assembler) -> None:
    """Jump to ``allow`` for a clone(2) that makes a thread, as programs may have them. The kernel looks at the lower half only."""
    asm.load(_ARGS)
    asm.mask(~OF_THREADS & 0xFFFFFFFF | CLONE_THREAD)
    asm.unless(_JEQ, CLONE_THREAD, "process")
    asm.goto("allow")
    asm.label("process")


def _timed(asm: Assembler) -> None:
    """The label futex: jump to ``trap`` for an operation that waits, with a time (argument 3), else to ``allow``."""
    asm.label("futex")
    asm.load(_ARGS + 8)
    asm.mask(FUTEX_COMMAND)
    for operation in sorted(FUTEX_WAITS):
        asm.when(_JEQ, operation, "timed")
    asm.goto("allow")
    asm.label("timed")
    for half in (0, 4):
        asm.load(_ARGS + 8 * 3 + half)
        asm.unless(_JEQ, 0, "trap")
    asm.goto("allow")


def _clone3(asm: Assembler) -> None:
    """The label clone3: a program hears that there is none, as at home (`Home.FAILS`). Ours stop: only they have their arguments in
    our pages below 1 MB."""
    asm.label("clone3")
    for half in (0, 4):
        asm.load(_ARGS + half)
        asm.mask(ABOVE >> 8 * half & 0xFFFFFFFF)
        asm.unless(_JEQ, 0, "fails")
    asm.goto("trap")
    asm.label("fails")
    asm.ret(ERRNO | BY_NR[SYS_CLONE3].errno)


@lru_cache(maxsize=2)
def guest_filter(*, threads: bool = False) -> bytes:
    """struct sock_filter[] for a guest's body. ``threads``: it may have several, among which its own kernel serves futex(2)."""
    asm = Assembler()
    asm.load(_ARCH)
    asm.unless(_JEQ, AUDIT_ARCH_X86_64, "kill")
    asm.load(_NR)
    for number in sorted(GUEST_FREE):
        asm.when(_JEQ, number, f"test{number}" if number in GUARDED else "allow")
    asm.when(_JEQ, SYS_MADVISE, f"test{SYS_MADVISE}")
    asm.when(_JEQ, SYS_CLONE3, "clone3")
    if threads:
        asm.when(_JEQ, SYS_FUTEX, "futex")
    asm.unless(_JEQ, SYS_MMAP, "trap")
    asm.load(_ARGS + 8 * 3)
    asm.mask(MAP_ANONYMOUS)
    asm.unless(_JEQ, MAP_ANONYMOUS, "trap")
    for number in (SYS_MMAP, SYS_MADVISE, *sorted(GUEST_FREE & GUARDED.keys())):  # mmap falls into its own
        asm.label(f"test{number}")
        if number == SYS_MREMAP:
            _grows(asm)
        _test(asm, (*BY_NR[number].tests, *GUARDED[number]), number)
    if threads:
        _timed(asm)
    _clone3(asm)
    asm.label("allow")
    asm.ret(ALLOW)
    asm.label("trap")
    asm.ret(TRACE)
    asm.label("kill")
    asm.ret(KILL)
    return b"".join(i.pack() for i in asm.assemble())


def run(
    program: bytes, number: int, *, ip: int = 0x400000, args: Sequence[int] = (), arch: int = AUDIT_ARCH_X86_64
) -> int:
    """Interpret a program on one struct seccomp_data: the verdict. For tests, and for `why` a call was trapped."""
    values = [*args, *([0] * (6 - len(args)))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, ip, *(v & 0xFFFF_FFFF_FFFF_FFFF for v in values))
    accumulator = index = 0
    at = 0
    while True:
        code, jt, jf, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == _LD:
            accumulator = int.from_bytes(data[k : k + 4], "little")
        elif code == _AND:
            accumulator &= k
        elif code == _TAX:
            index = accumulator
        elif code in (_JEQ, _JEQ_X):
            at += jt if accumulator == (k if code == _JEQ else index) else jf
        elif code == _JGT_X:
            at += jt if accumulator > index else jf
        elif code == _JGE:
            at += jt if accumulator >= k else jf
        elif code == _JA:
            at += k
        elif code == _RET:
            return int(k)
        else:
            raise ValueError(f"instruction {code:#x}")
