#!/usr/bin/python3
"""Private temporary files: an external sort whose runs move with the program.

    mosrun -X /tmp ./private.py [NODE...]

Sorts 200,000 numbers in runs of 20,000 below /tmp, as tempfile makes them, and moves to the next node (0 is home) after each run.
The same program also runs without mosrun, where it stays.
"""

import heapq
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

RUNS, LENGTH = 10, 20_000


def move(node: str) -> None:
    """Ask to be moved. The program goes on, and finds itself there sooner or later."""
    try:
        with open("/proc/mosix/self/migrate", "w") as control:
            control.write(node)
    except OSError as error:
        print(f"{node}: {error.strerror}", file=sys.stderr)


def numbers(run: IO[str]) -> Iterator[int]:
    run.seek(0)
    return map(int, run)


def main(nodes: list[str]) -> None:
    source = random.Random(1)
    with ExitStack() as stack:
        runs = []
        for turn in range(RUNS):
            run = stack.enter_context(tempfile.TemporaryFile("w+", dir="/tmp"))
            run.writelines(f"{n}\n" for n in sorted(source.randrange(10**9) for _ in range(LENGTH)))
            run.flush()
            runs.append(run)
            if nodes:
                move(nodes[turn % len(nodes)])
        merged = list(heapq.merge(*map(numbers, runs)))
    print(len(merged), merged == sorted(merged), sum(merged))


main(sys.argv[1:])
