"""The time a program sees: contents of the data page of our vDSO (`mosfs/native/vdso.c`), at home and away.

A page holds straight lines through (time stamp counter, nanoseconds), one a clock. Whoever traces a program writes its
page when the program starts, when it arrives at a node, and then about once a second (`next_update`), because NTP bends
the kernel's clocks. Pages are made by pure functions from three things: the truth now, what the program was shown last,
and a floor that came with it from another node. So one clock object serves any number of programs::

    clock = HomeClock()                  # GuestClock(...) on another node
    page = clock.page(0)                 # a new or stopped program: write it in one piece
    page = clock.refresh(write, page)    # a running program

Rules: monotonic time never goes back. Errors are slewed away within a second; a clock that is ahead by much is slowed
by a tenth at most; one that lags by more than `STEP_NS` leaps forward, which a program cannot tell from not having been
scheduled. Realtime does the same, except that it follows when the home kernel's clock was set, forward or back: then the
difference between the two clocks, the *wall*, has changed (`Page.wall` remembers it, and so does what a program was shown).

In mode 0 (no dependable counter) the vDSO asks the kernel, and the bases are only floors.
"""

from __future__ import annotations

import random
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, Protocol

from mosfs.trace import altered

SHIFT = 48  #: rates are ns a tick times 2**SHIFT
NSEC = 10**9
STEP_NS = 10**6  #: a jump of the kernel's realtime clock above this is followed, below it is slewed
SLEW_NS = NSEC  #: how long a correction takes, if it can be so gentle
GENTLE = 10  #: a clock runs at least 1 - 1/GENTLE as fast as the true one
COLD_NS = 500_000  #: shortest base line of a rate
WARM_NS = NSEC // 2  #: preferred base line: long enough to hide the sampling error (10 ns), and not longer than
OLD_NS = 8 * NSEC  #: this, so that it follows what NTP does now
JUMP = 1000  #: a rate that changes by more than 1/JUMP means that the counter itself was reset
#: How fast two computers' CLOCK_MONOTONIC drift apart at most, parts of a million: each goes by a crystal, or by NTP.
DRIFT_PPM = 100
MODE_KERNEL, MODE_TSC = 0, 1
CLOCK_MONOTONIC_COARSE = 6  #: missing in `time`

REALTIME, MONOTONIC, BOOTTIME, TAI = range(4)  #: the lines of a page

_LAYOUT = struct.Struct("<IIQQII" + "QqQ" * 4 + "q")
_SEQ = struct.Struct("<I")
PAGE_BYTES = _LAYOUT.size  #: what is written; the rest of the 4096 bytes is never read


class Shown(NamedTuple):
    """What a program has seen, or may see at least; nanoseconds since the epoch and of CLOCK_MONOTONIC."""

    realtime: int
    monotonic: int

    @property
    def wall(self) -> int:
        """How far realtime was ahead: it changes when the clock is set, and at no other time."""
        return self.realtime - self.monotonic


NOTHING = Shown(0, 0)


class Line(NamedTuple):
    """One clock: ns at the page's `tsc`, and a correction of the rate for the first `slew_ticks` ticks."""

    base: int
    slew: int = 0
    slew_ticks: int = 0


class Sample(NamedTuple):
    """A clock showed `ns` when the counter showed `tsc`, within half of `width` ticks."""

    tsc: int
    ns: int
    width: int


@dataclass(frozen=True, slots=True)
class Page:
    """`struct page` of vdso.c. ``wall`` is the home kernel's realtime minus monotonic, for us alone."""

    seq: int
    mode: int
    tsc: int
    rate: int
    coarse: int
    served: int
    lines: tuple[Line, Line, Line, Line]
    wall: int

    def pack(self) -> bytes:
        lines = (number for line in self.lines for number in line)
        return _LAYOUT.pack(self.seq, self.mode, self.tsc, self.rate, self.coarse, self.served, *lines, self.wall)

    @classmethod
    def unpack(cls, data: bytes) -> Page:
        """The page in at least `PAGE_BYTES` bytes; `struct.error` if there are fewer."""
        seq, mode, tsc, rate, coarse, served, *rest = _LAYOUT.unpack_from(data)
        real, mono, boot, tai = (Line(*rest[i : i + 3]) for i in range(0, 12, 3))
        return cls(seq, mode, tsc, rate, coarse, served, (real, mono, boot, tai), rest[12])

    def show(self, line: int, tsc: int) -> int:
        """Nanoseconds that the vDSO answers at `tsc` (the same arithmetic); in mode 0 the least that it may answer."""
        base, slew, slew_ticks = self.lines[line]
        if self.mode == MODE_KERNEL:
            return base
        delta = max(0, tsc - self.tsc)
        return base + (delta * self.rate + min(delta, slew_ticks) * slew >> SHIFT)


#: clock of clock_gettime(2): its line
_LINES = {time.CLOCK_REALTIME: REALTIME, time.CLOCK_MONOTONIC: MONOTONIC, time.CLOCK_BOOTTIME: BOOTTIME, time.CLOCK_TAI: TAI}


def shown_by(page: bytes, clock: int, tsc: int) -> int | None:
    """Nanoseconds that the vDSO answers for ``clock`` at `tsc`; None if it leaves that to the kernel."""
    line = _LINES.get(clock)
    if line is None or not page:
        return None
    parsed = Page.unpack(page)
    return parsed.show(line, tsc) if parsed.mode == MODE_TSC and parsed.served >> line & 1 else None


def last_shown(page: bytes, tsc: int) -> Shown:
    """The latest that a stopped program can have seen; `tsc` is read on its node after it stopped.

    In mode 0 only the page's floor is known: take the maximum of that and the kernel's clock.
    """
    parsed = Page.unpack(page)
    return Shown(parsed.show(REALTIME, tsc), parsed.show(MONOTONIC, tsc))


# --------------------------------------------------------------------------- the counter


class Counter(Protocol):
    """A time stamp counter and the clocks beside it; tests have their own."""

    def ticks(self) -> int: ...

    def clock(self, clock: int) -> int:
        """clock_gettime(2), in ns."""

    def usable(self) -> bool:
        """Whether ticks come at a constant rate and alike on all CPUs."""

    @property
    def anchor(self) -> Sample | None:
        """A sample of CLOCK_MONOTONIC taken long ago, if there is one."""


def trustworthy(clocksource: str, flags: frozenset[str]) -> bool:
    """Whether ticks are time. The kernel has tested it: it takes `tsc` only if that is constant and synchronised; under
    KVM it may prefer kvm-clock, which is the same counter if the host's never stops."""
    return clocksource == "tsc" or (clocksource == "kvm-clock" and {"constant_tsc", "nonstop_tsc"} <= flags)


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Flags of the first CPU in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


class Tsc:
    """This machine's counter, read by `rdtsc` (`lib.mos_rdtsc`; it must not run ahead of earlier instructions)."""

    CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")

    def __init__(self, rdtsc: Callable[[], int]) -> None:
        self.ticks = rdtsc
        self.clock = altered.clocks()
        self._flags = cpu_flags(Path("/proc/cpuinfo").read_text())
        self.anchor = sample(self.ticks, partial(self.clock, time.CLOCK_MONOTONIC)) if self.usable() else None

    def usable(self) -> bool:
        """Asked every time: the kernel's watchdog may drop the counter at any moment."""
        try:
            return trustworthy(self.CLOCKSOURCE.read_text().strip(), self._flags)
        except OSError:
            return False


@lru_cache(maxsize=1)
def native_counter() -> Tsc:
    """This process's counter. The first call takes the sample from which the rate is measured later, so whoever forks
    tracers calls it when it starts: its children then have a long base line from the beginning."""
    from mosfs.native import lib

    return Tsc(lib.mos_rdtsc)


def sample(ticks: Callable[[], int], clock: Callable[[], int], tries: int = 16) -> Sample:
    """Reads `clock` between two readings of `ticks`; the tightest of `tries` (0.1 us each) is right within 10 ns."""
    best = Sample(0, 0, 1 << 62)
    for _ in range(tries):
        before = ticks()
        ns = clock()
        width = ticks() - before
        if 0 <= width < best.width:
            best = Sample(before + width // 2, ns, width)
    return best


def rate_between(old: Sample, new: Sample) -> int:
    """Nanoseconds a tick times 2**SHIFT. The samples must differ in `tsc`."""
    return ((new.ns - old.ns) << SHIFT) // (new.tsc - old.tsc)


def spoilt(age: int) -> int:
    """By how much two clocks may differ more than so long ago, ns."""
    return abs(age) * DRIFT_PPM // 10**6 + 1


def prune(samples: tuple[Sample, ...], new: Sample) -> tuple[Sample, ...]:
    """The samples worth keeping, oldest (begin of the base line) first, `new` last; bounded however often called."""
    if samples and not (samples[-1].tsc < new.tsc and samples[-1].ns < new.ns):
        return (new,)
    kept = samples[:-1] if len(samples) > 1 and new.ns - samples[-2].ns < WARM_NS else samples
    for index, old in enumerate(kept):
        if WARM_NS <= new.ns - old.ns <= OLD_NS:
            return (*kept[index:], new)
    if kept and new.ns - kept[-1].ns > OLD_NS:
        kept = kept[len(kept) - 1 :]
    return (*kept, new)


class Rate:
    """The counter's rate against CLOCK_MONOTONIC, refined at every reading."""

    def __init__(self, counter: Counter) -> None:
        self._read = partial(sample, counter.ticks, partial(counter.clock, time.CLOCK_MONOTONIC))
        self._samples: tuple[Sample, ...] = () if counter.anchor is None else (counter.anchor,)
        self._rate = 0

    @property
    def base_line_ns(self) -> int:
        return self._samples[-1].ns - self._samples[0].ns if self._samples else 0

    def measure(self) -> tuple[int, Sample]:
        """The rate and the newest sample. Takes a few microseconds; the first time, without an anchor, `COLD_NS`."""
        self._samples = prune(self._samples, self._read())
        while self.base_line_ns < COLD_NS:
            self._samples = prune(self._samples, self._read())
        rate = rate_between(self._samples[0], self._samples[-1])
        if self._rate and abs(rate - self._rate) > self._rate // JUMP:
            self._samples, self._rate = (), 0
            return self.measure()
        self._rate = rate
        return rate, self._samples[-1]


# --------------------------------------------------------------------------- deciding what a page says


@dataclass(frozen=True, slots=True)
class Extras:
    """What else a home-node's clocks have, in ns: resolution of the coarse ones, BOOTTIME - MONOTONIC, TAI - REALTIME.

    None: the vDSO leaves that clock to the real system call."""

    coarse: int = 0
    boot: int | None = None
    tai: int | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """The home-node's time at `tsc`. ``rate`` 0: there is no usable counter."""

    tsc: int
    rate: int
    realtime: int
    monotonic: int


def steer(truth: int, rate: int, shown: int | None, floor: int) -> Line:
    """The line of one clock from now on, in ns. `shown` is what its line so far shows now (None: nothing, or it may be
    forgotten), `floor` what the clock must not fall below."""
    begin = truth if shown is None or truth - shown > STEP_NS else shown
    begin = max(begin, floor)
    error = truth - begin
    if not error:
        return Line(begin)
    slew_ticks = min((max(SLEW_NS, GENTLE * abs(error)) << SHIFT) // rate, 1 << 62)
    return Line(begin, max((error << SHIFT) // slew_ticks, -rate // GENTLE), slew_ticks)


def next_page(
    seq: int, truth: Truth, extras: Extras, previous: Page | None = None, floor: Shown = NOTHING, *, leap: bool = False
) -> Page:
    """What follows `previous`, the page that the same program has now and that was written on this node. ``leap``: clocks that lag
    do not take their time."""
    wall = truth.realtime - truth.monotonic
    shown: Shown | None = None
    if previous is not None:
        now = Shown(previous.show(REALTIME, truth.tsc), previous.show(MONOTONIC, truth.tsc))
        shown = now if previous.mode == MODE_TSC and not leap else None
        floor = Shown(max(floor.realtime, now.realtime), max(floor.monotonic, now.monotonic))
        if abs(wall - previous.wall) > STEP_NS:
            shown = shown and shown._replace(realtime=truth.realtime)
            floor = floor._replace(realtime=0)
    elif abs(wall - floor.wall) > STEP_NS:  # home's clock was set while the program was on its way
        floor = floor._replace(realtime=0)
    served = 1 << REALTIME | 1 << MONOTONIC
    if not truth.rate:
        nowhere = Line(0)
        lines = (Line(floor.realtime), Line(floor.monotonic), nowhere, nowhere)
        return Page(seq, MODE_KERNEL, truth.tsc, 0, extras.coarse, served, lines, wall)
    real = steer(truth.realtime, truth.rate, shown and shown.realtime, floor.realtime)
    mono = steer(truth.monotonic, truth.rate, shown and shown.monotonic, floor.monotonic)
    boot = mono._replace(base=mono.base + (extras.boot or 0))
    tai = real._replace(base=real.base + (extras.tai or 0))
    served |= (extras.boot is not None) << BOOTTIME | (extras.tai is not None) << TAI
    return Page(seq, MODE_TSC, truth.tsc, truth.rate, extras.coarse, served, (real, mono, boot, tai), wall)


# --------------------------------------------------------------------------- the two clocks


class _Clock(ABC):
    """What both clocks share: this node's counter and its rate."""

    def __init__(self, counter: Counter | None, floor: Shown = NOTHING) -> None:
        self._counter: Counter = native_counter() if counter is None else counter
        self._rate = Rate(self._counter)
        self._floor = floor

    @abstractmethod
    def _now(self) -> tuple[Extras, Truth]:
        """The home-node's time."""

    def page(self, seq: int, previous: bytes | None = None, not_before: Shown = NOTHING, *, leap: bool = False) -> bytes:
        """`PAGE_BYTES` bytes with the even number `seq`, for a program that is stopped or not yet running.

        `previous` is the page that it has now and that this clock made, None if it has just come; `not_before` is what
        it has seen on the node it comes from (`last_shown` there). Two pages of one program need different numbers.
        """
        extras, truth = self._now()
        if previous is not None:
            return next_page(seq, truth, extras, Page.unpack(previous), not_before, leap=leap).pack()
        floor = Shown(*map(max, self._floor, not_before))
        return next_page(seq, truth, extras, None, floor).pack()

    def arrived(self, not_before: Shown) -> bytes:
        """The page of a program that comes from elsewhere, where it has seen ``not_before``. See `any_number`."""
        return self.page(any_number(), None, not_before)

    def refresh(
        self, write: Callable[[int, bytes], object], current: bytes, not_before: Shown = NOTHING, *, leap: bool = False
    ) -> bytes:
        """Replaces the page of a running program (it may be stopped too); `publish` says how. Returns the new page, which shows
        no less than ``not_before``, and with ``leap`` no less than the truth."""
        return publish(write, lambda seq: self.page(seq, current, not_before, leap=leap), current)

    def ticks(self) -> int:
        """The counter now, for `last_shown`."""
        return self._counter.ticks()

    def here(self) -> Shown:
        """This node's own clocks, both of one moment."""
        wall = self._between(time.CLOCK_MONOTONIC, time.CLOCK_REALTIME)
        monotonic = self._counter.clock(time.CLOCK_MONOTONIC)
        return Shown(monotonic + wall, monotonic)

    def next_update(self) -> float:
        """Seconds until pages should be refreshed: soon while the rate is rough, once a second later."""
        return min(1.0, max(0.01, self._rate.base_line_ns / NSEC))

    def _between(self, reference: int, clock: int) -> int:
        """`clock` minus `reference`, in ns."""
        both = sample(partial(self._counter.clock, reference), partial(self._counter.clock, clock))
        return both.ns - both.tsc

    def _local(self) -> Truth:
        """This node's own time."""
        if not self._counter.usable():
            return Truth(self._counter.ticks(), 0, *self.here())
        rate, mono = self._rate.measure()
        real = sample(self._counter.ticks, partial(self._counter.clock, time.CLOCK_REALTIME))
        tsc = self._counter.ticks()
        realtime, monotonic = (s.ns + ((tsc - s.tsc) * rate >> SHIFT) for s in (real, mono))
        return Truth(tsc, rate, realtime, monotonic)


class HomeClock(_Clock):
    """Time of this node, for programs that are at home."""

    def __init__(self, counter: Counter | None = None, coarse_ns: int | None = None) -> None:
        super().__init__(counter)
        self._coarse = round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * NSEC) if coarse_ns is None else coarse_ns
        self._boot = 0

    def extras(self) -> Extras:
        """What travels to the node where a GuestClock shows this node's time."""
        boot = self._between(time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)
        if abs(boot - self._boot) > STEP_NS:  # the machine has slept; everything else is an error of the comparison
            self._boot = boot
        tai = self._between(time.CLOCK_REALTIME, time.CLOCK_TAI)
        return Extras(self._coarse, self._boot, round(tai / NSEC) * NSEC)

    def _now(self) -> tuple[Extras, Truth]:
        extras = self.extras()
        return extras, self._local()


class GuestClock(_Clock):
    """Time of a home-node, shown on this one.

    ``ahead``: home's CLOCK_MONOTONIC minus this node's, ns. ``wall``: home's realtime minus its CLOCK_MONOTONIC, ns; None: both
    nodes have one kernel, and so one realtime. So guests do not notice when this node's realtime is set, and a setting of home's
    is known exactly, however long its news took. ``at``: a lower bound, ``ahead`` held then (this node's CLOCK_MONOTONIC), and what
    is shown stays one: it goes more slowly by what clocks may drift apart.
    The `not_before` values hold for pages without a previous one: what the programs saw before they came.
    """

    def __init__(
        self,
        ahead: int = 0,
        wall: int | None = None,
        not_before_realtime: int = 0,
        not_before_monotonic: int = 0,
        extras: Extras | None = None,
        counter: Counter | None = None,
        at: int | None = None,
    ) -> None:
        super().__init__(counter, Shown(not_before_realtime, not_before_monotonic))
        self._extras = Extras()
        self.adjust(ahead, wall, extras, at)

    def asking(self, not_before: Shown) -> bytes:
        """As `page`, by which the vDSO asks the kernel each time, so that whoever traces the program can answer. It is the same on
        each node: a program that is made again in the middle of a reading does not begin that again, as it did not before."""
        nowhere = Line(0)
        lines = (Line(not_before.realtime), Line(not_before.monotonic), nowhere, nowhere)
        return Page(ASKING, MODE_KERNEL, 0, 0, self._extras.coarse, 1 << REALTIME | 1 << MONOTONIC, lines, not_before.wall).pack()

    def adjust(self, ahead: int, wall: int | None, extras: Extras | None = None, at: int | None = None) -> None:
        """New offsets; the next pages slew to them, and step if home's realtime clock was set."""
        self._ahead, self._wall, self._at = ahead, wall, at
        self._extras = self._extras if extras is None else extras

    def ahead(self) -> Shown:
        """Home's clocks minus this node's, ns."""
        if self._wall is None:
            return Shown(self._ahead, self._ahead)
        here = self._local()
        ahead = self._ahead_at(here.monotonic)
        return Shown(ahead + self._wall - (here.realtime - here.monotonic), ahead)

    def monotonic(self) -> int:
        """Home's CLOCK_MONOTONIC, ns."""
        here = self.here().monotonic
        return here + self._ahead_at(here)

    def _ahead_at(self, here: int) -> int:
        return self._ahead if self._at is None else self._ahead - spoilt(here - self._at)

    def _now(self) -> tuple[Extras, Truth]:
        here = self._local()
        monotonic = here.monotonic + self._ahead_at(here.monotonic)
        wall = here.realtime - here.monotonic if self._wall is None else self._wall
        rate = here.rate if self._at is None else here.rate - spoilt(here.rate)
        return self._extras, Truth(here.tsc, max(rate, 0), monotonic + wall, monotonic)


# --------------------------------------------------------------------------- writing


#: The sequence number of a page that asks for each reading (`GuestClock.asking`).
ASKING = 0xFFFFFFFE


def any_number() -> int:
    """The sequence number of a page whose program comes from elsewhere. Nobody here knows the number that it had there, and the
    program may have been stopped in the middle of a reading, which it must begin again."""
    return 2 * random.getrandbits(31)


def following(page: bytes) -> int:
    """The sequence number for the page after `page`."""
    seq: int = _SEQ.unpack_from(page)[0]
    return (seq + 2) & 0xFFFFFFFE


def publish(write: Callable[[int, bytes], object], make: Callable[[int], bytes], current: bytes) -> bytes:
    """Replaces the page of a *running* program: `write(offset, data)` writes into it, `make(seq)` makes new contents.

    While `make` runs the program's time calls wait: a new line must begin where the last reading of the old one was. If
    `make` fails the old page is valid again. A writer that dies in between leaves the page odd and the program waiting;
    the next page that anybody writes heals it.
    """
    write(0, _SEQ.pack(_SEQ.unpack_from(current)[0] | 1))
    try:
        page = make(following(current))
    except BaseException:
        write(0, current[: _SEQ.size])
        raise
    write(_SEQ.size, page[_SEQ.size :])
    write(0, page[: _SEQ.size])
    return page


def kernel_id() -> str:
    """Whose clocks these are: processes of one kernel and of one time namespace share them (time_namespaces(7))."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        offsets = Path("/proc/self/timens_offsets").read_text(encoding="ascii").split()
    except OSError:  # a kernel without time namespaces
        offsets = []
    return "".join((boot, *(f" {word}" for word in offsets if word.strip("-").isdigit() and int(word)), altered.name()))
