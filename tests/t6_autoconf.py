"""mos_autoconf(1) over real datagrams: forty nodes with networks of their own, on one bridge with others that must not count."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import pytest

from mosfs.tools import netns
from mosfs.tools.options import UserError
from tests.patience import Patience
from tests.progs import REPO

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(1800)]
COUNT = 40
OURS = [f"10.78.0.{number}" for number in range(1, COUNT + 1)]
STRANGERS, OLD, FLOOD, TWIN = ["10.78.0.101", "10.78.0.102"], "10.78.0.103", "10.78.0.104", OURS[6]
KEY, OTHER_KEY = "the key of forty nodes", "the key of somebody else"
MAP, VIEW = f"{OURS[0]} {COUNT} p\n", f"101 {OURS[0]} {COUNT}\n"

PLAIN = "from mosfs.tools.mos_autoconf import main; import sys; sys.exit(main(sys.argv[1:]))"
#: A node of another version; one of which every second datagram is lost.
OTHER_VERSION = f"import mosfs; mosfs.__version__ = '0.0.1'; {PLAIN}"
LOSSY = f"""
from itertools import count
from mosfs.tools import autoconf_node
send, sent = autoconf_node._send, count()
autoconf_node._send = lambda *given: send(*given) if next(sent) % 2 else None
{PLAIN}
"""
#: Datagrams that are none, of another key, and of ours but sent again: a question that somebody has recorded.
NOISE = f"""
import random, socket, time
from mosfs.cluster.discovery import FIND, key_of, packed
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
theirs, kept = (packed(FIND, key_of(key), nonce="x", version="9") for key in ({OTHER_KEY.encode()!r}, {KEY.encode()!r}))
for number in range(300):
    for data in (random.randbytes(900), theirs, theirs[:50], kept if number % 10 == 0 else b""):
        sock.sendto(data, ("10.78.0.255", 253))
    time.sleep(0.05)
"""


@dataclass
class Subnet:
    """Nodes by name; each has a network of its own and a root of its own below ``folder``."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def etc(self, name: str) -> Path:
        return self.folder / name / "root/etc/mosix"

    def command(self, name: str, code: str, *words: str) -> list[str]:
        root = f"MOSIX_ROOT={self.folder / name / 'root'}"
        return ["nsenter", f"--net={self.folder / name / 'net'}", "env", root, sys.executable, "-c", code, *words]

    def start(self, name: str, code: str, *words: str) -> None:
        said = (self.folder / name / "said").open("wb")
        with said:
            self.running.append(subprocess.Popen(self.command(name, code, *words), cwd=REPO, stdout=said, stderr=said))

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """mos_autoconf on the first node."""
        return subprocess.run(
            self.command(OURS[0], PLAIN, *words), cwd=REPO, capture_output=True, text=True, check=False, timeout=600)

    def listed(self) -> dict[str, set[str]]:
        """Addresses that are found, those of other versions, and those of two nodes."""
        found = json.loads(self.ask("--list", "--json").stdout)
        return {"nodes": {node["ip"] for node in found["nodes"]}, "others": {node["ip"] for node in found["others"]},
                "twice": set(found["twice"])}

    def written(self, name: str) -> dict[str, str]:
        """The files of a node. Those of an attempt before, of which an answer was lost, are ``old``; a folder is that of a check
        of the same files again, when a datagram came twice."""
        ours = [file for file in self.etc(name).iterdir() if file.suffix != ".old" and file.name != "secret" and file.is_file()]
        return {file.name: file.read_text() for file in ours}


@contextmanager
def subnet(folder: Path, keys: dict[str, tuple[str, str]]) -> Iterator[Subnet]:
    """``keys``: name to IP and key. What was started in it is ended."""
    made = Subnet(folder)
    spaces = {}
    for name, (ip, key) in keys.items():
        made.etc(name).mkdir(parents=True)
        secret = made.etc(name) / "secret"
        secret.touch(0o600)
        secret.write_text(f"{key}\n")
        spaces[str(folder / name / "net")] = ip
    bridge = str(folder / "bridge")
    try:
        try:
            netns.make(bridge, spaces)
        except UserError as error:
            pytest.skip(str(error))
        yield made
    finally:
        for process in made.running:
            process.terminate()
        for process in made.running:
            process.wait()
        for file in (bridge, *spaces):
            subprocess.run(["umount", file], check=False, capture_output=True)


def test_forty_nodes_among_strangers(tmp_path: Path) -> None:
    """Found, numbered and configured: the forty and nobody else, while others flood the subnet and datagrams are lost; and nothing
    changes any more when a second node has the address of one of them."""
    keys = {ip: (ip, KEY) for ip in (*OURS, OLD)} | {ip: (ip, OTHER_KEY) for ip in (*STRANGERS, FLOOD)} | {"twin": (TWIN, KEY)}
    with subnet(tmp_path, keys) as net:
        for ip in OURS[1:]:
            net.start(ip, LOSSY if ip in OURS[20:30] else PLAIN, "--answer")
        net.start(OLD, OTHER_VERSION, "--answer")
        for ip in STRANGERS:
            net.start(ip, PLAIN, "--answer")
        wanted = {"nodes": set(OURS[1:]), "others": {OLD}, "twice": set()}
        until(lambda: net.listed() == wanted)
        net.start(FLOOD, NOISE)
        until(lambda: by_mosconf(net))
        assert all(net.written(ip) == {"mosix.map": MAP, "userview.map": VIEW} for ip in OURS)
        assert [net.written(ip) for ip in (OLD, *STRANGERS, FLOOD, "twin")] == [{}] * 5

        net.start("twin", PLAIN, "--answer")
        until(lambda: net.listed()["twice"] == {TWIN})
        refused = net.ask("--yes", "--no-numbers")
        assert (refused.returncode, refused.stdout) == (1, "") and f"{TWIN}: two nodes answer" in refused.stderr
        assert all(net.written(ip) == {"mosix.map": MAP, "userview.map": VIEW} for ip in OURS)
        assert all(process.poll() is None for process in net.running[:COUNT + 2]), "who answers goes on to"


def by_mosconf(net: Subnet) -> bool:
    """Somebody on a terminal chooses ``a`` among the nodes of mosconf(1), looks again until all are there, and numbers them.
    Whether all of them still answered then."""
    words = net.command(OURS[0], "from mosfs.tools.mosconf import main; import sys; sys.exit(main(sys.argv[1:]))", "nodes")
    child = pexpect.spawn(words[0], words[1:], cwd=str(REPO), encoding="utf-8", timeout=600)
    child.expect("First address")
    child.sendline("a")
    child.expect("Subnet .*10.78.0.0/24")
    child.sendline("")
    while True:
        child.expect(r"Are these (\d+) all nodes")
        if int(child.match.group(1)) == COUNT:
            break
        child.sendline("n")
    child.sendline("y")
    for question, answer in (("Number them", "y"), ("Number of the first", "101"), ("Configure all", "y")):
        child.expect(question)
        child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus == 0) == (f"{COUNT} nodes are configured." in child.before)
    assert child.exitstatus == 0 or "does not answer any more" in child.before
    return bool(child.exitstatus == 0)


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """A person looks again when some are missing."""
    patience = Patience(seconds)
    while not condition():
        assert not patience.over()
        time.sleep(0.2)
