"""Private temporary files, pure: private.conf, names, rules, room, and files on the wire."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mosfs.abi.args import Arg, Kind
from mosfs.abi.flags import MAP_ANONYMOUS
from mosfs.abi.syscalls import BY_NR, Home
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import load_private
from mosfs.cluster.paths import NodePaths
from mosfs.cluster.private_conf import (
    Owner,
    PrivateLine,
    Space,
    default_spaces,
    parse_private,
    print_private,
    validate_private,
)
from mosfs.ptf.descriptors import F_DUPFD, F_SETFL, FOLLOWED, follow
from mosfs.ptf.directories import Private, classify, join, refusal, split
from mosfs.ptf.rules import FD_CALLS, OPENS, PATH_CALLS, RULES, Act
from mosfs.ptf.service import Facts
from mosfs.ptf.store import MEMORY_LIMIT, Description, Quota, Room, Store, grant, nameless, room, write_all
from mosfs.ptf.travel import (
    FIRST,
    HEADER,
    MAX_MANIFEST,
    MOST,
    BadFiles,
    FileRecord,
    Manifest,
    NoSpace,
    OpenRecord,
    Sender,
    Spool,
    decode,
    encode,
    manifest_of,
    records,
)
from mosfs.trace import layout
from mosfs.trace.filter import ALLOW, TRACE, run, trap_filter

MB = 1 << 20

# --------------------------------------------------------------------------- private.conf

owners = st.lists(st.sampled_from(list(Owner)), min_size=1, max_size=3, unique=True).map(tuple)
folders = st.text("abc/.-", max_size=20).map(lambda name: "/" + name)


@given(st.lists(st.builds(PrivateLine, owners, folders, st.none() | st.integers(1, 1 << 30)), max_size=4))
def test_conf_round_trip(written: list[PrivateLine]) -> None:
    assert list(parse_private(print_private(written))) == written


def test_conf_defaults_are_the_manual_s() -> None:
    """5 GB for local processes, 2 GB from the same cluster, 1 GB from others."""
    spaces = validate_private(parse_private("# here\nOCG /disk\n"))
    assert {owner.value: space.megabytes for owner, space in spaces.items()} == {"O": 5120, "C": 2048, "G": 1024}
    assert validate_private(parse_private("O /a 7\nCG /b 3")) == {
        Owner.OWN: Space("/a", 7), Owner.CLUSTER: Space("/b", 3), Owner.OTHERS: Space("/b", 3),
    }
    assert default_spaces("/private", lambda name: True)[Owner.CLUSTER] == Space("/private", 2048)
    assert default_spaces("/private", lambda name: False) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("O", "private.conf, line 1: 'O': a line is: letters of O, C and G"),
        ("O /a 5 6", "private.conf, line 1: 'O /a 5 6': a line is: letters of O, C and G"),
        ("\nOX /a", "private.conf, line 2: 'OX': not letters of O, C and G"),
        ("OO /a", "private.conf, line 1: 'OO': a letter is there twice"),
        ("O a", "private.conf, line 1: 'a': a directory starts with '/'"),
        ("O /a 0", "private.conf, line 1: '0': not a number of 1-1073741824"),
        ("O /a -1", "private.conf, line 1: '-1': not a number of 1-1073741824"),
        ("OC /a\nCG /b", "private.conf, line 2: 'CG /b': another line has the letter C already"),
    ],
)
def test_conf_errors_name_file_line_and_value(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_private(parse_private(text))
    assert message in str(caught.value)


def test_conf_is_read_below_the_root(tmp_path: Path) -> None:
    paths = NodePaths(str(tmp_path))
    assert load_private(paths) == {}
    tmp_path.joinpath("private").mkdir()
    assert load_private(paths)[Owner.OWN] == Space(str(tmp_path / "private"), 5120)
    tmp_path.joinpath("etc/mosix").mkdir(parents=True)
    tmp_path.joinpath("etc/mosix/private.conf").write_text("C /elsewhere\n")
    assert load_private(paths) == {Owner.CLUSTER: Space("/elsewhere", 2048)}


# --------------------------------------------------------------------------- names


def test_ten_directories_of_256_characters_are_allowed() -> None:
    assert refusal([f"/{n}{254 * 'x'}" for n in range(10)]) == ""
    assert refusal(["/etcetera", "/devices", "/home/x/proc", "/tmp/./x/"]) == ""


@pytest.mark.parametrize("name", ["/", "/etc", "/etc/", "//etc/x", "/proc/self", "/sys", "/dev/shm", "/./dev"])
def test_forbidden_directories(name: str) -> None:
    assert refusal([name]) == f"Disallowed private-directory name ({name})"


@pytest.mark.parametrize("name", ["", "tmp", "/tmp/..", "/tmp/../x", "/a\nb"])
def test_invalid_directories(name: str) -> None:
    assert refusal([name]) == f"Invalid private-directory name ({name})"


def test_directories_are_kept_plain_and_once() -> None:
    assert split(join(["/a//b/", "/a/b", "/c/./d"])) == (b"/a/b", b"/c/d")


@pytest.mark.parametrize(
    ("path", "meaning"),
    [
        (b"/tmp/x", Private(b"/tmp/x")),
        (b"//tmp/.//x", Private(b"/tmp/x")),
        (b"/tmp/x/", Private(b"/tmp/x", True)),
        (b"/tmp", Private(b"")),
        (b"/tmp/", Private(b"")),
        (b"/tmp/sub/x", None),
        (b"/tmp/sub/deep/x", Private(b"/tmp/sub/deep/x")),
        (b"/tmp/a/../x", None),
        (b"tmp/x", None),
        (b"/tmpx", None),
        (b"/", None),
        (b"", None),
    ],
)
def test_what_a_path_names(path: bytes, meaning: Private | None) -> None:
    assert classify(path, (b"/tmp", b"/tmp/sub/deep")) == meaning


# --------------------------------------------------------------------------- rules


def is_path(arg: Arg) -> bool:
    return arg.kind is Kind.STR and arg.name == "path"


def test_rules_are_about_the_arguments_of_the_table() -> None:
    for nr, rule in RULES.items():
        row = BY_NR[nr]
        assert rule.name == row.name
        assert all(is_path(row.args[i]) or row.name == "symlink" for i in rule.paths), rule
        assert all(str(row.args[i]) == "fd" for i in rule.fds), rule
        assert (rule.act is Act.REFUSED) == (rule.errno != 0)


#: Calls with a path that mean no file there, or are refused anyway.
_OTHERS = {
    "execve", "execveat", "chdir", "chroot", "mount", "umount2", "uselib", "pivot_root", "acct", "swapon", "swapoff", "quotactl",
    "fanotify_mark", "open_tree", "move_mount", "fspick", "mount_setattr", "open_tree_attr", "file_getattr", "file_setattr",
    "setxattrat", "getxattrat", "listxattrat", "removexattrat",
}


def test_every_call_with_a_path_has_a_rule_or_a_reason() -> None:
    with_path = {row.name for row in BY_NR.values() if any(is_path(arg) for arg in row.args)}
    assert with_path - {rule.name for rule in RULES.values()} <= _OTHERS


def test_the_documented_operations_are_served() -> None:
    served = {rule.name for rule in RULES.values() if rule.act is not Act.REFUSED}
    assert {
        "open", "creat", "lseek", "read", "write", "chmod", "fchmod", "unlink", "truncate", "ftruncate", "access", "stat",
    } <= served


@pytest.mark.parametrize("numbers", [PATH_CALLS, FD_CALLS])
def test_the_extra_filters_trap_these_calls_and_no_others(numbers: frozenset[int]) -> None:
    program = trap_filter(numbers)
    for nr in range(600):
        assert run(program, nr) == (TRACE if nr in numbers else ALLOW)
        assert run(program, nr, ip=layout.STUB_AFTER) == ALLOW
    assert run(program, min(numbers), arch=0x40000003) == ALLOW


def test_a_filter_may_look_at_an_argument() -> None:
    program = trap_filter(FD_CALLS, ((9, (3, MAP_ANONYMOUS, 0)),))
    assert run(program, 9, args=(0, 4096, 3, 2, 5, 0)) == TRACE
    assert run(program, 9, args=(0, 4096, 3, 2 | MAP_ANONYMOUS, 5, 0)) == ALLOW
    assert run(program, 1) == TRACE


def test_every_open_stops() -> None:
    assert all(BY_NR[nr].home is Home.TRAP or nr in PATH_CALLS for nr in OPENS)


# --------------------------------------------------------------------------- room

sizes = st.integers(0, 40 * MB)
quotas = st.builds(Quota, st.sampled_from(["", "/disk"]), st.integers(0, 40 * MB))


@given(sizes, sizes, st.booleans(), quotas)
def test_room(used: int, growth: int, on_disk: bool, quota: Quota) -> None:
    verdict = room(used, growth, on_disk, quota)
    total = used + growth
    assert (verdict is Room.FULL) == (
        total > quota.limit or (not on_disk and total > MEMORY_LIMIT and not quota.directory)
    )
    if verdict is Room.SPILL:
        assert not on_disk and total > MEMORY_LIMIT


@given(sizes, st.booleans(), quotas)
def test_what_is_granted_fits(used: int, on_disk: bool, quota: Quota) -> None:
    granted = grant(used, on_disk, quota)
    if granted:
        assert room(used, granted, on_disk, quota) is Room.FITS
        assert room(used, granted + 1, on_disk, quota) is not Room.FITS


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store((b"/p",))
    yield made
    made.close()


def test_holes_are_free(store: Store) -> None:
    file = store.create(b"/p/f", 0o600)
    assert store.reserve(file, 1 << 40, 5) == []
    write_all(file.fd, b"hello", 1 << 40)
    assert file.stat().st_size == (1 << 40) + 5
    assert store.used() <= 8192
    with pytest.raises(OSError) as caught:
        store.reserve(file, 0, MEMORY_LIMIT + 1)
    assert caught.value.errno == errno.ENOSPC


def test_files_go_to_disk_together(store: Store, tmp_path: Path) -> None:
    store.quota = Quota(str(tmp_path), 100 * MB)
    first, second = store.create(b"/p/a", 0o600), store.create(b"/p/b", 0o600)
    write_all(first.fd, b"first", 0)
    write_all(second.fd, b"end", 1 << 30)
    inodes = first.inode, second.inode
    moved = store.reserve(first, 5, MEMORY_LIMIT)
    assert [file for file, _ in moved] == [first, second]
    for _, old in moved:
        os.close(old)
    assert store.on_disk and (first.inode, second.inode) != inodes
    assert os.pread(first.fd, 10, 0) == b"first"
    assert os.pread(second.fd, 10, (1 << 30) - 2) == b"\0\0end"
    assert list(tmp_path.iterdir()) == []


def test_without_the_directory_nothing_changes(store: Store, tmp_path: Path) -> None:
    store.quota = Quota(str(tmp_path / "missing"), 100 * MB)
    file = store.create(b"/p/a", 0o600)
    write_all(file.fd, b"kept", 0)
    with pytest.raises(OSError) as caught:
        store.reserve(file, 4, MEMORY_LIMIT)
    assert caught.value.errno == errno.ENOSPC
    assert not store.on_disk and os.pread(file.fd, 10, 0) == b"kept"


def test_stat_shows_root_whoever_it_is(store: Store) -> None:
    facts = Facts.of(store.create(b"/p/f", 0o640)).stat()
    assert (int.from_bytes(facts[24:28], "little"), facts[28:36]) == (0o100640, bytes(8))


# --------------------------------------------------------------------------- descriptors of guests




@given(st.lists(st.tuples(st.sampled_from(["close", "dup2", "dup", "range", "cloexec"]), st.integers(0, 8), st.integers(0, 8)),
                max_size=30))
@settings(max_examples=60)
def test_descriptors_follow_the_kernel(steps: list[tuple[str, int, int]]) -> None:
    store = Store((b"/p",))
    model: dict[int, Description] = {}
    for fd in range(4):
        model[fd] = Description(store.create(b"", 0), os.O_RDWR)
        store.describe(fd, model[fd])
    for what, a, b in steps:
        match what:
            case "close":
                follow(store, 3, (a,), 0 if a in model else -errno.EBADF)
                model.pop(a, None)
            case "dup2":
                follow(store, 33, (a, b), b)
                if a in model:
                    model[b] = model[a]
                elif a != b:
                    model.pop(b, None)
            case "dup":
                free = next(n for n in range(20) if n not in model)
                follow(store, 72, (a, F_DUPFD, 0), free)
                if a in model:
                    model[free] = model[a]
            case "range":
                follow(store, 436, (min(a, b), max(a, b), 0), 0)
                model = {fd: d for fd, d in model.items() if not min(a, b) <= fd <= max(a, b)}
            case _:
                follow(store, 436, (a, b, 4), 0)
        assert store.descriptors == model
        # unlinked files live as long as they are open
        assert set(store.files) == {d.file.number for d in model.values()}
    store.close()


def test_flags_and_umask_follow(store: Store) -> None:
    store.describe(3, Description(store.create(b"/p/f", 0), os.O_RDWR))
    follow(store, 72, (3, F_SETFL, os.O_APPEND), 0)
    assert store.descriptors[3].flags == os.O_RDWR | os.O_APPEND
    follow(store, 95, (0o077,), 0o022)
    assert store.umask == 0o077
    assert {BY_NR[nr].name for nr in FOLLOWED} >= {"close", "dup2", "fcntl", "umask"}


# --------------------------------------------------------------------------- on the wire


@given(st.lists(st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, MB), st.binary(min_size=1, max_size=3000)), max_size=4)),
                max_size=4), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_files_arrive_as_they_left(plan: list[tuple[bool, list[tuple[int, bytes]]]], again: int) -> None:
    source = Store((b"/p", b"/q"), umask=0o027)
    frames: list[bytes] = []
    for n, (named, writes) in enumerate(plan):
        file = source.create(f"/p/{n}".encode() if named else b"", 0o600 + n)
        for at, data in writes:
            write_all(file.fd, data, at)
        source.describe(3 + 2 * n, Description(file, os.O_RDWR, 5 * n))
        source.describe(4 + 2 * n, source.descriptors[3 + 2 * n])
    sender = Sender(source, frames.append)
    sender.rest()
    for file in list(source.files.values())[:again]:  # changed after it was sent
        os.ftruncate(file.fd, 10)
        write_all(file.fd, b"changed", 100)
    sender.rest()
    manifest = decode(encode(manifest_of(source, records(source), 77)))
    spool = Spool(Quota())
    assert all(map(spool.feed, frames))
    arrived = spool.finish(manifest, descriptors=True)
    assert (arrived.directories, arrived.umask, arrived.next_number) == ((b"/p", b"/q"), 0o027, source.next_number)
    assert arrived.names.keys() == source.names.keys()
    assert {fd: (d.file.number, d.flags, d.position) for fd, d in arrived.descriptors.items()} == {
        fd: (d.file.number, d.flags, d.position) for fd, d in source.descriptors.items()
    }
    assert all(arrived.descriptors[3 + 2 * n] is arrived.descriptors[4 + 2 * n] for n in range(len(plan)))
    for number, file in source.files.items():
        other = arrived.files[number]
        assert (other.name, other.mode, other.stat().st_mtime_ns) == (file.name, file.mode, file.stat().st_mtime_ns)
        size = file.stat().st_size
        assert os.pread(other.fd, size + 1, 0) == os.pread(file.fd, size + 1, 0)
    source.close()
    arrived.close()


def sent(store: Store) -> list[bytes]:
    frames: list[bytes] = []
    Sender(store, frames.append).rest()
    return frames


def test_unchanged_files_are_not_sent_again(store: Store) -> None:
    file = store.create(b"/p/f", 0o600)
    write_all(file.fd, b"x", 0)
    os.utime(file.fd, ns=(10**18, 10**18))
    frames: list[bytes] = []
    sender = Sender(store, frames.append)
    sender.rest()
    count = len(frames)
    sender.rest()
    assert len(frames) == count
    write_all(file.fd, b"y", 0)
    sender.rest()
    assert len(frames) == 2 * count


def test_what_does_not_fit_is_refused_before_the_image(store: Store) -> None:
    write_all(store.create(b"/p/f", 0).fd, b"x" * 300_000, 0)
    spool = Spool(Quota("", 200_000))
    assert not all(spool.feed(frame) for frame in sent(store))
    with pytest.raises(NoSpace):
        spool.finish(Manifest([], 0, 0, 1, [], []), descriptors=True)
    assert not spool.store.files


def test_damaged_frames(store: Store) -> None:
    write_all(store.create(b"/p/f", 0).fd, b"x" * 1000, 0)
    first, second = sent(store)
    far = HEADER.pack(1, 1 << 63, 0, 0, 0) + second[HEADER.size :]
    for bad in ([first, second[:-1] + b"y"], [second], [first[:10]], [first, far]):
        spool = Spool(Quota())
        assert not all(spool.feed(frame) for frame in bad)
        assert isinstance(spool.failed, BadFiles)


def test_a_manifest_must_match(store: Store) -> None:
    store.create(b"/p/f", 0)
    good = manifest_of(store, [], 1)
    for manifest in (good, manifest_of(Store((b"/p",)), [OpenRecord(9, 0, 0, [3])], 1)):
        with pytest.raises(BadFiles):
            Spool(Quota()).finish(manifest, descriptors=True)
    with pytest.raises(BadFiles):
        decode(b"\x93nonsense")


# --------------------------------------------------------------------------- what others may do with them


def test_nobody_can_give_one_a_name(tmp_path: Path) -> None:
    """It belongs to root, has what a user has written, and would stay beyond all limits."""
    fd = nameless(str(tmp_path))
    try:
        with pytest.raises(OSError):
            os.link(f"/proc/self/fd/{fd}", tmp_path / "mine", follow_symlinks=True)
        assert not os.listdir(tmp_path)
    finally:
        os.close(fd)


def chunk(number: int, offset: int, data: bytes, flags: int = 0) -> bytes:
    return HEADER.pack(number, offset, flags, 0, xxhash.xxh3_64_intdigest(data)) + data


def test_bytes_here_and_there_count_as_what_they_take() -> None:
    """A peer that sends a byte for each page would have 4096 times as much memory as files may take."""
    spool = Spool(Quota("", 100 * 4096))
    spool.feed(chunk(1, 0, b"", FIRST))
    taken = next(at for at in range(1000) if not spool.feed(chunk(1, at * 12288, b"x")))
    assert taken <= 101
    with pytest.raises(NoSpace):
        spool.finish(Manifest([], 0, 0, 2, [], []), descriptors=True)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 100_000])
def test_honest_files_take_what_is_in_them(size: int) -> None:
    spool = Spool(Quota("", 3 * size))
    for number in range(3):
        spool.feed(chunk(number, 0, b"", FIRST))
        for at in range(0, size, 8192):
            assert spool.feed(chunk(number, at, bytes(min(8192, size - at))))
    assert spool.failed is None
    spool.feed(chunk(0, 0, b"", FIRST))
    assert spool.feed(chunk(0, 0, bytes(size))), "sent again, it takes no more"
    spool.close()


def test_a_manifest_takes_no_more_memory_than_files_are_worth() -> None:
    good = manifest_of(Store(()), [], 5)
    for wrong in (
        replace(good, opened=[OpenRecord(1, 0, 0, [])] * (MOST + 1)), replace(good, directories=[b"/x"] * 11),
        replace(good, files=[FileRecord(1, b"x" * 5000, 0, 0, 0, 0)]),
        replace(good, opened=[OpenRecord(1, 0, 0, [1] * (MOST + 1))]),
    ):
        with pytest.raises(BadFiles):
            decode(encode(wrong))
    with pytest.raises(BadFiles, match="too many"):
        decode(bytes(MAX_MANIFEST + 1))
