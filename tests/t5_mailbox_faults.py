"""Direct communication when something dies in the middle of traffic: the sender hears a documented error, nothing hangs, no message
comes twice, and what was accepted arrives unless its mailbox is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.mbox.model import Flag
from mosfs.tools import lab as labs
from mosfs.trace.proc import tracer_of
from tests.cluster import Lab, lab, wait_until
from tests.t5_mailbox import Robot, robot

#: What a sender may hear when something on the way is lost (direct_communication(7), ERROR NUMBERS).
LOST = {-errno.EIO, -errno.ETIMEDOUT, -errno.ENETUNREACH}
DEAD = {-errno.ESRCH}
#: Seconds of traffic when nothing ends it.
LONG = 300
#: Bytes of a message: in a datagram, and in a memory file.
SIZES = (20, pytest.param(200_000, marks=pytest.mark.long))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab"), 3) as running:
        yield running


def kill(pid: int) -> None:
    """kill -9; returns when it is gone."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert not labs._still({pidfd}, 30)
    os.close(pidfd)


def host_of(nodes: Lab, number: int, robot: Robot) -> int:
    """PID of the host of a robot that is away on node ``number``."""
    tree = nodes.tree(number)
    guest = next(pid for pid in tree.pids("guests") if tree.read(f"guests/{pid}/origpid") == str(robot.pid))
    return tracer_of(guest)


def begin_traffic(nodes: Lab, sender: Robot, receiver: Robot, size: int = 20) -> None:
    """Messages flow from one to the other."""
    assert receiver("open", Flag.NO_DELAY) == 1
    assert sender("send", f"0.0.0.0/{receiver.pid}", "0 ") == 2
    assert receiver("collect", 0.2) == [[0], 0]
    receiver.begin("collect", 3)
    sender.begin("pour", f"0.0.0.0/{receiver.pid}", LONG, size)
    time.sleep(0.5)


def in_order(numbers: list[int]) -> int:
    """Asserts that each message came once and in its turn; how many."""
    assert numbers == list(range(len(numbers)))
    return len(numbers)


# --------------------------------------------------------------------------- the receiver's side


@pytest.mark.parametrize("size", SIZES)
def test_the_receivers_host_dies(nodes: Lab, size: int) -> None:
    """Its program dies with it, and the sender hears what it hears of any program that has ended."""
    with robot(nodes, 1, "-2") as sender, robot(nodes, 1, "-3") as receiver:
        begin_traffic(nodes, sender, receiver, size)
        kill(host_of(nodes, 3, receiver))
        number, error = sender.end()
        assert number > 0 and error in DEAD
        assert receiver.process.wait(30) == -signal.SIGKILL
        assert sender("send", f"0.0.0.0/{receiver.pid}", "again") in DEAD


def test_the_receivers_tracer_dies(nodes: Lab) -> None:
    """Its mailbox is lost. (The receiver meets ENOSYS if it makes a call before another tracer has come.)"""
    with robot(nodes) as sender, robot(nodes) as receiver:
        begin_traffic(nodes, sender, receiver)
        kill(tracer_of(receiver.pid))
        number, error = sender.end()
        assert number > 0 and error in DEAD | {-errno.EACCES}
        assert sender("send", f"0.0.0.0/{receiver.pid}", "again") in DEAD | {-errno.EACCES}


@pytest.mark.long
def test_the_senders_tracer_dies(nodes: Lab) -> None:
    with robot(nodes) as sender, robot(nodes) as receiver:
        begin_traffic(nodes, sender, receiver)
        kill(tracer_of(sender.pid))
        read, heard = receiver.end()
        assert in_order(read) > 0 and heard == 0


@pytest.mark.long
def test_the_tracer_of_a_receiver_that_is_away_dies(nodes: Lab) -> None:
    with robot(nodes, 1, "-2") as sender, robot(nodes, 1, "-3") as receiver:
        begin_traffic(nodes, sender, receiver)
        kill(tracer_of(receiver.pid))
        number, error = sender.end()
        assert number > 0 and error in DEAD


@pytest.mark.parametrize("size", SIZES)
def test_the_post_office_of_the_receivers_node_dies(nodes: Lab, size: int) -> None:
    """The mailbox is lost: both hear it. When there is a mosd again, a new mailbox works, and nothing comes twice."""
    with robot(nodes, 1, "-2") as sender, robot(nodes, 1, "-3") as receiver:
        begin_traffic(nodes, sender, receiver, size)
        nodes.kill_mosd(3)
        number, error = sender.end()
        assert number > 0 and error in LOST
        read, heard = receiver.end()
        assert in_order(read) <= number + 1 and heard in (-errno.ECONNRESET, -errno.ENETUNREACH)
        nodes.start_mosd(3)
        wait_until(lambda: receiver("read", 10)[0] == -errno.ECONNRESET)
        assert receiver("open", Flag.NO_DELAY) == 1
        wait_until(lambda: sender("send", f"0.0.0.0/{receiver.pid}", "0 ") == 2)
        assert receiver("collect", 0.5) == [[0], 0]


# --------------------------------------------------------------------------- the sender's side


@pytest.mark.parametrize("size", SIZES)
def test_the_post_office_of_the_senders_node_dies(nodes: Lab, size: int) -> None:
    """What was accepted arrives once; the one under way may have arrived or not."""
    with robot(nodes, 1, "-2") as sender, robot(nodes, 1, "-3") as receiver:
        begin_traffic(nodes, sender, receiver, size)
        nodes.kill_mosd(2)
        number, error = sender.end()
        assert number > 0 and error in LOST
        read, heard = receiver.end()
        assert in_order(read) in (number, number + 1) and heard == 0
        nodes.start_mosd(2)
        wait_until(lambda: sender("send", f"0.0.0.0/{receiver.pid}", "0 ") == 2)
        assert receiver("collect", 0.5) == [[0], 0]


FAMILY = """
import errno, os, sys, time
box = os.open("/proc/mosix/mybox", os.O_CREAT, 8)  # of the parent: it looks whether its child lives
ready, tell = os.pipe()
if child := os.fork():
    os.read(ready, 1)
else:
    box = os.open("/proc/mosix/mybox", os.O_CREAT, 0)
    os.write(tell, b"x")
to = os.open(f"/proc/mosix/mbox/0.0.0.0/{child or os.getppid()}", 1)
size, number = int(sys.argv[1]), 0
def read():
    while True:
        try:
            return os.read(box, 1 << 20)
        except BlockingIOError:
            if os.waitpid(child, os.WNOHANG)[0]:
                while True:
                    os.write(to, b"")
                    time.sleep(0.01)
if child:
    print(child, flush=True)
    os.write(to, b"0".ljust(size))
try:
    while True:
        assert read() == (b"%d" % number).ljust(size)
        number += 1
        os.write(to, (b"%d" % (number if child else number - 1)).ljust(size))
except OSError as error:
    os.write(1, f"{'parent' if child else 'child'} {errno.errorcode[error.errno]} {number > 20}\\n".encode())
"""


@pytest.mark.parametrize("place", ["-h", "-2"])
@pytest.mark.parametrize("size", SIZES)
def test_a_mailbox_that_was_left_with_its_family(nodes: Lab, place: str, size: int) -> None:
    """Who sends and who reads have the same tracer or host, which serves them alone until somebody else wants to know."""
    node = 1 if place == "-h" else 2
    with nodes.start(1, "mosrun", place, sys.executable, "-c", FAMILY, str(size), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        home = nodes.node(1).ip
        try:
            wait_until(lambda: child in nodes.tree(node).pids(f"mbox/{home}"))
            for _ in range(100):
                assert nodes.tree(node).read(f"mbox/{home}/{child}").startswith("messages ")
            time.sleep(0.5)
        finally:
            kill(child)
        assert process.stdout.read().split() == [b"parent", b"ESRCH", b"True"]
        assert process.wait(30) == 0


@pytest.mark.parametrize("place", ["-h", "-2"])
def test_the_post_office_dies_that_had_left_a_mailbox(nodes: Lab, place: str) -> None:
    node = 1 if place == "-h" else 2
    with nodes.start(1, "mosrun", place, sys.executable, "-c", FAMILY, "20", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        wait_until(lambda: child in nodes.tree(node).pids(f"mbox/{nodes.node(1).ip}"))
        time.sleep(0.5)
        nodes.kill_mosd(node)
        try:
            heard = [line.split() for line in process.stdout.read().decode().splitlines()]
        finally:
            nodes.start_mosd(node)
        assert {who for who, _, _ in heard} == {"parent", "child"}
        assert {error for _, error, _ in heard} <= {"ENETUNREACH", "ECONNRESET", "EIO", "EACCES", "ESRCH"}


@pytest.mark.long
@pytest.mark.parametrize("size", [20, 200_000])
def test_the_senders_host_dies(nodes: Lab, size: int) -> None:
    with robot(nodes, 1, "-2") as sender, robot(nodes, 1, "-3") as receiver:
        begin_traffic(nodes, sender, receiver, size)
        kill(host_of(nodes, 2, sender))
        assert sender.process.wait(30) == -signal.SIGKILL
        read, heard = receiver.end()
        assert in_order(read) > 0 and heard == 0


# --------------------------------------------------------------------------- home, and nodes


@pytest.mark.parametrize("size", SIZES)
def test_the_post_office_of_home_dies(nodes: Lab, size: int) -> None:
    """Traffic between two other nodes goes on without it, and the next one knows again where mailboxes are."""
    with robot(nodes, 1, "-2") as sender, robot(nodes, 1, "-3") as receiver, robot(nodes) as another:
        assert receiver("open", Flag.NO_DELAY) == 1
        to = f"0.0.0.0/{receiver.pid}"
        assert sender("send", to, "0 ") == 2
        assert receiver("collect", 0.2) == [[0], 0]
        receiver.begin("collect", 3)
        sender.begin("pour", to, 3, size)
        time.sleep(0.5)
        nodes.kill_mosd(1)
        assert another("send", to, "?") == -errno.ENETUNREACH
        nodes.start_mosd(1)
        number, error = sender.end()
        assert error == 0
        assert receiver.end() == [list(range(number)), 0]
        wait_until(lambda: another("send", to, "0 ") == 2)
        assert receiver("collect", 0.5) == [[0], 0]
        assert receiver("migrate", 2) == 0
        assert another("send", to, "0 ") == 2
        assert receiver("collect", 0.5) == [[0], 0]


@pytest.mark.parametrize("place", ["-h", pytest.param("-2", marks=pytest.mark.long)])
def test_on_one_node_no_network_is_used(place: str, tmp_path: Path) -> None:
    """Two programs on one node talk while no other node has a mosd; at home by 0.0.0.0."""
    with lab(tmp_path, 2) as pair, robot(pair, 1, place) as sender, robot(pair, 1, place) as receiver:
        assert receiver("open", Flag.NO_DELAY) == 1
        assert receiver("read", 1)[0] == -errno.EAGAIN
        pair.kill_mosd(2 if place == "-h" else 1)
        assert sender("send", f"0.0.0.0/{receiver.pid}", "0 ") == 2
        assert receiver("collect", 0.2) == [[0], 0]


def test_a_home_that_leaves_the_map(tmp_path: Path) -> None:
    with lab(tmp_path, 2) as pair, robot(pair, 1) as sender, robot(pair, 2) as receiver:
        wait_until(lambda: pair.tree(1).read(f"nodes/{pair.node(2).ip}/status").strip() == "alive")
        assert receiver("open", Flag.NO_DELAY | Flag.OTHER_HOMES) == 1
        to = f"{pair.node(2).ip}/{receiver.pid}"
        assert sender("send", to, "x") == 1
        path = Path(pair.node(1).paths.mosix_map)
        before = path.read_text()
        path.write_text(f"{pair.node(1).ip} 1 p\n")
        wait_until(lambda: sender("send", to, "x") != 1)
        assert sender("send", to, "x") == -errno.ECONNABORTED
        path.write_text(before)


@pytest.mark.long
def test_an_office_with_another_secret_refuses(tmp_path: Path) -> None:
    with lab(tmp_path, 2) as pair, robot(pair, 1) as sender, robot(pair, 2) as receiver:
        assert receiver("open", Flag.NO_DELAY | Flag.OTHER_HOMES) == 1
        secret = Path(pair.node(2).paths.secret)
        pair.kill_mosd(2)
        secret.write_text("another secret of this test\n")
        pair.start_mosd(2)
        assert sender("send", f"{pair.node(2).ip}/{receiver.pid}", "x") == -errno.ECONNREFUSED


# --------------------------------------------------------------------------- a node that is cut off


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, 3, netns=True) as running:
        yield running


def wire(nodes: Lab, number: int, state: str) -> None:
    """The network wire of a node, "down" or "up"."""
    namespace = nodes.node(number).namespace
    subprocess.run(["nsenter", f"--net={namespace}", "ip", "link", "set", "eth0", state], check=True)


@pytest.mark.long
@pytest.mark.parametrize("cut", [2, 3])
def test_a_node_is_cut_off(wires: Lab, cut: int) -> None:
    """Its programs are lost, as their home sees it; the others hear an error in bounded time, and go on."""
    with robot(wires, 1, "-2") as sender, robot(wires, 1, "-3") as receiver, robot(wires) as third:
        begin_traffic(wires, sender, receiver)
        wire(wires, cut, "down")
        if cut == 3:
            number, error = sender.end()
            assert number > 0 and error in LOST | DEAD
            assert receiver.process.wait(120) == -signal.SIGKILL
            assert third("send", f"0.0.0.0/{receiver.pid}", "x") in DEAD
        else:
            read, heard = receiver.end()
            assert in_order(read) > 0 and heard == 0
            assert sender.process.wait(120) == -signal.SIGKILL
        left = sender if cut == 3 else receiver
        assert left("open", Flag.NO_DELAY) == 1
        assert third("send", f"0.0.0.0/{left.pid}", "0 ") == 2
        assert left("collect", 0.5) == [[0], 0]
        wire(wires, cut, "up")
        wait_until(lambda: not wires.tree(cut).pids("guests"), 60)
        wait_until(lambda: left("migrate", cut) == 0, 60)
        assert third("send", f"0.0.0.0/{left.pid}", "0 ") == 2
        assert left("collect", 0.5) == [[0], 0]
