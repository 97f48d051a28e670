"""/proc/PID/maps as data, and what of it can travel."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from mosfs.abi.texts import Text, text
from mosfs.migrate.image import PROT_EXEC, PROT_READ, PROT_WRITE, Vma
from mosfs.trace import layout
from mosfs.trace.task import TaskGone


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


_BITS = {"r": PROT_READ, "w": PROT_WRITE, "x": PROT_EXEC}
#: The kernel's own pages: never copied, every node has its own.
KERNEL = ("[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]")


class CannotMove(Exception):
    """Why a program cannot leave now, in words for its ``why`` file."""


def parse_line(line: str) -> Mapping:
    span, perms, offset, _device, inode, *name = line.rstrip("\n").split(None, 5)
    start, _, end = span.partition("-")
    prot = sum(_BITS.get(c, 0) for c in perms[:3])
    path = name[0] if name else ""
    return Mapping(int(start, 16), int(end, 16), prot, perms[3] == "s", int(offset, 16), int(inode), path)


def read_maps(pid: int) -> list[Mapping]:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as lines:
            return [parse_line(line) for line in lines]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            raise TaskGone(pid) from error
        raise CannotMove(f"{text(Text.NO_MAPS)} ({error.strerror})") from error


def travelling(mappings: list[Mapping], stack: int) -> list[Vma]:
    """The mappings of an image. ``stack``: an address in the main stack. CannotMove says what hinders.

    Shared mappings that cannot be written become private (mosrun(1), -e, rule 1).
    """
    vmas: list[Vma] = []
    for m in mappings:
        if m.name in KERNEL or (m.start >= layout.STUB and m.end <= layout.END):
            continue
        if m.shared and m.prot & PROT_WRITE:
            raise CannotMove(f"writable shared memory ({m.name or 'anonymous'})")
        if m.name.startswith("/dev/") and m.name not in ("/dev/zero",) and not m.name.startswith("/dev/shm/"):
            raise CannotMove(f"maps a device ({m.name})")
        anonymous = m.inode == 0 and not m.name.startswith("/")
        vmas.append(
            Vma(
                start=m.start,
                end=m.end,
                prot=m.prot,
                grows_down=m.start <= stack < m.end,
                anonymous=anonymous,
                name=m.name.encode("utf-8", "surrogateescape").decode("latin-1") if not anonymous else m.name,
                offset=m.offset,
            )
        )
    return vmas


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring mappings that can be made by one mmap call; ``prot`` is what they are mapped with first."""

    start: int
    end: int
    prot: int
    grows_down: bool


def spans(vmas: list[Vma]) -> list[Span]:
    """Few mmap calls for many mappings: neighbours join unless one is the stack, or a reserve that nobody can touch."""
    joined: list[Span] = []
    for vma in vmas:
        prot = 0 if vma.prot == 0 and vma.anonymous else PROT_READ | PROT_WRITE
        last = joined[-1] if joined else None
        if last and last.end == vma.start and last.prot == prot and not vma.grows_down and not last.grows_down:
            joined[-1] = Span(last.start, vma.end, prot, False)
        else:
            joined.append(Span(vma.start, vma.end, prot, vma.grows_down))
    return joined


def protections(vmas: list[Vma]) -> list[tuple[int, int, int]]:
    """The mprotect calls (start, length, prot) that make `spans` what `vmas` says; equal neighbours join."""
    calls: list[tuple[int, int, int]] = []
    for vma in vmas:
        first = 0 if vma.prot == 0 and vma.anonymous else PROT_READ | PROT_WRITE
        if vma.prot == first:
            continue
        if calls and calls[-1][0] + calls[-1][1] == vma.start and calls[-1][2] == vma.prot:
            start, length, prot = calls[-1]
            calls[-1] = (start, length + vma.end - vma.start, prot)
        else:
            calls.append((vma.start, vma.end - vma.start, vma.prot))
    return calls
