"""open() as a call: which paths are requests, what they ask, and which are refused (mosix(7))."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.home.process.control_calls import OPEN_HOW, Letters, Redirect, Special, opening, perhaps_ours, recognise, refused
from mosfs.procfs.table import BY_NAME, CONTROL_FILES, Access, ControlFile, Kind

OPEN, CREAT, OPENAT, OPENAT2 = 2, 85, 257, 437
O_RDONLY, O_WRONLY, O_RDWR = 0, 1, 2
AT_FDCWD = 0xFFFFFF9C
PID = 4711
MOUNT = b"/some/where/run/mosix"
#: Open directories of the program, by descriptor; -100 is its working directory.
FOLDERS = {-100: b"/home/ann", 3: b"/proc", 4: b"/proc/4711", 5: b"/proc/1", 6: b"/processes", 7: MOUNT}

NUMBERS = [row for row in CONTROL_FILES if row.kind is Kind.NUMBER]


def directory(dirfd: int) -> bytes:
    if dirfd not in FOLDERS:
        raise OSError(errno.EBADF, "")
    return FOLDERS[dirfd]


def opened(
    path: bytes, flags: int = O_RDONLY, value: int = 0, nr: int = OPEN, dirfd: int = AT_FDCWD
) -> Special | Redirect | Letters | None:
    how = OPEN_HOW.pack(flags, value, 0)
    args = {
        OPEN: (0x1000, flags, value, 0, 0, 0), CREAT: (0x1000, value, 0, 0, 0, 0),
        OPENAT: (dirfd, 0x1000, flags, value, 0, 0), OPENAT2: (dirfd, 0x1000, 0x2000, len(how), 0, 0),
    }[nr]  # fmt: skip
    return recognise(opening(nr, args, path, how), PID, MOUNT, directory)


def special(name: str, flags: int = O_RDONLY, value: int = 0, nr: int = OPEN) -> Special:
    found = opened(f"/proc/self/{name}".encode(), flags, value, nr)
    assert isinstance(found, Special)
    return found


def named(row: ControlFile) -> str:
    return row.name


@pytest.mark.parametrize("nr", [OPEN, OPENAT, OPENAT2])
@pytest.mark.parametrize("row", CONTROL_FILES, ids=named)
def test_every_control_file_by_each_call(row: ControlFile, nr: int) -> None:
    for flags, reads, writes in ((O_RDONLY, True, False), (O_WRONLY, False, True), (O_RDWR, True, True)):
        if row.kind is Kind.QUESTION:
            reads, writes = True, False
        assert special(row.name, flags, 77, nr) == Special(row, reads, writes, 77)
        assert special(row.name, flags | 0o100 | 0o2000000, 77, nr) == Special(row, reads, writes, 77)


def test_creat_writes() -> None:
    assert special("lock", value=1, nr=CREAT) == Special(BY_NAME["lock"], False, True, 1)


@pytest.mark.parametrize("size", [0, 8, 15, 16, 23])
def test_a_short_open_how_is_as_if_zeros_followed(size: int) -> None:
    how = OPEN_HOW.pack(O_WRONLY, 77, 0)[:size]
    found = opening(OPENAT2, (AT_FDCWD, 0x1000, 0x2000, size, 0, 0), b"x", how)
    assert (found.flags, found.value) == (O_WRONLY * (size >= 8), 77 * (size >= 15))


@pytest.mark.parametrize("owner", [b"self", b"thread-self", str(PID).encode()])
def test_the_program_itself_by_any_name(owner: bytes) -> None:
    found = opened(b"/proc/" + owner + b"/whereami")
    assert isinstance(found, Special) and found.row.name == "whereami"


@pytest.mark.parametrize("flags", [O_RDONLY, O_WRONLY, O_RDWR])
def test_in_cluster_is_always_a_question(flags: int) -> None:
    found = special("in_cluster", flags, 0x7F000001)
    assert found == Special(BY_NAME["in_cluster"], True, False, 0x7F000001)
    assert refused(found) == 0


@pytest.mark.parametrize(("path", "dirfd"), [
    (b"self/lock", 3), (b"4711/lock", 3), (b"lock", 4), (b"./lock", 4), (b".//lock", 4), (b"/proc//self/./lock", 9),
])
def test_a_control_file_by_other_ways(path: bytes, dirfd: int) -> None:
    assert opened(path, nr=OPENAT, dirfd=dirfd) == Special(BY_NAME["lock"], True, False, 0)


@pytest.mark.parametrize(("path", "dirfd"), [
    (b"lock", AT_FDCWD), (b"lock", 3), (b"lock", 5), (b"lock", 7), (b"self/lock", 6), (b"lock", 99), (b"lock", 2**32 - 1),
    (b"self/lock/", 3), (b"../4711/lock", 4), (b"/proc/self/cwd/../lock", 3), (b"mosix", AT_FDCWD), (b"mosix/self/lock", 6),
])
def test_the_same_names_elsewhere(path: bytes, dirfd: int) -> None:
    assert opened(path, nr=OPENAT, dirfd=dirfd) is None


@pytest.mark.parametrize(("path", "dirfd", "meant"), [
    (b"mosix/self/lock", 3, MOUNT + b"/self/lock"), (b"mosix", 3, MOUNT), (b"mosix/", 3, MOUNT + b"/"),
    (b"/proc//mosix//self", 9, MOUNT + b"/self"), (b"/proc/./mosix/./self", 9, MOUNT + b"/self"),
    (b"/proc/mosix/proc/../nodes", 9, MOUNT + b"/nodes"), (b"/proc/mosix/../cpuinfo", 9, b"/proc/cpuinfo"),
    (b"/proc/mosix/..", 9, b"/proc"), (b"/proc/mosix/../../etc/passwd", 9, b"/etc/passwd"),
])
def test_the_tree_by_other_ways(path: bytes, dirfd: int, meant: bytes) -> None:
    assert opened(path, nr=OPENAT, dirfd=dirfd) == Redirect(meant)


@pytest.mark.parametrize(
    "path",
    [
        b"/proc/self/maps", b"/proc/self/status", b"/proc/self/", b"/proc/self", b"/proc/whereami", b"/proc",
        b"/proc/1/whereami", b"/proc/self/fd/whereami", b"/proc/self/whereami/", b"/proc/self/whereami ",
        b"/proc/self/Whereami", b"/proc/self/whereami\n", b"proc/self/whereami", b"//proc/self/whereami",
        b"/tmp/proc/self/whereami", b"/proc/mosixx", b"/proc/mosi", b"", b"/proc/self/\xff", b"/proc/-1/whereami",
        b"/proc/self/whereami\0", str(PID).encode(),
    ],
)  # fmt: skip
def test_ordinary_opens(path: bytes) -> None:
    assert opened(path) is None


@given(st.binary(max_size=60))
def test_any_path_has_a_meaning_or_none(path: bytes) -> None:
    found = opened(path)
    if isinstance(found, Redirect):
        assert path.startswith(b"/proc/mosix")
    elif isinstance(found, Letters):
        assert b"box" in path
    elif found is not None:
        assert found.row.name.encode() in path
    if found is not None:
        assert perhaps_ours(path)


@pytest.mark.parametrize("nr", [OPEN, CREAT, OPENAT, OPENAT2])
@pytest.mark.parametrize("rest", [b"", b"/", b"/self/whereami", b"/nodes/1.2.3.4/load"])
def test_the_tree_is_elsewhere(rest: bytes, nr: int) -> None:
    assert opened(b"/proc/mosix" + rest, nr=nr) == Redirect(MOUNT + rest)


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("row", NUMBERS, ids=named)
def test_directions(row: ControlFile) -> None:
    reading, writing = refused(special(row.name, O_RDONLY)), refused(special(row.name, O_WRONLY, row.lo & 0xFFFFFFFF))
    assert (reading, writing) == {
        Access.READ: (0, errno.EPERM), Access.WRITE: (errno.EPERM, 0), Access.BOTH: (0, 0),
    }[row.access]  # fmt: skip
    if row.access is not Access.BOTH:
        assert refused(special(row.name, O_RDWR, max(row.lo, 0))) == errno.EPERM


def test_a_name_is_written_only() -> None:
    """Its value is an address, of which nothing is known yet."""
    assert refused(special("checkpointfile", O_WRONLY, 0x7FFF_0000_1234)) == 0
    assert refused(special("checkpointfile", O_RDONLY)) == refused(special("checkpointfile", O_RDWR, 1)) == errno.EPERM


def test_the_fourth_mode_asks_for_nothing() -> None:
    """open(2): access mode 3 permits neither reading nor writing."""
    assert refused(special("lock", 3, 1)) == errno.EINVAL


@given(st.sampled_from([row for row in NUMBERS if row.access.writes]), st.data())
def test_range(row: ControlFile, data: st.DataObject) -> None:
    value = data.draw(st.integers(-(2**31), 2**31 - 1) | st.sampled_from([row.lo, min(row.hi, 2**31 - 1), row.lo - 1]))
    value = max(value, -(2**31))
    expected = 0 if row.lo <= value <= row.hi else errno.ERANGE
    assert refused(special(row.name, O_WRONLY, value & 0xFFFFFFFF)) == expected
    assert refused(special(row.name, O_WRONLY, (value & 0xFFFFFFFF) + (7 << 32))) == expected, "a mode is an int"


@given(st.integers(0, 2**32 - 1))
def test_a_move_may_name_any_address(value: int) -> None:
    assert refused(special("migrate", O_WRONLY, value)) == 0


def test_a_value_that_is_only_read_may_be_anything() -> None:
    assert refused(special("lock", O_RDONLY, 2**32 - 1)) == 0
    assert BY_NAME["lock"].hi == 1
