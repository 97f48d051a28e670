"""The control socket, with tracers and launchers that are only clients of it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

import mosfs
from mosfs.cluster.relation import Relation
from mosfs.daemon import journal, launch
from mosfs.daemon.channels import MAX_OF_NODE, MAX_PENDING, Channels, refusal
from mosfs.daemon.connection import Connection
from mosfs.daemon.control import DEATHS_WITHIN, PAUSE, Control, datagrams
from mosfs.daemon.journal import Journal
from mosfs.daemon.mail_requests import MailRequests
from mosfs.daemon.office import Office
from mosfs.daemon.owners import Owners
from mosfs.daemon.service import accept, listen_control
from mosfs.daemon.threads import Threads, looked_up
from mosfs.node.programs import MOST_DEATHS, Order, Program
from mosfs.node.world import World
from mosfs.procfs.table import BY_NAME
from mosfs.trace.proc import start_time, tracer_of
from mosfs.wire.asked import Settings, Start
from mosfs.wire.fields import MAX_CONTROL
from mosfs.wire.limits import THREADS
from mosfs.wire.messages import (
    Adjust,
    Adjusted,
    AdoptTracer,
    ChannelFailed,
    Command,
    Config,
    Consider,
    GuestAccept,
    GuestRefuse,
    GuestRequest,
    GuestState,
    GuestStayed,
    HelloHost,
    HelloTracer,
    Msg,
    OpenChannel,
    PeerStatus,
    ProcGone,
    ProcState,
    SpawnHost,
    SpawnTracer,
    TollPaid,
    Usage,
    UsageReport,
    decode_control,
    encode,
)
from mosfs.wire.messages import Control as ControlMessages
from tests import damage
from tests.fake_map import FakeMap
from tests.waiting import until

HOME, OTHER = "127.0.9.1", "127.0.9.2"


class Spawns:
    """A spawner that remembers; the launcher's socket is answered at once."""

    def __init__(self) -> None:
        self.requests: list[SpawnTracer | SpawnHost | AdoptTracer] = []

    def spawn(self, request: SpawnTracer | SpawnHost | AdoptTracer, beside: socket.socket | None = None) -> None:
        self.requests.append(request)
        if beside is not None:
            with beside:
                beside.send(b"OK from tracer")


async def nobody(ip: str, request: GuestRequest) -> None:
    raise launch.Refused("not asked in this test")


class Node:
    """The service and what is around it."""

    def __init__(self, path: str, nursery: trio.Nursery) -> None:
        self.path = path
        self.world = World(
            ip=HOME, map=FakeMap(HOME, OTHER), clock=trio.current_time, version="0.1.0", speed=10000, port=253, pid=1
        )
        self.spawns = Spawns()
        owners = Owners(range(70000, 70100), self.world.clock)
        channels = Channels(self.world, self.spawns, nobody, "", path, owners)  # type: ignore[arg-type]
        self.control = Control(
            self.world, MailRequests(Office(self.world, nursery)), channels, self.spawns, {"other": OTHER}.get,  # type: ignore[arg-type]
            lambda: Config(HOME, 253, {}), path, nursery, Journal(f"{path}.wish", os.devnull, self.world.shown_or_home),
        )

    async def client(self, *messages: bytes | Msg) -> trio.socket.SocketType:
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        await sock.connect(self.path)
        for message in messages:
            await sock.send(message if isinstance(message, bytes) else encode(message))
        return sock

    async def ask(self, request: bytes) -> bytes:
        with await self.client(request) as sock:
            return await sock.recv(1000)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    path = str(tmp_path / "sock")
    async with trio.open_nursery() as nursery:
        with listen_control(path) as listener:
            made = Node(path, nursery)
            nursery.start_soon(accept, listener, made.control.client)
            yield made
            nursery.cancel_scope.cancel()
    assert os.listdir(tmp_path) == []


def state(pid: int, where: str = "", name: str = "here") -> ProcState:
    return ProcState(pid, os.getuid(), where, name, 0, Settings(), comm="x")


# --------------------------------------------------------------------------- launchers


async def test_launcher_gets_a_tracer(node: Node) -> None:
    assert await node.ask(b"RUN\0needmem=5\0unsupported=2\0node=other\0force=1") == b"OK from tracer"
    settings, start = Settings(unsupported=2, needmem=5), Start(OTHER, True, "other")
    assert node.spawns.requests == [
        SpawnTracer(os.getpid(), os.getuid(), os.getgid(), settings, start, node.path, start_time(os.getpid()))
    ]


async def test_unknown_nodes(node: Node) -> None:
    assert await node.ask(b"RUN\0node=mars") == b"ERR\0failed migrating to mars: not in map"
    assert await node.ask(b"RUN\0node=mars\0force=1") == b"OK from tracer"
    [request] = node.spawns.requests
    assert isinstance(request, SpawnTracer) and request.start == Start("", True, "mars")


async def test_home_and_best(node: Node) -> None:
    for name in (b"", b"home", b"0", b"best"):
        assert await node.ask(b"RUN\0node=" + name) == b"OK from tracer"
    starts = [request.start for request in node.spawns.requests if isinstance(request, SpawnTracer)]
    assert [start.node for start in starts] == [""] * 4
    assert [start.force for start in starts] == [False] * 3 + [True], "it starts at home if the best one refuses"


async def test_native_outside_of_any_tree(node: Node) -> None:
    assert await node.ask(b"NATIVE\0") == b"OK"


@pytest.mark.parametrize(("request_", "told"), [
    (b"RUN\0what=1", b"mosd does not understand"), (b"RUN\0needmem=x", b"mosd does not understand"),
    (b"RUN\0checkpoint_file=\xff", b"names of files and nodes must be text in UTF-8"),
])
async def test_bad_requests(node: Node, request_: bytes, told: bytes) -> None:
    assert (await node.ask(request_)).startswith(b"ERR\0" + told)
    assert node.spawns.requests == []


@pytest.mark.parametrize("request_", [b"nonsense", encode(ProcGone(1)), encode(Config("", 1, {}))])
async def test_who_does_not_say_hello_is_left(node: Node, request_: bytes) -> None:
    assert await node.ask(request_) == b""


async def test_recursive_mosrun_asks_its_tracer(node: Node) -> None:
    with await node.client(HelloTracer(os.getpid(), os.getpid(), os.getuid()), state(os.getpid())) as tracer:
        assert decode_control(await tracer.recv(1000)) == Config(HOME, 253, {})
        await until(lambda: os.getpid() in node.world.programs)
        for request, native, error, answer in (
            (b"RUN\0lock=1", False, "", b"OK"), (b"NATIVE\0", True, "no", b"ERR\0no"),
        ):
            with await node.client(request) as launcher:
                adjust = decode_control(await tracer.recv(1000))
                assert isinstance(adjust, Adjust)
                assert (adjust.pid, adjust.native) == (os.getpid(), native)
                await tracer.send(encode(Adjusted(adjust.req, error)))
                assert await launcher.recv(1000) == answer
    assert node.spawns.requests == []


# --------------------------------------------------------------------------- tracers and hosts


async def test_programs_come_and_go(node: Node) -> None:
    with await node.client(HelloTracer(os.getpid(), 1, os.getuid()), state(os.getpid())) as tracer:
        await tracer.recv(1000)
        await until(lambda: os.getpid() in node.world.programs)
        node.world.move(node.world.programs[os.getpid()], 0)
        assert decode_control(await tracer.recv(1000)) == Command(os.getpid(), "migrate", "", 1)
        await tracer.send(b"\x00 nonsense")  # is logged, and nothing else
        await tracer.send(encode(ProcGone(os.getpid())))
        await until(lambda: not node.world.programs)


async def test_a_tracer_that_comes_back_is_the_same(node: Node) -> None:
    hello = HelloTracer(os.getpid(), 1, os.getuid())
    with await node.client(hello, state(os.getpid())):
        await until(lambda: os.getpid() in node.world.programs)
    program = node.world.programs[os.getpid()]
    await until(lambda: program.send is None)
    with await node.client(hello, state(os.getpid(), OTHER, "away")) as again:
        await until(lambda: program.send is not None)
        assert node.world.programs[os.getpid()] is program
        assert program.state.where == OTHER
        assert len(node.control.tracers) == 1
        await again.send(encode(ProcGone(os.getpid())))
        await until(lambda: not node.world.programs)


async def test_a_setting_holds_when_its_tracer_says_so(node: Node) -> None:
    """And when the tracer, or the program, ends before, nobody waits in vain."""
    pid, lock = os.getpid(), BY_NAME["lock"]
    with await node.client(HelloTracer(pid, 1, os.getuid()), state(pid)) as tracer:
        await tracer.recv(1000)
        await until(lambda: pid in node.world.programs)
        program = node.world.programs[pid]
        first, second, third = (node.world.set(program, lock.name, 1) for _ in range(3))
        assert [decode_control(await tracer.recv(1000)).seq for _ in range(3)] == [first.number, second.number, third.number]
        await tracer.send(encode(Adjusted(second.number, "no such MOSIX process")))
        await second.told.wait()
        assert (second.error, first.told.is_set(), program.state.settings.lock) == (errno.ENOENT, False, -1)
        await tracer.send(encode(Adjusted(first.number, "")))
        await first.told.wait()
        assert first.error == 0
    await third.told.wait()
    assert third.error == errno.EAGAIN
    with await node.client(HelloTracer(pid, 1, os.getuid()), state(pid)) as again:
        await until(lambda: program.send is not None)
        last = node.world.set(program, lock.name, 1)
        await again.send(encode(ProcGone(pid)))
        await last.told.wait()
        assert last.error == errno.ENOENT


def usage(pid: int) -> Usage:
    return Usage(pid, 2.0, 1.0, 0.5, 10, 4.0, 2.0, 100.0, 1.0, 1.0)


async def test_statistics_of_own_programs_only(node: Node) -> None:
    """A tracer reports what is its own; a host the same of its guests."""
    with await node.client(HelloTracer(os.getpid(), 1, os.getuid()), state(os.getpid())) as tracer:
        await until(lambda: os.getpid() in node.world.programs)
        node.world.programs[5] = Program(state(5), None)
        await tracer.send(encode(UsageReport([usage(os.getpid()), usage(5), usage(6)])))
        program = node.world.programs[os.getpid()].balanced
        await until(lambda: program.usage)
        assert program.usage == usage(os.getpid())
        assert node.world.programs.pop(5).balanced.usage is None
        await tracer.send(encode(Consider(os.getpid())))
        await until(lambda: program.considered)
        await tracer.send(encode(ProcGone(os.getpid())))
        await until(lambda: not node.world.programs)


async def test_guests_are_the_same_after_every_state(node: Node) -> None:
    stayed: list[tuple[int, str]] = []
    node.control.stayed = lambda guest, reason: stayed.append((guest.state.pid, reason))
    with await node.client(HelloHost(os.getpid(), OTHER, b"t" * 16), GuestState(55, 44, OTHER, 0, "x", 0.0)) as host:
        await until(lambda: 55 in node.world.guests)
        guest = node.world.guests[55]
        await host.send(encode(UsageReport([usage(55)])))
        await host.send(encode(GuestState(55, 44, OTHER, 0, "x", 0.0, Settings(lock=1))))
        paid: list[tuple[int, float]] = []
        node.control.paid = lambda guest, told: paid.append((guest.state.pid, told.calls))
        await host.send(encode(TollPaid(56, 3, 0, 0, 0.0)))
        await host.send(encode(TollPaid(55, 4, 0, 0, 0.0)))
        await host.send(encode(GuestStayed(55, "locked")))
        await until(lambda: stayed)
        assert paid == [(55, 4)], "what is said of another host's guest is not heard"
        assert node.world.guests[55] is guest
        assert (guest.balanced.usage, guest.state.settings) == (usage(55), Settings(lock=1))
        assert stayed == [(55, "locked")]


async def test_channels_outside_of_the_map(node: Node) -> None:
    with await node.client(HelloTracer(os.getpid(), 1, os.getuid())) as tracer:
        await tracer.recv(1000)
        for target, reason in (("127.0.9.9", "not in map"), (HOME, "other node refused")):
            await tracer.send(encode(OpenChannel(5, target, 1, 0, "x", 0, "")))
            assert decode_control(await tracer.recv(1000)) == ChannelFailed(5, reason)


async def test_guests(node: Node) -> None:
    with await node.client(HelloHost(os.getpid(), OTHER, b"t" * 16)) as host:
        await host.recv(1000)
        await host.send(encode(GuestState(55, 44, OTHER, 0, "x", 0.0)))
        await until(lambda: 55 in node.world.guests)
        assert list(node.control.channels.hosts) == [b"t" * 16]
        node.world.guests[55].send(Command(55, "out", ""))
        assert decode_control(await host.recv(1000)) == Command(55, "out", "")
    await until(lambda: not node.control.channels.hosts)


TRACER = """
import os, socket, sys
from mosfs.wire.asked import Settings
from mosfs.wire.messages import HelloTracer, ProcState, encode
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
sock.send(encode(HelloTracer(os.getpid(), 1, os.getuid())))
for word in sys.argv[2:]:
    pid, where = word.split(":")
    sock.send(encode(ProcState(int(pid), os.getuid(), where, "away" if where else "here", 0, Settings())))
while sock.recv(1000):
    pass
"""


HOST = """
import os, socket, sys
from mosfs.wire.messages import GuestState, HelloHost, encode
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
pid, home = sys.argv[2].split(":")
sock.send(encode(HelloHost(os.getpid(), home, b"t" * 16, 1000, 70005)))
sock.send(encode(GuestState(int(pid), 1, home, 0, "x", 0.0)))
while sock.recv(1000):
    pass
"""


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    source = str(Path(mosfs.__file__).parent.parent)
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": source}) as running:
        try:
            yield running
        finally:
            running.kill()


async def test_death_of_a_tracer(node: Node) -> None:
    """Who is away loses its body and must die; who is at home gets another tracer."""
    with process("sleep", "60") as away, process("sleep", "60") as here:
        words = [f"{away.pid}:{OTHER}", f"{here.pid}:"]
        with process(sys.executable, "-c", TRACER, node.path, *words) as tracer:
            await until(lambda: node.world.programs.keys() == {away.pid, here.pid})
            program = node.world.programs[here.pid]
            program.ordered[Order.SAVE] = program.state.save_seq + 1  # asked for, and the tracer dies before it says so
            before = replace(program.state, save_seq=program.state.save_seq + 1, save_result="")
            tracer.kill()
            await until(lambda: node.spawns.requests)
        assert node.spawns.requests == [AdoptTracer([here.pid], [start_time(here.pid)], os.getuid(), [before], node.path)]
        await until(lambda: away.poll() is not None)
        assert away.returncode == -9
        assert here.poll() is None
        assert list(node.world.programs) == [here.pid]
        assert node.control.tracers == {}


async def test_tracers_that_die_again_and_again(node: Node) -> None:
    """The next one comes at once, but not without end: a program that kills its tracers must not keep mosd busy."""
    node.world.programs[7] = Program(state(7), None)
    pauses = [node.control._pause(state(7)) for _ in range(2 * MOST_DEATHS)]
    assert pauses == [0.0] * (MOST_DEATHS - 1) + [PAUSE] * (MOST_DEATHS + 1)
    deaths = node.world.programs[7].deaths
    for number in range(len(deaths)):
        deaths[number] -= DEATHS_WITHIN
    assert node.control._pause(state(7)) == 0.0


def test_a_large_tree_is_told_in_parts() -> None:
    states = [state(pid, name="x" * 30) for pid in range(1, 2000)]
    parts = list(datagrams(states))
    assert [one for part in parts for one in part] == states
    for part in parts:
        pids = [one.pid for one in part]
        assert len(encode(AdoptTracer(pids, [2**63] * len(pids), 0, part, "x" * 4096))) < MAX_CONTROL
    assert 1 < len(parts) < 10


async def test_end_of_a_host(node: Node) -> None:
    with process(sys.executable, "-c", HOST, node.path, f"77:{OTHER}") as host:
        await until(lambda: 77 in node.world.guests)
        host.kill()
        await until(lambda: not node.world.guests)


def test_tracer_of_is_the_kernels_word() -> None:
    assert tracer_of(os.getpid()) == 0
    assert tracer_of(2**22 + 1) == 0


# --------------------------------------------------------------------------- admission


GUEST = GuestRequest(1, 2, 3, "x", 100, "", b"t" * 16, b"k" * 32, True)


def test_who_is_admitted() -> None:
    assert refusal(GUEST, unwanted="", blocked=False, free_mb=100, pending=0) == ""
    choosy = replace(GUEST, below=200)
    assert refusal(choosy, unwanted="", blocked=False, free_mb=100, pending=0, load=200) == ""
    assert "pays" in refusal(choosy, unwanted="", blocked=False, free_mb=100, pending=0, load=201)
    assert refusal(GUEST, unwanted="", blocked=False, free_mb=100, pending=0, load=9999) == ""


@pytest.mark.parametrize(("why", "request_", "unwanted", "blocked", "free"), [
    ("map", GUEST, "not in our map", False, 100), ("blocked", GUEST, "", True, 100), ("needs 100 MB", GUEST, "", False, 99),
    ("token", GuestRequest(1, 2, 3, "x", 0, "", b"", b"k" * 32, True), "", False, 100),
    ("direct", GuestRequest(1, 2, 3, "x", 0, "", b"t" * 16, b"k" * 32, True, b"d"), "", False, 100),
])
def test_who_is_refused(why: str, request_: GuestRequest, unwanted: str, blocked: bool, free: int) -> None:
    assert why in refusal(request_, unwanted=unwanted, blocked=blocked, free_mb=free, pending=0)


async def test_who_was_let_in_counts_until_the_load_shows_it(node: Node) -> None:
    """Nodes that all want to use the same free node by the same news."""
    admit, choosy = node.control.channels.admit, replace(GUEST, pid=1, below=100)
    node.world.me.status = PeerStatus(0, 10000, 1, 1000, 2000, 0, False)
    assert isinstance(admit(OTHER, choosy), GuestAccept)
    assert isinstance(admit(OTHER, replace(choosy, pid=3)), GuestRefuse), "the first is on its way"
    with process(sys.executable, "-c", HOST, node.path, f"77:{OTHER}"):
        await until(lambda: 77 in node.world.guests)
        assert isinstance(admit(OTHER, replace(choosy, pid=4)), GuestRefuse), "the load does not show it yet"


async def test_a_partners_guest_has_its_place_from_when_it_is_let_in(node: Node) -> None:
    lent = "127.0.9.3"
    node.world.map = FakeMap(HOME, OTHER, others={lent: Relation(True, "geo", 50, cango=True, cantake=True)})
    node.world.me.status = PeerStatus(0, 10000, 1, 1000, 2000, 0, False)
    node.world.multi.max_guests = 1
    admit, first = node.control.channels.admit, replace(GUEST, pid=1)
    assert isinstance(admit(lent, first), GuestAccept)
    assert isinstance(admit(lent, replace(GUEST, pid=3)), GuestRefuse)
    assert isinstance(admit(lent, first), GuestAccept), "its own place, asked for again"
    with process(sys.executable, "-c", HOST, node.path, f"77:{lent}"):
        await until(lambda: 77 in node.world.guests)
    await until(lambda: not node.world.guests)
    assert isinstance(admit(lent, replace(GUEST, pid=3)), GuestAccept), "it has come and gone"


async def test_no_user_and_no_node_keeps_out_the_guests_of_others(node: Node) -> None:
    """Each has a part of those that may be on their way here, whether their numbers differ or not; none has the rest."""
    admit, number = node.control.channels.admit, iter(range(1, 1 << 20))
    node.world.me.status = PeerStatus(0, 10000, 1, 1000, 2000, 0, False)

    def taken(home: str, uid: int, same: int = 0) -> int:
        for count in range(MAX_PENDING + 1):
            token, direct = (next(number).to_bytes(16, "little") for _ in range(2))
            guest = replace(GUEST, pid=same or next(number), uid=uid, token=token, direct_token=direct, direct_key=bytes(32))
            if isinstance(admit(home, guest), GuestRefuse):
                return count
        return MAX_PENDING + 1

    assert [taken(OTHER, uid) for uid in (5, 6)] == [MAX_OF_NODE // 2, MAX_OF_NODE // 4]
    assert taken(OTHER, 7, same=7) == MAX_OF_NODE // 8
    assert taken(OTHER, 8) == MAX_OF_NODE // 16
    assert taken(HOME, 5) == MAX_OF_NODE // 2, "two connections of one guest count once"


# --------------------------------------------------------------------------- what nobody should send


@pytest.mark.parametrize("message", [*damage.messages(ControlMessages)], ids=lambda message: message.__name__)
async def test_damaged_messages_end_nothing(node: Node, message: type[Msg], caplog: pytest.LogCaptureFixture) -> None:
    """As the first message of anybody, and in the conversation of a tracer; the next launcher is served."""
    with await node.client(HelloTracer(os.getpid(), os.getpid(), os.getuid()), state(os.getpid())) as tracer:
        await until(lambda: os.getpid() in node.world.programs)
        for what, data in damage.damaged(message):
            if data:
                await tracer.send(data)
                with await node.client(data):
                    pass
            assert what
        await tracer.send(encode(state(os.getpid(), OTHER)))
        await until(lambda: node.world.programs[os.getpid()].state.where == OTHER)
        await tracer.send(encode(ProcGone(os.getpid())))
        await until(lambda: not node.world.programs)
    assert await node.ask(b"RUN\0needmem=5") == b"OK from tracer"
    assert "failed" not in caplog.text


async def test_a_number_that_is_too_long_while_messages_wait(node: Node) -> None:
    """The way of ``cpujob=999...``: what cannot be sent is dropped when it is posted, and the rest goes out."""
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Connection(ours)
    count = 0
    while not connection._queued:
        connection.post(Consider(1))
        count += 1
    connection.post(Adjust(1, 1, 0, 0, 0, Settings(cpujob=10**26), Start()))
    connection.post(Adjust(2, 1, 0, 0, 0, Settings(), Start(shown="x" * 70000)))
    connection.post(Consider(2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.pump)
        for _ in range(count):
            assert await theirs.recv(1000) == encode(Consider(1))
        assert await theirs.recv(1000) == encode(Consider(2))
        connection.close()
    theirs.close()


async def test_empty_messages_end_nothing(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    with await node.client(HelloTracer(os.getpid(), os.getpid(), os.getuid()), state(os.getpid())) as tracer:
        await until(lambda: os.getpid() in node.world.programs)
        for message in damage.messages(ControlMessages):
            await tracer.send(damage.plain(message))
        await tracer.send(encode(state(os.getpid(), OTHER)))
        await until(lambda: node.world.programs[os.getpid()].state.where == OTHER)
        await tracer.send(encode(ProcGone(os.getpid())))
        await until(lambda: os.getpid() not in node.world.programs)
    assert await node.ask(b"RUN\0needmem=5") == b"OK from tracer"
    assert "failed" not in caplog.text


async def test_all_that_a_process_said_before_its_end_counts() -> None:
    """The kernel tells a reset first, when it ended without having read all we said: a mailbox just given back was lost."""
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Connection(ours)
    connection.post(Consider(1))
    for n in range(3):
        await theirs.send(encode(Consider(n)))
    theirs.close()
    with trio.fail_after(10):
        assert [data async for data in connection.datagrams()] == [encode(Consider(n)) for n in range(3)]
    connection.close()


#: Neither root nor who runs these tests.
ANN = os.getuid() + 4321


async def test_names_that_take_long_keep_no_other_user_waiting(node: Node) -> None:
    """Whoever asks for hosts whose name server does not answer: numbers wait for nobody, other names for their own user's only."""
    slow, asked, resolve, threads = threading.Event(), threading.Semaphore(0), node.control.resolve, node.control.threads

    def waits(name: str) -> str | None:
        if name == "slow":
            asked.release()
            slow.wait(30)
        return resolve(name)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(looked_up, threads, ANN, waits, "slow")
            await trio.to_thread.run_sync(asked.acquire)
            with trio.fail_after(60):
                assert await node.ask(b"RUN\0node=other") == b"OK from tracer"
                await trio.to_thread.run_sync(bool)  # what mosd itself has to wait for
            assert await looked_up(threads, ANN, waits, "2") is None
            assert threads._limiters[ANN].borrowed_tokens <= THREADS.each
            nursery.cancel_scope.cancel()
    finally:
        slow.set()


async def test_a_thread_that_nobody_waits_for_any_more_is_still_its_users() -> None:
    threads, go_on = Threads(), threading.Event()
    with trio.move_on_after(0.01):
        await threads.run(ANN, go_on.wait, 30)
    assert [limiter.borrowed_tokens for limiter in threads._limiters.values()] == [1]
    assert await threads.run(0, max, 1, 2) == 2
    go_on.set()
    with trio.fail_after(30):
        while threads._limiters[ANN].borrowed_tokens:  # noqa: ASYNC110  nobody is told of it
            await trio.sleep(0.001)
    await threads.run(0, max, 1, 2)
    assert threads._limiters.keys() == {0}


async def test_whose_memory_does_not_come_holds_up_nobody(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line that the journal shows is in the launcher's memory, and who else looks there may hold it locked."""
    for_ever = threading.Event()

    def waits(pid: int) -> str:
        for_ever.wait(30)
        return ""

    monkeypatch.setattr(journal, "command_of", waits)
    monkeypatch.setattr(journal, "LOOK_PATIENCE", 0.1)
    said: list[dict[str, object]] = []
    monkeypatch.setattr(Journal, "say", lambda self, event, **facts: said.append(facts))
    node.control.journal.wish = os.devnull
    try:
        with trio.fail_after(60):
            assert (await node.ask(b"RUN\0node=nowhere")).startswith(b"ERR")
            assert await node.ask(b"RUN\0node=other") == b"OK from tracer"
        assert [facts["command"] for facts in said] == ["?", "?"]
    finally:
        for_ever.set()
