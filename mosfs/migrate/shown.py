"""What a program sees of its own memory in /proc: its own mappings, away too, with the names that they had at home.

A deputy has given its memory up, and memory that has travelled is anonymous. So opens of these files, by the program itself, get a
file in memory with the truth of that moment: the body's text, the names that images carry along (`Vma.name`), and everything else
as home's kernel tells it.
"""

from __future__ import annotations

import errno
import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from mosfs.migrate.image import Vma
from mosfs.migrate.maps import KERNEL, Known, parse_line, unknown
from mosfs.trace import layout
from mosfs.wire.frames import ABOUT_MEMORY

_VDSO = Vma(layout.VDSO, layout.VDSO_END, 5, name="[vdso]")
#: What each node has of its own, and the program does not see.
_REPLACED = frozenset(KERNEL) - {"[vsyscall]"}
_VDSO_SIZE = b"Size:%20d kB" % ((layout.VDSO_END - layout.VDSO) // 1024)
_FILES = "|".join(sorted(ABOUT_MEMORY)).encode()
_OTHER = re.compile(rb"/proc/(\d+)/(?:task/(\d+)/)?(%s)\Z" % _FILES)
_PATH = re.compile(rb"/proc/(?:self|thread-self|(\d+))(?:/task/(\d+))?/(%s)\Z" % _FILES)
#: Lines of maps and smaps: of files as the kernel has them, and of those that `_line` knows the name of only.
_FILE = re.compile(rb"(?m)^([0-9a-f]+)-[0-9a-f]+ \S+ \S+ (\S+) ([1-9][0-9]*) +(/.*)$")
_UNKNOWN = re.compile(rb"(?m)^(([0-9a-f]+)-[0-9a-f]+ \S+ \S+ )00:00 0 +(/.*)$")
_OF_MEMORY = re.compile(rb"/proc/(?:self|thread-self|(\d+))/(?:task/(\d+)/)?(mem|pagemap|auxv)\Z")
_AT_SYSINFO_EHDR = 33
_NAME_COLUMN = 73
#: Lines of status that tell of memory.
_MEMORY = re.compile(rb"(?:Vm|Rss)\w+:[ \t]+\d{1,20} kB\Z")
#: How a line of each file looks (proc_pid_maps(5) and the pages beside it). Of status only the lines above are taken.
_MAPPING = rb"[0-9a-f]{1,16}-[0-9a-f]{1,16} [r-][w-][x-][ps-] [0-9a-f]{1,16} [0-9a-f]+:[0-9a-f]+ \d{1,20} *[^\n]*"
_NUMBERS = rb"[A-Za-z_]\w*:[ \t]+[ -~\t]*"
_SOUND = {
    "maps": re.compile(_MAPPING),
    **dict.fromkeys(("smaps", "smaps_rollup"), re.compile(rb"%s|%s" % (_MAPPING, _NUMBERS))),
    "statm": re.compile(rb"\d{1,20}(?: \d{1,20}){6}"),
    "stat": re.compile(rb"\d{1,20} \(.*\) [A-Za-z](?: -?\d{1,20}){30,80} ?", re.DOTALL),
}
#: Fields of stat, counted from the state: utime and those after it, vsize, rss.
_UTIME, _VSIZE, _RSS = 11, 20, 21
#: Seccomp filters that every program has from us.
OUR_FILTERS = 1
#: Files whose text is nothing but memory.
WHOLE = frozenset({"maps", "smaps", "smaps_rollup", "statm"})


def recognise(path: bytes, pid: int) -> str:
    """The file that an open of ``path`` by the program ``pid`` means, "" if it is none of these."""
    found = _PATH.match(path)
    if found is None or any(number is not None and int(number) != pid for number in found.groups()[:2]):
        return ""
    return found[3].decode()


def of_memory(path: bytes, pid: int) -> tuple[int, str]:
    """The process (or thread) whose memory or auxiliary vector the file ``path`` shows to the program ``pid``, and the file's name;
    (0, "") if it is none of these."""
    found = _OF_MEMORY.match(path)
    return (int(found[2] or found[1] or pid), found[3].decode()) if found is not None else (0, "")


def with_our_vdso(auxv: bytes) -> bytes:
    """An auxiliary vector (getauxval(3)) as the program has it: the kernel's copy tells where its own vDSO was."""
    words = list(struct.iter_unpack("<QQ", auxv[: len(auxv) & ~15]))
    return b"".join(struct.pack("<QQ", key, layout.VDSO if key == _AT_SYSINFO_EHDR else value) for key, value in words)


def of_another(path: bytes) -> tuple[int, str]:
    """The process (or thread) that the file ``path`` tells of, and the file's name; (0, "") if it is none of these."""
    found = _OTHER.match(path)
    return (int(found[2] or found[1]), found[3].decode()) if found is not None else (0, "")


def with_state(name: str, text: bytes, state: str) -> bytes:
    """The text of stat or status with another state: a letter and a word as proc_pid_status(5) has them."""
    if name == "stat":
        head, fields = text.rsplit(b")", 1)
        return head + b") " + state[:1].encode() + fields[2:]
    return re.sub(rb"(?m)^State:.*$", b"State:\t" + state.encode(), text, count=1)


def with_times(text: bytes, more: Sequence[int]) -> bytes:
    """The text of stat with ``more`` CPU time, in clock ticks: utime, stime, cutime, cstime (proc_pid_stat(5))."""
    head, rest = text.rsplit(b")", 1)
    fields = rest.split()
    for i, ticks in enumerate(more, _UTIME):
        fields[i] = b"%d" % (int(fields[i]) + ticks)
    return head + b") " + b" ".join(fields) + b"\n"


def named(vmas: Iterable[Vma]) -> list[Vma]:
    """The mappings that have shown a file, and do not any more."""
    return [vma for vma in vmas if vma.name.startswith("/") and not vma.file]


def _within(names: Sequence[Vma], start: int, end: int) -> slice:
    """Which of ``names``, sorted and apart, have a part in [start, end). By bisection: there may be tens of thousands."""
    first = bisect_right(names, start, key=lambda vma: vma.end)
    return slice(first, bisect_left(names, end, first, key=lambda vma: vma.start))


def overlaid(vmas: Iterable[Vma], names: Sequence[Vma]) -> list[Vma]:
    """``vmas`` with the names that their parts had; those without any name are cut where a named part begins or ends.

    Both are sorted and do not overlap.
    """
    found: list[Vma] = []
    first = -1
    for vma in vmas:
        if first < 0:
            first = _within(names, vma.start, vma.end).start
        while first < len(names) and names[first].end <= vma.start:
            first += 1
        at, n = vma.start, first
        while n < len(names) and names[n].start < vma.end and not vma.name and not vma.grows_down:
            part = names[n]
            start, end = max(part.start, at), min(part.end, vma.end)
            if start > at:
                found.append(_cut(vma, at, start))
            found.append(_cut(vma, start, end, part.name, part.offset + start - part.start))
            at = end
            n += 1
        if at == vma.start:
            found.append(vma)
        elif at < vma.end:
            found.append(_cut(vma, at, vma.end, vma.name, vma.offset))
    return found


def _cut(vma: Vma, start: int, end: int, name: str = "", offset: int = 0) -> Vma:
    return Vma(start, end, vma.prot, vma.grows_down, vma.anonymous, name, offset, vma.flags)


def with_mapping(names: Sequence[Vma], new: Vma) -> list[Vma]:
    """``names``, sorted and apart, after a file was mapped over whatever was there."""
    hit = _within(names, new.start, new.end)
    before = [_cut(old, old.start, new.start, old.name, old.offset) for old in names[hit] if old.start < new.start]
    after = [
        _cut(old, new.end, old.end, old.name, old.offset + new.end - old.start) for old in names[hit] if old.end > new.end
    ]
    return [*names[: hit.start], *before, new, *after, *names[hit.stop :]]


def text(pid: int, name: str, names: Sequence[Vma], known: Known = unknown) -> bytes:
    """/proc/``pid``/``name`` without the low region, with ``names``, and those of files that are ``known``.

    Of the low region the vDSO is there, in the place of the kernel's, which is another one on each node. OSError when the process
    is gone."""
    with open(f"/proc/{pid}/{name}", "rb") as file:
        whole = file.read()
    if name not in ("maps", "smaps"):
        return with_our_vdso(whole) if name == "auxv" else whole
    out: list[bytes] = []
    shown = True
    for line in whole.splitlines():
        if b"-" in line.split(None, 1)[0]:
            mapping = parse_line(line.decode("utf-8", "surrogateescape"))
            shown = mapping.name not in _REPLACED and not (mapping.start >= layout.STUB and mapping.end <= layout.END)
            if mapping.start <= layout.VDSO < mapping.end:
                out.append(_line(_VDSO, b"r-xp"))
                shown = True
                continue
            if not shown:
                continue
            vma = Vma(mapping.start, mapping.end, mapping.prot, name=mapping.name, offset=mapping.offset)
            perms = line.split(None, 2)[1]
            if mapping.inode and (told := known(mapping)):
                file_name = told[1].encode("utf-8", "surrogateescape").decode("latin-1")
                out.append(_line(_cut(vma, vma.start, vma.end, file_name, vma.offset), perms))
                continue
            pieces = overlaid([vma], names) if not mapping.name else []
            if not any(piece.name for piece in pieces):
                out.append(line)
            elif name == "maps":
                out += [_line(piece, perms) for piece in pieces]
            else:
                first = next(piece for piece in pieces if piece.name)
                out.append(_line(_cut(vma, vma.start, vma.end, first.name, first.offset), perms))
        elif shown:
            out.append(_VDSO_SIZE if line.startswith(b"Size:") and out[-1].endswith(b"[vdso]") else line)
    return b"\n".join([*out, b""])


def _line(vma: Vma, perms: bytes) -> bytes:
    """As proc_pid_maps(5) has it; the device and inode are not known here (`_with_inodes`)."""
    head = f"{vma.start:08x}-{vma.end:08x} {perms.decode()} {vma.offset:08x} 00:00 0 "
    return head.ljust(_NAME_COLUMN).encode() + vma.name.encode("latin-1") if vma.name else head.encode()


def untraced(status: bytes, ours: int) -> bytes:
    """The text of a status file without us: nobody traces the program, and ``ours`` of its seccomp filters are not there."""
    own = _own_filters(status, ours)
    status = re.sub(rb"(?m)^TracerPid:\t\d+$", b"TracerPid:\t0", status, count=1)
    status = re.sub(rb"(?m)^Seccomp_filters:\t\d+$", b"Seccomp_filters:\t%d" % own, status, count=1)
    return status if own else re.sub(rb"(?m)^Seccomp:\t2$", b"Seccomp:\t0", status, count=1)


def _own_filters(status: bytes, ours: int) -> int:
    found = re.search(rb"(?m)^Seccomp_filters:\t(\d+)$", status)
    return max(int(found[1]) - ours, 0) if found is not None else 0


def mode(status: bytes, ours: int) -> int:
    """What PR_GET_SECCOMP(2const) answers a program with this status file, of whose filters ``ours`` are not there."""
    return 2 if _own_filters(status, ours) else 0


def _with_inodes(body: bytes, home: bytes) -> bytes:
    """``body`` with the device and inode of its files: home maps them too, at the same addresses but for what mremap(2) moved."""
    files: dict[bytes, tuple[bytes, bytes]] = {}
    places: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
    for start, device, inode, name in _FILE.findall(home):
        places[start, name] = files[name] = (device, inode)

    def line(found: re.Match[bytes]) -> bytes:
        head, start, name = found.group(1, 2, 3)
        device, inode = places.get((start, name)) or files.get(name, (b"00:00", b"0"))
        return (head + device + b" " + inode + b" ").ljust(_NAME_COLUMN) + name

    return _UNKNOWN.sub(line, body) if files else body


def sound(name: str, body: bytes) -> bool:
    """Can this be the text of the file ``name``? A host says what it likes, and its reader may be another program."""
    pattern = _SOUND.get(name)
    text = body.removesuffix(b"\n")
    lines = [text] if name == "stat" else text.split(b"\n")
    return pattern is None or all(map(pattern.fullmatch, lines)) or (not body and name in ("maps", "smaps", "smaps_rollup"))


def merged(name: str, home: bytes, body: bytes, ours: int) -> bytes:
    """What the program reads: ``home`` is its deputy's file, ``body`` its body's; ``ours`` as for `untraced`. EIO for nonsense."""
    if not sound(name, body):
        raise OSError(errno.EIO, "its node does not tell the truth")
    if name in WHOLE:
        return _with_inodes(body, home)
    if name == "stat":
        kept, fields = home.rsplit(b")", 1)
        told, memory = fields.split(), body.rsplit(b")", 1)[1].split()
        told[0] = b"R"
        told[_VSIZE], told[_RSS] = memory[_VSIZE], memory[_RSS]
        return kept + b") " + b" ".join(told) + b"\n"
    lines = {line.split(b":", 1)[0]: line for line in body.splitlines() if _MEMORY.match(line)}
    lines[b"State"] = b"State:\tR (running)"
    return untraced(b"\n".join([*(lines.get(line.split(b":", 1)[0], line) for line in home.splitlines()), b""]), ours)
