"""Real daemons on loopback that get to know each other, lose each other, and are sent bad datagrams."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.tools import lab as labs
from mosfs.wire.datagram import MAX_DATAGRAM, Datagram, pack_facts, seal
from mosfs.wire.messages import PeerStatus
from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = pytest.mark.root

COUNT = 8


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("gossip"), COUNT) as running:
        yield running


def read(lab: Lab, number: int, path: str) -> str:
    return Path(lab.node(number).paths.mount, path).read_text().rstrip("\n")


def counters(lab: Lab, number: int) -> dict[str, int]:
    return dict(json.loads(read(lab, number, "node/gossip")))


def statuses(lab: Lab, number: int) -> list[str]:
    return [read(lab, number, f"nodes/{node.ip}/status") for node in lab.plan.nodes()]


def everybody_knows_everybody(lab: Lab) -> bool:
    return all(statuses(lab, node.number) == ["alive"] * COUNT for node in lab.plan.nodes())


def port() -> int:
    return int((os.geteuid() and labs.USER_PORTS["MOSIX_PORT_GOSSIP"]) or 249)


def test_daemons_get_to_know_each_other_without_links(lab: Lab) -> None:
    wait_until(lambda: everybody_knows_everybody(lab))
    found = json.loads(read(lab, 1, f"nodes/{lab.node(COUNT).ip}/stat"))
    assert found["ncpus"] >= 1 and found["mem_total"] > 0 and found["version"] == read(lab, 1, "node/version")
    assert 0 <= found["age"] < 60
    assert "link to" not in Path(lab.node(1).paths.log).read_text()
    assert not {"forged", "replayed", "malformed", "stranger"} & counters(lab, 1).keys()


def test_death_and_return(lab: Lab) -> None:
    wait_until(lambda: everybody_knows_everybody(lab))
    lab.kill_mosd(3)
    others = [number for number in range(1, COUNT + 1) if number != 3]
    wait_until(lambda: all(statuses(lab, number)[2] == "dead" for number in others))
    assert all(statuses(lab, number).count("alive") == COUNT - 1 for number in others)
    lab.start_mosd(3)
    wait_until(lambda: everybody_knows_everybody(lab))


def test_one_that_ends_says_so(lab: Lab) -> None:
    wait_until(lambda: everybody_knows_everybody(lab))
    lost = sum(counters(lab, number).get("lost", 0) for number in (1, 2, 3))
    pidfd = os.pidfd_open(lab.mosd(4))
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    labs._still({pidfd}, 30)
    os.close(pidfd)
    wait_until(lambda: all(statuses(lab, number)[3] == "dead" for number in (1, 2, 3)))
    assert sum(counters(lab, number).get("lost", 0) for number in (1, 2, 3)) <= lost + 3
    lab.start_mosd(4)
    wait_until(lambda: everybody_knows_everybody(lab))


def test_a_stopped_node_is_dead_and_comes_back(lab: Lab) -> None:
    """It blames nobody for the time it slept."""
    wait_until(lambda: everybody_knows_everybody(lab))
    os.kill(lab.mosd(5), signal.SIGSTOP)
    try:
        wait_until(lambda: statuses(lab, 1)[4] == "dead")
    finally:
        os.kill(lab.mosd(5), signal.SIGCONT)
    wait_until(lambda: everybody_knows_everybody(lab))


def test_bad_datagrams_are_counted_and_change_nothing(lab: Lab) -> None:
    wait_until(lambda: everybody_knows_everybody(lab))
    me, other = lab.node(1), lab.node(2)
    facts = pack_facts(PeerStatus(987654, 1, 1, 1, 1, 1, True), "9.9.9")
    number = int.from_bytes(socket.inet_aton(other.ip), "big")
    forged = seal(Datagram(number, 1, 1, items=[(number, 0, 0, facts), (number + 1, 0, 9, b"")]), b"not the secret" * 2)
    before = counters(lab, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as users:
        users.bind((other.ip, 0))
        for _ in range(50):  # the kernel drops these
            users.sendto(forged, (me.ip, port()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((other.ip, 700 if port() < 1024 else 0))
        for data in (b"", b"x", bytes(100), bytes(MAX_DATAGRAM + 100), forged, forged[:-1], forged):
            sock.sendto(data, (me.ip, port()))

    def counted(name: str) -> int:
        return counters(lab, 1).get(name, 0) - before.get(name, 0)

    wait_until(lambda: (counted("truncated"), counted("huge"), counted("forged")) == (2, 1, 4))
    stat = json.loads(read(lab, 1, f"nodes/{other.ip}/stat"))
    assert stat["load"] < 987654 and stat["version"] != "9.9.9" and stat["status"] == "alive"
    log = Path(me.paths.log).read_text()
    assert log.count(f"Authentication violation with {other.ip}") == 1
    assert "Traceback" not in log


def test_a_fixed_probe_and_what_others_see_of_it(lab: Lab) -> None:
    """The file is read again when it changes; nonsense in it is one line in the log."""
    node = lab.node(6)
    Path(node.paths.probe).write_text("fixed:load=4321,speed=777,ncpus=3,free=5,total=50\n")
    names = ("load", "speed", "ncpus", "mem_free", "mem_total")
    shown = f"nodes/{node.ip}/stat"
    wait_until(lambda: [json.loads(read(lab, 1, shown))[name] for name in names] == [4321, 777, 3, 5, 50])
    Path(node.paths.probe).write_text("fixed:weight=1\n")
    wait_until(lambda: f"{node.paths.probe}, line 1: " in Path(node.paths.log).read_text())
    assert read(lab, 6, "node/load") == "4321"
    Path(node.paths.probe).unlink()
    wait_until(lambda: read(lab, 6, "node/load") != "4321")
