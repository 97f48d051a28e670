"""/proc/PID/maps as data, and what of it can travel."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

from mosfs.abi.flags import PROT_EXEC, PROT_READ, PROT_WRITE
from mosfs.abi.memory import BY_MMAP, GROWS_DOWN
from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.cluster.words import told
from mosfs.migrate.image import Vma, is_object
from mosfs.migrate.ranges import Range, merge, minus
from mosfs.trace import layout
from mosfs.trace.task import TaskGone

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps (proc_pid_maps(5))."""

    start: int
    end: int
    prot: int
    shared: bool
    offset: int
    inode: int
    name: str
    device: str = ""


_BITS = {"r": PROT_READ, "w": PROT_WRITE, "x": PROT_EXEC}
#: The kernel's own pages: never copied, every node has its own.
STACK = "[stack]"
KERNEL = ("[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]")


#: System V shared memory, as maps names it: others write to it.
_SEGMENT = re.compile(r"/SYSV[0-9a-f]{8} \(deleted\)\Z")


class CannotMove(Exception):
    """Why a program cannot leave now, in words for its ``why`` file; a name in them may be any that a file can have."""

    def __init__(self, why: str) -> None:
        super().__init__(told(why))


def parse_line(line: str) -> Mapping:
    span, perms, offset, device, inode, *name = line.rstrip("\n").split(None, 5)
    start, _, end = span.partition("-")
    prot = sum(_BITS.get(c, 0) for c in perms[:3])
    path = name[0] if name else ""
    return Mapping(int(start, 16), int(end, 16), prot, perms[3] == "s", int(offset, 16), int(inode), path, device)


def read_maps(pid: int) -> list[Mapping]:
    return [_parse(line) for line in _text(pid).split(b"\n")[:-1]]


def file_maps(pid: int) -> list[Mapping]:
    """Those of `read_maps` that have a name with a path. Of tens of thousands of mappings few have one."""
    return [_parse(line) for line in _text(pid).split(b"\n") if b"/" in line]


def _parse(line: bytes) -> Mapping:
    return parse_line(line.decode("utf-8", "surrogateescape"))


def _text(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            raise TaskGone(pid) from error
        raise CannotMove(f"{text(Text.NO_MAPS)} ({error.strerror})") from error


#: Which file a mapping shows: its number (`filecopy`) and name; None if it is not followed.
Known = Callable[[Mapping], "tuple[int, str] | None"]


def unknown(_mapping: Mapping) -> None:
    """No file is known."""


def mapping_at(pid: int, address: int) -> Mapping | None:
    """The mapping that contains this address; None too when the kernel does not tell."""
    try:
        lines = _text(pid).split(b"\n")[:-1]
    except CannotMove:
        return None
    for line in lines:
        low, _, high = line.split(b" ", 1)[0].partition(b"-")
        if int(high, 16) > address:
            return _parse(line) if int(low, 16) <= address else None
    return None


def _travels(m: Mapping, known: Known) -> Vma | None:
    """The mapping of an image that ``m`` becomes; None for what every node has of its own. CannotMove says what hinders."""
    if m.name in KERNEL or (m.start >= layout.STUB and m.end <= layout.END):
        return None
    anonymous = m.inode == 0 and not m.name.startswith("/")
    file, name = (0, m.name) if anonymous else known(m) or (0, m.name)
    if m.shared and m.prot & PROT_WRITE and not is_object(file):
        raise CannotMove(f"{Reason.MEMORY_SHARED} ({m.name or 'anonymous'})")
    if m.shared and _SEGMENT.match(m.name):
        raise CannotMove(Reason.MEMORY_SYSV)
    if m.name == "/anon_hugepage (deleted)":
        raise CannotMove(Reason.MEMORY_HUGE)
    if m.name.startswith("/dev/") and m.name not in ("/dev/zero",) and not m.name.startswith("/dev/shm/"):
        raise CannotMove(f"{Reason.MEMORY_DEVICE} ({m.name})")
    if not anonymous:
        name = name.encode("utf-8", "surrogateescape").decode("latin-1")
    return Vma(
        m.start, m.end, m.prot, m.name == STACK, anonymous, name, m.offset, file=file, shared=m.shared and file > 0
    )


def travelling(mappings: Iterable[Mapping], known: Known = unknown) -> list[Vma]:
    """The mappings of an image. CannotMove says what hinders.

    Shared mappings that cannot be written, of a file that is not ``known``, become private (mosrun(1), -e, rule 1).
    """
    return _whole_stack([vma for m in mappings if (vma := _travels(m, known)) is not None])


def _whole_stack(vmas: list[Vma]) -> list[Vma]:
    """Where the main stack is in several parts (mprotect(2)), all of them grow; only the uppermost has its name."""
    top = next((i for i in range(len(vmas) - 1, -1, -1) if vmas[i].name == STACK), 0)
    for i in range(top - 1, -1, -1):
        below = vmas[i]
        if below.end != vmas[i + 1].start or not below.anonymous or below.name:
            break
        vmas[i] = Vma(below.start, below.end, below.prot, True, True, "", below.offset)
    return vmas


def at_once(slices: Generator[None, None, T]) -> T:
    """What comes of work that can be done in slices, done at once."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            done: T = end.value
            return done


#: Mappings that are read at once while others wait: about a millisecond.
SLICE = 256


class Reader:
    """Reads the mappings of one process again and again; what has not changed is not parsed again."""

    def __init__(self, known: Known = unknown) -> None:
        self._files = known
        self._text = b""
        self._known: dict[bytes, Vma | None] = {}
        self._vmas: list[Vma] = []

    def read(self, pid: int) -> list[Vma]:
        """As `travelling`; the same list as before when nothing has changed.

        Of a program that runs, a mapping that changes meanwhile may be told twice: then as it was first.
        """
        return at_once(self.reading(pid))

    def reading(self, pid: int) -> Generator[None, None, list[Vma]]:
        """As `read`, in slices of so many mappings that nobody waits for long. It may be given up at each."""
        text = _text(pid)
        if text != self._text:
            before, known = self._known, dict[bytes, "Vma | None"]()
            for number, line in enumerate(text.split(b"\n")[:-1]):
                known[line] = before[line] if line in before else _travels(_parse(line), self._files)
                if number % SLICE == SLICE - 1:
                    yield
            self._vmas = _whole_stack(_in_order(vma for vma in known.values() if vma is not None))
            self._text, self._known = text, known
        return self._vmas


def _in_order(vmas: Iterable[Vma]) -> list[Vma]:
    found: list[Vma] = []
    for vma in vmas:
        if not found or vma.start >= found[-1].end:
            found.append(vma)
    return found


#: A part of the memory that is to be: start, end, protection, and the properties that only mmap(2) gives (`abi.memory.BY_MMAP`).
Piece = tuple[int, int, int, int]


def pieces(vmas: Iterable[Vma], within: list[Range] | None = None) -> list[Piece]:
    """``vmas`` but those of files, or what of them lies in ``within``, as pieces; alike neighbours join, but what grows stays one
    mapping."""
    found: list[Piece] = []
    for vma in vmas:
        if vma.file:
            continue
        kind = vma.flags & BY_MMAP | (GROWS_DOWN if vma.grows_down else 0)
        if found and found[-1][1:] == (vma.start, vma.prot, kind) and not kind & GROWS_DOWN:
            found[-1] = (found[-1][0], vma.end, vma.prot, kind)
        else:
            found.append((vma.start, vma.end, vma.prot, kind))
    return found if within is None else cut(found, within)


def cut(whole: list[Piece], within: list[Range]) -> list[Piece]:
    """What of the pieces lies in ``within``; all sorted and disjoint."""
    found: list[Piece] = []
    a = b = 0
    while a < len(whole) and b < len(within):
        start, end, prot, kind = whole[a]
        low, high = max(start, within[b][0]), min(end, within[b][1])
        if low < high:
            found.append((low, high, prot, kind))
        if end < within[b][1]:
            a += 1
        else:
            b += 1
    return found


def both(made: list[Piece], wanted: list[Piece]) -> list[tuple[int, int, int, int]]:
    """Where a piece was made and one of the same kind is wanted: (start, end, protection made, protection wanted)."""
    found: list[tuple[int, int, int, int]] = []
    a = b = 0
    while a < len(made) and b < len(wanted):
        low, high = max(made[a][0], wanted[b][0]), min(made[a][1], wanted[b][1])
        if low < high and made[a][3] == wanted[b][3]:
            found.append((low, high, made[a][2], wanted[b][2]))
        if made[a][1] < wanted[b][1]:
            a += 1
        else:
            b += 1
    return found


def ranges(parts: Iterable[tuple[int, int, int, int]]) -> list[Range]:
    """The ranges that these parts (start, end, and what it is) cover."""
    return merge((part[0], part[1]) for part in parts)


def changes(made: list[Piece], wanted: list[Piece]) -> tuple[list[Range], list[Piece], list[tuple[int, int, int]]]:
    """What turns the pieces that were made into those that are wanted: unmap these, map these, protect these.

    The last have (start, end, protection). What is of the same kind in both keeps its content.
    """
    kept = both(made, wanted)
    protect: list[tuple[int, int, int]] = []
    for start, end, before, after in kept:
        if before == after:
            continue
        if protect and protect[-1][1:] == (start, after):
            protect[-1] = (protect[-1][0], end, after)
        else:
            protect.append((start, end, after))
    return minus(ranges(made), ranges(wanted)), cut(wanted, minus(ranges(wanted), ranges(kept))), protect
