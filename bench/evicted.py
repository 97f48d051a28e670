"""Figure E1: how soon an owner has his node back. Two clusters of a node each; guests of the first run on the second, whose owner
starts a program there. Timed from the call of mosrun until the last guest has gone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from bench.bed import PATIENCE, BenchError
from bench.measure import Result, Spread
from mosfs.tools import lab
from mosfs.tools.tree import Tree

SMALL, MANY = 1, 8  #: megabytes beside the interpreter's; so many such guests
LARGE = 512
SOON = 1.0  #: seconds for the small ones, all together
#: For a large one: so many times what TCP takes for its bytes, from one process's memory to another's.
LINK = 5.0

#: Keeps reading its memory, which is random.
GUEST = """
import os, sys
data = bytearray(os.urandom(1 << 20)) * int(sys.argv[1])
print(flush=True)
while True:
    sum(data[::4096])
"""
OWNER = "while True: pass"


class Clusters:
    """Node 1 is the guests' home, node 2 the owner's."""

    def __init__(self, plan: lab.Plan) -> None:
        self.plan = plan
        self.trees = {number: Tree(plan.node(number).paths) for number in (1, 2)}
        self.running = ExitStack()

    def start(self, node: int, *command: str) -> subprocess.Popen[bytes]:
        environ = lab.environment(self.plan.node(node))
        environ["PATH"] = f"{os.path.dirname(sys.executable)}:{environ['PATH']}"
        child = subprocess.Popen(["mosrun", *command], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.running.callback(lambda: (child.kill(), child.communicate()))
        return child

    def guests(self) -> int:
        return len(self.trees[2].pids("guests"))

    def await_(self, done: Callable[[], bool], what: str) -> None:
        began = time.monotonic()
        while not done():
            if time.monotonic() - began > PATIENCE:
                raise BenchError(f"not within {PATIENCE:.0f} s: {what}")
            time.sleep(0.001)

    def evicted(self, count: int, megabytes: int) -> float:
        """Seconds from the owner's start until the last of ``count`` guests has gone."""
        with self.running:
            for _ in range(count):
                guest = self.start(1, "-2", sys.executable, "-S", "-c", GUEST, str(megabytes))
                assert guest.stdout is not None
                if guest.stdout.readline() != b"\n":
                    raise BenchError("a guest did not start")
            self.await_(lambda: self.guests() == count, f"{count} guests on node 2")
            began = time.perf_counter()
            self.start(2, "-h", sys.executable, "-S", "-c", OWNER)
            self.await_(lambda: not self.guests(), "node 2 without guests")
            took = time.perf_counter() - began
        self.await_(lambda: not any(tree.pids("proc") for tree in self.trees.values()), "the end of all programs")
        return took


@contextmanager
def clusters() -> Iterator[Clusters]:
    """They are near each other, so that images are not compressed."""
    with tempfile.TemporaryDirectory(prefix="mosfs-bench-") as name:
        number = os.getpid()
        base = f"127.{16 + number // 250 % 230}.{1 + number % 250}.1"
        plan = replace(lab.Plan.make(f"{name}/lab", 2, base, False, False), clusters=(1, 1))
        try:
            lab.up(plan)
        except lab.UserError as error:
            raise BenchError(str(error)) from error
        try:
            made = Clusters(plan)
            time.sleep(3)  # what nodes may send each other is known after some steps of gossip
            yield made
        finally:
            lab.down(plan.root)


def e1(transfer: Callable[[int], float], rounds: int) -> Iterator[Result]:
    """``transfer``: seconds that TCP takes for so many bytes."""
    with clusters() as where:
        small = Spread(tuple(where.evicted(MANY, SMALL) for _ in range(rounds)))
        large, plain = [], []
        for _ in range(rounds):
            large.append(where.evicted(1, LARGE))
            plain.append(transfer(LARGE << 20))
    yield Result("E1", f"{MANY} small guests gone", "s", "one second", small, Spread((1.0,) * rounds), SOON, ratio=False)
    yield Result("E1", f"a guest of {LARGE} MB gone", "s", "sendall, recv_into", Spread(tuple(large)), Spread(tuple(plain)), LINK)
