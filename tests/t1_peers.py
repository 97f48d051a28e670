"""Links between two nodes in one event loop, on two loopback addresses."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio

from mosfs.daemon.peers import Peers
from mosfs.daemon.service import accept, by_first_byte, listen_port
from mosfs.node.world import World
from mosfs.wire import links
from mosfs.wire.links import AuthenticationViolation, LinkError
from mosfs.wire.messages import (
    WIRE_VERSION,
    GuestAccept,
    GuestRefuse,
    GuestRequest,
    PeerHello,
    PeerStatus,
)
from mosfs.wire.security import identity
from tests.fake_map import FakeMap
from tests.waiting import until

A, B = "127.0.9.11", "127.0.9.12"
REQUEST = GuestRequest(0, 1, 2, "x", 3, "", b"t" * 16, b"k" * 32, False)


@dataclass
class Node:
    world: World
    peers: Peers
    scope: trio.CancelScope
    tokens: list[bytes | None]


Start = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a node: ``await start(ip, port, secret=, version=, refuse=)``."""
    async with trio.open_nursery() as nursery:

        async def start(
            ip: str, port: int, secret: bytes = b"one secret", version: str = "0.1.0", refuse: str = "", idle: float = 60
        ) -> Node:
            world = World(
                ip=ip, map=FakeMap(A, B), clock=trio.current_time, version=version, speed=10000, port=port, pid=1
            )
            world.me.status = PeerStatus(int(ip.rsplit(".", 1)[1]), 10000, 1, 1000, 2000, 0, False)
            hello = PeerHello(WIRE_VERSION, version, ip, "", "", 10000, 1)
            scope, tokens = trio.CancelScope(), list[bytes | None]()

            def admit(home: str, request: GuestRequest) -> GuestAccept | GuestRefuse:
                return GuestRefuse(request.req, refuse) if refuse else GuestAccept(request.req)

            async def data(sock: trio.socket.SocketType) -> None:
                tokens.append(await links.read_token(sock))
                await sock.send(await sock.recv(100))

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                with scope, listen_port(ip, port) as listener:
                    async with trio.open_nursery() as inner:
                        task_status.started()
                        node.peers.nursery = inner
                        inner.start_soon(accept, listener, by_first_byte(node.peers.accept, data))
                        await trio.sleep_forever()

            node = Node(world, Peers(world, identity(secret, ip), hello, admit, nursery, idle=idle), scope, tokens)
            await nursery.start(serve)
            return node

        yield start
        nursery.cancel_scope.cancel()


@pytest.fixture
def port() -> int:
    """A port that is free on both addresses."""
    with socket.socket() as probe:
        probe.bind((A, 0))
        found: int = probe.getsockname()[1]
    with socket.socket() as probe:
        probe.bind((B, found))
    return found


async def test_heart_beats_of_both(start: Start, port: int) -> None:
    a, b = await start(A, port), await start(B, port)
    await a.peers.ask(B, REQUEST)
    await until(lambda: B in a.world.nodes and a.world.nodes[B].alive(trio.current_time()))
    await until(lambda: A in b.world.nodes and b.world.nodes[A].alive(trio.current_time()))
    assert a.world.nodes[B].status == b.world.me.status
    assert b.world.nodes[A].hello == a.peers.hello


async def test_requests_both_ways_over_one_link(start: Start, port: int) -> None:
    a, b = await start(A, port, refuse="other node refused"), await start(B, port)
    await a.peers.ask(B, REQUEST)
    with pytest.raises(LinkError, match="other node refused"):
        await b.peers.ask(A, REQUEST)
    assert (a.world.nodes[B].links, b.world.nodes[A].links) == (1, 1)


async def test_the_higher_address_may_call_too(start: Start, port: int) -> None:
    await start(A, port)
    b = await start(B, port)
    await b.peers.ask(A, REQUEST)


async def test_lost_and_found_again(start: Start, port: int) -> None:
    a, b = await start(A, port), await start(B, port)
    await a.peers.ask(B, REQUEST)
    assert a.world.nodes[B].links
    b.scope.cancel()
    await until(lambda: not a.world.nodes[B].links)
    await start(B, port)
    await a.peers.ask(B, REQUEST)


async def test_links_are_opened_by_requests_and_closed_when_idle(start: Start, port: int) -> None:
    a, b = await start(A, port, idle=0.0), await start(B, port, idle=0.0)
    assert not a.world.nodes.keys() & {B}
    await a.peers.ask(B, REQUEST)
    assert (a.world.nodes[B].links, b.world.nodes[A].links) == (1, 1)
    await until(lambda: not a.world.nodes[B].links and not b.world.nodes[A].links)
    for _ in range(3):  # also when one is about to be closed
        await a.peers.ask(B, REQUEST)
        await b.peers.ask(A, REQUEST)
        await trio.sleep(0.4)


async def test_nobody_there(start: Start, port: int) -> None:
    a = await start(A, port)
    with pytest.raises(LinkError, match="no response"):
        await a.peers.ask(B, REQUEST)


async def test_a_node_that_answers_nothing_is_waited_for_once(start: Start, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by one program after the other of all that want to go there."""
    monkeypatch.setattr(links, "CONNECT_TIMEOUT", 0.5)
    a, failed = await start(A, port), list[str]()
    with socket.create_server((B, port)) as silent:

        async def ask() -> None:
            with pytest.raises(LinkError, match="no response"):
                await a.peers.ask(B, REQUEST)
            failed.append(B)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert len(failed) == 20
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


async def test_wrong_secret(start: Start, port: int, caplog: pytest.LogCaptureFixture) -> None:
    a, b = await start(A, port), await start(B, port, secret=b"two secrets")
    for caller, other in ((a, B), (b, A)):
        with pytest.raises(AuthenticationViolation, match=f"Authentication violation with {other}"):
            await caller.peers.ask(other, REQUEST)
    await until(lambda: {record.getMessage() for record in caplog.records if record.levelno == logging.ERROR} == {
        f"Authentication violation with {ip}" for ip in (A, B)
    })


async def test_incompatible_version(start: Start, port: int) -> None:
    a, _ = await start(A, port), await start(B, port, version="0.2.0")
    with pytest.raises(LinkError, match="Target node runs an incompatible version"):
        await a.peers.ask(B, REQUEST)


async def test_data_connections(start: Start, port: int) -> None:
    b = await start(B, port)
    sock = await links.connect_data(A, B, port, b"0123456789abcdef")
    plain = links.for_another_process(sock)
    with plain:
        assert plain.getblocking()
        assert plain.getsockname()[0] == A
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        plain.sendall(b"behind the preamble")
        assert await trio.to_thread.run_sync(plain.recv, 100) == b"behind the preamble"
    assert b.tokens == [b"0123456789abcdef"]


async def test_garbage_ends_only_itself(start: Start, port: int) -> None:
    a, b = await start(A, port), await start(B, port)
    for junk in (b"\x16\x03\x01 this is no handshake at all", b"GET / HTTP/1.0\r\n\r\n12345678", b"MOSDATA"):
        sock = await links.connect(A, B, port)
        with sock:
            await sock.send(junk)
            sock.shutdown(socket.SHUT_WR)
            with trio.fail_after(20):
                try:
                    while await sock.recv(1000):
                        pass
                except ConnectionResetError:
                    pass
    await a.peers.ask(B, REQUEST)
    assert not any(b.tokens)
