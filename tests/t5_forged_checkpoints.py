"""Checkpoint files that an ordinary user has written: whole by their records, and wrong in what these say.

Nobody gains anything by them: they are refused in the manual's words, nothing of them runs, and no log has a trace of ours."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict

from mosfs.abi.numbers import SYS_RECVMMSG, SYS_SENDMMSG, SYS_WRITE, SYS_WRITEV
from mosfs.migrate import image
from mosfs.migrate.checkpoint import CONTENT, CONTENT_HEAD, END, END_BODY, FRAMES, MAGIC, OF_THREADS, RECORD, REFS
from mosfs.migrate.image import OBJECTS, PAGES_HEADER, RUN_HEADER, RUNS_HEADER, ZERO, ZSTD, ImageMeta, Thread, Timer, Vma
from mosfs.native import ffi
from mosfs.trace import layout
from mosfs.trace.numbers import in_use
from mosfs.trace.task import regs_from
from mosfs.wire.frames import Kind
from tests import cluster
from tests.cluster import Lab, as_user, wait_until
from tests.progs import scratch
from tests.t5_checkpoint_threads import IN_USE

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")]

USER = 64001
CORRUPT = "mosrun: Corrupt or improper checkpoint file\n"
KERNEL, TOP = 0xFFFF_FFFF_8000_0000, (1 << 64) - 1
SIZE = 1 << 20
Records = list[tuple[int, bytes]]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 1) as running:
        yield running


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The user's."""
    with scratch() as made:
        os.chown(made, USER, USER)
        os.mkfifo(made / "fifo")
        yield made


def sleeps(pid: int) -> bool:
    return " (sleep) S" in Path(f"/proc/{pid}/stat").read_text()


@pytest.fixture(scope="module")
def whole(nodes: Lab, folder: Path) -> Records:
    """What is in the checkpoint of a program of the user's that waits."""
    process = nodes.start(
        1, *as_user(USER), "mosrun", "-h", f"-C{folder}/save", "sleep", "1000", cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    nodes.process(process.pid)
    wait_until(partial(sleeps, process.pid))
    assert nodes.run(1, "mosmigrate", str(process.pid), "chkexit").returncode == 0
    assert process.wait(60) == 0
    data, found = (folder / "save.1").read_bytes(), list[tuple[int, bytes]]()
    at = len(MAGIC)
    while at < len(data):
        size, kind, _, _ = RECORD.unpack_from(data, at)
        at += RECORD.size + size
        found.append((kind, data[at - size : at]))
    return found


class Forged:
    """A checkpoint file that is to be changed: ``head``, ``meta``, and records with which its memory begins."""

    def __init__(self, whole: Records) -> None:
        self.head: dict[str, Any] = json.loads(whole[0][1])
        self.meta = image.decode(whole[1][1])
        self.more: Records = []
        self._rest = whole[2:]

    def packed(self) -> bytes:
        """The file, sound as such: with the checksum of each record, and the number of those with pages."""
        head, meta = json.dumps(self.head).encode(), msgspec.msgpack.encode(self.meta)
        found, pages = [OF_THREADS if self.head.get("threads") else MAGIC], 0
        for kind, payload in [(1, head), (FRAMES + Kind.IMAGE, meta), *self.more, *self._rest]:
            body = END_BODY.pack(pages) if kind == END else payload
            pages += kind in (FRAMES + Kind.PAGES, FRAMES + Kind.RUNS, REFS)
            checked = PAGES_HEADER.size if kind == FRAMES + Kind.PAGES else None
            crc = zlib.crc32(body[:checked], zlib.crc32(struct.pack("<IHH", len(body), kind, 0)))
            found += [RECORD.pack(len(body), kind, 0, crc), body]
        return b"".join(found)


Change = Callable[[Forged], object]


def both(*changes: Change) -> Change:
    return lambda forged: [change(forged) for change in changes]


def with_registers(regs: bytes, **values: int) -> bytes:
    changed = regs_from(regs)
    for name, value in values.items():
        setattr(changed, name, value)
    return bytes(ffi.buffer(changed))


def registers(**values: int) -> Change:
    return lambda forged: setattr(forged.meta, "regs", with_registers(forged.meta.regs, **values))


def meta(**values: Any) -> Change:
    return lambda forged: [setattr(forged.meta, name, value) for name, value in values.items()]


def of_meta(name: str, value: Callable[[ImageMeta], object]) -> Change:
    return lambda forged: setattr(forged.meta, name, value(forged.meta))


def head(**values: Any) -> Change:
    return lambda forged: forged.head.update(values)


def setting(number: int, value: object) -> Change:
    return lambda forged: forged.head["settings"].__setitem__(number, value)


def call(nr: int, *carry: int, **values: int) -> Change:
    """It is in the middle of a transfer."""
    return both(meta(carry=carry), registers(rax=nr, **values))


def mapping(start: int, end: int, **values: Any) -> Change:
    new = Vma(start, end, 3, **values)
    return of_meta("vmas", lambda meta: sorted([*meta.vmas, new], key=lambda vma: vma.start))


def file(path: str, what: str = "file", fd: int = 9, **values: Any) -> Change:
    return lambda forged: forged.head["files"].append({"fds": [fd], "what": what, "path": path, "flags": 2, **values})


def record(kind: int, payload: bytes) -> Change:
    return lambda forged: forged.more.append((kind, payload))


def content(at: int) -> Change:
    """Of an unlinked file of one byte."""
    some = lambda forged: record(CONTENT, CONTENT_HEAD.pack(len(forged.head["files"]) - 1, at) + b"x")(forged)  # noqa: E731
    return both(file("/memfd:x", "unlinked", size=1), some)


def pages(addr: int, count: int, flags: int = ZERO) -> Change:
    return record(FRAMES + Kind.PAGES, PAGES_HEADER.pack(addr, count, flags, 0))


def reference(addr: int, count: int, number: int, place: int) -> Change:
    return record(REFS, struct.pack("<QIIQ16s", addr, count, number, place, bytes(16)))


def thread(**values: Any) -> Change:
    """Another one, like the first; both have numbers that nobody has."""

    def change(forged: Forged) -> None:
        pid = next(number for number in range(20_000, 1000, -1) if not (in_use(number) or in_use(number + 1)))
        of_process = asdict(forged.meta)
        given = {name: of_process[name] for name in Thread.__struct_fields__ if name in of_process}
        forged.meta.pid = forged.head["pid"] = pid
        forged.meta.threads = [Thread(**{**given, "tid": pid + 1, **values})]
        forged.head["threads"] = [{"tid": pid + 1}]

    return change


AT = 0x40000000
SIGNAL_OF_NO_NUMBER = struct.pack("<iii", 65, 0, 0).ljust(128, b"\0")
#: A head of zstd that promises what it has not.
BOMB = RUNS_HEADER.pack(1, ZSTD, 0) + RUN_HEADER.pack(AT, 64, 0) + b"\x28\xb5\x2f\xfd\xa4" + b"\xff" * 60
IMPROPER: dict[str, Change] = {
    "fs in the kernel": registers(fs_base=KERNEL),
    "gs in the kernel": registers(gs_base=1 << 63),
    "a transfer of less than nothing": call(SYS_WRITE, 1 << 40, 0, 5, 0, rsi=1 << 40),
    "a transfer of less than no messages": call(SYS_RECVMMSG, 1 << 40, 0, 5, 0, rsi=64 << 40),
    "a message beyond all memory": call(SYS_SENDMMSG, TOP, 0, 3, 3, rsi=layout.END - layout.PAGE),
    "a message at no address": call(SYS_SENDMMSG, 5 | 1 << 62, 0x1000, 3, 3),
    "a vector in the kernel": call(SYS_WRITEV, 5, TOP, 3, 3),
    "a signal": meta(pending=[(True, SIGNAL_OF_NO_NUMBER)]),
    "on the stub": mapping(layout.STUB, layout.STUB + 4096),
    "on the vDSO": mapping(layout.VDSO, layout.VDSO_END),
    "around the stub": mapping(0, layout.END + 4096),
    "in the kernel": mapping(KERNEL, KERNEL + 4096),
    "beyond all memory": mapping(layout.USER_END, layout.USER_END + 4096),
    "no whole pages": mapping(AT + 1, AT + 4097),
    "twice": of_meta("vmas", lambda meta: [*meta.vmas[:1], *meta.vmas]),
    "a file": mapping(AT, AT + 4096, file=1, name="/etc/shadow"),
    "shared memory": mapping(AT, AT + 4096, file=OBJECTS, shared=True),
    "told before": meta(told=True),
    "a heap over the stub": of_meta("mm", lambda meta: [*meta.mm[:4], 0x1000, layout.END, *meta.mm[6:]]),
    "clocks": meta(shown=Timer(1 << 63, 1 << 63)),
    "no state": meta(xstate=b""),
    "a place of state": meta(xlayout=[(2, 1 << 24, 1)]),
    "features": meta(features="xcr0=zz"),
    "prctl": meta(settings=[(1, 2, 3)]),
    "somebody else's ID": head(pid=1),
    "a private directory": setting(9, "/etc"),
    "a name of checkpoints": setting(6, "a\0b"),
    "freezing directories": setting(10, "etc"),
    "a descriptor twice": file("/dev/null", "special", 0),
    "contents beyond the end": content(1),
    "contents beyond all files": content(TOP),
    "contents of no file": record(CONTENT, CONTENT_HEAD.pack(1 << 31, 0)),
    "a file of a folder": reference(AT, 1, 1, 0),
    "numbers of a reference": reference(TOP, (1 << 32) - 1, (1 << 32) - 1, TOP),
    "pages nowhere": pages(AT, 1),
    "pages on the stub": pages(layout.STUB, 1),
    "more pages than there are": both(mapping(AT, AT + 4096), pages(AT, 1 << 20)),
    "more pages than a frame has": both(mapping(1 << 40, 1 << 46, flags=1), pages(1 << 40, (1 << 32) - 1, 0)),
    "runs": record(FRAMES + Kind.RUNS, RUNS_HEADER.pack((1 << 32) - 1, 0, 0)),
    "a bomb": both(mapping(AT, AT + (1 << 18)), record(FRAMES + Kind.RUNS, BOMB)),
    "another image": lambda forged: record(FRAMES + Kind.IMAGE, image.encode(forged.meta))(forged),
    "a thread in the kernel": lambda forged: thread(regs=with_registers(forged.meta.regs, fs_base=KERNEL))(forged),
    "a transfer of a thread": lambda forged: thread(
        carry=(1 << 40, 0, 5, 0), regs=with_registers(forged.meta.regs, rax=SYS_WRITE, rsi=1 << 40)
    )(forged),
}  # fmt: skip
NOT_RESTORED = "mosrun: Could not restore file-descriptor 9 with '{}': {}\n"
REFUSED: dict[str, tuple[Change, str]] = {
    "another's file": (file("/etc/shadow"), NOT_RESTORED.format("/etc/shadow", "Permission denied")),
    "a FIFO": (file("fifo"), NOT_RESTORED.format("fifo", "it is a pipe now")),
    "a device": (file("/dev/tty"), NOT_RESTORED.format("/dev/tty", "it is a device now")),
    "another's folder": (head(folder="/root"), "mosrun: Restoration failed: /root: Permission denied\n"),
}


def recovered(nodes: Lab, folder: Path, forged: Forged, *limited: str) -> subprocess.CompletedProcess[str]:
    """What mosrun -R says of it. A number that was free may be somebody's for a moment (`t5_checkpoint_threads`)."""
    (folder / "forged").write_bytes(forged.packed())
    for _ in range(50):
        done = nodes.run(1, *as_user(USER), *limited, "mosrun", "-Rforged", cwd=folder, timeout=20)
        if not done.stderr.rstrip("\n").endswith(IN_USE):
            return done
        time.sleep(0.2)
    raise AssertionError("its numbers are never free")


@pytest.mark.parametrize("name", IMPROPER)
def test_improper(nodes: Lab, folder: Path, whole: Records, name: str) -> None:
    forged = Forged(whole)
    IMPROPER[name](forged)
    done = recovered(nodes, folder, forged)
    assert (done.returncode, done.stderr) == (125, CORRUPT)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(nodes: Lab, folder: Path, whole: Records, name: str) -> None:
    """By the kernel, to which the user's own process says it."""
    forged = Forged(whole)
    change, words = REFUSED[name]
    change(forged)
    done = recovered(nodes, folder, forged)
    assert (done.returncode, done.stderr) == (125, words)


@pytest.mark.parametrize("where", ["file", "memory"])
def test_the_limit_of_files_holds(nodes: Lab, folder: Path, whole: Records, where: str) -> None:
    """RLIMIT_FSIZE of who recovers: the tracer writes contents for it. The file could get a name (linkat(2))."""
    path = f"{folder}/gone" if where == "file" else "/memfd:gone"
    forged = Forged(whole)
    file(path, "unlinked", size=SIZE)(forged)
    done = recovered(nodes, folder, forged, "prlimit", f"--fsize={SIZE - 1}")
    assert (done.returncode, done.stderr) == (125, NOT_RESTORED.format(path, "File too large"))
