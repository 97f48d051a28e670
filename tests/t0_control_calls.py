"""open() as a call: which paths are requests, what they ask, and which are refused (mosix(7))."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.home.control_calls import Redirect, Special, recognise, refused
from mosfs.procfs.table import BY_NAME, CONTROL_FILES, Access, ControlFile

OPEN, CREAT, OPENAT, OPENAT2 = 2, 85, 257, 437
O_RDONLY, O_WRONLY, O_RDWR = 0, 1, 2
AT_FDCWD = 0xFFFFFF9C
PID = 4711
MOUNT = b"/some/where/run/mosix"


def opened(path: bytes, flags: int = O_RDONLY, value: int = 0, nr: int = OPEN) -> Special | Redirect | None:
    args = (0x1000, flags, value, 0, 0, 0) if nr in (OPEN, CREAT) else (AT_FDCWD, 0x1000, flags, value, 0, 0)
    return recognise(nr, args, path, PID, MOUNT)


def special(name: str, flags: int = O_RDONLY, value: int = 0, nr: int = OPEN) -> Special:
    found = opened(f"/proc/self/{name}".encode(), flags, value, nr)
    assert isinstance(found, Special)
    return found


def named(row: ControlFile) -> str:
    return row.name


@pytest.mark.parametrize("nr", [OPEN, OPENAT])
@pytest.mark.parametrize("row", CONTROL_FILES, ids=named)
def test_every_control_file_by_both_calls(row: ControlFile, nr: int) -> None:
    for flags, reads, writes in ((O_RDONLY, True, False), (O_WRONLY, False, True), (O_RDWR, True, True)):
        assert special(row.name, flags, 77, nr) == Special(row.name, row, reads, writes, 77)
        assert special(row.name, flags | 0o100 | 0o2000000, 77, nr) == Special(row.name, row, reads, writes, 77)


@pytest.mark.parametrize("owner", [b"self", b"thread-self", str(PID).encode()])
def test_the_program_itself_by_any_name(owner: bytes) -> None:
    found = opened(b"/proc/" + owner + b"/whereami")
    assert isinstance(found, Special) and found.name == "whereami"


@pytest.mark.parametrize("flags", [O_RDONLY, O_WRONLY, O_RDWR])
def test_in_cluster_is_always_a_question(flags: int) -> None:
    found = special("in_cluster", flags, 0x7F000001)
    assert found == Special("in_cluster", None, True, False, 0x7F000001)
    assert refused(found) == 0


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
    elif found is not None:
        assert found.name.encode() in path


@pytest.mark.parametrize("nr", [CREAT, OPENAT2])
def test_calls_that_cannot_carry_a_value_are_ordinary(nr: int) -> None:
    assert opened(b"/proc/self/whereami", nr=nr) is None


@pytest.mark.parametrize("nr", [OPEN, CREAT, OPENAT, OPENAT2])
@pytest.mark.parametrize("rest", [b"", b"/", b"/self/whereami", b"/nodes/1.2.3.4/load", b"/../x"])
def test_the_tree_is_elsewhere(rest: bytes, nr: int) -> None:
    assert opened(b"/proc/mosix" + rest, nr=nr) == Redirect(MOUNT + rest)


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("row", CONTROL_FILES, ids=named)
def test_directions(row: ControlFile) -> None:
    reading, writing = refused(special(row.name, O_RDONLY)), refused(special(row.name, O_WRONLY, row.lo & 0xFFFFFFFF))
    assert (reading, writing) == {
        Access.READ: (0, errno.EPERM), Access.WRITE: (errno.EPERM, 0), Access.BOTH: (0, 0),
    }[row.access]  # fmt: skip
    if row.access is not Access.BOTH:
        assert refused(special(row.name, O_RDWR, max(row.lo, 0))) == errno.EPERM


@given(st.sampled_from([row for row in CONTROL_FILES if row.access.writes and row.name != "migrate"]), st.data())
def test_range(row: ControlFile, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, 2**32 - 1) | st.sampled_from([row.lo, row.hi, row.hi + 1, 2**32 - 1]))
    expected = 0 if row.lo <= value <= row.hi else errno.EINVAL
    assert refused(special(row.name, O_WRONLY, value)) == expected
    assert refused(special(row.name, O_WRONLY, value + (7 << 32))) == expected, "a mode is an int"


@given(st.integers(0, 2**32 - 1))
def test_a_move_may_name_any_address(value: int) -> None:
    assert refused(special("migrate", O_WRONLY, value)) == 0


def test_a_value_that_is_only_read_may_be_anything() -> None:
    assert refused(special("lock", O_RDONLY, 2**32 - 1)) == 0
    assert BY_NAME["lock"].hi == 1
