"""Clocks as a program sees them that moves between both computers; those of the other one are set and slewed all the time."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines.asked import Asked
from tests.machines.vm import Machines
from tests.progs import BUILT, CFLAGS, compile_c

NSEC = 10**9
SOURCE = Path(__file__).with_name("watch.c")
#: Seconds with each processor; with three that is half an hour.
SECONDS = float(os.environ.get("MOSIX_CLOCK_SECONDS", "600"))
PAUSE = 0.5  #: seconds between two questions: other runs need the processor as well
#: Half of the readings are at most so far from home's clocks, ns; and none is further.
CLOSE, ROUGH = NSEC // 1000, 60 * NSEC
CLOCKS = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)

#: In the other computer: set its realtime by so many seconds, and let its clocks run so many ppm faster (adjtimex(2)).
DISTURB = """
import ctypes, struct, sys, time
by, ppm = float(sys.argv[1]), float(sys.argv[2])
timex = ctypes.create_string_buffer(struct.pack("<I4xqq", 2, 0, int(ppm * 65536)), 208)
assert ctypes.CDLL(None, use_errno=True).adjtimex(timex) >= 0
time.clock_settime(time.CLOCK_REALTIME, time.time() + by)
"""


@dataclass
class Seen:
    """``errors``: of each answer, how far outside of what home's clocks had between question and answer, ns. ``wrong``: the first
    thing that may not be, or ""."""

    errors: list[int] = field(default_factory=list)
    moves: int = 0
    wrong: str = ""

    def look(self, program: Asked) -> None:
        """Ask it for the time once."""
        first = [time.clock_gettime_ns(clock) for clock in CLOCKS]
        program.ask()
        answer = [int(word) for word in program.line().split()]
        second = [time.clock_gettime_ns(clock) for clock in CLOCKS]
        self.errors.append(max(max(low - at, at - high, 0) for low, at, high in zip(first, answer, second, strict=False)))
        if any(answer[3:]):
            self.wrong = self.wrong or f"clocks went back, realtime, monotonic and boot time so often: {answer[3:]}"

    def share(self, part: float) -> int:
        return sorted(self.errors)[int((len(self.errors) - 1) * part)]

    def verdict(self) -> str:
        if not self.wrong and self.errors and (self.share(0.5) > CLOSE or self.share(1) > ROUGH):
            return f"ns from home's clocks: half of the answers {self.share(0.5)}, the worst {self.share(1)}"
        return self.wrong

    def __str__(self) -> str:
        microseconds = ", ".join(f"{part:.0%} {self.share(part) / 1000:.0f}" for part in (0.5, 0.9, 0.99, 1))
        return f"{self.moves} moves, {len(self.errors)} answers, us from home's clocks: {microseconds}"


def disturb(both: Machines, dice: random.Random) -> None:
    seconds, ppm = dice.choice((-1, 1)) * 10 ** dice.uniform(-4, 5), dice.uniform(-450, 450)
    done = both.ask("python3", "-c", DISTURB, str(seconds), str(ppm))
    assert done.status == 0, done.stderr


def watch(both: Machines, seconds: float = SECONDS) -> Seen:
    """A program at home here, moved at random while the other computer's clocks are disturbed."""
    binary, seen, dice, here = BUILT / "watch", Seen(), random.Random(13), "home"
    BUILT.mkdir(parents=True, exist_ok=True)
    compile_c(SOURCE, binary, CFLAGS)
    end = time.monotonic() + seconds
    with Asked(both.root, [str(binary)], ["-h", "--cpu=x86-64-v2"]) as program:
        while time.monotonic() < end and not seen.wrong:
            for _ in range(dice.randint(2, 10)):
                seen.look(program)
                time.sleep(PAUSE)
            if dice.random() < 0.3:
                disturb(both, dice)
            here = dice.choice([target for target in ("2", "3", "home") if target != here])
            seen.wrong = program.move(here)
            seen.moves += not seen.wrong
        status, rest = program.end()
    seen.wrong = seen.wrong or ("" if status == 0 and not rest else f"status {status}: {rest}")
    return seen
