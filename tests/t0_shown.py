"""What a program sees of its own memory: names over anonymous mappings, and the files of /proc put together from both sides."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.migrate import shown
from mosfs.migrate.image import Vma
from mosfs.migrate.maps import parse_line
from mosfs.wire.frames import ABOUT_MEMORY

PAGE = 4096


def vma(start: int, end: int, name: str = "", offset: int = 0) -> Vma:
    return Vma(start * PAGE, end * PAGE, 3, name=name, offset=offset * PAGE)


def spans(draw: list[int]) -> list[tuple[int, int]]:
    edges = sorted(set(draw))
    return list(zip(edges[::2], edges[1::2]))


pages = st.lists(st.integers(100, 200), max_size=12).map(spans)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/proc/self/maps", "maps"), (b"/proc/thread-self/smaps", "smaps"), (b"/proc/77/statm", "statm"),
        (b"/proc/self/task/77/status", "status"), (b"/proc/77/task/77/stat", "stat"),
        (b"/proc/78/maps", ""), (b"/proc/77/task/78/maps", ""), (b"/proc/self/mapsx", ""), (b"/proc/self/cmdline", ""),
        (b"/proc/selfmaps", ""), (b"proc/self/maps", ""),
    ],
)  # fmt: skip
def test_which_files(path: bytes, name: str) -> None:
    assert shown.recognise(path, 77) == name


@given(pages, pages)
def test_overlaid_covers_the_same_memory(mapped: list[tuple[int, int]], named: list[tuple[int, int]]) -> None:
    names = [vma(start, end, f"/{start}", start) for start, end in named]
    found = shown.overlaid([vma(*span) for span in mapped], names)
    assert [page for v in found for page in range(v.start, v.end, PAGE)] == [
        page * PAGE for start, end in mapped for page in range(start, end)
    ]
    for piece in found:
        for page in range(piece.start // PAGE, piece.end // PAGE):
            owner = next((v for v in names if v.start <= page * PAGE < v.end), None)
            assert piece.name == (owner.name if owner else "")
            if owner:
                assert piece.offset + page * PAGE - piece.start == owner.offset + page * PAGE - owner.start


@given(pages, st.integers(100, 190), st.integers(1, 10))
def test_a_new_mapping_replaces_what_was_there(named: list[tuple[int, int]], at: int, size: int) -> None:
    names = [vma(start, end, f"/{start}", start) for start, end in named]
    found = shown.with_mapping(names, vma(at, at + size, "/new"))
    owners = {page: v.name for v in found for page in range(v.start // PAGE, v.end // PAGE)}
    for page in range(100, 201):
        before = next((v.name for v in names if v.start <= page * PAGE < v.end), None)
        assert owners.get(page) == ("/new" if at <= page < at + size else before)
    assert found == sorted(found, key=lambda v: v.start)


class Counted(Vma):
    """A mapping that counts how often its place is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name in ("start", "end"):
            Counted.looks += 1
        return super().__getattribute__(name)


def test_thousands_of_names_are_not_looked_through() -> None:
    """One mapping more concerns its neighbours only: a program may make 65,530 mappings, and each comes here."""
    names = [Counted(2 * at * PAGE, (2 * at + 1) * PAGE, 3, name="/many") for at in range(4096)]
    Counted.looks = 0
    found = shown.with_mapping(names, vma(5000, 5001, "/new"))
    assert found[2500] == vma(5000, 5001, "/new") and len(found) == 4096
    assert len(shown.overlaid([vma(6000, 6004)], names)) == 4
    assert Counted.looks < 200


def test_stacks_and_named_mappings_stay_as_they_are() -> None:
    stack, heap = Vma(0, PAGE, 3, grows_down=True), Vma(PAGE, 2 * PAGE, 3, name="[heap]")
    assert shown.overlaid([stack, heap], [vma(0, 2, "/x")]) == [stack, heap]


def test_the_text_names_our_own_memory() -> None:
    """Without names it is the kernel's text; with one over an anonymous mapping, a line of it reads so."""
    pid = os.getpid()
    lines = shown.text(pid, "maps", []).decode().splitlines()
    assert not any("[vvar" in line or "[vdso]" in line for line in lines)  # the kernel's; ours only where it is
    anonymous = next(m for m in map(parse_line, lines) if not m.name)
    name = Vma(anonymous.start, anonymous.start + PAGE, 3, name="/some/where", offset=8192)
    for file in ("maps", "smaps"):
        text = shown.text(pid, file, [name]).decode()
        line = next(line for line in text.splitlines() if line.endswith("/some/where"))
        found = parse_line(line)
        assert (found.start, found.offset, found.name) == (anonymous.start, 8192, "/some/where")
        assert found.end == (name.end if file == "maps" else anonymous.end)


def test_the_state_of_another() -> None:
    assert shown.of_another(b"/proc/12/stat") == (12, "stat")
    assert shown.of_another(b"/proc/12/task/13/status") == (13, "status")
    assert shown.of_another(b"/proc/12/smaps") == (12, "smaps")
    for path in (b"/proc/self/stat", b"/proc/12/mem", b"/proc/12/fd/stat", b"12/stat"):
        assert shown.of_another(path) == (0, "")
    assert shown.with_state("stat", b"7 (a) t) t 1 2\n", "T (stopped)") == b"7 (a) t) T 1 2\n"
    stat = b"7 (a) 1) S " + b" ".join(b"%d" % i for i in range(4, 20)) + b"\n"
    assert shown.with_times(stat, (1, 20, 300, 4000)).split()[14:19] == [b"15", b"35", b"316", b"4017", b"18"]
    status = b"Name:\tState:\nState:\tt (tracing stop)\nTgid:\t7\n"
    assert shown.with_state("status", status, "T (stopped)") == b"Name:\tState:\nState:\tT (stopped)\nTgid:\t7\n"


def test_merging() -> None:
    assert shown.merged("maps", b"home", b"", 1) == b""
    home = b"00400000-00600000 ---p 00000000 fe:01 77    /bin/x\n00600000-00700000 ---p 00000000 fe:01 78 /lib/y (deleted)\n"
    body = b"00400000-00500000 r-xp 00000000 00:00 0 /bin/x\nSize: 1024 kB\n00500000-00600000 rw-p 00100000 00:00 0 /bin/x\n"
    rest = b"01000000-01001000 rw-p 00000000 00:00 0 \n01001000-01002000 r--p 00000000 00:00 0 /gone\n"
    lines = [(b"00400000-00500000 r-xp 00000000 fe:01 77 ").ljust(73) + b"/bin/x", b"Size: 1024 kB",
             (b"00500000-00600000 rw-p 00100000 fe:01 77 ").ljust(73) + b"/bin/x"]  # fmt: skip
    told = shown.merged("smaps", home, body + rest, 1)
    assert told.startswith(b"\n".join(lines) + b"\n01000000-01001000 rw-p 00000000 00:00 0 \n")
    assert told.endswith(b"01001000-01002000 r--p 00000000 00:00 0 ".ljust(73) + b"/gone\n")
    numbers = b" ".join(b"%d" % i for i in range(3, 53))
    body = b"9 (x) S " + b" ".join(b"%d" % (i * 10) for i in range(4, 53))
    merged = shown.merged("stat", b"7 (a) b) t " + numbers[2:] + b"\n", body, 1).split(b") ", 2)
    fields = [b"7", b"(a) b)", *merged[2].split()]
    assert fields[2] == b"R" and fields[3] == b"4" and fields[22:24] == [b"230", b"240"] and fields[24] == b"25"
    home = b"Name:\tx\nState:\tt (tracing stop)\nPid:\t7\nVmSize:\t 1 kB\nVmRSS:\t 1 kB\nSigCgt:\t0\n"
    body = b"Name:\ty\nState:\tS\nPid:\t9\nVmSize:\t 50 kB\nVmRSS:\t 40 kB\nSigCgt:\t1\n"
    assert shown.merged("status", home, body, 1) == (
        b"Name:\tx\nState:\tR (running)\nPid:\t7\nVmSize:\t 50 kB\nVmRSS:\t 40 kB\nSigCgt:\t0\n"
    )


def test_a_status_without_us() -> None:
    text = b"Name:\tx\nTracerPid:\t77\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t%d\nThreads:\t1\n"
    gone = b"Name:\tx\nTracerPid:\t0\nNoNewPrivs:\t1\nSeccomp:\t0\nSeccomp_filters:\t0\nThreads:\t1\n"
    assert shown.untraced(text % 1, 1) == shown.untraced(text % 2, 2) == gone
    assert [shown.mode(text % 2, ours) for ours in (1, 2)] == [2, 0]
    assert shown.untraced(text % 3, 1) == text.replace(b"77", b"0") % 2  # filters of its own are told
    before = b"TracerPid:\t77\nSeccomp:\t2\n"  # Linux before 5.9 does not count them
    assert shown.untraced(before, 1) == b"TracerPid:\t0\nSeccomp:\t0\n"


@pytest.mark.parametrize("name", sorted(ABOUT_MEMORY))
def test_what_a_kernel_says_is_taken(name: str) -> None:
    with open(f"/proc/self/{name}", "rb") as file:
        text = file.read()
    assert shown.sound(name, text)
    assert shown.merged(name, text, text, 0)


NONSENSE = (
    b"", b"x", b")", b"1 (a) R 1 2 3", b"1 (a) R" + b" 1" * 40 + b" \x1b[2J",
    b"VmRSS:\t\x1b]0;x\x07 kB", b"\n" * 9, bytes(5), b"\xff" * 99,
)  # fmt: skip


@pytest.mark.parametrize("body", NONSENSE)
@pytest.mark.parametrize("name", sorted(ABOUT_MEMORY))
def test_nonsense_of_a_host_is_an_error_and_never_shown(name: str, body: bytes) -> None:
    """Its reader may be a program that is not on that node: it must not end, nor may its terminal be told what to do."""
    with open(f"/proc/self/{name}", "rb") as file:
        home = file.read()
    try:
        text = shown.merged(name, home, body, 0)
    except OSError as error:
        assert error.errno == errno.EIO
    else:
        assert name == "status" or not body, "nothing of it is taken"
        assert b"\x1b" not in text
