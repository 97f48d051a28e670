"""A network whose packets take their time, queue, get lost, or do not come through: for the nodes of a lab with ``netns``.

    with cluster.lab(tmp_path, 3, netns=True) as lab, link.network(lab.plan) as net:
        net.line = link.Line(delay=0.05, rate=100e6, loss=0.01)
        net.cut(1, 2)                    # from node 1 to node 2 only; net.part(1) does it to all and from all
        net.heal()

The wires of the lab are taken out, and every node gets a TUN device of the same name and address instead, whose packets a thread of
the test carries. So it is the kernel's TCP that meets the delay and the loss.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from mosfs.tools import lab as labs
from mosfs.tools import netns

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
DEVICE = "/dev/net/tun"
MAX_PACKET = 65536
WIRE = "eth0"

#: Of tests with such a network.
possible = pytest.mark.skipif(not os.access(DEVICE, os.R_OK | os.W_OK), reason=f"{DEVICE} is not here")


@dataclass(frozen=True)
class Line:
    """What happens to a packet between two nodes. ``delay``: seconds in one direction; ``rate``: bits a second, 0 without a limit;
    ``loss``: the share of packets that are lost; ``queue``: seconds that a packet may wait for its turn before it is dropped."""

    delay: float = 0.0
    rate: float = 0.0
    loss: float = 0.0
    queue: float = 0.2


@dataclass
class Network:
    """Carries packets until `close`. ``devices``: the descriptor of each node's device, by the node's number.

    ``line`` may be replaced at any time, and so may ``ways``, what is different from a node to another; packets under way come as
    they would have come.
    """

    devices: dict[int, int]
    addresses: dict[bytes, int]
    line: Line = Line()
    ways: dict[tuple[int, int], Line] = field(default_factory=dict)
    cuts: set[tuple[int, int]] = field(default_factory=set)
    carried: int = 0
    lost: int = 0
    _free: dict[tuple[int, int], float] = field(default_factory=dict)  # when the last packet will have left
    _ways: list[tuple[float, int, int, bytes]] = field(default_factory=list)  # when it comes, a number, where to, the packet
    _chance: random.Random = field(default_factory=lambda: random.Random(1))
    _ended: bool = False
    _thread: threading.Thread | None = None

    # ------------------------------------------------------------------- what a test asks for

    def cut(self, source: int, target: int) -> None:
        """Nothing comes through from one node to the other any more, what is under way included."""
        self.cuts |= {(source, target)}

    def part(self, number: int) -> None:
        """Cut the node off from all others, in both directions."""
        others = self.devices.keys() - {number}
        self.cuts |= {(number, other) for other in others} | {(other, number) for other in others}

    def heal(self) -> None:
        self.cuts = set()

    # ------------------------------------------------------------------- the thread

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True, name="network")
        self._thread.start()

    def close(self) -> None:
        self._ended = True
        if self._thread is not None:
            self._thread.join()
        for device in self.devices.values():
            os.close(device)

    def _run(self) -> None:
        numbers = {device: number for number, device in self.devices.items()}
        while not self._ended:
            wait = min(0.1, max(0.0, self._ways[0][0] - time.monotonic())) if self._ways else 0.1
            for device in select.select(list(numbers), (), (), wait)[0]:
                self._take(numbers[device], os.read(device, MAX_PACKET))
            now = time.monotonic()
            while self._ways and self._ways[0][0] <= now:
                _, _, target, packet = heapq.heappop(self._ways)
                self._deliver(target, packet)

    def _take(self, source: int, packet: bytes) -> None:
        target = self.addresses.get(packet[16:20]) if packet[0] >> 4 == 4 else None
        if target is None:
            return
        now, way = time.monotonic(), (source, target)
        line = self.ways.get(way, self.line)
        leaves = max(now, self._free.get(way, 0.0)) + (len(packet) * 8 / line.rate if line.rate else 0.0)
        if way in self.cuts or leaves - now > line.queue or self._chance.random() < line.loss:
            self.lost += 1
            return
        self._free[way] = leaves
        self.carried += 1
        heapq.heappush(self._ways, (leaves + line.delay, self.carried, target, packet))

    def _deliver(self, target: int, packet: bytes) -> None:
        if (self.addresses[packet[12:16]], target) in self.cuts:
            self.lost += 1
            return
        try:
            os.write(self.devices[target], packet)
        except OSError:  # the node's device is down
            self.lost += 1


# --------------------------------------------------------------------------- making it


@contextmanager
def network(plan: labs.Plan) -> Iterator[Network]:
    """The network of a lab with ``netns``, in the place of its wires. At its end the nodes have none."""
    devices, addresses = {}, {}
    try:
        for node in plan.nodes():
            devices[node.number] = _device(node.namespace, node.ip)
            addresses[bytes(map(int, node.ip.split(".")))] = node.number
    except BaseException:
        for device in devices.values():
            os.close(device)
        raise
    running = Network(devices, addresses)
    running.start()
    try:
        yield running
    finally:
        running.close()


def _device(namespace: str, ip: str) -> int:
    """A TUN device in a namespace, with the name and address of the wire that was there."""
    made: list[int] = []

    def inside() -> None:  # a thread of its own, because the namespace is the thread's
        netns.enter(namespace)
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        made.append(device)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", WIRE.encode(), IFF_TUN | IFF_NO_PI))

    _ip(namespace, f"link del {WIRE}")
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    _ip(namespace, f"addr add {ip}/24 dev {WIRE}", f"link set {WIRE} up")
    return made[0]


def _ip(namespace: str, *lines: str) -> None:
    subprocess.run(["nsenter", f"--net={namespace}", "ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)
