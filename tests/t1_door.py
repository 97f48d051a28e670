"""What strangers can do at mosd's ports and to its log before anybody knows who they are."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack

import pytest
import trio
import trio.lowlevel
import trio.testing

from mosfs.daemon import repeats
from mosfs.daemon.door import Door, Greetings
from mosfs.daemon.repeats import ALL, EACH, PERIOD, Repeats
from mosfs.daemon.service import accept, by_first_byte
from mosfs.node.world import World
from mosfs.wire import links, origin
from mosfs.wire.limits import GREETINGS, PEER, STRANGER, STRANGERS
from tests.fake_map import FakeMap
from tests.waiting import until

HOME, OTHER = "127.0.9.1", "127.0.9.2"


@pytest.fixture
def door() -> Door:
    return Door(World(HOME, FakeMap(HOME, OTHER), lambda: 0.0, "", 1, 1, 1))


def fill(door: Door, ip: str, inside: ExitStack, port: int = 40000) -> int:
    """How many more may come from there; they stay."""
    count = 0
    while door.admits((ip, port)):
        inside.enter_context(door.one((ip, port)))
        count += 1
    return count


def test_strangers_do_not_keep_nodes_out(door: Door) -> None:
    with ExitStack() as inside:
        assert fill(door, "10.9.9.9", inside) == STRANGER
        total = STRANGER + sum(fill(door, f"10.9.9.{n}", inside) for n in range(1, 100) if n != 9)
        assert total == STRANGERS
        assert fill(door, OTHER, inside) == PEER and fill(door, HOME, inside) == PEER
    assert not door.inside and not door.strangers


def test_users_of_a_node_do_not_keep_its_daemons_out(door: Door) -> None:
    with ExitStack() as inside:
        assert fill(door, OTHER, inside) == PEER
        assert not door.admits((OTHER, origin.ORDINARY)) and door.admits((OTHER, origin.ORDINARY - 1))
        assert fill(door, OTHER, inside, port=700) == PEER
        assert fill(door, "10.9.9.9", inside) == STRANGER
        assert not door.admits(("10.9.9.9", 700)), "root of a stranger is a stranger"
    assert not door.inside and not door.strangers


@pytest.mark.root
async def test_daemons_connect_from_ports_that_only_root_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all that are tried are in use; and of one port there may be a connection to each node."""
    monkeypatch.setattr(origin, "RESERVED", range(700, 700 + 2 * origin.TRIES))
    with ExitStack() as stack:
        listeners = [stack.enter_context(trio.socket.socket()) for _ in range(2)]
        for listener in listeners:
            await listener.bind((HOME, 0))
            listener.listen(100)
        (_, one), (_, other) = (listener.getsockname() for listener in listeners)

        async def source(port: int) -> int:
            return int(stack.enter_context(await links.connect(OTHER, HOME, port)).getsockname()[1])

        first = [await source(one) for _ in range(4 * origin.TRIES)]
        assert sum(map(origin.is_roots, first)) > origin.TRIES
        assert len(set(first)) == len(first)
        assert not all(map(origin.is_roots, first)), "then any port will do"
        assert any(map(origin.is_roots, [await source(other) for _ in range(3)])), "to another they are free"
        with origin.connected(OTHER, (HOME, one), 5.0) as sock:
            assert sock.getpeername() == (HOME, one)
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        assert list(origin.ports()) == [0]


async def test_half_open_connections(door: Door) -> None:
    """More than may be are closed at once; nodes are served; when the others go there is room again."""
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(1000)
    address = listener.getsockname()
    served: list[str] = []

    async def handler(sock: trio.socket.SocketType) -> None:
        served.append(sock.getpeername()[0])
        await sock.recv(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, listener, by_first_byte(handler, handler), door)

        async def connect(ip: str) -> trio.socket.SocketType:
            sock = trio.socket.socket()
            await sock.bind((ip, 0))
            await sock.connect(address)
            return sock

        strangers = [await connect(f"127.0.8.{n}") for n in range(1, 12) for _ in range(STRANGER + 2)]
        await until(lambda: door.strangers == STRANGERS)
        with await connect(OTHER) as peer:
            await peer.send(b"x")
            await until(lambda: served == [OTHER])
        for sock in strangers:
            sock.close()
        await until(lambda: not door.inside)
        assert door.strangers == 0
        nursery.cancel_scope.cancel()
    listener.close()


async def test_handshakes_wait_for_their_turn() -> None:
    greetings, running, most = Greetings(), 0, 0

    async def handshake() -> None:
        nonlocal running, most
        async with greetings.one((OTHER, 40000)):
            running += 1
            most = max(most, running)
            await trio.lowlevel.checkpoint()
            running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(10 * GREETINGS):
            nursery.start_soon(handshake)
    assert most == GREETINGS and not greetings._limiters


async def test_a_daemon_does_not_wait_for_handshakes_of_its_users() -> None:
    greetings = Greetings()
    async with trio.open_nursery() as nursery:
        async def handshake() -> None:
            async with greetings.one((OTHER, 40000)):
                await trio.sleep_forever()

        for _ in range(2 * GREETINGS):
            nursery.start_soon(handshake)
        await trio.testing.wait_all_tasks_blocked()
        async with greetings.one((OTHER, 700)):
            nursery.cancel_scope.cancel()


# --------------------------------------------------------------------------- the log


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def test_lines_that_are_alike_are_counted() -> None:
    now = [0.0]
    handler, log = Lines(), logging.Logger("x")
    left = logging.getLogger(repeats.__name__)
    limit = Repeats(lambda: now[0])
    handler.addFilter(limit)
    log.addHandler(handler)
    left.addHandler(handler)
    try:
        for _ in range(10 * EACH):
            log.warning("data connection from %s without a token", "10.0.0.1")
        assert len(handler.lines) == EACH
        log.warning("data connection from %s without a token", "10.0.0.2")
        assert len(handler.lines) == EACH + 1, "another address is still heard"
        for n in range(10 * ALL):
            log.warning("%d connected", n)
        assert len(handler.lines) == EACH + 1 + ALL
        for _ in range(10 * EACH):
            log.debug("asked for")
        del handler.lines[:]
        now[0] = PERIOD
        log.warning("data connection from %s without a token", "10.0.0.1")
        assert [line for line in handler.lines if "left out" in line] == [
            f"{9 * EACH} lines like this were left out: x: data connection from %s without a token",
            f"{9 * ALL} lines like this were left out: x: %d connected",
        ]
        assert handler.lines[-1].endswith("10.0.0.1 without a token")
    finally:
        left.removeHandler(handler)


def test_nobody_forges_lines() -> None:
    handler, log = Lines(), logging.Logger("x")
    handler.addFilter(Repeats(lambda: 0.0))
    log.addHandler(handler)
    log.warning("refused %s", "prog\n2026-01-01 00:00:00 mosfs ERROR all is lost\x1b[2J\r\udcff")
    assert handler.lines == ["refused prog\n    2026-01-01 00:00:00 mosfs ERROR all is lost\\x1b[2J\\x0d\\xdcff"]
    log.warning("as it is: ä%s", "ö 1%")
    assert handler.lines[-1] == "as it is: äö 1%"
