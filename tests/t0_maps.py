"""/proc/PID/maps as data: what travels, and that few calls make exactly the mappings that were of what is there."""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.migrate import properties
from mosfs.migrate.image import OBJECTS, Vma
from mosfs.migrate.maps import (
    KERNEL,
    CannotMove,
    Mapping,
    Piece,
    Reader,
    both,
    changes,
    parse_line,
    pieces,
    ranges,
    read_maps,
    travelling,
)
from mosfs.trace import layout
from mosfs.wire.messages import ChannelFailed, checked

PAGE = 4096

LINES = {
    "00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/dbus-daemon\n":
        Mapping(0x400000, 0x452000, 5, False, 0x1000, 173521, "/usr/bin/dbus-daemon", "08:02"),
    "7ffc2d1e6000-7ffc2d207000 rw-p 00000000 00:00 0                          [stack]\n":
        Mapping(0x7FFC2D1E6000, 0x7FFC2D207000, 3, False, 0, 0, "[stack]", "00:00"),
    "35b1a21000-35b1a22000 rw-s 00000000 00:00 0 \n": Mapping(0x35B1A21000, 0x35B1A22000, 3, True, 0, 0, "", "00:00"),
    "35b1a21000-35b1a22000 ---p 00000000 00:00 0": Mapping(0x35B1A21000, 0x35B1A22000, 0, False, 0, 0, "", "00:00"),
    "7f0000000000-7f0000001000 r--s 00000000 00:1a 7   /tmp/a name  with blanks (deleted)\n":
        Mapping(0x7F0000000000, 0x7F0000001000, 1, True, 0, 7, "/tmp/a name  with blanks (deleted)", "00:1a"),
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n":
        Mapping(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, 4, False, 0, 0, "[vsyscall]", "00:00"),
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_parse_line(line: str) -> None:
    assert parse_line(line) == LINES[line]


def test_our_own_maps() -> None:
    found = read_maps(os.getpid())
    ends = [end for m in found for end in (m.start, m.end)]
    assert ends == sorted(ends)
    assert {"[stack]", "[vdso]"} <= {m.name for m in found}


# --------------------------------------------------------------------------- what travels


def mapping(
    page: int, pages: int = 1, prot: int = 3, *, shared: bool = False, inode: int = 0, name: str = ""
) -> Mapping:
    return Mapping(page * PAGE, (page + pages) * PAGE, prot, shared, 0, inode, name)


STACK = mapping(0x7FFFF000, 16, name="[stack]")


def test_everything_of_the_program_travels_in_order() -> None:
    program = mapping(0x400, 8, 5, inode=9, name="/bin/x")
    heap, reserve = mapping(0x500, 4, name="[heap]"), mapping(0x600, 100, 0)
    library = mapping(0x700, 2, 1, shared=True, inode=3, name="/usr/lib/cache")
    found = travelling([program, heap, reserve, library, STACK])
    assert found == [
        Vma(program.start, program.end, 5, anonymous=False, name="/bin/x"),
        Vma(heap.start, heap.end, 3, name="[heap]"),
        Vma(reserve.start, reserve.end, 0),
        Vma(library.start, library.end, 1, anonymous=False, name="/usr/lib/cache"),
        Vma(STACK.start, STACK.end, 3, grows_down=True, name="[stack]"),
    ]


def test_what_each_node_has_of_its_own_stays() -> None:
    borders = (layout.STUB, layout.SCRATCH, layout.END)
    own = [Mapping(start, end, 3, False, 0, 0, "") for start, end in itertools.pairwise(borders)]
    kernel = [mapping(0x7FFFF800 + 16 * i, 2, 1, name=name) for i, name in enumerate(KERNEL)]
    assert travelling([*own, *kernel]) == []


def test_the_main_stack_grows_wherever_the_stack_pointer_is() -> None:
    other = mapping(0x7FFF0000, 16)
    assert [v.grows_down for v in travelling([other, STACK])] == [False, True]


def test_all_parts_of_the_main_stack_grow() -> None:
    below, apart = mapping(0x7FFFEFF0, 16, 1), mapping(0x7FFFEF00, 16)
    found = travelling([apart, below, mapping(0x7FFFF000, 16, name="[stack]")])
    assert [v.grows_down for v in found] == [False, True, True]


@pytest.mark.parametrize(
    ("hindrance", "why"),
    [
        (mapping(0x500, shared=True), "writable shared memory (anonymous)"),
        (mapping(0x500, shared=True, inode=5, name="/dev/shm/x"), "writable shared memory (/dev/shm/x)"),
        (mapping(0x500, shared=True, prot=2, inode=5, name="/a b"), "writable shared memory (/a b)"),
        (mapping(0x500, prot=1, shared=True, inode=5, name="/SYSV0000000a (deleted)"), "attached System V shared memory"),
        (mapping(0x500, prot=1, inode=5, name="/dev/fb0"), "maps a device (/dev/fb0)"),
        (mapping(0x500, prot=1, shared=True, inode=5, name="/dev/mem"), "maps a device (/dev/mem)"),
    ],
)
def test_what_hinders(hindrance: Mapping, why: str) -> None:
    with pytest.raises(CannotMove) as error:
        travelling([mapping(0x400), hindrance, STACK])
    assert str(error.value) == why


@pytest.mark.parametrize("raw", [b"/tmp/\xff\x1b[31m", b"/tmp/a\nb", b"/" + 2040 * b"x/"])
def test_a_name_of_any_bytes_can_be_told(raw: bytes) -> None:
    """Whatever a program has called its file: mosd takes the message, and its tracer can send it."""
    with pytest.raises(CannotMove) as error:
        travelling([mapping(0x500, shared=True, inode=5, name=raw.decode("utf-8", "surrogateescape")), STACK])
    why = str(error.value)
    assert why.isprintable() and why.startswith("writable shared memory (/") and why.endswith(")")
    assert checked(ChannelFailed(1, why)).reason == why


def test_memory_of_a_group_travels_and_a_file_that_is_written_does_not() -> None:
    written = mapping(0x500, shared=True, inode=5, name="/memfd:shared (deleted)")
    [vma] = travelling([written], lambda _: (OBJECTS, "/dev/zero (deleted)"))
    assert (vma.file, vma.shared, vma.name) == (OBJECTS, True, "/dev/zero (deleted)")
    with pytest.raises(CannotMove, match="writable shared memory"):
        travelling([written], lambda _: (OBJECTS - 1, "a file"))


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/shm/x"])
def test_files_that_only_look_like_devices_travel(name: str) -> None:
    assert travelling([mapping(0x500, 1, 1, shared=True, inode=5, name=name)])[0].name == name


@given(st.binary(min_size=1, max_size=30).filter(lambda raw: not set(raw) & set(b"\0\n")))
def test_a_name_of_any_bytes_can_be_sent(raw: bytes) -> None:
    """Names of files need not be UTF-8; an image is."""
    name = (b"/" + raw).decode("utf-8", "surrogateescape")
    vma = travelling([mapping(0x500, 1, 1, inode=5, name=name)])[0]
    assert vma.name.encode("utf-8")
    assert not vma.anonymous


# --------------------------------------------------------------------------- few calls for many mappings


@st.composite
def vma_lists(draw: st.DrawFn) -> list[Vma]:
    """Sorted mappings of few pages, most of them touching; at most one is the stack."""
    found: list[Vma] = []
    at = 16
    stack = draw(st.integers(-1, 12))
    for number in range(draw(st.integers(0, 12))):
        start = at + draw(st.sampled_from([0, 0, 0, 1, 3]))
        at = start + draw(st.integers(1, 4))
        prot, anonymous = draw(st.sampled_from([0, 0, 1, 3, 3, 5, 7])), draw(st.booleans())
        flags = draw(st.sampled_from([0, 0, 0, 1, 2]))
        found.append(Vma(start * PAGE, at * PAGE, prot, number == stack, anonymous, flags=flags))
    return found


Space = dict[int, tuple[int, int]]


def space(parts: list[Piece]) -> Space:
    """Page -> (protection, kind)."""
    found: Space = {}
    for start, end, prot, kind in parts:
        for page in range(start, end, PAGE):
            assert page not in found, "mapped twice"
            found[page] = (prot, kind)
    return found


@given(vma_lists(), vma_lists())
def test_changes_make_what_is_wanted_of_what_was_made(before: list[Vma], after: list[Vma]) -> None:
    made, wanted = pieces(before), pieces(after)
    have = space(made)
    unmap, new, protect = changes(made, wanted)
    for start, end in unmap:
        for page in range(start, end, PAGE):
            del have[page]
    replaced = space(new)
    have.update(replaced)
    for start, end, prot in protect:
        for page in range(start, end, PAGE):
            have[page] = (prot, have[page][1])  # KeyError: mprotect of what is not mapped fails
    assert have == space(wanted) == {
        page: (v.prot, v.flags | 4 * v.grows_down) for v in after for page in range(v.start, v.end, PAGE)
    }
    kept = {page for start, end in ranges(both(made, wanted)) for page in range(start, end, PAGE)}
    assert kept == set(space(wanted)) - set(replaced)


@given(vma_lists())
def test_what_is_as_it_should_be_needs_no_call(vmas: list[Vma]) -> None:
    assert changes(pieces(vmas), pieces(vmas)) == ([], [], [])


@given(vma_lists())
def test_neighbours_never_need_two_calls(vmas: list[Vma]) -> None:
    found = pieces(vmas)
    for a, b in itertools.pairwise(found):
        assert a[1] < b[0] or a[2:] != b[2:] or a[3] & 4
    _, _, protect = changes([(start, end, 8, kind) for start, end, _, kind in found], found)
    for (_, end, prot), (start, _, other) in itertools.pairwise(protect):
        assert end < start or prot != other


def test_a_reader_tells_what_is_new() -> None:
    """Of a process of its own: what other tests have left in this one may be shared."""
    code = "import mmap; print(1, flush=True); input(); m = mmap.mmap(-1, 1 << 18, mmap.MAP_PRIVATE); print(2, flush=True); input()"
    reader = Reader()
    with subprocess.Popen([sys.executable, "-IS", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in (b"1\n", b"2\n"):
            assert process.stdout.readline() == line
            assert reader.read(process.pid) == travelling(read_maps(process.pid))
            process.stdin.write(b"\n")
            process.stdin.flush()


@pytest.mark.parametrize("piece", [700, 4096, 1 << 20])
def test_properties_are_the_same_in_slices(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE) as memory:
        memory.madvise(mmap.MADV_DONTFORK, 2 * PAGE, PAGE)
        memory.madvise(mmap.MADV_SEQUENTIAL, 5 * PAGE, PAGE)
        with open("/proc/self/smaps", "rb") as smaps:
            wanted = properties.parse(smaps.read())
        monkeypatch.setattr(properties, "PIECE", piece)
        assert properties.read(os.getpid()) == wanted
    assert len(wanted) >= 2


def test_huge_pages_of_its_own_keep_a_program_home() -> None:
    line = "7f0000000000-7f0000200000 rw-p 00000000 00:10 4711                       /anon_hugepage (deleted)"
    with pytest.raises(CannotMove, match="MAP_HUGETLB"):
        travelling([parse_line(line)])
