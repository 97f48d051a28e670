"""Which calls of a program away need a descriptor of shared memory that is away with it (`home.away.withheld`)."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.syscalls import BY_NAME
from mosfs.calls.request import Blob, Request
from mosfs.home.away.withheld import Descriptors

ARENA, OTHER, DUP_CLOEXEC = 5, 6, 1030


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Descriptors:
    """Of a tree in which descriptor 5 of each program is of such memory."""
    made = SimpleNamespace(number=1)
    store = SimpleNamespace(opened=lambda: [made], shown_by=lambda _, fd: made if fd == ARENA else None)
    found = Descriptors(SimpleNamespace(shared=SimpleNamespace(store=store)))  # type: ignore[arg-type]
    monkeypatch.setattr(found, "_withheld", [SimpleNamespace(made=made)])
    monkeypatch.setattr(found, "_of", lambda _: iter([(ARENA, made, 0)]))
    return found


PROGRAM: Any = SimpleNamespace(pid=1)


def asks(descriptors: Descriptors, name: str, *args: int, memory: dict[int, bytes] | None = None) -> bool:
    blobs = [Blob(0x1000 * arg, len(data), data, arg) for arg, data in (memory or {}).items()]
    return descriptors.concerns(PROGRAM, Request(BY_NAME[name].nr, (*args, *(0,) * (6 - len(args))), 0, blobs))


@pytest.mark.parametrize(("name", "args"), [
    ("read", (ARENA,)), ("pwrite64", (ARENA,)), ("writev", (ARENA,)), ("lseek", (ARENA,)), ("fstat", (ARENA,)),
    ("ftruncate", (ARENA,)), ("fallocate", (ARENA,)), ("sendfile", (OTHER, ARENA)), ("copy_file_range", (OTHER, 0, ARENA)),
    ("splice", (ARENA, 0, OTHER)),
    ("newfstatat", (ARENA,)), ("statx", (ARENA,)), ("ioctl", (ARENA, 0x5421)), ("flock", (ARENA, 2)), ("dup", (ARENA,)),
    ("dup3", (ARENA, OTHER)), ("fcntl", (ARENA, 0)), ("fcntl", (ARENA, 2, 0)), ("fcntl", (ARENA, 3)), ("fcntl", (ARENA, 6)),
    ("read", (ARENA | 1 << 32,)), ("fcntl", (ARENA, DUP_CLOEXEC - 1)),
])  # fmt: skip
def test_what_is_made_at_home(name: str, args: tuple[int, ...], descriptors: Descriptors) -> None:
    assert asks(descriptors, name, *args)
    assert not asks(descriptors, name, *(OTHER if arg & 0xFFFFFFFF == ARENA else arg for arg in args))


@pytest.mark.parametrize(("name", "args"), [
    ("close", (ARENA,)), ("fcntl", (ARENA, DUP_CLOEXEC)), ("fcntl", (ARENA, 1)), ("getpid", ()), ("read", (-1,)),
    ("kill", (ARENA, 9)),
])  # fmt: skip
def test_what_is_not(name: str, args: tuple[int, ...], descriptors: Descriptors) -> None:
    assert not asks(descriptors, name, *args)


def test_among_others(descriptors: Descriptors) -> None:
    polled = [struct.pack("<ihh", OTHER, 1, 0), struct.pack("<ihh", ARENA, 1, 0)]
    assert asks(descriptors, "poll", 0, 2, memory={0: b"".join(polled)})
    assert not asks(descriptors, "poll", 0, 1, memory={0: polled[0]})
    assert not asks(descriptors, "ppoll", 0, 1, memory={0: polled[1][:5]})


def test_in_a_message(descriptors: Descriptors) -> None:
    """Control data may pass one on; nobody looks whether it does."""
    plain, passing = struct.pack("<5Q2Q", 0, 0, 0, 1, 0, 0, 0), struct.pack("<5Q2Q", 0, 0, 0, 1, 0x2000, 24, 0)
    assert asks(descriptors, "sendmsg", OTHER, memory={1: passing})
    assert not asks(descriptors, "sendmsg", OTHER, memory={1: plain})
    assert not asks(descriptors, "sendmsg", OTHER, memory={1: passing[:20]})
    assert asks(descriptors, "sendmmsg", OTHER, memory={1: plain + bytes(8) + passing + bytes(8)})
    assert not asks(descriptors, "sendmmsg", OTHER, memory={1: plain + bytes(8) + plain + bytes(8)})


def test_nothing_while_nothing_is_away(descriptors: Descriptors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_withheld", [])
    assert not asks(descriptors, "read", ARENA)
    assert not descriptors.has(PROGRAM, ARENA)
