"""mos_autoconf(1): nodes of a simulated subnet, with strangers, other versions, duplicates, floods and lost datagrams."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest

import mosfs
from mosfs.cluster import discovery
from mosfs.cluster.discovery import FIND, HERE, MAX_DATAGRAM, TAKE, TAKEN, files, key_of, packed, unpacked
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.paths import NodePaths
from mosfs.tools import autoconf_node, mos_autoconf
from mosfs.tools.autoconf import Asker, interfaces, subnet_of
from mosfs.tools.autoconf_node import MOST_TICKETS, RATE, TICKET_LASTS, Answerer, take
from mosfs.tools.mosconf_person import Answers, hold
from mosfs.wire.versions import compatible

KEY, OTHER_KEY = key_of(b"the key of this cluster"), key_of(b"another key, of others")
OWN, PORT = "10.7.0.1", 253
ASKER = (OWN, 40000)


@dataclass
class Node:
    """One that answers; ``taken``: the files that it was told to write, ``checked``: how often it looked at some. ``wrong``: what
    it says of all files."""

    ip: str
    key: bytes = KEY
    version: str = mosfs.__version__
    wrong: str = ""
    taken: list[tuple[str, str]] = field(default_factory=list)
    checked: int = 0
    answerer: Answerer = field(init=False)

    def __post_init__(self) -> None:
        self.answerer = Answerer(self.key, self.take, lambda: "", f"node-{self.ip}", self.version)

    def take(self, mosix_map: str, view: str, write: bool) -> str:
        self.checked += not write
        if write and not self.wrong:
            self.taken.append((mosix_map, view))
        return self.wrong


class Net:
    """A socket, the subnet behind it, and its clock. ``lost``: share of the datagrams that do not arrive; ``late``: seconds that
    the nodes, which have much else to do, take for an answer."""

    def __init__(self, nodes: list[Node], lost: float = 0.0, seed: int = 1, late: float = 0.001) -> None:
        self.nodes, self.lost, self.random, self.time, self.late = nodes, lost, random.Random(seed), 0.0, late
        self.coming: list[tuple[float, bytes, tuple[str, int]]] = []
        self.timeout = 0.0

    def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        assert len(data) <= MAX_DATAGRAM
        all_of_it = to[0] == "10.7.255.255"
        for node in self.nodes if all_of_it else (node for node in self.nodes if node.ip == to[0]):
            if self.random.random() >= self.lost:
                reply = node.answerer.answer(data, ASKER, self.time)
                if reply and self.random.random() >= self.lost:
                    heapq.heappush(self.coming, (self.time + self.late + reply[1], reply[0], (node.ip, PORT)))

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        if not self.coming or self.coming[0][0] > self.time + self.timeout:
            self.time += self.timeout
            raise TimeoutError
        when, data, sender = heapq.heappop(self.coming)
        self.time = max(self.time, when)
        return data, sender


def asker(net: Any) -> Asker:
    return Asker(net, KEY, IPv4Interface(f"{OWN}/16"), IPv4Network("10.7.0.0/16"), PORT, lambda: net.time)


def many(count: int) -> list[Node]:
    return [Node(f"10.7.{at // 250}.{at % 250 + 2}") for at in range(count)]


# --------------------------------------------------------------------------- messages


def test_messages_are_read_again_and_no_others() -> None:
    data = packed(FIND, KEY, nonce="ab", version="1.2.3")
    assert unpacked(data, KEY) == (FIND, {"nonce": "ab", "version": "1.2.3"})
    assert unpacked(data, OTHER_KEY) is None
    for at in range(len(data)):
        assert unpacked(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], KEY) is None
        assert unpacked(data[:at], KEY) is None
    for text in ("[]", "1", '{"kind": "find"}', '{"kind": []}', '{"kind": "find", "nonce": 1, "version": ""}', "[" * 5000):
        body = text.encode()
        assert unpacked(discovery.MAGIC + discovery.hmac.digest(KEY, body, "sha256") + body, KEY) is None
    with pytest.raises(ValueError, match="not such a message"):
        packed(FIND, KEY, nonce="a" * 33, version="")


def test_the_first_two_digits_of_versions() -> None:
    assert compatible("4.4.1", "4.4.9") and not compatible("4.4.1", "4.3.1") and not compatible("4.4", "5.4")


def test_files_of_nodes() -> None:
    assert files(["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.255", "10.0.1.0"], 5) == (
        "10.0.0.1 2 p\n10.0.0.4 1 p\n10.0.0.255 2 p\n", "5 10.0.0.1 2\n7 10.0.0.4 1\n8 10.0.0.255 2\n")
    assert files(["10.0.0.1"], 0) == ("10.0.0.1 1 p\n", "")
    with pytest.raises(ConfigError):
        files([f"10.0.{at // 100}.{at % 100 * 2}" for at in range(300)], 1)
    with pytest.raises(ConfigError):
        files(["10.0.0.1", "10.0.0.2"], 65535)


# --------------------------------------------------------------------------- a node


def ask(node: Node, now: float = 0.0, who: tuple[str, int] = ASKER) -> dict[str, str]:
    reply = node.answerer.answer(packed(FIND, KEY, nonce="n", version="9.9"), who, now)
    assert reply is not None
    message = unpacked(reply[0], KEY)
    assert message is not None and message[0] == HERE
    return message[1]


def tell(node: Node, ticket: str, now: float = 0.0, who: tuple[str, int] = ASKER, text: str = "m", write: str = "1") -> str | None:
    reply = node.answerer.answer(packed(TAKE, KEY, ticket=ticket, map=text, view="", write=write), who, now)
    message = unpacked(reply[0], KEY) if reply else None
    assert message is None or message[0] == TAKEN
    return None if message is None else message[1]["error"]


def test_a_ticket_is_for_one_asker_one_request_and_a_while() -> None:
    node = Node("10.7.0.2")
    ticket = ask(node)["ticket"]
    assert tell(node, "0" * 32) is tell(node, ticket, who=("10.7.0.9", 1)) is tell(node, ticket, now=TICKET_LASTS + 1) is None
    assert tell(node, ticket, write="0") == ""
    assert tell(node, ticket, text="another") is None
    assert node.taken == []
    assert [tell(node, ticket, write="0") for _ in range(3)] == ["", "", ""] and node.checked == 1, "the answer may be late"
    assert [tell(node, ticket) for _ in range(3)] == ["", "", ""], "the answer may have been lost"
    assert node.taken == [("m", "")], "but it is written once"
    for _ in range(MOST_TICKETS):
        ask(node, now=5.0)
    assert tell(node, ticket, now=5.0) is None and len(node.answerer.tickets) == MOST_TICKETS


def test_a_flood_is_answered_so_often_a_second() -> None:
    node = Node("10.7.0.2")
    question = packed(FIND, KEY, nonce="n", version="")
    forged = packed(FIND, OTHER_KEY, nonce="n", version="")
    assert not any(node.answerer.answer(forged, ASKER, 0.5) for _ in range(5 * RATE))
    assert sum(node.answerer.answer(question, ASKER, 0.5) is not None for _ in range(5 * RATE)) == RATE, "others do not count"
    assert node.answerer.answer(question, ASKER, 1.5) is not None


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    etc = tmp_path / "etc/mosix"
    etc.mkdir(parents=True)
    (etc / "secret").write_text("the key of this cluster\n")
    (etc / "secret").chmod(0o600)
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    monkeypatch.setattr(autoconf_node, "local_addresses", lambda: ["127.0.0.1", OWN])
    return tmp_path


def test_a_node_takes_what_mosd_would_take_and_keeps_the_old(root: Path) -> None:
    paths, etc = NodePaths(str(root)), root / "etc/mosix"
    assert "none of this machine's addresses" in take(paths, "10.7.0.2 3 p\n", "", True)
    assert "not a number" in take(paths, "10.7.0.1 x p\n", "", True)
    assert take(paths, "10.7.0.1 3 p\n", "1 10.7.0.1 3\n", False) == ""
    assert not (etc / "mosix.map").exists()
    assert take(paths, "10.7.0.1 3 p\n", "1 10.7.0.1 3\n", True) == ""
    assert take(paths, "10.7.0.1 4 p\n", "", True) == ""
    assert (etc / "mosix.map").read_text() == "10.7.0.1 4 p\n" and (etc / "mosix.map.old").read_text() == "10.7.0.1 3 p\n"
    assert not (etc / "userview.map").exists(), "the numbers were of other nodes"
    assert sorted(file.name for file in etc.iterdir()) == ["mosix.map", "mosix.map.old", "secret", "userview.map.old"]


# --------------------------------------------------------------------------- a subnet


@pytest.mark.parametrize("lost", [0.0, 0.3])
@pytest.mark.parametrize("count", [0, 1, 40, pytest.param(200, marks=pytest.mark.long)])
def test_all_nodes_are_found_and_configured(count: int, lost: float) -> None:
    net = Net(many(count), lost)
    found = asker(net).look()
    assert found.nodes.keys() == {node.ip for node in net.nodes} and not found.twice and not found.others
    if count:
        assert asker(net).give(list(found.nodes), "the map", "numbers") == (True, {})
    assert all(node.taken == [("the map", "numbers")] for node in net.nodes)


def test_nodes_that_answer_late_are_found_and_configured() -> None:
    """Later than a round lasts, as on machines that have much else to do."""
    net = Net(many(20), late=1.2)
    found = asker(net).look()
    assert found.nodes.keys() == {node.ip for node in net.nodes}
    assert asker(net).give(list(found.nodes), "the map", "") == (True, {})
    assert all((node.taken, node.checked) == ([("the map", "")], 1) for node in net.nodes)


def test_strangers_other_keys_and_other_versions_are_left_out() -> None:
    net = Net([*many(3), Node("10.7.9.1", OTHER_KEY), Node("10.7.9.2", version="0.0.1"), Node("10.9.0.1"), Node("0.0.0.5")])
    found = asker(net).look()
    assert (len(found.nodes), list(found.others)) == (3, ["10.7.9.2"])
    lines = mos_autoconf.told(found, OWN)
    assert lines[0] == f"{OWN:15} this node" and "10.7.9.2" in lines[-1] and "does not work with" in lines[-1]


def test_two_nodes_with_one_address() -> None:
    found = asker(Net([*many(3), Node("10.7.0.3")])).look()
    assert found.twice == {"10.7.0.3"}
    assert mos_autoconf.told(found, OWN)[-1].startswith("10.7.0.3: two nodes answer")


def test_nobody_writes_unless_everybody_would() -> None:
    nodes = [*many(5), Node("10.7.3.3", wrong="mosip: not in mosix.map")]
    net = Net(nodes)
    ips = [node.ip for node in nodes]
    assert asker(net).give(ips, "m", "") == (False, {"10.7.3.3": "mosip: not in mosix.map"})
    assert asker(net).give([*ips[:5], "10.7.4.4"], "m", "") == (False, {"10.7.4.4": "does not answer any more"})
    assert not any(node.taken for node in nodes)


def test_what_is_no_subnet() -> None:
    assert str(subnet_of("192.168.3.7/24")) == "192.168.3.0/24"
    for word, said in (("192.168.3.7/8", "class B"), ("192.168.3/24", "not a subnet"), ("x", "not a subnet")):
        with pytest.raises(ValueError, match=said):
            subnet_of(word)
    assert any(str(each.ip) == "127.0.0.1" for each in interfaces())


# --------------------------------------------------------------------------- the command


@pytest.fixture
def subnet(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Node]], Net]:
    def use(nodes: list[Node]) -> Net:
        net = Net(nodes)
        monkeypatch.setattr(mos_autoconf, "interfaces", lambda: [IPv4Interface(f"{OWN}/16")])
        monkeypatch.setattr(mos_autoconf.Asker, "open", lambda *_: asker(net))
        return net

    return use


def run(root: Path, *answers: str) -> int:
    (root / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    return mos_autoconf.main(["--answers", str(root / "answers")])


def test_the_questions(root: Path, subnet: Callable[[list[Node]], Net], capsys: pytest.CaptureFixture[str]) -> None:
    net = subnet([Node("10.7.0.2"), Node("10.7.0.9")])
    assert run(root, "", "n", "y", "y", "11", "y") == 0
    wanted = "10.7.0.1 2 p\n10.7.0.9 1 p\n", "11 10.7.0.1 2\n13 10.7.0.9 1\n"
    assert [node.taken for node in net.nodes] == [[wanted]] * 2
    assert ((root / "etc/mosix/mosix.map").read_text(), (root / "etc/mosix/userview.map").read_text()) == wanted
    out = capsys.readouterr().out
    assert out.count("10.7.0.9        node-10.7.0.9") == 2 and out.endswith("3 nodes are configured.\n")


@pytest.mark.parametrize(("nodes", "answers", "said"), [
    ([Node("10.7.0.2")], ["", "y", "n", "n"], "nothing was written"),
    ([Node("10.7.0.2"), Node("10.7.0.2")], ["", "n"], "two nodes answer"),
    ([Node("10.7.0.2", wrong="no\x1b[2J")], ["", "y", "y", "", "y"], "10.7.0.2: no?[2J"),
    ([], ["10.8.0.0/16"], "no address there"),
    ([], ["10.0.0.0/8"], "class B"),
])
def test_what_ends_it(
    root: Path, subnet: Callable[[list[Node]], Net], nodes: list[Node], answers: list[str], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    subnet(nodes)
    assert run(root, *answers) == 1
    assert said in capsys.readouterr().err
    assert not (root / "etc/mosix/mosix.map").exists() and not any(node.taken for node in nodes)


def test_without_questions_and_as_json(
    root: Path, subnet: Callable[[list[Node]], Net], capsys: pytest.CaptureFixture[str]
) -> None:
    subnet([Node("10.7.0.2"), Node("10.7.0.3", version="0.1.9")])
    assert mos_autoconf.main(["--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [node["ip"] for node in listed["nodes"]] == ["10.7.0.2"] and listed["others"][0]["version"] == "0.1.9"
    assert mos_autoconf.main(["--yes"]) == 0
    assert (root / "etc/mosix/userview.map").read_text() == "1 10.7.0.1 2\n"
    (root / "etc/mosix/secret").unlink()
    assert mos_autoconf.main(["--yes"]) == 1
    assert "run mosconf key first" in capsys.readouterr().err


def test_mosconf_answers_serve_it_too(root: Path, subnet: Callable[[list[Node]], Net]) -> None:
    net = subnet([Node("10.7.0.2")])
    (root / "answers").write_text("y\nn\ny\n")
    person = Answers(str(root / "answers"))
    made = asker(net)
    options = mos_autoconf.MOS_AUTOCONF.parse([])
    assert hold(mos_autoconf.dialogue(made, made.look(), options), person) == ([OWN, "10.7.0.2"], 0)
