"""The FUSE handlers, called as pyfuse3 calls them, without a mount."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pyfuse3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.address import as_unsigned
from mosfs.daemon.mail_files import MailFiles
from mosfs.daemon.office import Office
from mosfs.fuse.operations import Operations
from mosfs.mbox.body import Body
from mosfs.mbox.model import MAX_UNREAD, Flag, Mailbox, Message
from mosfs.node.programs import PrivateNames, Program
from mosfs.node.world import World
from mosfs.procfs.tree import Entry, Folder, Tree
from mosfs.wire.asked import Settings
from mosfs.wire.limits import PRIVATE_FILES, Limit, Shares
from mosfs.wire.messages import Command, PeerStatus, ProcState
from tests.fake_map import FakeMap

HOME, OTHER = "10.0.0.1", "10.0.0.2"


@dataclass
class Caller:
    uid: int = 0
    pid: int = 1
    gid: int = 0
    umask: int = 0o022


ROOT, ANN, BOB = Caller(), Caller(1001, 100), Caller(1002)


@dataclass
class Fields:
    """pyfuse3.SetattrFields cannot be made from Python with anything set."""

    update_size: bool = False
    update_mode: bool = False
    update_uid: bool = False
    update_gid: bool = False


@dataclass
class Mounted:
    world: World
    ops: Operations
    sent: list[Command] = field(default_factory=list)

    async def walk(self, path: str, ctx: Any = ROOT) -> Any:
        inode: Any = pyfuse3.ROOT_INODE
        for name in path.split("/"):
            inode = (await self.ops.lookup(inode, pyfuse3.FileNameT(name.encode()), ctx)).st_ino
        return inode

    async def open(self, path: str, flags: int, ctx: Any = ROOT) -> Any:
        return (await self.ops.open(await self.walk(path, ctx), pyfuse3.FlagT(flags), ctx)).fh


@pytest.fixture
def node() -> Mounted:
    world = World(ip=HOME, map=FakeMap(HOME, OTHER), clock=lambda: 1.0, version="0.1.0", speed=10000, port=253, pid=42)
    world.me.status = PeerStatus(1, 10000, 1, 1, 2, 0, False)
    made = Mounted(world, Operations(Tree(world, 0)))
    state = ProcState(100, ANN.uid, "", "here", 3, Settings(), comm="x")
    world.programs[100] = Program(state, made.sent.append)
    return made


async def fails(number: int, action: Awaitable[object]) -> None:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await action
    assert caught.value.errno == number


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and next positions that readdir replied; a reply has room for four entries."""
    names: list[tuple[str, int]] = []
    room = 4

    def reply(token: list[int], name: bytes, attributes: pyfuse3.EntryAttributes, next_id: int) -> bool:
        if len(token) == room:
            return False
        token.append(next_id)
        names.append((name.decode(), next_id))
        assert attributes.st_mode
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    return names


async def test_attributes(node: Mounted) -> None:
    entry = await node.ops.getattr(await node.walk("proc/100"), BOB)
    assert (stat.filemode(entry.st_mode), entry.st_uid) == ("dr-x------", 1001)
    assert (entry.entry_timeout, entry.attr_timeout) == (0, 0)
    for name, mode in (("whereami", "-r--------"), ("migrate", "--w-------"), ("lock", "-rw-------")):
        entry = await node.ops.getattr(await node.walk(f"proc/100/{name}"), ANN)
        assert (stat.filemode(entry.st_mode), entry.st_size) == (mode, 0)


async def test_lookup(node: Mounted) -> None:
    await fails(errno.ENOENT, node.walk("nothing"))
    await fails(errno.ENOENT, node.walk("proc/101"))
    await fails(errno.ENOENT, node.walk("proc/0100"))
    await fails(errno.ENOENT, node.walk("proc/self"))
    await fails(errno.EACCES, node.walk("proc/100/lock", BOB))


async def test_reading(node: Mounted) -> None:
    handle = await node.open("proc/100/nmigs", os.O_RDONLY, ANN)
    assert await node.ops.read(handle, 0, 4096) == b"3\n"
    assert await node.ops.read(handle, 2, 4096) == b""
    assert await node.ops.read(handle, 0, 1) == b"3"
    assert await node.ops.read(handle, 1, 1) == b"\n"
    await node.ops.release(handle)
    assert node.ops.handles.open == {}


async def test_writing(node: Mounted) -> None:
    handle = await node.open("proc/100/migrate", os.O_WRONLY | os.O_TRUNC, ANN)
    assert await node.ops.write(handle, 0, b"10.0.0.2\n") == 9
    assert node.sent == [Command(100, "migrate", OTHER, 1)]
    await fails(errno.EINVAL, node.ops.write(handle, 0, b"there"))
    await fails(errno.EHOSTUNREACH, node.ops.write(handle, 0, b"10.0.0.3"))


async def test_rights(node: Mounted) -> None:
    inode = await node.walk("proc/100/lock")
    await fails(errno.EACCES, node.ops.open(inode, pyfuse3.FlagT(os.O_RDONLY), BOB))
    await fails(errno.EACCES, node.open("proc/100/nmigs", os.O_RDWR, ROOT))
    await fails(errno.EACCES, node.open("node/block", os.O_WRONLY, ANN))
    assert await node.ops.access(inode, pyfuse3.ModeT(os.R_OK | os.W_OK), ANN)
    assert not await node.ops.access(inode, pyfuse3.ModeT(os.X_OK), ANN)
    assert not await node.ops.access(inode, pyfuse3.ModeT(os.R_OK), BOB)
    await fails(errno.EACCES, node.ops.opendir(await node.walk("proc/100"), BOB))


async def test_setattr(node: Mounted) -> None:
    inode = await node.walk("proc/100/lock")
    attributes: Any = pyfuse3.EntryAttributes()
    truncate: Any = Fields(update_size=True)
    assert (await node.ops.setattr(inode, attributes, truncate, None, ANN)).st_size == 0
    await fails(errno.EACCES, node.ops.setattr(inode, attributes, truncate, None, BOB))
    chmod: Any = Fields(update_mode=True)
    await fails(errno.EPERM, node.ops.setattr(inode, attributes, chmod, None, ANN))


async def test_another_process_with_the_same_number(node: Mounted) -> None:
    reader = await node.open("proc/100/lock", os.O_RDWR, ANN)
    node.world.programs[100] = Program(node.world.programs[100].state, node.sent.append)
    await fails(errno.ENOENT, node.ops.read(reader, 0, 100))
    await fails(errno.ENOENT, node.ops.write(reader, 0, b"1"))
    assert node.sent == []


async def test_nodes_known_only_from_the_map_stay_the_same(node: Mounted) -> None:
    handle = await node.open(f"nodes/{OTHER}/status", os.O_RDONLY)
    assert await node.ops.read(handle, 0, 100) == b"unknown\n"


async def test_a_question_is_answered_on_the_same_open_file(node: Mounted) -> None:
    one = await node.open("node/whois", os.O_RDWR, BOB)
    other = await node.open("node/whois", os.O_RDWR, ANN)
    assert await node.ops.write(one, 0, OTHER.encode()) == len(OTHER)
    assert await node.ops.read(other, 0, 100) == f"{HOME} -\n".encode()
    for offset, text in ((0, f"{OTHER} -\n".encode()), (4, f"{OTHER} -\n".encode()[4:]), (100, b"")):
        assert await node.ops.read(one, offset, 100) == text
    await fails(errno.EHOSTUNREACH, node.ops.write(one, 0, b"3"))
    await fails(errno.EINVAL, node.ops.write(one, 0, b"nonsense"))
    await fails(errno.EACCES, node.open("node/stay", os.O_RDWR, BOB))


async def test_self(node: Mounted) -> None:
    link = await node.walk("self", ANN)
    assert await node.ops.readlink(link, ANN) == b"proc/100"
    await fails(errno.ENOENT, node.ops.readlink(link, BOB))
    await fails(errno.EINVAL, node.ops.readlink(await node.walk("proc"), ANN))
    await fails(errno.ENOENT, node.walk("self", BOB))


async def test_listing_in_pieces(node: Mounted, listing: list[tuple[str, int]]) -> None:
    handle = await node.ops.opendir(await node.walk("proc/100"), ANN)
    position = 0
    while True:
        token: Any = []
        await node.ops.readdir(handle, position, token)
        if not token:
            break
        position = token[-1]
    await node.ops.releasedir(handle)
    names = [name for name, _ in listing]
    assert len(names) == len(set(names))
    assert {"migrate", "lock", "where", "why", "move", "stat"} <= set(names)
    assert [position for _, position in listing] == list(range(1, len(names) + 1))
    assert node.ops.handles.open == {}


async def test_listing_while_programs_end(node: Mounted, listing: list[tuple[str, int]]) -> None:
    handle = await node.ops.opendir(await node.walk("proc"), ROOT)
    node.world.programs.clear()
    token: Any = []
    await node.ops.readdir(handle, 0, token)
    assert listing == []


async def test_statfs(node: Mounted) -> None:
    data = await node.ops.statfs(ROOT)
    assert data.f_namemax == 255
    assert data.f_blocks == 0


async def test_root_inode_is_the_root(node: Mounted) -> None:
    assert Entry.of(pyfuse3.ROOT_INODE) == Entry(Folder.ROOT)


# --------------------------------------------------------------------------- the edge


async def test_names_that_are_no_utf8(node: Mounted, listing: list[tuple[str, int]], tmp_path: Path, monkeypatch: Any) -> None:
    """A private file with any name is listed, looked up and read."""
    replied: list[bytes] = []
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda token, name, attributes, number: not replied.append(name))
    (tmp_path / "contents").write_bytes(b"hi")
    fd = os.open(tmp_path / "contents", os.O_RDONLY)
    name = b"a\xff\xfe\x80b"
    names = node.world.private[100] = PrivateNames(os.getpid(), ANN.uid, node.world.shown_files)
    names.set(b"/tmp/" + name, fd)
    folder = await node.walk("ptf/100/tmp", ANN)
    handle = await node.ops.opendir(folder, ANN)
    await node.ops.readdir(handle, 0, [])
    assert replied == [name]
    inode = (await node.ops.lookup(folder, pyfuse3.FileNameT(name), ANN)).st_ino
    opened = (await node.ops.open(inode, pyfuse3.FlagT(os.O_RDONLY), ANN)).fh
    assert await node.ops.read(opened, 0, 100) == b"hi"
    names.alive = lambda: False  # its keeper has ended: the number may be anybody's by now
    await fails(errno.ENOENT, node.ops.open(inode, pyfuse3.FlagT(os.O_RDONLY), ANN))
    await fails(errno.ENOENT, node.ops.getattr(inode, ANN))
    os.close(fd)


async def test_what_is_kept_for_open_files_has_a_limit(node: Mounted) -> None:
    """The text of a file is kept from its first read on. That of a mailbox is as long as its owner likes."""
    box = Mailbox(as_unsigned(HOME), 100, ANN.uid, ANN.gid, Flag(0))
    box.queue = [Message(box.home, 101, box.home, Body(b"")) for _ in range(MAX_UNREAD)]
    office = Office(node.world, nursery=cast(Any, None))
    office.boxes[box.home, box.pid] = box
    node.world.letters = MailFiles(office)
    handles = []
    with pytest.raises(pyfuse3.FUSEError) as refused:
        for _ in range(200):
            handles.append(await node.open(f"mbox/{HOME}/100", os.O_RDONLY, ANN))
            await node.ops.read(handles[-1], 0, 1)
    assert refused.value.errno == errno.ENOMEM and len(handles) > 10
    assert await node.ops.read(await node.open("proc/100/nmigs", os.O_RDONLY, ANN), 0, 9) == b"3\n", "short ones are not counted"
    assert len(await node.ops.read(await node.open(f"mbox/{HOME}/100", os.O_RDONLY, ROOT), 0, 4096)) == 4096, "nor is he root"
    await node.ops.release(handles[0])
    assert len(await node.ops.read(handles[-1], 0, 4096)) == 4096
    assert len(await node.ops.read(handles[-1], 4096, 4096)) == 4096
    for handle in handles[1:]:
        await node.ops.release(handle)
    assert not node.ops.handles.memory.held.get(ANN.uid)


class Names(dict[bytes, int]):
    """Counts how often somebody looks through all of it."""

    looks = 0

    def __iter__(self) -> Iterator[bytes]:
        self.looks += 1
        return super().__iter__()


async def test_private_files_by_the_thousand_cost_nobody_else(node: Mounted, listing: list[tuple[str, int]]) -> None:
    """A user has as many names there as he likes. Nobody looks through them for one, nor may he keep lists of them without end."""
    names = node.world.private[100] = PrivateNames(os.getpid(), ANN.uid, node.world.shown_files, files=Names())
    files = {b"/tmp/x/y/%d" % number: 0 for number in range(5000)}
    for name in files:
        names.set(name, 0)
    folder = await node.walk("ptf/100/tmp/x/y", ANN)
    await fails(errno.ENOENT, node.ops.lookup(folder, pyfuse3.FileNameT(b"missing"), ANN))
    opened = [await node.ops.opendir(folder, ANN)]
    await node.ops.readdir(opened[0], 4000, [])
    assert len(listing) == 4 and listing[-1][1] == 4004
    assert isinstance(names.files, Names) and not names.files.looks
    with pytest.raises(pyfuse3.FUSEError) as refused:
        for _ in range(100):
            opened.append(await node.ops.opendir(folder, ANN))
    assert refused.value.errno == errno.ENOMEM
    for handle in opened:
        await node.ops.releasedir(handle)
    assert not node.ops.handles.open and not node.ops.handles.memory.held
    for name in files:
        names.set(name, -1)
    assert not names.folders


@given(st.lists(st.tuples(st.sampled_from([b"/a", b"/a/b", b"/a/b/c", b"/a/d", b"/e", b"f", b"", b"//g", b"/a/"]), st.booleans())))
def test_folders_of_private_files_are_those_of_their_names(steps: list[tuple[bytes, bool]]) -> None:
    """Whatever other nodes say how the files of their programs are called."""
    names = PrivateNames(1, 2, Shares(PRIVATE_FILES, 0))
    for name, there in steps:
        names.set(name, 7 if there else -1)
    expected: dict[bytes, set[bytes]] = {}
    for path in names.files:
        while path:
            path, _, last = path.rpartition(b"/")
            expected.setdefault(path, set()).add(last)
    assert {folder: set(inside) for folder, inside in names.folders.items()} == expected
    names.clear()
    assert not names.folders and not names.shares.held


async def test_whatever_a_handler_raises_is_its_reply(
    node: Mounted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inode, handle = await node.walk("proc"), await node.open("proc/100/lock", os.O_RDWR)

    def fault(*_: object, **__: object) -> None:
        raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")

    for name in ("lookup", "check", "read", "write", "attributes", "children", "subject", "link"):
        monkeypatch.setattr(node.ops.tree, name, fault)
    ops, ctx, word = node.ops, ROOT, pyfuse3.FileNameT(b"100")
    unknown = pyfuse3.FileHandleT(77)
    requests: list[Awaitable[object]] = [
        ops.lookup(inode, word, ctx), ops.getattr(inode, ctx), ops.opendir(inode, ctx),
        ops.access(inode, pyfuse3.ModeT(4), ctx), ops.open(inode, pyfuse3.FlagT(0), ctx), ops.read(handle, 0, 10),
        ops.write(handle, 0, b"1"), ops.read(unknown, 0, 1), ops.readdir(unknown, 0, []), ops.release(unknown),
    ]  # fmt: skip
    for request in requests:
        await fails(errno.EIO, request)
    assert caplog.text.count("Traceback") == len(requests)


async def test_what_nobody_can_do_here_has_the_errno_of_its_man_page(node: Mounted) -> None:
    root, word, mode = pyfuse3.ROOT_INODE, pyfuse3.FileNameT(b"x"), pyfuse3.ModeT(0o755)
    for ctx in (ROOT, ANN):
        real: Any = ctx
        await fails(errno.EACCES, node.ops.create(root, word, mode, pyfuse3.FlagT(0), real))
        await fails(errno.EACCES, node.ops.mknod(root, word, mode, 0, real))
        for action in (
            node.ops.mkdir(root, word, mode, real), node.ops.unlink(root, word, real), node.ops.rmdir(root, word, real),
            node.ops.symlink(root, word, word, real), node.ops.link(root, root, word, real),
            node.ops.rename(root, word, root, word, pyfuse3.FlagT(0), real),
        ):  # fmt: skip
            await fails(errno.EPERM, action)


async def test_open_files_of_a_user_are_limited(node: Mounted) -> None:
    place = await node.walk("node/load", ANN)
    node.ops.handles.shares.limit = Limit(3, 10, 5, errno.EMFILE, "open files")
    opened = [(await node.ops.open(place, pyfuse3.FlagT(os.O_RDONLY), ANN)).fh for _ in range(3)]
    await fails(errno.EMFILE, node.ops.open(place, pyfuse3.FlagT(os.O_RDONLY), ANN))
    await fails(errno.EMFILE, node.ops.opendir(pyfuse3.ROOT_INODE, ANN))
    await node.ops.open(place, pyfuse3.FlagT(os.O_RDONLY), BOB)
    await node.ops.open(place, pyfuse3.FlagT(os.O_RDONLY), ROOT)
    await node.ops.release(opened[0])
    await node.ops.open(place, pyfuse3.FlagT(os.O_RDONLY), ANN)
