"""Whole programs: away against native, and in a cluster that balances itself, begun away, against at home (figures A4, A6)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.bed import AWAY, HOME, PATIENCE, Bed, BenchError, bed
from bench.measure import Result, interleave

IMPORTS = (
    "import argparse, ast, asyncio, csv, decimal, email.message, fractions, http.client, json, logging, sqlite3, subprocess,"
    " unittest, xml.etree.ElementTree"
)
INSERTS = (
    "import sqlite3; c = sqlite3.connect('numbers.db', isolation_level=None); c.execute('create table t (a, b)');"
    " c.execute('pragma synchronous = off');"
    " [c.execute('begin') if n % 10 == 0 else None or c.execute('insert into t values (?, ?)', (n, str(n)))"
    " if n % 10 != 9 else c.execute('commit') for n in range(20000)]"
)
#: Makes what the programs work on, in an empty folder.
PREPARE = """
mkdir c many
for n in 1 2 3 4 5; do
    printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <string.h>\\n' > c/f$n.c
    printf 'int f%s(void) { return puts("%s"); }\\n' $n $n >> c/f$n.c
done
printf 'int main(void) { return 0; }\\n' > c/main.c
for n in $(seq 60); do seq $n 200 > many/$n; done
seq 500000 | awk '{ print ($1 * 7919) % 500009 }' > numbers
head -c 20000000 /dev/zero | openssl enc -aes-128-ctr -pass pass:x -nosalt -md md5 2> /dev/null | head -c 10000000 > noise
cat noise noise > twenty
"""


@dataclass(frozen=True)
class Whole:
    """A program: arguments, its bound away against native, and what is removed before each run."""

    command: Sequence[str]
    target: float
    waste: str = ""


GIT = "git init -q . && git add many && git -c user.name=b -c user.email=b@example.org commit -qm m && git log --stat"
PROGRAMS: Mapping[str, Whole] = {
    "imports of 14 Python modules": Whole(("/usr/bin/python3", "-IS", "-c", IMPORTS), 3),
    "git of 60 files": Whole(("sh", "-c", GIT), 8, ".git"),
    "gcc of 5 files": Whole(("sh", "-c", "for n in 1 2 3 4 5; do gcc -c c/f$n.c -o c/f$n.o || exit; done"), 5),
    "tar of /usr/include": Whole(("sh", "-c", "tar -cf - /usr/include | cat"), 10),
    "find": Whole(("find", "/usr/share/doc", "/usr/include", "-name", "*.h"), 10),
    "20,000 inserts of SQLite": Whole(("/usr/bin/python3", "-IS", "-c", INSERTS), 8, "numbers.db"),
    "100 subshells": Whole(("sh", "-c", "i=0; while [ $i -lt 100 ]; do (exit 3); i=$((i + 1)); done"), 8),
    "sort of 500,000 lines": Whole(("sort", "--parallel=1", "numbers", "-o", "sorted"), 2),
    "bzip2 of 20 MB": Whole(("bzip2", "-kf", "twenty"), 1.1),
}
#: A program that turns out to work on files takes at most so many times what it takes at home.
HOMEWARD = 1.5


def seconds(where: Bed, program: Whole, place: Sequence[str], folder: Path) -> float:
    """How long ``program`` takes, mosrun included; BenchError if it fails."""
    subprocess.run(["rm", "-rf", str(folder / (program.waste or "none"))], check=True)
    command = [*place, *program.command]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=dict(where.environ), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(command)[:100]}: not over after {PATIENCE:.0f} s") from None
    if done.returncode:
        raise BenchError(f"{' '.join(command)[:100]}: {(done.stderr.strip().splitlines() or [f'status {done.returncode}'])[-1]}")
    return time.perf_counter() - began


def prepared(where: Bed) -> Path:
    folder = where.folder / "whole"
    with suppress(FileExistsError):
        folder.mkdir()
        subprocess.run(["sh", "-ec", PREPARE], cwd=folder, check=True)
    return folder


def against(
    figure: str, where: Bed, rounds: int, ours: Sequence[str], theirs: Sequence[str], bound: float | None
) -> Iterator[Result]:
    """Each program run by ``ours``, in multiples of its time by ``theirs`` (() = native); ``bound`` None: its own."""
    folder = prepared(where)
    for name, program in PROGRAMS.items():
        measured = interleave(
            lambda program=program: 1e3 * seconds(where, program, ours, folder),  # type: ignore[misc]
            lambda program=program: 1e3 * seconds(where, program, theirs, folder),  # type: ignore[misc]
            rounds,
        )
        yield Result(figure, name, "ms", "at home" if theirs else "native", *measured, bound or program.target)


def a4(where: Bed, rounds: int) -> Iterator[Result]:
    yield from against("A4", where, rounds, AWAY, (), None)


def a6(_: Bed, rounds: int) -> Iterator[Result]:
    """In a lab of its own where programs move by themselves: begun on node 2, which is no better for them."""
    with bed(balance=True) as where:
        yield from against("A6", where, rounds, AWAY, HOME, HOMEWARD)
