"""Time as programs see it while they move between nodes whose clocks differ: booted at other times, drifting, set forward and back.

The nodes are on one machine, so MOSIX_CLOCKS makes their clocks differ (`mosfs.trace.altered`), and the time stamp counter,
which is the same for all, tells what a program should have read: the program notes the counter beside each reading (`WATCH`).
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from mosfs.trace import altered
from mosfs.trace.clock import NSEC, Sample, native_counter, rate_between, sample
from tests import cluster
from tests.cluster import Lab
from tests.progs import CFLAGS, Place, compile_c
from tests.t5_links import right

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not native_counter().usable(), reason="this machine's time stamp counter is not dependable"),
]

#: Reads clocks over and over until its standard input ends; each line: counter, realtime, monotonic, boot time, counter, and how
#: many readings were below the one before, of realtime and of the other two.
WATCH = r"""
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

enum { CLOCKS = 3 };
static const clockid_t clocks[CLOCKS] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME };

int main(void)
{
	struct pollfd input = { 0, POLLIN, 0 };
	long long last[CLOCKS] = { 0 }, now[CLOCKS];
	unsigned long backs[CLOCKS] = { 0 };

	do {
		unsigned long long from = 0, to = 0;
		for (int round = 0; round < 3000; round++) {
			from = __rdtsc();
			for (int c = 0; c < CLOCKS; c++) {
				struct timespec t;
				if (clock_gettime(clocks[c], &t))
					return 1;
				now[c] = t.tv_sec * 1000000000LL + t.tv_nsec;
			}
			to = __rdtsc();
			for (int c = 0; c < CLOCKS; c++) {
				backs[c] += now[c] < last[c];
				last[c] = now[c];
			}
		}
		printf("%llu %lld %lld %lld %llu %lu %lu\n", from, now[0], now[1], now[2], to, backs[0], backs[1] + backs[2]);
		fflush(stdout);
	} while (poll(&input, 1, 20) == 0);
	return 0;
}
"""


#: Clocks are known better than this, ns, also where nothing runs for a while. Those of the nodes are off by more.
ROUGH = 60 * NSEC
#: How long `test_half_an_hour` takes, seconds.
HALF_AN_HOUR = float(os.environ.get("MOSIX_CLOCK_SECONDS", "1800"))


class Clock:
    """The clocks of one node, in the file that its mosd reads."""

    def __init__(self, path: Path, *, ahead: float = 0, drift: int = 0, wall: float = 0) -> None:
        """``ahead``, ``wall``: seconds; ``drift``: ns a second."""
        self.path = path
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        path.write_bytes(altered.LAYOUT.pack(now, drift, int(ahead * NSEC), int(wall * NSEC)))
        with open(path, "r+b") as file:
            self._told = mmap.mmap(file.fileno(), altered.LAYOUT.size)

    @property
    def wall(self) -> int:
        """ns by which its realtime is ahead of the kernel's."""
        return int.from_bytes(self._told[24:32], "little", signed=True)

    def set(self, seconds: float) -> None:
        """Its realtime is set, forward or back."""
        self._told[24:32] = (self.wall + int(seconds * NSEC)).to_bytes(8, "little", signed=True)


@dataclass(frozen=True)
class Clocks:
    """A lab with its nodes' clocks."""

    nodes: Lab
    of: dict[int, Clock]


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocks]:
    folder = tmp_path_factory.mktemp("clocks")
    behind = min(5000, time.clock_gettime(time.CLOCK_MONOTONIC) / 2)  # no machine's clock is below zero
    made = {
        1: Clock(folder / "one"),
        2: Clock(folder / "two", ahead=1e6, drift=80_000, wall=-3600),
        3: Clock(folder / "three", ahead=-behind, drift=-80_000, wall=86400 * 400),
    }
    with cluster.lab(folder, 3) as nodes:
        for number, clock in made.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(altered.VARIABLE, str(clock.path))
                nodes.kill_mosd(number)
                nodes.start_mosd(number)
        yield Clocks(nodes, made)


# --------------------------------------------------------------------------- one program and what it saw


@dataclass
class Watched:
    """`WATCH` under mosrun on node 1, and how wrong its readings were. ``told``: all its lines."""

    nodes: Lab
    binary: Path
    told: list[list[int]] = field(default_factory=list)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.process = self.nodes.start(1, "mosrun", "-h", str(self.binary), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.read()

    def read(self) -> list[int]:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it has ended"
        self.told.append([int(word) for word in line.split()])
        return self.told[-1]

    def move(self, target: str) -> None:
        """Move it; its lines are read meanwhile."""
        mover = self.nodes.start(1, "mosmigrate", str(self.process.pid), target)
        while mover.poll() is None:
            self.read()
        assert mover.returncode == 0

    def end(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        while line := self.process.stdout.readline():
            self.told.append([int(word) for word in line.split()])
        assert self.process.wait(60) == 0


@pytest.fixture
def watched(clocks: Clocks, tmp_path: Path) -> Iterator[Watched]:
    source, binary = tmp_path / "watch.c", tmp_path / "watch"
    source.write_text(WATCH)
    compile_c(source, binary, CFLAGS)
    running = Watched(clocks.nodes, binary)
    yield running
    running.process.kill()


def now(clock: int) -> Sample:
    """The kernel's clock beside the counter."""
    counter = native_counter()
    return sample(counter.ticks, partial(time.clock_gettime_ns, clock))


def errors(line: list[int], wall: int) -> tuple[float, float]:
    """How far realtime and CLOCK_MONOTONIC in a line are from those of the home-node at that moment, ns: 0 if they are between what
    it had at the two readings of the counter. ``wall``: ns by which the home-node's realtime was ahead of the kernel's."""
    first, realtime, monotonic, _, second, *_ = line
    anchor = native_counter().anchor
    assert anchor is not None
    found = []
    for clock, seen, ahead in ((time.CLOCK_REALTIME, realtime, wall), (time.CLOCK_MONOTONIC, monotonic, 0)):
        here, rate = now(clock), rate_between(anchor, now(time.CLOCK_MONOTONIC))
        low, high = (here.ns + ahead - ((here.tsc - tsc) * rate >> 48) for tsc in (first, second))
        found.append(max(seen - high, 0) if seen > low else seen - low)
    return found[0], found[1]


def never_back(watched: Watched) -> None:
    """No clock has ever gone back, nor did any from one line to the next."""
    assert [line[5:] for line in watched.told if any(line[5:])] == []


def test_time_goes_on_across_moves(clocks: Clocks, watched: Watched) -> None:
    """And is home's: the nodes' own are off by hours and days."""
    for target in ("2", "3", "home"):
        watched.move(target)
        clocks.of[2].set(-5000)
        clocks.of[3].set(7000)
        for _ in range(5):
            line = watched.read()
            assert max(map(abs, errors(line, 0))) < ROUGH
    watched.end()
    never_back(watched)


@pytest.mark.parametrize("target", ["2", "home"])
def test_a_home_that_is_set_back_is_followed(target: str, clocks: Clocks, watched: Watched) -> None:
    """Within the second that it may take, also by a program that is on its way then."""
    watched.move(target)
    home = clocks.of[1]
    for seconds in (-3600, 3600):
        home.set(seconds)
        watched.move("3" if seconds < 0 else target)
        while abs(errors(watched.read(), home.wall)[0]) > ROUGH:
            pass  # the lab ends if it never comes
    watched.end()
    assert [line[6] for line in watched.told if line[6]] == [], "of the other clocks none has gone back"


# --------------------------------------------------------------------------- for long


@pytest.mark.long
@pytest.mark.beside
@pytest.mark.timeout(HALF_AN_HOUR + 600)
def test_half_an_hour(clocks: Clocks, watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """Moves, and settings of the other nodes' clocks, at random."""
    dice, wrong, moves, here = random.Random(13), [], 0, "home"
    end = time.monotonic() + HALF_AN_HOUR
    while time.monotonic() < end:
        for _ in range(dice.randint(10, 60)):
            wrong.append(max(map(abs, errors(watched.read(), 0))))
        clocks.of[dice.choice((2, 3))].set(dice.choice((-1, 1)) * 10 ** dice.uniform(-4, 5))
        here = dice.choice([target for target in ("2", "3", "home") if target != here])
        watched.move(here)
        moves += 1
    watched.end()
    never_back(watched)
    wrong.sort()
    with capsys.disabled():
        at = {share: wrong[int(len(wrong) * share)] / 1000 for share in (0.5, 0.9, 0.99)}
        print(f"\n{moves} moves, {len(watched.told) * 9000} readings, none back; errors in us: "
              f"{', '.join(f'{share:.0%} {value:.1f}' for share, value in at.items())}, most {wrong[-1] / 1000:.1f}")
    assert at[0.5] < 1000
    assert wrong[-1] < ROUGH


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["clocks", "clocks-static", "sleeps", "timeouts", "waits", "events", "notices", "cpu_timers"])
def test_timers_among_nodes_whose_clocks_differ(name: str, clocks: Clocks) -> None:
    """Never early, and none is missing."""
    right(clocks.nodes, name, Place.MOTION, "10")
