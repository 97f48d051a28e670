"""Limits of one user, and turns: pure parts, and the control socket with a user who wants everything."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from mosfs.cluster.address import as_unsigned
from mosfs.daemon import launch, service
from mosfs.daemon.mail_files import OUTSIDER_PATIENCE, SILENCE, MailFiles
from mosfs.daemon.mail_requests import MailRequests
from mosfs.daemon.office import Office
from mosfs.daemon.peers import MOST_COMPLAINTS, Peers
from mosfs.daemon.room import COST, Room, Watchers
from mosfs.daemon.waiting import STARTS, Queue
from mosfs.mbox.body import Body
from mosfs.mbox.model import MAX_LATEST, Flag, Mailbox, Message, Sender
from mosfs.node import choice
from mosfs.node.choice import MOST_RESERVED, most_free
from mosfs.node.world import World
from mosfs.wire import subuids
from mosfs.wire.limits import MAIL_BYTES, MAILBOXES, Limit, Shares
from mosfs.wire.links import LinkError
from mosfs.wire.messages import MailAnswer, MailOpen, MailPut, MailTake, MailWake, PeerStatus
from mosfs.wire.passing import ROOM, received
from mosfs.wire.subuids import Subordinates
from tests.fake_map import FakeMap
from tests.t1_control import HOME, OTHER, Node, node
from tests.waiting import until

__all__ = ["node"]

ANN, BOB, ROOT = 1001, 1002, 0
SMALL = Limit(4, 6, 9, errno.EAGAIN, "things")


def taken(shares: Shares, uid: int) -> int:
    """How many more it gets."""
    count = 0
    while shares.may(uid):
        shares.take(uid)
        count += 1
    return count


def test_everybody_has_a_share() -> None:
    shares = Shares(SMALL, admin=ROOT)
    assert (taken(shares, ANN), taken(shares, BOB)) == (4, 3)
    assert taken(shares, 1003) == 2
    with pytest.raises(OSError, match="too many things") as caught:
        shares.take(ANN)
    assert caught.value.errno == errno.EAGAIN
    assert taken(shares, ROOT) == 9, "nobody keeps root out"
    for _ in range(4):
        shares.give(ANN)
    assert ANN not in shares.held


async def test_turns_of_those_who_wait_for_memory() -> None:
    queue = Queue(World(HOME, None, lambda: 0.0, "", 1, 1, 1))  # type: ignore[arg-type]
    order: list[tuple[int, int]] = []

    async def waiter(uid: int, need: int) -> None:
        with queue.waiting(uid, need) as may_go:
            await may_go.wait()
            order.append((uid, need))

    async with trio.open_nursery() as nursery:
        for _ in range(3 * STARTS):
            nursery.start_soon(waiter, ANN, 10)
        nursery.start_soon(waiter, BOB, 10)
        nursery.start_soon(waiter, BOB, 500)
        await until(lambda: sum(map(len, queue.users.values())) == 3 * STARTS + 2)
        queue.look(5)
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        queue.look(100)
        await trio.testing.wait_all_tasks_blocked()
        assert Counter(uid for uid, _ in order) == {ANN: STARTS - 1, BOB: 1}
        queue.look(500)
        await trio.testing.wait_all_tasks_blocked()
        assert (BOB, 500) in order
        nursery.cancel_scope.cancel()
    assert queue.users == {} and not queue.shares.held


async def test_too_many_that_wait_for_memory(node: Node) -> None:
    """The rest is told so, and what waits costs one look for all."""
    node.world.me.status = PeerStatus(1, 10000, 1, 1, 2, 0, False)
    node.control.queue.shares.limit = Limit(4, 6, 5, errno.EAGAIN, "things")
    waiting = [await node.client(b"RUN\0node=best\0needmem=1000") for _ in range(5)]
    await until(lambda: sum(map(len, node.control.queue.users.values())) == 5)
    assert await node.ask(b"RUN\0node=best\0needmem=1000") == launch.refused(launch.TOO_MANY_WAIT)
    await waiting[0].send(b"noise")  # who speaks out of turn, or ends, is gone
    waiting[1].close()
    await until(lambda: sum(map(len, node.control.queue.users.values())) == 3)
    node.world.me.status = PeerStatus(1, 10000, 1, 5000, 5000, 0, False)
    node.control.queue.look(most_free(node.world))
    for sock in waiting[2:]:
        assert await sock.recv(100) == b"OK from tracer"
        sock.close()
    waiting[0].close()


async def test_connections_that_say_nothing(node: Node) -> None:
    node.control.connections.limit = Limit(4, 6, 5, errno.EAGAIN, "things")
    silent = [await node.client() for _ in range(5)]
    await until(lambda: node.control.connections.held[os.getuid()] == 5)
    assert await node.ask(b"RUN\0needmem=1") == launch.refused(launch.TOO_MANY)
    for sock in silent:
        sock.close()
    await until(lambda: not node.control.connections.held)
    assert await node.ask(b"RUN\0needmem=1") == b"OK from tracer"


# --------------------------------------------------------------------------- mailboxes


def box(uid: int, pid: int) -> Mailbox:
    return Mailbox(1, pid, uid, uid, Flag(0))


def test_the_bytes_of_all_mailboxes_of_a_user() -> None:
    now = [0.0]
    boxes = {(1, pid): box(ANN, pid) for pid in range(3)} | {(1, 9): box(BOB, 9)}
    size = 3000
    whole, left = size + COST, 100
    limit = Limit(3 * whole + COST + left, 100 * whole, 4 * whole, errno.EAGAIN, "bytes")
    room = Room(boxes, lambda: now[0], Shares(limit, ROOT), memory=lambda: 1 << 40)
    for pid in range(3):
        boxes[1, pid].put(Sender(1, 5, ANN, ANN, 1), b"%d" % pid, Body(bytes(size)))
        room.add(ANN, size)
    assert room.fits(ANN, left) and not room.fits(ANN, left + 1) and room.fits(BOB, size)
    boxes[1, 0].take(size)
    assert not room.fits(ANN, left + whole), "counted a moment ago"
    now[0] = 1.0
    assert room.fits(ANN, left + whole) and not room.fits(ANN, left + whole + 1)
    assert MAIL_BYTES.each > MAILBOXES.each


def test_messages_take_a_third_of_what_is_free_and_one_always_fits() -> None:
    now, free, size = [0.0], [300 << 20], 1 << 20
    boxes = {(1, pid): box(uid, pid) for pid, uid in enumerate((ANN, BOB, ROOT))}
    room = Room(boxes, lambda: now[0], Shares(MAIL_BYTES, ROOT), Shares(MAIL_BYTES, ROOT), lambda: free[0])
    for pid, uid in ((0, ANN), (2, ROOT)):
        accepted = 0
        while room.fits(uid, size):
            boxes[1, pid].queue.append(Message(1, 5, 1, Body(bytes(size)), 0))
            boxes[1, pid].size += size
            room.add(uid, size)
            free[0] -= size
            accepted += 1
            now[0] += 1
        assert 90 <= accepted <= 104, "root has a share of its own"
    assert room.fits(BOB, 32 << 20) and room.may_send(BOB, 32 << 20), "who has nothing here"
    boxes[1, 1].put(Sender(1, 5, ANN, ANN, 1), b"1", Body(b"x"))
    room.add(BOB, 1)
    with room.sending(BOB, 1):
        assert not room.fits(BOB, 1) and not room.may_send(BOB, 1), "there are many who have little each"
    free[0] = 1 << 40
    now[0] += 1
    assert room.fits(ANN, size)


async def test_one_question_for_all_who_wait_for_the_same_mailbox(autojump_clock: trio.testing.MockClock) -> None:
    """Each is woken when there is room for it; while there is none the receiver is asked no more often than for one."""
    free, asked, woken = 0, 0, []

    async def probe(sender: Sender, to: tuple[int, int], size: int) -> int:
        nonlocal asked
        asked += 1
        return 0 if size <= free else errno.EAGAIN

    watchers = Watchers(probe, lambda key: woken.append(key[1]))
    async with trio.open_nursery() as nursery:
        for pid in range(300):
            if watchers.add(Sender(1, pid, ANN, ANN, 1), (2, 7), 10 + pid % 2):
                nursery.start_soon(watchers.watch, (2, 7))
        await trio.sleep(1)
        assert woken == [] and 40 < asked < 80
        free = 10
        await trio.sleep(10)
        assert sorted(woken) == list(range(0, 300, 2))
        free = 11
    assert sorted(woken) == list(range(300)) and watchers.waiting == {}


async def test_a_mailbox_that_cannot_be_reached_wakes_all(autojump_clock: trio.testing.MockClock) -> None:
    woken: list[int] = []

    async def probe(sender: Sender, to: tuple[int, int], size: int) -> int:
        await trio.sleep(5)
        return errno.ETIMEDOUT

    watchers = Watchers(probe, lambda key: woken.append(key[1]))
    for pid in range(150):
        watchers.add(Sender(1, pid, ANN, ANN, 1), (2, 7), 10)
    await watchers.watch((2, 7))
    assert sorted(woken) == list(range(150)) and trio.current_time() < 6


def test_senders_that_are_remembered() -> None:
    full = box(ANN, 1)
    for pid in range(MAX_LATEST + 50):
        full.put(Sender(1, pid, ANN, ANN, 1), b"%d" % pid, Body(b""))
        full.take(10)
    assert len(full.latest) == MAX_LATEST
    assert full.is_repeated(Sender(1, MAX_LATEST + 49, ANN, ANN, 1), b"%d" % (MAX_LATEST + 49))


class Way:
    """To a node that is cut off, or answers after so long."""

    result, seconds, asked = 0, float("inf"), 0

    async def where(self, node: str, pid: int) -> str:
        self.asked += 1
        await trio.sleep(self.seconds)
        return node

    async def deliver(self, *message: object, late: bool) -> int:
        return self.result


async def writers(files: MailFiles, count: int) -> list[int]:
    """They write one behind the other, as the kernel lets them."""
    return [await files.post(1000, 1000, 1, as_unsigned(OTHER), 7, b"x") for _ in range(count)]


@pytest.mark.parametrize(("seconds", "result", "asked"), [(float("inf"), errno.ETIMEDOUT, 1), (2.0, errno.EACCES, 1), (2.0, 0, 1)])
def test_writers_to_a_node_that_is_cut_off_do_not_wait_for_each_other(seconds: float, result: int, asked: int) -> None:
    """They are all told what the first has waited for; what a node says of one is not told to another."""
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            world = World(HOME, FakeMap(HOME, OTHER), trio.current_time, "", 1, 1, 1)
            office = Office(world, nursery)
            files = MailFiles(office)
            office.way = way = Way()  # type: ignore[assignment]
            way.result, way.seconds = result, seconds
            began = trio.current_time()
            assert await writers(files, 100) == [result] * 100
            assert trio.current_time() - began <= OUTSIDER_PATIENCE
            assert way.asked == asked
            way.result, way.seconds = 0, 0.0
            await trio.sleep(SILENCE)
            assert await writers(files, 1) == [0]
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


# --------------------------------------------------------------------------- subordinate users


def test_numbers_that_a_user_has_besides_are_his(tmp_path: Path) -> None:
    """In user namespaces of his own he may be 65536 users; for limits he is one."""
    (tmp_path / "passwd").write_text("root:x:0:0::/:\nann:x:1000:1000::/:\nbob:x:1001:1001::/:\ncarol:x:100007:1::/:\nbroken:x\n")
    lines = ("ann:100000:65536", "1001:165536:65536", "nobody:300000:10", "ann:150000:999999999999", "bob:x:1", "::", "")
    (tmp_path / "subuid").write_text("\n".join(lines))
    found = Subordinates(str(tmp_path))
    assert {found.whose(uid) for uid in (1000, 100_000, 165_535)} == {1000}
    assert {found.whose(uid) for uid in (1001, 165_536, 231_071)} == {1001}
    for uid in (0, 99_999, 231_072, 300_000, 100_007, 2**32 - 1):
        assert found.whose(uid) == uid, "no subordinate, or one with an account"
    shares = Shares(SMALL, ROOT, whose=found.whose)
    for uid in range(100_100, 100_100 + SMALL.each):
        shares.take(uid)
    assert not shares.may(100_000) and not shares.may(1000) and shares.may(1001)
    for uid in range(100_100, 100_100 + SMALL.each):
        shares.give(uid)
    assert not shares.held


def test_the_files_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subuids, "AGAIN", -1.0)
    found = Subordinates(str(tmp_path))
    assert found.whose(100_000) == 100_000, "there are none"
    (tmp_path / "subuid").write_text("1000:100000:10\n")
    assert found.whose(100_000) == 1000
    (tmp_path / "subuid").write_text("1000:100005:10\n1001:100000:8\n")
    assert [found.whose(uid) for uid in (100_000, 100_007, 100_008, 100_014, 100_015)] == [1001, 1001, 1000, 1000, 100_015]
    (tmp_path / "subuid").unlink()
    assert found.whose(100_000) == 100_000


async def test_a_sender_is_woken_when_memory_is_free_again(autojump_clock: trio.testing.MockClock) -> None:
    """Nobody reads meanwhile."""
    world: Any = SimpleNamespace(ip="10.0.0.1", clock=trio.current_time)
    woken: list[object] = []
    async with trio.open_nursery() as nursery:
        office = Office(world, nursery)
        office.room.memory = lambda: 0
        office.boxes[1, 7] = box(ANN, 7)
        sender, line = Sender(1, 5, ANN, ANN, 1), cast(Any, SimpleNamespace(post=woken.append))
        assert office.deliver(office.boxes[1, 7], sender, b"1", Body(b"x"), late=False) == 0
        assert office.deliver(office.boxes[1, 7], sender, b"2", Body(b"x"), late=False) == errno.EAGAIN
        office.writers[1, 7], office.lines[1, 5] = {(1, 5)}, line
        office.room.memory = lambda: 1 << 40
        await trio.sleep(2)
        assert woken and office.deliver(office.boxes[1, 7], sender, b"2", Body(b"x"), late=False) == 0
        await trio.sleep(2)
        assert not nursery.child_tasks


@pytest.mark.parametrize(("most", "given"), [(1 << 30, 1 << 20), (4096, 4096)], ids=["root", "a user"])
def test_mosd_has_more_descriptors_than_a_user_has_programs(monkeypatch: pytest.MonkeyPatch, most: int, given: int) -> None:
    """Whatever was inherited, if it may (getrlimit(2))."""
    limits = [(1024, 4096)]

    def limit(_: int, pair: tuple[int, int]) -> None:
        if pair[1] > most:
            raise ValueError("not allowed to raise maximum limit")
        limits.append(pair)

    monkeypatch.setattr(service, "resource", SimpleNamespace(
        RLIMIT_NOFILE=resource.RLIMIT_NOFILE, getrlimit=lambda _: limits[-1], setrlimit=limit,
    ))
    service.allow_many_descriptors()
    assert limits[-1] == (given, given)


# --------------------------------------------------------------------------- mailboxes that are lent


async def test_a_message_that_was_on_its_way_when_its_desk_got_the_mailbox_calls_it_not_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its sender tries again, there. Else a mailbox whose sender is quick would be with its desk for a moment only."""
    home = as_unsigned(HOME)
    world = World(HOME, FakeMap(HOME, OTHER), trio.current_time, "", 1, 1, 1)
    told: list[Any] = []
    desk, other = cast(Any, SimpleNamespace(post=lambda message, beside=None: told.append(message))), cast(Any, SimpleNamespace())
    async with trio.open_nursery() as nursery:
        office = Office(world, nursery)
        requests = MailRequests(office)
        requests.handle(desk, MailOpen(1, home, 7, ANN, ANN, 0), -1)
        await trio.sleep(1)
        for number in range(2):
            requests.handle(desk, MailPut(2 + number, home, 5, ANN, ANN, home, 7, 1, b"x"), -1)
            requests.handle(desk, MailTake(8 + number, home, 7, 10), -1)
        assert office.lending.is_with((home, 7), desk) and not office.lending.is_with((home, 7), other)
        told.clear()
        requests.handle(desk, MailPut(5, home, 5, ANN, ANN, home, 7, 1, b"x"), -1)
        await trio.sleep(1)
        assert told == [MailAnswer(5, -errno.EAGAIN, wait=True), MailWake(home, 5)]
        assert office.lending.is_with((home, 7), desk) and not office.boxes[home, 7].queue
        nursery.cancel_scope.cancel()


# --------------------------------------------------------------------------- what has no end


async def test_nothing_stays_of_mailboxes_that_were_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    """A peer or a guest names as many as it likes."""
    world = World(HOME, FakeMap(HOME, OTHER), trio.current_time, "", 1, 1, 1)
    async with trio.open_nursery() as nursery:
        office = Office(world, nursery)

        async def fetch(key: object) -> None:
            await trio.sleep(1)

        office.way = cast(Any, SimpleNamespace(fetch=fetch))
        async with trio.open_nursery() as askers:
            for pid in range(100):
                for _ in range(3):
                    askers.start_soon(office.ensure, (as_unsigned(OTHER), pid))
        assert not office._ensuring


async def test_strangers_are_remembered_up_to_a_number() -> None:
    world = World(HOME, FakeMap(HOME, OTHER), trio.current_time, "", 1, 1, 1)
    async with trio.open_nursery() as nursery:
        peers = Peers(world, cast(Any, None), cast(Any, None), cast(Any, None), nursery)
        for number in range(MOST_COMPLAINTS + 50):
            peers._complain(f"10.1.{number >> 8}.{number & 255}", LinkError("no"))
        assert len(peers._complaints) == MOST_COMPLAINTS and "10.1.0.49" not in peers._complaints


def test_places_are_reserved_up_to_a_number() -> None:
    world = World(HOME, FakeMap(HOME, OTHER), lambda: 0.0, "", 1, 1, 1)
    for _ in range(MOST_RESERVED + 50):
        choice.arriving(world, OTHER)
    assert len(world.coming.reserved) == MOST_RESERVED


@pytest.mark.parametrize("many", [0, 1, 2])
def test_descriptors_beside_a_message_are_taken_or_closed(many: int) -> None:
    """What is meant for one has room for two."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right, open(os.devnull) as file:
        socket.send_fds(left, [b"x"], [file.fileno()] * many)
        before = len(os.listdir("/proc/self/fd"))
        found = received(right.recvmsg(10, ROOM)[1])
        assert (found >= 0) is (many > 0)
        assert len(os.listdir("/proc/self/fd")) - before == min(many, 1)
        if many:
            os.close(found)
