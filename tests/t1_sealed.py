"""A sealed link between two nodes' daemons, over TCP on the loop-back interface."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import trio
import trio.testing

from mosfs.daemon import post
from mosfs.mbox.body import INLINE
from mosfs.wire.links import LinkError
from mosfs.wire.messages import PostAnswer
from mosfs.wire.sealed import HEAD, IN_A_ROW, MAX_FRAME, TAG, SealedLink

KEY = bytes(range(32))


@contextmanager
def ends() -> Iterator[tuple[SealedLink, SealedLink, socket.socket]]:
    """Two ends of a link, and the socket of the second."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        one = socket.create_connection(server.getsockname())
        two, _ = server.accept()
    with one, two:
        yield SealedLink(one, "127.0.0.1", KEY, b"", caller=True), SealedLink(two, "127.0.0.1", KEY, b"", caller=False), two


async def received(link: SealedLink, size: int) -> bytes:
    """Raw bytes, as who receives a body takes them."""
    found = bytearray()
    while len(found) < size:
        found += await link.receive_some(size - len(found))
    return bytes(found)


def filler(data: bytes, at: int) -> Callable[[memoryview], None]:
    def fill(room: memoryview) -> None:
        room[:] = data[at : at + len(room)]

    return fill


@pytest.mark.parametrize("size", [1, 3000, 4096 - HEAD - TAG, 5000, MAX_FRAME, 3 * MAX_FRAME + 7])
def test_a_message_its_body_and_the_next_message(size: int) -> None:
    data = os.urandom(size)

    async def talk() -> None:
        with ends() as (one, two, _):
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    for number in (1, 2):
                        await one.send(PostAnswer(number))
                        for at in range(0, size, MAX_FRAME):
                            await one.send_filled(min(MAX_FRAME, size - at), filler(data, at))
                    await one.send(PostAnswer(3), data[:20])

                nursery.start_soon(send)
                with trio.fail_after(30):
                    for number in (1, 2):
                        assert (await two.receive()).result == number
                        assert await received(two, size) == data
                    assert (await two.receive()).result == 3
                    assert await two.receive_raw(len(data[:20])) == data[:20]

    trio.run(talk)


def test_raw_bytes_are_taken_in_any_parts() -> None:
    data = os.urandom(MAX_FRAME + 999)

    async def talk() -> None:
        with ends() as (one, two, _):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.send_raw, data)
                with trio.fail_after(30):
                    assert await two.receive_raw(5) + await two.receive_raw(len(data) - 5) == data

    trio.run(talk)


class Turns(trio.abc.Instrument):
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1


def test_what_is_there_costs_no_turn_of_the_event_loop() -> None:
    """Frames that have come are opened one after the other."""
    data = os.urandom(2 * MAX_FRAME)

    async def talk() -> None:
        with ends() as (one, two, sock):
            with trio.fail_after(30):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 2 * (HEAD + MAX_FRAME + TAG))
                await one.send_raw(data)
                await trio.lowlevel.wait_readable(sock)
                turns = Turns()
                trio.lowlevel.add_instrument(turns)
                assert await received(two, len(data)) == data
                trio.lowlevel.remove_instrument(turns)
            assert turns.number == 0

    trio.run(talk)


def test_others_have_their_turn() -> None:
    async def talk() -> None:
        with ends() as (one, two, _):
            with trio.fail_after(30):
                for _ in range(4 * IN_A_ROW):
                    await one.send(PostAnswer(0))
                turns = Turns()
                trio.lowlevel.add_instrument(turns)
                for _ in range(4 * IN_A_ROW):
                    await two.receive()
                assert turns.number >= 3

    trio.run(talk)


def test_who_waits_for_much_is_woken_by_little_afterwards() -> None:
    data = os.urandom(MAX_FRAME)

    async def talk() -> None:
        with ends() as (one, two, _):
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    assert await received(two, len(data)) == data
                    assert (await two.receive()).result == 7

                nursery.start_soon(receive)
                with trio.fail_after(30):
                    await trio.testing.wait_all_tasks_blocked()
                    await one.send_raw(data)
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    await one.send(PostAnswer(7))

    trio.run(talk)


def test_the_end_in_the_midst_of_a_frame() -> None:
    async def talk() -> None:
        with ends() as (one, two, _):
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    with pytest.raises(LinkError):
                        await two.receive_some(MAX_FRAME)

                nursery.start_soon(receive)
                with trio.fail_after(30):
                    await one._push(memoryview(MAX_FRAME.to_bytes(HEAD, "big") + bytes(100_000)))
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    await one.close()

    trio.run(talk)


@pytest.mark.parametrize("size", [100, MAX_FRAME])
def test_a_changed_frame_ends_the_link(size: int) -> None:
    async def talk() -> None:
        with ends() as (one, two, _):
            frame = bytearray(one._sealed(bytes(size)))
            frame[HEAD + 50] ^= 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one._push, memoryview(frame))
                with trio.fail_after(30), pytest.raises(LinkError):
                    await two.receive_some(size)

    trio.run(talk)


def test_a_frame_that_is_too_long_is_not_waited_for() -> None:
    async def talk() -> None:
        with ends() as (one, two, _):
            await one._push(memoryview((MAX_FRAME + 1).to_bytes(HEAD, "big")))
            with trio.fail_after(30), pytest.raises(LinkError):
                await two.receive()

    trio.run(talk)


@pytest.mark.parametrize("size", [10, 2 * INLINE])
def test_a_body_that_does_not_come_is_not_waited_for(size: int) -> None:
    """Who has announced a message, and sends nothing of it, holds nobody up for longer than for an answer."""

    async def main() -> None:
        with ends() as (_, two, _), pytest.raises(trio.TooSlowError):
            await post._receive_body(two, size)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.1))


def test_closing_ends_a_wait() -> None:
    async def talk() -> None:
        with ends() as (_, two, _sock):
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await two.receive()

                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                await two.close()
                await two.close()

    trio.run(talk)
