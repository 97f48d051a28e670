"""An ordinary user and a node with the secret play the attacker; afterwards mosd and the programs of others live."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from mosfs.abi import cpu
from mosfs.cluster.address import as_unsigned
from mosfs.cluster.load import load
from mosfs.guest.serve import MOST_ILLEGAL
from mosfs.tools.lab import mosds
from mosfs.wire import links
from mosfs.wire.limits import CONNECTIONS, REQUESTS, STRANGERS, WAITING
from mosfs.wire.links import LinkError
from mosfs.wire.messages import (
    WIRE_VERSION,
    GuestAccept,
    GuestRefuse,
    GuestRequest,
    Peer,
    PeerHello,
    PeerMsg,
    PostAnswer,
    PostClaim,
    PostClaimed,
    PostDeliver,
    PostFetch,
    PostFetched,
    PostSignal,
)
from mosfs.wire.sealed import SealedLink, seal
from mosfs.wire.security import identity
from tests import cluster, damage
from tests.cluster import Lab, wait_until

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Lab]:
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        with cluster.lab(Path(root), 3) as made:
            yield made


@contextmanager
def others_live(nodes: Lab) -> Iterator[None]:
    """A program of root goes on, at home and away, the daemons are the same, and the tree and mosrun still work."""
    before = mosds(nodes.plan)
    assert len(before) == 3
    with nodes.start(1, "mosrun", "-2", "sleep", "600") as program:
        try:
            nodes.process(program.pid, 1)
            yield
            assert mosds(nodes.plan) == before
            assert program.poll() is None
            assert Path(nodes.node(1).paths.mount, "node/ip").read_text().strip() == nodes.node(1).ip
            assert nodes.run(1, "mosrun", "-3", "echo", "here").stdout == "here\n"
        finally:
            program.kill()


def user(nodes: Lab, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return nodes.run(1, "sh", "-c", script, user=NOBODY, group=NOBODY, extra_groups=(), errors="surrogateescape", **options)


@cluster.others
def test_names_that_are_no_utf8(nodes: Lab, tmp_path: Path) -> None:
    script = (
        'f="/tmp/mosfs-rogue/a$(printf "\\377")b"; echo hi > "$f"; ls "$MOUNT/ptf/$$/tmp/mosfs-rogue"; cat "$MOUNT/ptf/$$$f";'
        ' stat -c %s "$MOUNT/ptf/$$$f"'
    )
    with others_live(nodes):
        done = user(nodes, f"LC_ALL=C exec mosrun -h -X/tmp/mosfs-rogue /bin/sh -c '{script}'")
        assert done.stdout.split() == ["a\udcffb", "hi", "3"], done.stderr


@cluster.others
def test_what_cannot_be_done_in_the_tree(nodes: Lab) -> None:
    with others_live(nodes):
        script = "cd $MOUNT; touch x; mkdir x; rm node/stay; echo 1 > node/nosuch; ln -s a b; mv node x; rmdir proc; rm node"
        done = user(nodes, script)
        assert "not implemented" not in done.stderr
        assert len(done.stderr.splitlines()) == 8, done.stderr


ATTACKS = [
    *(b"RUN\0" + key + b"=" + b"9" * 26 for key in (b"cpujob", b"needmem", b"trace", b"decay", b"lock")),
    b"RUN\0cpujob=" + b"9" * 60000, b"RUN\0node=" + b"x" * 60000, b"RUN\0private=/" + b"x" * 60000, b"RUN\0\xff\xfe",
    b"RUN\0needmem=-99999999999", b"NATIVE\0" + b"x" * 60000, bytes(60000),
]  # fmt: skip


def control(nodes: Lab, stack: ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    sock.connect(nodes.node(1).paths.socket)
    sock.settimeout(20)
    return sock


@contextmanager
def as_nobody() -> Iterator[None]:
    """What the kernel tells of who connects is the effective user."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_launchers_that_ask_for_nonsense(nodes: Lab) -> None:
    with others_live(nodes), ExitStack() as stack, as_nobody():
        for text in ATTACKS * 3:
            control(nodes, stack).send(text)


def test_a_user_who_wants_all_connections(nodes: Lab) -> None:
    """Silent ones and programs that wait for memory; meanwhile root's mosrun works, and afterwards the user's."""
    with others_live(nodes), ExitStack() as stack:
        with as_nobody():
            waiting = [control(nodes, stack) for _ in range(WAITING.each + 20)]
            for sock in waiting:
                sock.send(b"RUN\0node=best\0needmem=262143")
            refused = [sock for sock in waiting if _answered(sock)]
            silent = [control(nodes, stack) for _ in range(CONNECTIONS.each + 20)]
        assert len(refused) >= 20 and silent
        assert nodes.run(1, "mosrun", "-2", "echo", "root's").stdout == "root's\n"
        stack.close()
        wait_until(lambda: user(nodes, "mosrun -h echo mine").stdout == "mine\n")


def _answered(sock: socket.socket) -> bool:
    sock.settimeout(0.05)
    try:
        return sock.recv(200).startswith(b"ERR\0too many")
    except TimeoutError:
        return False


WRITERS = """
import errno, os, sys, threading
def write(pid):
    try:
        os.write(os.open(sys.argv[1] + "/" + str(pid), os.O_WRONLY), b"x")
    except OSError as error:
        os.write(1, (errno.errorcode[error.errno] + "\\n").encode())
for thread in [threading.Thread(target=write, args=[1000 + n]) for n in range(150)]:
    thread.start()
"""


def test_writers_to_a_node_that_does_not_answer(nodes: Lab) -> None:
    """Its share of them waits, the others hear EAGAIN; and the tree answers everybody else while they wait."""
    with others_live(nodes):
        silent, mount = nodes.mosd(3), Path(nodes.node(1).paths.mount)
        target = str(mount / "mbox" / nodes.node(3).ip)  # a file each: the kernel lets one write at a time into the same
        command = [sys.executable, "-c", WRITERS, target]
        os.kill(silent, signal.SIGSTOP)
        try:
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, user=NOBODY, group=NOBODY, extra_groups=()
            ) as writers:
                assert writers.stdout is not None
                at_once = [writers.stdout.readline() for _ in range(150 - REQUESTS.each)]
                for _ in range(50):
                    assert (mount / "node/ip").read_text().strip() == nodes.node(1).ip
                assert writers.poll() is None, "the others must wait still"
                assert set(at_once) == {"EAGAIN\n"}
                later = writers.stdout.read().split()
                assert set(later) == {"ETIMEDOUT"} and len(later) == REQUESTS.each
        finally:
            os.kill(silent, signal.SIGCONT)
        wait_until(lambda: (mount / "nodes" / nodes.node(3).ip / "status").read_text() == "alive\n")


# --------------------------------------------------------------------------- from other addresses


def rss(pid: int) -> int:
    """Megabytes."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) >> 10


@pytest.mark.parametrize("port", [253, 252])
def test_half_open_connections(nodes: Lab, port: int) -> None:
    """Ten times as many as may be, each at the beginning of TLS: memory and log stay small, and nodes talk to each other."""
    node = nodes.node(1)
    [pid] = [int(Path(node.paths.pid).read_text())]
    before, log = rss(pid), os.path.getsize(node.paths.log)
    hello = bytes.fromhex("1603010200010001fc0303") + bytes(100)
    with others_live(nodes), ExitStack() as stack:
        for n in range(10 * STRANGERS):
            sock = stack.enter_context(socket.socket())
            sock.bind((f"127.250.{n // 200}.{n % 200 + 1}", 0))
            sock.settimeout(5)
            sock.connect((node.ip, port))
            with_suppressed(sock, hello)
        assert nodes.run(2, "mosrun", "-1", "echo", "through").stdout == "through\n"
        assert rss(pid) - before < 40
    assert os.path.getsize(node.paths.log) - log < 1 << 20


def with_suppressed(sock: socket.socket, data: bytes) -> None:
    try:
        sock.send(data)
    except OSError:
        pass  # it was not let in


# --------------------------------------------------------------------------- a node with the secret


@contextmanager
def rogue(nodes: Lab) -> Iterator[Any]:
    """The secret and the address of node 3, whose own mosd goes on beside."""
    node = nodes.node(3)
    known = load(node.paths)
    yield identity(known.secret, node.ip), PeerHello(WIRE_VERSION, nodes_version(), node.ip, "", "x", 10000, 1), node.ip


def nodes_version() -> str:
    import mosfs

    return mosfs.__version__


async def dial(nodes: Lab, who: Any, port: int) -> Any:
    keys, hello, ip = who
    link, _ = await links.dial(ip, nodes.node(1).ip, port, keys, hello)
    return await seal(link, caller=True) if port == 252 else link


@pytest.mark.parametrize("port", [253, 252])
def test_messages_of_a_peer_that_are_none(nodes: Lab, port: int) -> None:
    """Every field of every message wrong in every way: such a message ends its connection, and nothing else."""

    async def attack(who: Any) -> None:
        sent = 0
        for message in damage.messages(Peer):
            for _, data in [("plain", damage.plain(message)), *list(damage.damaged(message))[::7]]:
                link = await dial(nodes, who, port)
                if isinstance(link, SealedLink):
                    await link._push(memoryview(link._sealed(data)))
                else:
                    await link.send_raw(len(data).to_bytes(4, "big") + data)
                with trio.move_on_after(0.02):
                    await link.receive()
                await link.close()
                sent += 1
        assert sent > 50

    with others_live(nodes), rogue(nodes) as who:
        trio.run(attack, who)


LINES = ("", "sse xcr0=-1", "avx512f " * 2000, "xcr0=ffffffffffffffffff sigframe=1e9", "none_such abm xcr0=7 sigframe=0", "\n\0")
VERSIONS = ("", "x", "0", "0.1.99999999999999999999", "1.0.0", "99.99.99", "-1.-1.-1", "0.1." * 15, "\u0661.\u0662.\u0663")


def test_a_peer_that_lies_about_its_processor_and_version(nodes: Lab) -> None:
    """Its requests are answered with a reason, whatever it says it is; strange versions are no peers."""
    here = cpu.parse(cpu.features()).flags
    lacking = sorted(cpu.USER_FLAGS - here)[0]

    async def refusal(link: Any, ip: str, features: str, needs: list[str]) -> str:
        await link.send(GuestRequest(1, 7, 0, "liar", 0, features, os.urandom(16), os.urandom(32), False, needs=needs))
        with trio.fail_after(20):
            while not isinstance(answer := await link.receive(), GuestAccept | GuestRefuse):
                assert answer is not None, "the link has ended"
        return answer.reason if isinstance(answer, GuestRefuse) else ""

    async def attack(who: Any) -> None:
        keys, hello, ip = who
        for line in LINES:
            link = await dial(nodes, (keys, replace(hello, features=line), ip), 253)
            target = nodes.node(1).ip
            assert await refusal(link, ip, line, [lacking]) == f"needs {lacking}, which {target} lacks"
            assert await refusal(link, ip, line, ["none_such"]) == f"needs none_such, which {target} lacks"
            assert await refusal(link, ip, line, []) == ""
            await link.close()
        for version in VERSIONS:
            with suppress(LinkError):
                link = await dial(nodes, (keys, replace(hello, version=version), ip), 253)
                await link.close()

    with others_live(nodes), rogue(nodes) as who:
        trio.run(attack, who)


async def ask(link: SealedLink, message: PeerMsg) -> PostAnswer:
    await link.send(message)
    with trio.fail_after(20):
        answer = await link.receive()
    assert isinstance(answer, PostAnswer)
    return answer


RECEIVER = """
import os, sys, time
fd = os.open("/proc/mosix/mybox", os.O_CREAT, 1 | 2 | 4)
print("ready", flush=True)
print(os.read(fd, 100).decode(), flush=True)
"""


async def speak(nodes: Lab, who: Any, message: PostDeliver, results: dict[Any, int]) -> None:
    link = await dial(nodes, who, 252)
    results[message.home, message.pid, message.uid] = (await ask(link, message)).result
    await link.close()


async def take(nodes: Lab, who: Any, me: int, victim: int, sleeper: int) -> None:
    """The mailbox of a program that is not there, and signals for another one, in every way."""
    link = await dial(nodes, who, 252)
    assert (await ask(link, PostFetch(me, victim))).result == errno.EACCES
    assert (await ask(link, PostFetched(me, victim, 0))).result == errno.EACCES
    assert (await ask(link, PostSignal(sleeper))).result == 0  # and nothing happens: it would end it
    assert (await ask(link, PostClaim(victim))).result == errno.EAGAIN
    await ask(link, PostClaimed(victim, True))
    assert (await ask(link, PostFetch(me, victim))).result == errno.EACCES
    await link.close()
    for name, late in ((b"a", False), (b"b", True)):
        link = await dial(nodes, who, 252)
        await link.send(PostDeliver(name, 2**32 - 1, 1, NOBODY, NOBODY, me, victim, 1 << 22, False, late))
        await link.close()


def test_mailboxes_of_programs_that_are_not_there(nodes: Lab) -> None:
    """A node may have the mailbox of a program that is on it, and send in its name as its user, and do neither for another."""
    me, second, own = (as_unsigned(nodes.node(number).ip) for number in (1, 2, 3))
    results: dict[Any, int] = {}

    async def attack(who: Any, victim: int, sleeper: int, names: list[tuple[int, int, int]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, nodes, who, me, victim, sleeper)
            for home, pid, user in names:
                message = PostDeliver(b"n", home, pid, user, user, me, victim, 10, True)
                nursery.start_soon(speak, nodes, who, message, results)

    with ExitStack() as stack:
        stack.enter_context(others_live(nodes))
        who = stack.enter_context(rogue(nodes))

        def start(node: int, *command: str, **options: Any) -> subprocess.Popen[str]:
            made = stack.enter_context(nodes.start(node, "mosrun", *command, text=True, **options))
            stack.callback(made.kill)
            return made

        receiver = start(1, "-h", sys.executable, "-c", RECEIVER, stdout=subprocess.PIPE)
        here = {n: start(n, "-h", "sleep", "600", user=NOBODY, group=NOBODY) for n in (1, 2)}
        there = {n: start(n, "-3", "sleep", "600", user=NOBODY, group=NOBODY) for n in (1, 2)}
        assert receiver.stdout is not None and receiver.stdout.readline() == "ready\n"
        expected = {(own, 1, 0): 0, (1, 1, 0): errno.EACCES}
        for number, home in ((1, me), (2, second)):
            nodes.process(here[number].pid, number)
            wait_until(lambda pid=there[number].pid, number=number: nodes.process(pid, number).where == nodes.node(3).ip)
            expected |= {
                (home, there[number].pid, NOBODY): 0,
                (home, there[number].pid, 0): errno.EACCES,
                (home, here[number].pid, NOBODY): errno.EACCES,
                (home, 1, 0): errno.EACCES,
            }
        trio.run(attack, who, receiver.pid, here[1].pid, list(expected))
        assert results == expected
        time.sleep(0.2)
        assert here[1].poll() is None
        Path(nodes.node(1).paths.mount, "mbox", nodes.node(1).ip, str(receiver.pid)).write_text("still mine")
        assert receiver.stdout.readline() == "still mine\n"


def test_a_file_of_mbox_names_who_opened_it(nodes: Lab) -> None:
    """A child of another user writes to what was handed to it: the sender is who opened the file, as the manual says."""
    program = (sys.executable, "-c", RECEIVER.replace("os.read", "time.sleep(600) or os.read"))
    with nodes.start(1, "mosrun", "-h", *program, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout is not None and receiver.stdout.readline() == "ready\n"
            box = Path(nodes.node(1).paths.mount, "mbox", nodes.node(1).ip, str(receiver.pid))
            with box.open("wb", buffering=0) as file:
                subprocess.run(["sh", "-c", "printf hello"], stdout=file, user=NOBODY, check=True)
            *_, last = box.read_text().splitlines()
            assert last == f"{nodes.node(1).ip} {os.getpid()} {nodes.node(1).ip} 5"
        finally:
            receiver.kill()


ILLEGAL = """
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
for number in range(1000, 1040):
    for again in range(3):
        assert call(number) == -1 and ctypes.get_errno() == 38
print("PASS")
"""


def test_a_log_full_of_calls_that_do_not_exist(nodes: Lab) -> None:
    """`mosrun -e` lets a program go on after them: each number stands in the log once, and not all of them."""
    log = Path(nodes.node(2).paths.log)
    before = log.read_text().count("illegal call")
    done = nodes.run(1, "mosrun", "-e", "-2", sys.executable, "-c", ILLEGAL)
    assert (done.stdout, done.returncode) == ("PASS\n", 0), done.stderr
    wait_until(lambda: log.read_text().count("illegal call") - before == MOST_ILLEGAL)
