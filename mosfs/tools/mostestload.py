"""mostestload(1): an artificial load. CPU, memory, system calls and I/O in measured amounts, for trying MOSIX out.

    memory --> { chunk of system calls --> units of CPU work } ... until the time, the units or the repeats are used up
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mosfs.abi.texts import Text, text
from mosfs.cluster.paths import NodePaths
from mosfs.tools.options import INT, MAYBE, REAL, TEXT, Command, Option, Parsed, UsageError, UserError, complain, number_of

#: Iterations of a unit of CPU work: about a millisecond on today's processors.
UNIT = 10_000
SECONDS = 1800  #: CPU time, unless -t says otherwise
KILOBYTE, MEGABYTE = 1 << 10, 1 << 20
CALLS = 1024  #: system calls in a chunk
FILL = b"\x55"
FOREVER = 0
NOTICE = 0.2  #: seconds between two looks whether we have migrated
MOST = 1 << 40  #: of anything that is counted

SYNOPSIS = """
mostestload [-t{seconds} | -t{min},{max}] [-m{mb}] [--random-mem] [--cpu={N}] [options]
mostestload --read[={size}[,{ncalls}[,{repeats}]]] | --write[={size}[,{ncalls}[,{repeats}]]] [options]
mostestload --noiosyscall={ncalls}[,{repeats}] [options]
mostestload -l {min} -h {max} [options]
"""

MOSTESTLOAD = Command("mostestload", SYNOPSIS, "MOSIX test program", (
    Option("-t --time", "time", "seconds of CPU time (default 1800, 0 = no end), or a random number of min,max", TEXT,
           metavar="seconds"),
    Option("-l", "low", "with -h {max}: as -t{min},{max}", TEXT, metavar="min"),
    Option("-m --mem", "mem", "megabytes of memory to fill", INT, metavar="mb", high=1 << 30),
    Option("--random-mem", "random", "fill memory with random bytes instead of one value"),
    Option("--cpu", "cpu", "units of CPU work: so many in all, or between chunks of system calls", INT, metavar="N", high=1 << 40),
    Option("--read", "read", "read size KB, ncalls times a chunk, repeats chunks", MAYBE, metavar="size[,ncalls[,repeats]]"),
    Option("--write", "write", "write size KB, ncalls times a chunk, repeats chunks", MAYBE, metavar="size[,ncalls[,repeats]]"),
    Option("--noiosyscall", "noio", "a system call without I/O, ncalls times a chunk, repeats chunks", MAYBE,
           metavar="ncalls[,repeats]"),
    Option("-d --dir", "dir", "directory of the file to read or write (default /tmp)", TEXT, metavar="directory"),
    Option("-f --file", "file", "the file to read or write", TEXT, metavar="filename"),
    Option("--maxiosize", "maxio", "start over at the beginning of the file after so many megabytes", INT, metavar="SIZE",
           low=1, high=1 << 30),
    Option("-v --verbose", "verbose", "tell what is done"),
    Option("--report-migrations", "migrations", "tell when it migrates"),
    Option("-r --report", "report", "a summary at the end"),
    Option("--sleep", "sleep", "wait before starting", REAL, metavar="SEC", high=1e9),
    Option("-h", "help", "print this and exit (after -l: the upper limit)"),
))


@dataclass(frozen=True)
class Chunk:
    """``calls`` system calls in a row, ``repeats`` times (0 = for ever). ``kind``: read, write or noio; ``size`` in bytes."""

    kind: str
    size: int
    calls: int
    repeats: int


@dataclass(frozen=True)
class Job:
    """What to do. ``seconds``: CPU time; ``units``: 0 for not given; ``limit``: bytes of the file, 0 for none."""

    seconds: float
    units: int
    memory: int
    random_memory: bool
    chunk: Chunk | None
    limit: int


@dataclass
class Done:
    """What was done so far."""

    units: int = 0
    calls: int = 0
    bytes: int = 0
    chunks: int = 0
    started: float = field(default_factory=time.monotonic)


# --------------------------------------------------------------------------- what is wanted


def older_style(argv: Sequence[str]) -> list[str]:
    """``argv`` with the ``-l N -h N`` of the older testload(1) as ``-tN,N``. Without -l, -h is help."""
    words = list(argv)
    low = take(words, "-l")
    if low is None:
        return words
    high = take(words, "-h")
    if high is None:
        raise UsageError("-l needs -h")
    return [f"-t{low},{high}", *words]


def take(words: list[str], name: str) -> str | None:
    """The value of ``name``, glued or in the next word, removed from ``words``; None when it is not there."""
    for at, word in enumerate(words):
        if word == name and at + 1 < len(words):
            del words[at]
            return words.pop(at)
        if word.startswith(name) and word[len(name):].isdigit():
            return words.pop(at)[len(name):]
    return None


def numbers(name: str, given: str, defaults: Sequence[int]) -> list[int]:
    """The integers of ``given``, which are separated by commas, completed by ``defaults``."""
    found = [number_of(word) for word in given.split(",")] if given else []
    known = [number for number in found if number is not None and 0 <= number <= MOST]
    if len(found) > len(defaults) or len(known) < len(found):
        raise UsageError(f"{name}: {given} does not fit")
    return [*known, *defaults[len(known):]]


def duration(given: str, pick: Callable[[int, int], int]) -> float:
    """CPU seconds that -t means, infinity for 0; ``pick`` chooses between limits, both inclusive."""
    if "," not in given:
        return numbers("-t", given, [SECONDS])[0] or math.inf
    low, high = numbers("-t", given, [0, 0])
    if low > high:
        raise UsageError(f"-t: {low} is more than {high}")
    return pick(low, high)


def chunk(options: Parsed) -> Chunk | None:
    given = [key for key in ("read", "write", "noio") if key in options]
    if not given:
        return None
    if len(given) > 1:
        raise UsageError("only one of --read, --write and --noiosyscall")
    key = given[0]
    if key == "noio":
        calls, repeats = numbers("--noiosyscall", options.get(key), [CALLS, FOREVER])
        size = 0
    else:
        size, calls, repeats = numbers(f"--{key}", options.get(key), [1, CALLS, FOREVER])
    return Chunk(key, size * KILOBYTE, calls, repeats)


def job(options: Parsed, pick: Callable[[int, int], int]) -> Job:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")
    return Job(
        duration(options.get("time"), pick), int(options.get("cpu", "0")), int(options.get("mem", "0")) * MEGABYTE,
        "random" in options, chunk(options), int(options.get("maxio", "0")) * MEGABYTE,
    )


# --------------------------------------------------------------------------- doing it


def work(units: int) -> int:
    """Pure computation, ``units`` of `UNIT` iterations; its result, so that nothing can be left out."""
    value = 1
    for _ in range(units * UNIT):
        value = value * 1103515245 + 12345 & 0x7FFFFFFF
    return value


def memory(size: int, *, scattered: bool) -> bytearray:
    """``size`` bytes that are really there, and no more at any time. ``scattered``: random ones, which do not compress."""
    filled = bytearray(size)
    for at in range(0, size, MEGABYTE):
        part = min(MEGABYTE, size - at)
        filled[at : at + part] = os.urandom(part) if scattered else FILL * part
    return filled


@contextmanager
def opened(options: Parsed, wanted: Chunk | None) -> Iterator[int]:
    """A descriptor to read or write; -1 when there is nothing to. A file of our own has no name, and ends with us."""
    if wanted is None or wanted.kind == "noio":
        yield -1
        return
    path, ours = options.get("file"), "file" not in options
    try:
        if ours:
            file, path = tempfile.mkstemp(prefix="mostestload.", dir=options.get("dir") or "/tmp")
            os.unlink(path)
        else:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC if wanted.kind == "write" else os.O_RDONLY | os.O_CLOEXEC,
                           0o644)
    except OSError as error:
        raise UserError(f"{path or options.get('dir')}: {error.strerror}") from None
    try:
        if ours and wanted.kind == "read":
            for _ in range(wanted.calls):
                os.write(file, FILL * wanted.size)
            os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)


def transfer(file: int, wanted: Chunk, limit: int, done: Done) -> None:
    """One chunk of system calls. Reading starts over at the end of the file, both at ``limit``."""
    data = FILL * wanted.size
    for _ in range(wanted.calls):
        if wanted.kind == "noio":
            os.getppid()
        else:
            if limit and os.lseek(file, 0, os.SEEK_CUR) + wanted.size > limit:
                os.lseek(file, 0, os.SEEK_SET)
            try:
                moved = os.write(file, data) if wanted.kind == "write" else len(os.read(file, wanted.size))
            except OSError as error:
                raise UserError(f"{wanted.kind}: {error.strerror}") from None
            if not moved and wanted.kind == "read":
                os.lseek(file, 0, os.SEEK_SET)
                moved = len(os.read(file, wanted.size))
            done.bytes += moved
        done.calls += 1
    done.chunks += 1


class Timer:
    """Counts down CPU time by ITIMER_PROF: in the cluster, CPU time is counted where it is used, but asked for at home."""

    LONGEST = 1e8

    def __init__(self, seconds: float) -> None:
        self.seconds = min(seconds, self.LONGEST)
        self.over = seconds <= 0
        signal.signal(signal.SIGPROF, self._end)
        signal.setitimer(signal.ITIMER_PROF, self.seconds)

    def _end(self, *_: object) -> None:
        self.over = True

    def used(self) -> float:
        """CPU seconds so far."""
        return max(0.0, self.seconds - signal.getitimer(signal.ITIMER_PROF)[0])


def run(wanted: Job, file: int, timer: Timer, done: Done, notice: Callable[[], None]) -> None:
    """Until the CPU time, the units or the repeats are used up. ``notice`` is called after each step of some milliseconds."""
    held = memory(wanted.memory, scattered=wanted.random_memory)
    while not timer.over:
        if wanted.chunk is None:
            step = min(10, wanted.units - done.units) if wanted.units else 10
            if not step:
                break
            work(step)
            done.units += step
        else:
            if wanted.chunk.repeats and done.chunks >= wanted.chunk.repeats:
                break
            transfer(file, wanted.chunk, wanted.limit, done)
            left = wanted.units
            while left and not timer.over:
                step = min(10, left)
                work(step)
                done.units, left = done.units + step, left - step
        if held:
            held[done.units * 4096 % len(held)] ^= 1  # it is in use
        notice()


class Migrations:
    """Tells when our number of migrations has changed. Outside of mosrun it never does."""

    def __init__(self, mount: str, say: Callable[[str], None]) -> None:
        self.folder = f"{mount}/self"
        self.say = say
        self.seen = self.read("nmigs")
        self.due = 0.0

    def read(self, name: str) -> str:
        try:
            with open(f"{self.folder}/{name}", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    def look(self) -> None:
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + NOTICE
        if (now := self.read("nmigs")) != self.seen and now:
            self.seen = now
            self.say(f"migration {now}: now at {self.read('where')}")


def summary(timer: Timer, done: Done) -> str:
    seconds = time.monotonic() - done.started
    return (
        f"{timer.used():.2f} s of CPU time in {seconds:.2f} s, {done.units} units of CPU work, "
        f"{done.calls} system calls, {done.bytes} bytes"
    )


def body(options: Parsed) -> int:
    wanted = job(options, random.randint)

    def say(what: str) -> None:
        print(f"mostestload {os.getpid()}: {what}", flush=True)

    def tell(what: str) -> None:
        if "verbose" in options:
            say(what)

    if "sleep" in options:
        tell(f"sleeping {options.get('sleep')} s")
        time.sleep(float(options.get("sleep")))
    timer, done = Timer(wanted.seconds), Done()
    migrations = Migrations(NodePaths.from_env().mount, say) if "migrations" in options else None
    tell(f"{wanted}")
    try:
        with opened(options, wanted.chunk) as file:
            run(wanted, file, timer, done, migrations.look if migrations else lambda: None)
    except MemoryError:
        raise UserError(text(Text.NO_MEMORY)) from None
    if migrations:
        migrations.due = 0.0
        migrations.look()
    if "report" in options:
        say(summary(timer, done))
    tell("done")
    return 0


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    try:
        words = older_style(words)
    except UsageError as error:
        complain(f"{MOSTESTLOAD.usage()}mostestload: {error.text}\n")
        return error.status
    return MOSTESTLOAD.run(body, words)


if __name__ == "__main__":
    sys.exit(main())
