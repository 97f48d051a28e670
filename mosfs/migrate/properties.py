"""What a program has said of its memory beside protections (`mosfs.abi.memory`): heard, found, carried along, said again.

Only /proc/PID/smaps tells, and for it the kernel walks all pages (13 ms a GB). So the calls that can give memory such a property
are trapped, and smaps is read for programs that have made one; before such a program stands still, if it makes none after that
(`Precopy`).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mosfs.abi.flags import MAP_SHARED
from mosfs.abi.memory import ADVICE, BITS, BY_MMAP, GROWS_DOWN, LOCKED, MADV_GUARD_INSTALL, MLOCK_ONFAULT, ON_FAULT
from mosfs.abi.numbers import SYS_MADVISE, SYS_MLOCK, SYS_MLOCK2, SYS_MMAP, SYS_MUNLOCK
from mosfs.migrate.image import ImageMeta, Vma
from mosfs.migrate.maps import at_once
from mosfs.migrate.ranges import Range, merge, minus
from mosfs.trace.task import TaskGone

SAYING = frozenset({SYS_MMAP, SYS_MADVISE, SYS_MLOCK, SYS_MUNLOCK, SYS_MLOCK2})

#: (start, end, bits), sorted and apart.
Property = tuple[int, int, int]

#: The last line of what smaps tells of a mapping begins so; and the bytes that are read of it at once.
_LAST = b"\nVmFlags:"
PIECE = 64 << 10
_SMAPS = re.compile(rb"(?m)^([0-9a-f]+)-([0-9a-f]+) .*\n(?:[A-Z].*\n)*?VmFlags:(.*)$")


@dataclass(slots=True)
class Said:
    """Of one program: how many calls that may have given memory a property, and whether there may be guard pages.

    ``owed``: properties that this node could not give (locks beyond its limit): they travel on all the same.
    """

    calls: int = 0
    guards: bool = False
    owed: list[Property] = field(default_factory=list)

    def hear(self, nr: int, args: Sequence[int]) -> None:
        """One of the calls `SAYING` is about to be made."""
        if nr == SYS_MMAP and args[3] & MAP_SHARED:
            return
        self.calls += 1
        if nr == SYS_MADVISE and args[2] & 0xFFFFFFFF == MADV_GUARD_INSTALL:
            self.guards = True
        if nr == SYS_MUNLOCK:
            self.owed = without(self.owed, [(args[0], args[0] + args[1])])

    def of_child(self) -> Said:
        """What was said of the memory of a child by fork: locks are not inherited (mlock(2))."""
        return Said(self.calls, self.guards)

    @classmethod
    def arrived(cls, meta: ImageMeta, owed: list[Property]) -> Said:
        """What was said of the memory of a program that came in an image."""
        said = bool(meta.guards or owed) or any(vma.flags or (vma.grows_down and not vma.name) for vma in meta.vmas)
        return cls(int(said), bool(meta.guards), owed)


def without(properties: Iterable[Property], gone: list[Range]) -> list[Property]:
    """``properties`` but for those in the ranges ``gone``, which are sorted and disjoint."""
    left: list[Property] = []
    at = 0
    for start, end, bits in properties:
        while at < len(gone) and gone[at][1] <= start:
            at += 1
        to = at
        while to < len(gone) and gone[to][0] < end:
            to += 1
        left += [(a, b, bits) for a, b in minus([(start, end)], gone[at:to])]
        at = max(at, to - 1)
    return left


def parse(smaps: bytes) -> list[Property]:
    """The mappings with properties in the text of smaps."""
    known: dict[bytes, int] = {}
    found: list[Property] = []
    for start, end, words in _SMAPS.findall(smaps):
        bits = known.get(words)
        if bits is None:
            bits = known[words] = sum(BITS.get(word, 0) for word in words.decode().split())
        if bits:
            found.append((int(start, 16), int(end, 16), bits))
    return found


def read(pid: int) -> list[Property]:
    """The mappings of a process that have properties; none where the kernel does not tell (CONFIG_PROC_PAGE_MONITOR)."""
    return at_once(reading(pid))


def reading(pid: int) -> Generator[None, None, list[Property]]:
    """As `read`, in slices: of tens of thousands of mappings the kernel tells for a quarter of a second."""
    found: list[Property] = []
    text = b""
    try:
        with open(f"/proc/{pid}/smaps", "rb", buffering=0) as smaps:
            while piece := smaps.read(PIECE):
                text += piece
                end = text.find(b"\n", text.rfind(_LAST) + 1) + 1 if _LAST in text else 0
                found += parse(text[:end])
                text = text[end:]
                yield
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TaskGone(pid) from error
    return found


def overlaid(vmas: Iterable[Vma], properties: list[Property]) -> list[Vma]:
    """``vmas`` with the properties of where they are."""
    if not properties:
        return list(vmas)
    found: list[Vma] = []
    at = 0
    for vma in vmas:
        while at < len(properties) and properties[at][1] <= vma.start:
            at += 1
        bits = properties[at][2] if at < len(properties) and properties[at][0] < vma.end else 0
        if not bits:
            found.append(vma)
            continue
        grows = vma.grows_down or bool(bits & GROWS_DOWN)
        bits = vma.flags | bits & ~GROWS_DOWN
        found.append(Vma(vma.start, vma.end, vma.prot, grows, vma.anonymous, vma.name, vma.offset, bits, vma.file, vma.shared))
    return found


def ranges_with(vmas: Iterable[Vma], bit: int) -> list[Range]:
    """Where ``vmas`` have this property."""
    return merge((vma.start, vma.end) for vma in vmas if vma.flags & bit)


def calls_for(vmas: Sequence[Vma], guards: Iterable[Range]) -> Iterator[tuple[int, ...]]:
    """The calls (number, arguments) that give memory its properties, but for those of mmap(2). ``guards``: pages that are closed.

    Locks come last: mlock(2) reads every page in, and of a mapping with guards it reaches only a part.
    """
    if not any(vma.flags & ~BY_MMAP for vma in vmas):
        vmas = ()
    for advice in ADVICE:
        for start, end in ranges_with(vmas, advice.bit):
            yield SYS_MADVISE, start, end - start, advice.value
    for start, end in guards:
        yield SYS_MADVISE, start, end - start, MADV_GUARD_INSTALL
    for bits in (LOCKED, LOCKED | ON_FAULT):
        for start, end in merge((vma.start, vma.end) for vma in vmas if vma.flags & (LOCKED | ON_FAULT) == bits):
            yield SYS_MLOCK2, start, end - start, MLOCK_ONFAULT if bits & ON_FAULT else 0


def owed(call: tuple[int, ...]) -> Property:
    """The property that a call of `calls_for` would have given."""
    nr, start, length, value = call
    if nr == SYS_MLOCK2:
        return start, start + length, LOCKED | (ON_FAULT if value else 0)
    return start, start + length, next((row.bit for row in ADVICE if row.value == value), 0)
