"""Many clusters and programs, while nodes join and leave, are isolated, change priorities, restart and die: what a program says is
what it says natively, unless a node that it needed was killed, and then it says so.

``MOSIX_CHAOS_NODES`` (16, in four clusters), ``MOSIX_CHAOS_PROGRAMS`` (50), ``MOSIX_CHAOS_SECONDS`` (180), ``MOSIX_CHAOS_SEED``.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, wait_until
from tests.progs import scratch

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(7200)]

NODES = int(os.environ.get("MOSIX_CHAOS_NODES", "16"))
PROGRAMS = int(os.environ.get("MOSIX_CHAOS_PROGRAMS", "50"))
SECONDS = float(os.environ.get("MOSIX_CHAOS_SECONDS", "180"))
SEED = int(os.environ.get("MOSIX_CHAOS_SEED", "0")) or random.randrange(1, 1 << 31)
CLUSTERS = 4
#: Seconds in which all has to end once chaos is over, and an order of mosctl.
PATIENCE = 600.0
#: What a program says of which a node has died (manual; docs/design/migration.md).
GONE = re.compile(r"^mosrun: (Lost communication with |Process killed while attempting to migrate )", re.MULTILINE)

#: Reads and writes files, computes, makes children; ends by itself at SIGTERM, and by what it has found then.
PROGRAM = """
import hashlib, os, signal, sys
seed, path = sys.argv[1:]
state, rounds, running = hashlib.sha256(seed.encode()), 0, [True]
signal.signal(signal.SIGTERM, lambda *_: running.clear())
with open(path, "w+b", buffering=0) as file:
    while running:
        for _ in range(200):
            for _ in range(50):
                state = hashlib.sha256(state.digest())
        file.write(state.digest())
        rounds += 1
        file.seek(-32, 2)
        assert file.read() == state.digest() and os.fstat(file.fileno()).st_size == 32 * rounds
        if rounds % 40 == 0:
            child = os.fork()
            if child == 0:
                os._exit(rounds // 40 % 256)
            assert os.waitpid(child, 0) == (child, rounds // 40 % 256 << 8)
print(rounds, state.hexdigest())
"""


def native(seed: int, rounds: int) -> str:
    """What the program says, by a formula that needs no cluster."""
    state = hashlib.sha256(str(seed).encode())
    for _ in range(rounds * 200 * 50):
        state = hashlib.sha256(state.digest())
    return f"{rounds} {state.hexdigest()}"


@dataclass
class Running:
    """A program. ``home``: its node; ``killed``: a node that it needed may have died."""

    seed: int
    home: int
    process: subprocess.Popen[bytes]
    file: Path
    excused: bool = False


@dataclass
class Chaos:
    """The acts: each does something to a node that an administrator, or a failure, may do at any time."""

    lab: Lab
    chance: random.Random
    folder: Path
    programs: list[Running] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)

    def living(self) -> list[int]:
        return [node for node in range(1, NODES + 1) if node not in self.dead]

    def mosctl(self, node: int, *words: str) -> None:
        self.done.append(f"{node}: {' '.join(words)}")
        with suppress(subprocess.TimeoutExpired):  # somebody moves about all the time
            self.lab.run(node, "mosctl", *words, timeout=60)

    def begin(self, seed: int) -> None:
        home = self.chance.choice(self.living())
        where = self.chance.choice(["-h", "-b"])
        file = self.folder / f"{seed}.data"
        process = self.lab.start(
            home, "mosrun", where, sys.executable, "-c", PROGRAM, str(seed), str(file), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
        self.programs.append(Running(seed, home, process, file))

    # ------------------------------------------------------------------ acts

    def isolate(self, node: int) -> None:
        self.mosctl(node, "isolate")

    def rejoin(self, node: int) -> None:
        self.mosctl(node, "rejoin", str(self.chance.randrange(1, 30)))

    def priority(self, node: int) -> None:
        partners = sorted(os.listdir(self.lab.node(node).paths.partners))
        self.mosctl(node, "cngpri", self.chance.choice(partners), str(self.chance.randrange(1, 100)))

    def guests(self, node: int) -> None:
        self.mosctl(node, "maxguests", str(self.chance.randrange(0, 20)))

    def expel(self, node: int) -> None:
        self.mosctl(node, "expel")

    def bring(self, node: int) -> None:
        self.mosctl(node, "bring")

    def scatter(self, node: int) -> None:
        """All of a node's programs are sent anywhere."""
        self.done.append(f"{node}: scatter")
        for pid in self.lab.tree(node).pids("proc"):
            with suppress(OSError):
                self.lab.tree(node).write(f"proc/{pid}/migrate", str(self.chance.choice(self.living())))

    def rules(self, node: int) -> None:
        """Who may go and come is changed, by the file."""
        file = self.chance.choice(sorted(Path(self.lab.node(node).paths.partners).iterdir()))
        first, second, *rest = file.read_text().splitlines()
        new = f"{second.split()[0]} {self.chance.choice(['1 1', '1 0', '0 1', '1 1'])}"
        self.done.append(f"{node}: {file.name}: {new}")
        file.write_text("\n".join([first, new, *rest]) + "\n")

    def restart(self, node: int) -> None:
        self.done.append(f"{node}: mosd restarted")
        self.lab.kill_mosd(node)
        self.lab.start_mosd(node)

    def power(self, node: int) -> None:
        """Everything of the node dies. At most two in a run, and a node comes back empty."""
        if sum(line.endswith("power") for line in self.done) >= 2:
            return
        self.done.append(f"{node}: power")
        self.dead.add(node)
        ip = self.lab.node(node).ip
        for program in self.programs:
            program.excused |= program.home == node or self.needs(program, ip)
        cluster.kill_node(self.lab, node)
        self.dead.discard(node)
        self.lab.start_mosd(node)

    def needs(self, program: Running, ip: str) -> bool:
        """Is it, or may it be just now, at a node?"""
        with suppress(OSError):
            found = self.lab.tree(program.home).process(program.process.pid)
            return found is None or found.where == ip or found.state not in ("here", "away")
        return True


ACTS: tuple[tuple[Callable[[Chaos, int], None], int], ...] = (
    (Chaos.isolate, 2), (Chaos.rejoin, 4), (Chaos.priority, 4), (Chaos.guests, 2), (Chaos.expel, 1), (Chaos.bring, 1),
    (Chaos.scatter, 8), (Chaos.rules, 3), (Chaos.restart, 1), (Chaos.power, 1),
)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Lab]:
    sizes = [len(range(at, NODES, CLUSTERS)) for at in range(CLUSTERS)]
    with cluster.lab(tmp_path, NODES, balance=True, clusters=sizes) as running:
        yield running


@dataclass(frozen=True)
class Size:
    """Of a mosd: kilobytes that are its own, open descriptors, threads."""

    memory: int
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Size:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        private = sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))
        return cls(private, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))

    def grown(self, before: Size) -> bool:
        """More than some links, waiting threads, and what Python keeps of memory that was in use."""
        return self.memory > 1.5 * before.memory + 20_000 or self.files > before.files + 16 or self.threads > before.threads + 8


def sizes(nodes: Lab) -> dict[int, Size]:
    return {node: Size.of(nodes.mosd(node)) for node in range(1, NODES + 1)}


def grown(nodes: Lab, before: dict[int, Size]) -> dict[int, tuple[Size, Size]]:
    """The daemons that are larger than when nothing ran."""
    return {node: (before[node], now) for node, now in sizes(nodes).items() if now.grown(before[node])}


def test_nothing_is_lost_in_chaos(nodes: Lab) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with scratch() as folder:
        chaos, before = Chaos(nodes, chance, folder), sizes(nodes)
        for seed in range(PROGRAMS):
            chaos.begin(seed)
        wait_until(lambda: all(program.file.exists() for program in chaos.programs), PATIENCE)
        end = time.monotonic() + SECONDS
        acts, weights = zip(*ACTS)
        while time.monotonic() < end:
            (act,) = chance.choices(acts, weights)
            act(chaos, chance.choice(chaos.living()))
            time.sleep(chance.uniform(0, 0.5))
        print("\n".join(chaos.done))
        lost = finish(chaos)
        assert all(program.excused for program in lost), [(program.seed, program.home) for program in lost if not program.excused]
        print(f"{len(chaos.done)} acts; {len(lost)} of {PROGRAMS} programs ended with a node")
        trees = [nodes.tree(node) for node in range(1, NODES + 1)]
        wait_until(lambda: not any(tree.pids(kind) for tree in trees for kind in ("proc", "guests")), PATIENCE)
        with suppress(AssertionError):  # links end after a while
            wait_until(lambda: not grown(nodes, before), PATIENCE / 5)
        assert not grown(nodes, before)


def finish(chaos: Chaos) -> list[Running]:
    """All are told to end; those that had ended by a node's death. AssertionError for any other end, and a wrong result."""
    lost = []
    for program in chaos.programs:
        if program.process.poll() is None:
            program.process.terminate()
    for program in chaos.programs:
        try:
            out, err = (said.decode() for said in program.process.communicate(timeout=PATIENCE))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"program {program.seed} of node {program.home} does not end") from None
        chaos.lab.started.remove(program.process)
        if program.process.returncode == 0:
            rounds = int(out.split()[0])
            assert (out.strip(), err) == (native(program.seed, rounds), ""), program
        else:
            assert program.excused, (program, out, err)
            assert GONE.search(err) or program.process.returncode == -signal.SIGKILL, (program, out, err)
            lost.append(program)
    return lost
