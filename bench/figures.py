"""The figures: what is compared with what, and the bound (the names are those of the project's list of targets)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import evicted, information, queue, saved, sim_jobs
from bench.bed import AWAY, HOME, Bed, BenchError, Spinner
from bench.idle import i1
from bench.measure import Result, Spread, interleave
from bench.spread import l2
from bench.whole import a4, a6

HEADER, ANSWER = 56, 16  #: bytes of a forwarded call's frames without data
CHUNK = 1 << 18
UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6}


@dataclass(frozen=True)
class Line:
    """A comparison of two commands that print nanoseconds.

    ``instead``: the reference's command, if it is not the same without mosrun. ``often``: that many times the rounds.
    """

    what: str
    command: Sequence[str]
    where: Sequence[str]
    target: float | None
    reference: str = "native"
    instead: Sequence[str] = ()
    unit: str = "us"
    often: int = 1


def compared(figure: str, lines: Callable[[Bed], list[Line]]) -> Callable[[Bed, int], Iterator[Result]]:
    """The figure whose lines are made by ``lines``."""

    def measure(bed: Bed, rounds: int) -> Iterator[Result]:
        for line in lines(bed):

            def ours(line: Line = line) -> float:
                return bed.number([*line.where, *line.command]) / UNITS[line.unit]

            def theirs(line: Line = line) -> float:
                return bed.number(line.instead or line.command) / UNITS[line.unit]

            measured = interleave(ours, theirs, rounds * line.often)
            yield Result(figure, line.what, line.unit, line.reference, *measured, line.target)

    return measure


def loop(bed: Bed, mode: str, count: int, size: int = 512) -> list[str]:
    return [bed.helper("loops"), mode, str(count), str(size)]


def h1(bed: Bed) -> list[Line]:
    return [Line("CPU-bound, home", loop(bed, "cpu", 100_000_000), HOME, 1.005, unit="ns", often=3)]


def h2(bed: Bed) -> list[Line]:
    return [Line("read, write, getpid, stat", loop(bed, "calls", 60_000), HOME, 1.15)]


def beside_the_floor(bed: Bed, line: Line) -> Iterator[Line]:
    """The line, and what the kernel alone costs any tracer there, which has no target."""
    yield line
    yield replace(line, what=f"{line.what} (least tracer)", where=bed.floor, target=None)


def h3(bed: Bed) -> list[Line]:
    return [*beside_the_floor(bed, Line("open and close", loop(bed, "open", 20_000), HOME, 6.0))]


PROJECT = "for n in 1 2 3 4 5 6; do printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <string.h>\\n" \
    "int f%s(int x) { return printf(\"%%d\", x); }\\n' $n > f$n.c; done; " \
    "printf 'int main(void) { return 0; }\\n' > main.c; " \
    "printf 'p: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\tgcc -o p $^\\n' > Makefile"
GIT = "git -c user.name=b -c user.email=b@example.org"


def h4(bed: Bed) -> list[Line]:
    """Whole programs, each in a shell that starts with an empty folder."""
    programs = {
        "compile of 7 files by make": f"{PROJECT}; make -s",
        "git init, commit, log": f"seq 20000 > f; {GIT} init -q .; {GIT} add f; {GIT} commit -qm m; {GIT} log --stat",
        "find": "find /usr/lib /usr/share/doc -name '*.so*' | wc -l",
        "tar": "tar -cf - /usr/include | wc -c",
        "script of 200 forks": "for i in $(seq 160); do (exit 3); done; for i in $(seq 20); do ls / | wc -l; done",
    }
    clean = 'mkdir run.$$ && cd run.$$ && { eval "$0"; status=$?; } > /dev/null; cd ..; rm -rf run.$$; exit $status'
    timed = [bed.helper("timed"), "1", "bash", "-c", clean]
    return [
        line
        for what, program in programs.items()
        for line in beside_the_floor(bed, Line(what, [*timed, program], HOME, 1.25, unit="ms"))
    ]


def h5(bed: Bed) -> list[Line]:
    command = loop(bed, "clock", 3_000_000)
    places = {"home": HOME, "away": AWAY}
    return [Line(f"clock_gettime, {name}", command, where, 1.3, unit="ns") for name, where in places.items()]


def h6(bed: Bed) -> list[Line]:
    return [*beside_the_floor(bed, Line("fork, exit, wait", loop(bed, "fork", 500), HOME, 2.0))]


def h7(bed: Bed) -> list[Line]:
    timed = [bed.helper("timed"), "10"]
    ours, python = [*timed, *HOME, "true"], [*timed, "/usr/bin/python3", "-I", "-S", "-c", "pass"]
    return [Line("mosrun true", ours, (), 3.0, "python3 -I -S -c pass", python, unit="ms")]


def a1(bed: Bed) -> list[Line]:
    """Forwarded calls; the ping-pong has the two frames of the call, with nothing computed at either end.

    The bound is for two cores, as two nodes have them. One core, shown too, spares the wake-up of an idle one.
    """

    def forwarded(what: str, mode: str, size: int, target: float) -> Iterator[Line]:
        out = HEADER + (size if mode == "write" else 0)
        back = ANSWER + (size if mode == "read" else 0)
        for cores in (2, 1):
            pong = [bed.helper("pingpong"), "3000", str(out), str(back), str(cores)]
            reference = f"TCP {out} B, {back} B, {cores} core{'s' * (cores > 1)}"
            yield Line(what, loop(bed, mode, 3000, size), AWAY, target if cores == 2 else None, reference, pong)

    return [
        *forwarded("forwarded getppid", "getppid", 1, 3.0),
        *forwarded("forwarded read of 4 KB", "read", 4096, 3.0),
        *forwarded("forwarded write of 4 KB", "write", 4096, 3.0),
        *forwarded("forwarded read of 64 KB", "read", 65536, 2.0),
    ]


def a2(bed: Bed) -> list[Line]:
    return [Line("CPU-bound, away", loop(bed, "cpu", 100_000_000), AWAY, 1.005, unit="ns", often=3)]


def a3(bed: Bed) -> list[Line]:
    return [Line("computes, and reads and writes 1 MB/s, away", loop(bed, "steady", 40, 65536), AWAY, 1.02, unit="ms")]


def switches() -> int:
    """Context switches of the whole machine until now (proc(5), stat)."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("ctxt "))


def a5(bed: Bed, rounds: int) -> Iterator[Result]:
    """How often processors are given from one task to another, for one child of a program away."""

    def taken(where: Sequence[str], mode: str, count: int) -> int:
        before = switches()
        bed.number([*where, *loop(bed, mode, count)])
        return switches() - before

    def each(where: Sequence[str], mode: str, more: int = 100) -> float:
        few = taken(where, mode, 10)
        return max((taken(where, mode, 10 + more) - few) / more, 0.0)

    for what, mode, target in (("posix_spawn, exit, wait", "spawn", 60.0), ("fork, exit, wait", "fork", None)):
        measured = interleave(lambda mode=mode: each(AWAY, mode), lambda mode=mode: each((), mode), rounds)  # type: ignore[misc]
        yield Result("A5", f"{what}, away", "switches", "native", *measured, target, ratio=False)


def o1(bed: Bed) -> list[Line]:
    """For so long that images are taken, too."""
    command = loop(bed, "cpu", 4_000_000_000)
    return [Line("CPU-bound, outlives its node", command, (*AWAY, "--outlive"), 1.03, "away", [*AWAY, *command], "ns")]


def plain_transfer(size: int) -> float:
    """Seconds for ``size`` bytes from one process's memory to another's by sendall and recv_into over TCP."""
    data = bytearray(os.urandom(1 << 20)) * (size >> 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with socket.create_connection(server.getsockname()) as sink:
                    memory = memoryview(bytearray(size))
                    sink.sendall(b"r")
                    done = 0
                    while done < size:
                        done += sink.recv_into(memory[done:done + CHUNK])
                    sink.sendall(b"d")
                status = 0
            finally:
                os._exit(status)
        peer, _ = server.accept()
        with peer:
            peer.recv(1)
            began = time.perf_counter()
            peer.sendall(data)
            if peer.recv(1) != b"d":
                raise BenchError("the plain transfer broke off")
            took = time.perf_counter() - began
    os.waitpid(pid, 0)
    return took


def m1(bed: Bed, rounds: int) -> Iterator[Result]:
    """Whole moves to node 2, as throughput; the way back home is not measured."""
    for megabytes, target in ((16, None), (256, 0.5), (1024, None)):
        size = megabytes << 20
        with bed.spinning(megabytes, 0, HOME) as spinner:

            def ours(size: int = size, pid: int = spinner.pid) -> float:
                took = bed.moved_to(pid, "2")
                bed.moved_to(pid, "home")
                return size / took / 1e6

            def theirs(size: int = size) -> float:
                return size / plain_transfer(size) / 1e6

            measured = interleave(ours, theirs, rounds)
        yield Result("M1", f"move of {megabytes} MB", "MB/s", "sendall, recv_into", *measured, target, at_least=True)


def gaps(
    figure: str, what: str, bed: Bed, rounds: int, megabytes: int, dirty: float, target: float, threads: int = 0
) -> Result:
    """Largest gap of a program that is moved to node 2; shown beside it: of the same program natively, left alone."""

    def still() -> float:
        with bed.spinning(megabytes, dirty, (), threads=threads) as native:
            return max(native.gaps(2))

    def moved() -> float:
        spinner.gaps(1)
        bed.moved_to(spinner.pid, "2")
        largest = max(spinner.gaps(2))
        bed.moved_to(spinner.pid, "home")
        return largest

    with bed.spinning(megabytes, dirty, HOME, threads=threads) as spinner:
        ours, theirs = interleave(moved, still, rounds)
    return Result(figure, what, "ms", "native, never moved", ours, theirs, target, ratio=False)


def m2(bed: Bed, rounds: int) -> Iterator[Result]:
    for dirty, target in ((0, 10.0), (200, 20.0), (500, 50.0)):
        yield gaps("M2", f"downtime, 1 GB, {dirty} MB/s dirtied", bed, rounds, 1024, dirty, target)


def m3(bed: Bed, rounds: int) -> Iterator[Result]:
    yield gaps("M3", "downtime, 4 MB", bed, rounds, 4, 0, 8.0)


def m4(bed: Bed, rounds: int) -> Iterator[Result]:
    """What comes over the network when a program goes back to a node where it has been, against when it went there first."""

    def sent(pid: int) -> float:
        before = over_loopback()
        bed.moved_to(pid, "2")
        return (over_loopback() - before) / 1e6

    firsts, seconds = [], []
    for _ in range(rounds):
        with bed.spinning(64, 0, HOME) as spinner:
            firsts.append(sent(spinner.pid))
            bed.moved_to(spinner.pid, "home")
            seconds.append(sent(spinner.pid))
    sides = Spread(tuple(seconds)), Spread(tuple(firsts))
    yield Result("M4", "second move of 64 MB to a node", "MB", "first move", *sides, 0.3)


def over_loopback() -> int:
    """Bytes until now (proc(5), net/dev)."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == "lo:")


def m5(bed: Bed, rounds: int) -> Iterator[Result]:
    """Downtime of a program of many mappings against one of few, which are moved in turn: to node 2, and back."""
    many, few = 20_000, 200
    with bed.spinning(1, 0, HOME, many) as large, bed.spinning(1, 0, HOME, few) as small:
        for what, way in (("to another node", "2"), ("back home", "home")):

            def gap(spinner: Spinner, way: str = way) -> float:
                bed.moved_to(spinner.pid, "home" if way == "2" else "2")
                spinner.gaps(1)
                bed.moved_to(spinner.pid, way)
                return max(spinner.gaps(2))

            ours, theirs = interleave(lambda gap=gap: gap(large), lambda gap=gap: gap(small), rounds)
            yield Result("M5", f"downtime, {2 * many} mappings, {what}", "ms", f"{2 * few} mappings", ours, theirs, None)
            more = Spread(tuple(a - b for a, b in zip(ours.samples, theirs.samples, strict=True)))
            yield Result("M5", f"the same, more than with {2 * few}", "ms", f"{2 * few} mappings", more, theirs, 100.0, ratio=False)


def m6(bed: Bed, rounds: int) -> Iterator[Result]:
    """Programs with threads: their downtime, what a thread costs away, and what they compute there."""
    for threads, target in ((8, 10.0), (200, 40.0)):
        yield gaps("M6", f"downtime, {threads} threads", bed, rounds, 1, 0, target, threads=threads - 1)
    yield from compared("M6", lambda bed: [
        Line("create and join a thread, away", loop(bed, "births", 2000), AWAY, None),
        Line("create and join a thread, at home", loop(bed, "births", 2000), HOME, 2.0),
        Line("two threads compute, away", loop(bed, "together", 300_000_000), AWAY, 1.02, unit="ns", often=2),
    ])(bed, rounds)  # fmt: skip


def p1(bed: Bed) -> list[Line]:
    """Private temporary files: what `loops` makes in /tmp is private under -X /tmp."""
    places = {"home": HOME, "away": AWAY}
    sizes = {"1 MB": (1 << 20, 500, 2.0), "64 B": (64, 20_000, None)}
    return [
        Line(f"private file, write of {what}, {name}", loop(bed, "append", count, size), [*where, "-X", "/tmp"], target)
        for what, (size, count, target) in sizes.items() for name, where in places.items()
    ]


def mail(bed: Bed, means: str, way: str, count: int, size: int, *node: str) -> list[str]:
    """bench/mail.c: ``means`` is box or pipe, ``way`` ping or stream; the child goes to ``node``."""
    return [bed.helper("mail"), means, way, str(count), str(size), *node]


def d1(bed: Bed, rounds: int) -> Iterator[Result]:
    """One way, both programs on one node; the bound is absolute."""
    for what, where in (("at home", HOME), ("both on node 2", AWAY)):
        ours = [*where, *mail(bed, "box", "ping", 1000, 64)]
        theirs = mail(bed, "pipe", "ping", 5000, 64)
        measured = interleave(lambda ours=ours: bed.number(ours) / 1e3, lambda theirs=theirs: bed.number(theirs) / 1e3, rounds)
        yield Result("D1", f"message of 64 B, {what}", "us", "native pipe", *measured, 20.0, ratio=False)


def d2(bed: Bed, rounds: int) -> Iterator[Result]:
    """Messages of 1 MB, as throughput."""
    size, count = 1 << 20, 60

    def rate(command: Sequence[str]) -> float:
        return size / bed.number(command) * 1e3

    pipe = mail(bed, "pipe", "stream", count, size)
    for what, where in (("at home", HOME), ("both on node 2", AWAY)):
        ours = [*where, *mail(bed, "box", "stream", count, size)]
        measured = interleave(lambda ours=ours: rate(ours), lambda: rate(pipe), rounds)
        yield Result("D2", f"messages of 1 MB, {what}", "MB/s", "native pipe", *measured, 0.4, at_least=True)
    away = [*AWAY, *mail(bed, "box", "stream", count, size, "0")]
    measured = interleave(lambda: rate(away), lambda: size * count / plain_transfer(size * count) / 1e6, rounds)
    yield Result("D2", "messages of 1 MB, two nodes", "MB/s", "sendall, recv_into", *measured, 0.5, at_least=True)


def d3(bed: Bed, rounds: int) -> Iterator[Result]:
    """bench/flow.c: two programs that do nothing but write and read, timed from the first byte on."""
    flow = bed.helper("flow")
    for what, size, total in (("4 KB", 4096, 8_000_000), ("64 KB", 65536, 64_000_000), ("1 MB", 1 << 20, 64_000_000)):
        write, read = f"{flow} out {total} {size}", f"{flow} in {size}"
        ours = ["mospipe", "-2", write, "-2", read]
        theirs = ["sh", "-c", f"mosrun -e -2 {write} | mosrun -e -2 {read}"]
        measured = interleave(lambda ours=ours: 1e9 / bed.number(ours), lambda theirs=theirs: 1e9 / bed.number(theirs), rounds)
        yield Result("D3", f"mospipe, both away, {what} a write", "MB/s", "shell's pipe, same", *measured, 5.0, at_least=True)


def l1(bed: Bed | None, rounds: int) -> Iterator[Result]:
    """Simulated: the same seeds for both sides, four runs a measurement."""
    for name in ("ocja", "ocja2"):
        workload = sim_jobs.WORKLOADS[name]
        groups = [range(4 * k, 4 * k + 4) for k in range(rounds)]
        sides = [
            Spread(tuple(sim_jobs.summary(workload, policy, seeds).by_job for seeds in groups))
            for policy in ("mosrun, moves", "round robin")
        ]
        yield Result("L1", f"mean slowdown, {workload.title}", "", "round robin, no moves", *sides, 0.5)


def e1(bed: Bed | None, rounds: int) -> Iterator[Result]:
    yield from evicted.e1(plain_transfer, rounds)


FIGURES: dict[str, Callable[[Any, int], Iterator[Result]]] = {
    "H1": compared("H1", h1), "H2": compared("H2", h2), "H3": compared("H3", h3), "H4": compared("H4", h4),
    "H5": compared("H5", h5), "H6": compared("H6", h6), "H7": compared("H7", h7),
    "A1": compared("A1", a1), "A2": compared("A2", a2), "A3": compared("A3", a3), "A5": a5,
    "M1": m1, "M2": m2, "M3": m3, "M4": m4, "M5": m5, "M6": m6, "C1": saved.c1,
    "L1": l1, "D1": d1, "D2": d2, "D3": d3,
    "P1": compared("P1", p1),
    **information.SHORT,
}
#: Figures that take many minutes.
LONG: dict[str, Callable[[Any, int], Iterator[Result]]] = {
    "L2": l2, "I1": i1, "E1": e1, "O1": compared("O1", o1), "S1": queue.s1, "S2": queue.s2, "A4": a4, "A6": a6, **information.LONG,
}
#: Figures that need no lab, or make one of their own.
SIMULATED = frozenset({"L1", "L2", "S2", "I1", "E1", "A6", *information.SHORT, *information.LONG})
