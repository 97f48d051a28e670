"""The decisions behind the data page of the vDSO: never back, gentle slewing, steps only where the kernel stepped."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosfs.guest import offset
from mosfs.trace import clock
from mosfs.trace.clock import (
    BOOTTIME,
    GENTLE,
    MONOTONIC,
    NSEC,
    REALTIME,
    SHIFT,
    STEP_NS,
    TAI,
    Extras,
    GuestClock,
    HomeClock,
    Page,
    Rate,
    Sample,
    Shown,
    Truth,
    last_shown,
    next_page,
    steer,
)

EPOCH = 1_700_000_000 * NSEC
GHZ = 2_600_000_000  # ticks a second
RATE = (NSEC << SHIFT) // GHZ


@dataclass
class Machine:
    """A counter and clocks in exact agreement, moved on by hand; every reading costs some ticks."""

    hz: int = GHZ
    now: int = 10**12
    skew_ppm: int = 0  #: what NTP does to the clocks now
    good: bool = True
    anchor: Sample | None = None
    mono: int = 5_000 * NSEC
    real_ahead: int = EPOCH
    boot_ahead: int = 77 * NSEC
    _part: int = field(default=0)

    def step(self, ticks: int) -> None:
        self.now += ticks
        total = self._part + ticks * NSEC * (1_000_000 + self.skew_ppm)
        self.mono += total // (self.hz * 1_000_000)
        self._part = total % (self.hz * 1_000_000)

    def seconds(self, amount: float) -> None:
        self.step(int(self.hz * amount))

    def ticks(self) -> int:
        self.step(50)
        return self.now

    def clock(self, clock: int) -> int:
        self.step(50)
        ahead = {
            time.CLOCK_MONOTONIC: 0,
            time.CLOCK_REALTIME: self.real_ahead,
            time.CLOCK_BOOTTIME: self.boot_ahead,
            time.CLOCK_TAI: self.real_ahead + 37 * NSEC,
        }
        return self.mono + ahead[clock]

    def usable(self) -> bool:
        return self.good


def parsed(data: bytes) -> Page:
    assert len(data) == clock.PAGE_BYTES
    return Page.unpack(data)


def error(data: bytes, machine: Machine) -> Shown:
    """How far a page is from the truth, ns."""
    shown = last_shown(data, machine.now)
    return Shown(shown.realtime - machine.mono - machine.real_ahead, shown.monotonic - machine.mono)


u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
a_line = st.builds(clock.Line, u64, i64, st.integers(0, 2**63 - 1))
a_page = st.builds(Page, u32, u32, u64, u64, u32, u32, st.tuples(a_line, a_line, a_line, a_line), i64)


@given(a_page)
def test_pages_survive_packing(page: Page) -> None:
    assert Page.unpack(page.pack() + bytes(9)) == page


def test_a_new_page_shows_the_truth() -> None:
    machine = Machine()
    home = HomeClock(machine, coarse_ns=4_000_000)
    page = parsed(home.page(6))
    assert (page.seq, page.mode, page.coarse, page.served) == (6, clock.MODE_TSC, 4_000_000, 0b1111)
    assert page.show(BOOTTIME, machine.now) - page.show(MONOTONIC, machine.now) == pytest.approx(77 * NSEC, abs=100)
    assert page.show(TAI, machine.now) - page.show(REALTIME, machine.now) == 37 * NSEC
    assert max(map(abs, error(page.pack(), machine))) < 100


def test_the_first_page_is_soon_made_and_soon_refreshed() -> None:
    machine = Machine()
    begin = machine.mono
    home = HomeClock(machine, coarse_ns=0)
    home.page(0)
    assert machine.mono - begin < NSEC // 1000
    assert home.next_update() == 0.01
    machine.seconds(20)
    home.page(2)
    assert home.next_update() == 1.0


def test_an_anchor_gives_the_exact_rate_at_once() -> None:
    machine = Machine()
    machine.anchor = clock.sample(machine.ticks, partial(machine.clock, time.CLOCK_MONOTONIC))
    machine.seconds(0.2)
    page = HomeClock(machine, coarse_ns=0).page(0)
    machine.seconds(1)
    assert max(map(abs, error(page, machine))) < 1000


@pytest.mark.parametrize("hz", [24_000_000, 1_000_000_000, GHZ, 6_000_000_000])
def test_an_unrefreshed_page_is_right_for_hours(hz: int) -> None:
    machine = Machine(hz=hz)
    home = HomeClock(machine, coarse_ns=0)
    page = home.page(0)
    for _ in range(12):
        machine.seconds(1)
        page = home.refresh(lambda offset, data: None, page)
    machine.seconds(5 * 3600)
    assert max(map(abs, error(page, machine))) < 5 * 3600 * 1000


def test_the_rate_follows_ntp_and_forgets() -> None:
    machine = Machine()
    rate = Rate(machine)
    for _ in range(20):
        machine.seconds(1)
        rate.measure()
    machine.skew_ppm = 400
    for _ in range(12):
        machine.seconds(1)
        value, _ = rate.measure()
    assert value == pytest.approx(RATE * 1.0004, rel=1e-7)
    for _ in range(1000):
        machine.seconds(0.01)
        rate.measure()
    assert len(rate._samples) < 40
    assert rate.base_line_ns <= 9 * NSEC


def test_a_reset_counter_is_measured_anew() -> None:
    machine = Machine()
    rate = Rate(machine)
    for _ in range(5):
        machine.seconds(1)
        rate.measure()
    machine.now = 1000  # restored from a snapshot: the counter begins again, the clocks go on
    machine.seconds(1)
    assert rate.measure()[0] == pytest.approx(RATE, rel=1e-3)
    machine.now += 60 * GHZ  # or it leaps
    machine.seconds(1)
    assert rate.measure()[0] == pytest.approx(RATE, rel=1e-3)


def test_prune_keeps_an_old_sample_until_there_is_a_better_one() -> None:
    def at(second: float) -> Sample:
        return Sample(int(second * GHZ), int(second * NSEC), 1)

    assert clock.prune((), at(1)) == (at(1),)
    assert clock.prune((at(1),), at(100)) == (at(1), at(100))
    assert clock.prune((at(1), at(100)), at(100.2)) == (at(1), at(100), at(100.2))
    assert clock.prune((at(1), at(100), at(100.2)), at(100.3)) == (at(1), at(100), at(100.3))
    assert clock.prune((at(1), at(100)), at(101)) == (at(100), at(101))
    assert clock.prune((at(1), at(50)), at(100)) == (at(50), at(100))
    assert clock.prune((at(1), at(50)), at(40)) == (at(40),)


# --------------------------------------------------------------------------- steering

ns = st.integers(0, 2**61)


@given(
    truth=ns, off=st.integers(-(10**12), 10**12), rate=st.integers(RATE // 8, RATE * 100), floor=st.integers(0, 2**61)
)
def test_a_line_never_begins_below_what_was_shown_and_never_stands_still(
    truth: int, off: int, rate: int, floor: int
) -> None:
    shown = max(0, truth + off)
    line = steer(truth, rate, shown, floor)
    assert line.base >= max(shown, floor)
    assert line.base <= max(shown, floor, truth)
    assert line.slew_ticks < 2**63
    assert line.slew >= -rate // GENTLE
    if line.base == shown and abs(off) <= STEP_NS:
        assert abs(line.slew) <= rate // 900  # at most a millisecond in a second


@given(off=st.integers(-(10**10), 10**10))
def test_when_the_slew_ends_the_clock_is_right(off: int) -> None:
    page = next_page(0, Truth(0, RATE, EPOCH, NSEC * 100), Extras())
    page = replace(page, lines=(steer(EPOCH, RATE, EPOCH + off, 0), *page.lines[1:]))
    end = page.lines[0].slew_ticks
    truth = EPOCH + (end * RATE >> SHIFT)
    assert abs(page.show(REALTIME, end) - truth) <= 2
    later = end + 3600 * GHZ
    assert abs(page.show(REALTIME, later) - EPOCH - (later * RATE >> SHIFT)) <= 2


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * GHZ),  # ticks to the next page
            st.integers(-600, 600),  # NTP, ppm
            st.integers(-STEP_NS // 2, STEP_NS // 2),  # the kernel nudges its realtime
            st.integers(0, 10**7),  # ticks at which the program looks
        ),
        max_size=20,
    )
)
def test_rewritten_pages_never_show_less(life: list[tuple[int, int, int, int]]) -> None:
    machine = Machine()
    home = HomeClock(machine, coarse_ns=0)
    page = home.page(0)
    seen = Shown(0, 0)
    for wait, ppm, nudge, look in life:
        machine.skew_ppm = ppm
        machine.real_ahead += nudge
        for ticks in (look, wait):
            machine.step(ticks)
            now = last_shown(page, machine.now)
            assert now.realtime >= seen.realtime
            assert now.monotonic >= seen.monotonic
            seen = now
        page = home.page(clock.following(page), page)


@pytest.mark.parametrize("jump", [3600 * NSEC, -3600 * NSEC, 2 * STEP_NS, -2 * STEP_NS])
def test_realtime_steps_with_the_kernel(jump: int) -> None:
    machine = Machine()
    home = HomeClock(machine, coarse_ns=0)
    page = home.page(0)
    machine.seconds(1)
    before = last_shown(page, machine.now).monotonic
    machine.real_ahead += jump
    page = home.page(2, page)
    assert abs(error(page, machine).realtime) < 1000
    assert last_shown(page, machine.now).monotonic >= before


def test_a_small_setting_of_realtime_is_slewed() -> None:
    machine = Machine()
    home = HomeClock(machine, coarse_ns=0)
    page = home.page(0)
    machine.seconds(1)
    machine.real_ahead -= STEP_NS // 2
    page = home.page(2, page)
    assert error(page, machine).realtime == pytest.approx(STEP_NS // 2, rel=0.1)
    machine.seconds(1.1)
    assert abs(error(page, machine).realtime) < 20_000  # the first rate comes from half a millisecond


def test_a_clock_that_lags_a_little_leaps_if_it_shall() -> None:
    machine = Machine()
    home = GuestClock(0, EPOCH, counter=machine)
    page = home.page(0)
    machine.seconds(1)
    home.adjust(300_000, EPOCH)
    assert abs(error(home.page(2, page), machine).monotonic) < 100_000
    assert error(home.page(2, page, leap=True), machine).monotonic == pytest.approx(300_000, abs=10_000)
    home.adjust(-300_000, EPOCH)
    assert error(home.page(2, page, leap=True), machine).monotonic > -100_000, "none goes back"


def test_a_late_clock_leaps() -> None:
    machine = Machine()
    home = HomeClock(machine, coarse_ns=0)
    page = home.page(0)
    stale = replace(parsed(page), rate=RATE // 2).pack()
    machine.seconds(10)
    assert max(map(abs, error(home.page(2, stale), machine))) < 1000


# --------------------------------------------------------------------------- moving


def test_a_move_there_and_back_never_shows_less() -> None:
    home_machine, away = Machine(), Machine(hz=3_100_000_000, now=77, mono=99 * NSEC, real_ahead=EPOCH - 10**13)
    for machine in (
        home_machine,
        away,
    ):  # a long base line, so that measuring does not take the time of one of them only
        machine.anchor = clock.sample(machine.ticks, partial(machine.clock, time.CLOCK_MONOTONIC))
        machine.seconds(0.1)
    home = HomeClock(home_machine, coarse_ns=4_000_000)
    page = home.page(0)
    for lie in (0, 3_000_000, -3_000_000):  # how wrong the offsets are, ns
        home_machine.seconds(0.5)
        before = last_shown(page, home.ticks())
        guest = GuestClock(
            home_machine.mono - away.mono + lie,
            home_machine.real_ahead,
            before.realtime,
            before.monotonic,
            home.extras(),
            away,
        )
        page = guest.page(clock.following(page))
        there = last_shown(page, away.now)
        assert there >= before
        assert there.monotonic >= before.monotonic
        assert parsed(page).show(BOOTTIME, away.now) - there.monotonic == pytest.approx(77 * NSEC, abs=1000)
        for second in range(5):
            away.seconds(1)
            home_machine.seconds(1)
            away.real_ahead += 3600 * NSEC * second  # the foreign node's own clock is nobody's business
            page = guest.page(clock.following(page), page)
            now = last_shown(page, away.now)
            assert now.realtime > there.realtime
            assert now.monotonic > there.monotonic
            there = now
        assert there.monotonic - home_machine.mono == pytest.approx(lie, abs=10_000)
        assert there.realtime - home_machine.mono - home_machine.real_ahead == pytest.approx(lie, abs=10_000)
        page = home.page(clock.following(page), None, there)
        assert last_shown(page, home.ticks()) >= there


def test_no_node_numbers_a_page_as_the_one_before_did() -> None:
    """A program that was stopped between two looks at its page, and is moved, must notice that the second is at another page."""
    clocks = [HomeClock(Machine(), coarse_ns=0), *(GuestClock(counter=Machine()) for _ in range(4))]
    pages = [parsed(each.arrived(Shown(0, 0))) for each in clocks for _ in range(2)]
    assert len({page.seq for page in pages}) == len(pages)
    assert not any(page.seq % 2 for page in pages)


def test_new_offsets_of_a_guest() -> None:
    away = Machine()
    guest = GuestClock(counter=away)
    page = guest.page(0)
    assert parsed(page).served == 1 << REALTIME | 1 << MONOTONIC
    guest.adjust(-100_000, away.real_ahead)
    page = guest.page(2, page)
    assert error(page, away).monotonic == pytest.approx(0, abs=2000)
    away.seconds(2)
    assert error(page, away).monotonic == pytest.approx(-100_000, abs=20_000)
    guest.adjust(-100_000, away.real_ahead + 5 * NSEC)  # home's realtime was set
    page = guest.page(4, page)
    assert error(page, away).realtime == pytest.approx(5 * NSEC, abs=120_000)
    assert error(page, away).monotonic == pytest.approx(-100_000, abs=20_000)


@pytest.mark.parametrize("jump", [3600 * NSEC, -3600 * NSEC, 2 * STEP_NS, -2 * STEP_NS])
@pytest.mark.parametrize("good", [True, False])
def test_home_is_set_while_a_program_is_on_its_way(jump: int, good: bool) -> None:
    """What it saw before is no floor any more: natively it would see the clock go back, too."""
    machine = Machine()
    page = HomeClock(machine, coarse_ns=0).page(0)
    machine.seconds(1)
    seen = last_shown(page, machine.now)
    machine.real_ahead += jump
    away = Machine(mono=99 * NSEC, real_ahead=EPOCH - 10**13, good=good)
    arrived = GuestClock(machine.mono - away.mono, machine.real_ahead, *seen, counter=away).page(0)
    there = last_shown(arrived, away.now)
    assert there.monotonic >= seen.monotonic
    if good:
        assert there.realtime - seen.realtime == pytest.approx(jump, abs=STEP_NS)  # measuring takes half of that
    else:
        assert there.realtime == 0  # home's answer is not kept from going back


def test_a_page_that_asks_is_the_same_on_each_node() -> None:
    """A program that is made again in the middle of a reading has to go on with that, or it makes a call that it had not made."""
    nodes = [GuestClock(ahead, counter=Machine()) for ahead in (0, 7_000_000_000)]
    first, second = (node.asking(Shown(12, 34)) for node in nodes)
    assert first == second and not Page.unpack(first).seq & 1
    assert last_shown(first, 99) == Shown(12, 34)


def test_a_boot_time_that_cannot_be_compared_well_is_not_told_anew() -> None:
    """Else CLOCK_BOOTTIME would go back with the next page, by the error of a busy machine."""
    machine = Machine()
    home = HomeClock(machine, coarse_ns=0)
    before = home.extras().boot
    machine.boot_ahead -= 300_000
    assert home.extras().boot == before
    machine.boot_ahead += 60 * NSEC  # it has slept
    assert home.extras().boot == pytest.approx(before + 60 * NSEC, abs=STEP_NS)


# --------------------------------------------------------------------------- how far home's clock is


def test_the_offset_is_between_its_bounds() -> None:
    ahead = 40 * NSEC
    fastest = offset.FASTEST
    for there, back in ((100_000, 100_000), (0, 50_000_000), (50_000_000, fastest)):  # the ways of question and answer, ns
        asked = 7 * NSEC
        found = offset.measured(asked + there + ahead, asked + there + back, asked)
        assert (found.least, found.most) == (ahead + fastest - back, ahead + there + clock.spoilt(there + back))
    for asked in (0, 2 * NSEC):  # nobody asked, and the question comes from the future
        found = offset.measured(ahead + NSEC // 2, NSEC, asked)
        assert found.least == ahead + fastest - NSEC // 2 and found.most > 10**18


def test_what_was_measured_holds_until_its_age_has_spoilt_it() -> None:
    good = offset.Offset(1000, 101_000, NSEC)
    rough = offset.Offset(-5_000_000, 9_000_000, 2 * NSEC)
    assert offset.together(None, rough) is rough
    found = offset.together(good, rough)
    assert found.at == 2 * NSEC and 1000 - 110_000 < found.least < 1000 < 101_000 < found.most < 101_000 + 110_000
    assert offset.together(good, replace(rough, at=100_000 * NSEC)).least == rough.least
    for slept in (replace(rough, least=5 * NSEC, most=6 * NSEC), replace(rough, least=-6 * NSEC, most=-5 * NSEC)):
        assert offset.together(good, slept) is slept


@given(
    drift=st.integers(-90, 90), ahead=st.integers(-(10**15), 10**15),
    life=st.lists(
        st.tuples(st.integers(0, 3 * NSEC), st.integers(0, 10**8), st.integers(offset.FASTEST, 10**8), st.booleans()), max_size=12
    ),
)  # fmt: skip
def test_a_lower_bound_is_never_ahead(drift: int, ahead: int, life: list[tuple[int, int, int, bool]]) -> None:
    """However long questions and answers travel, and however the clocks drift as long as they do so by less than is assumed."""

    def home(now: int) -> int:
        return now + ahead + now * drift // 10**6

    now, found = 10**16, None
    for pause, there, back, answer in life:
        asked = now + pause
        said, now = home(asked + there), asked + there + back
        found = offset.together(found, offset.measured(said, now, asked if answer else 0))
        assert found.least <= home(now) - now + 1 <= found.most + 1, "home's clock loses a part of a ns of the way"
        assert now + found.least >= said, "what home has told is shown"


@pytest.mark.parametrize("ppm", [-90, 0, 90])
def test_a_page_of_a_lower_bound_is_never_ahead_and_stays_near(ppm: int) -> None:
    """This node's clocks, and so the lines, go by ``ppm`` faster than home's."""
    home, away = Machine(), Machine(skew_ppm=ppm, mono=99 * NSEC)
    for machine in (home, away):
        machine.anchor = clock.sample(machine.ticks, partial(machine.clock, time.CLOCK_MONOTONIC))
        machine.seconds(1)
    guest = GuestClock(counter=away)
    page, found = guest.page(0), None
    for second in range(6):
        home.now = away.now = max(home.now, away.now)  # how long it takes to read clocks is not home's affair
        found = offset.together(found, offset.measured(home.mono - offset.FASTEST, away.mono))
        guest.adjust(found.least, EPOCH, at=found.at)
        took = away.now
        page = guest.page(clock.following(page), page)
        home.step(away.now - took)
        for part in (0, 0.2, 0.5, 0.999):
            before = away.now
            away.seconds(part - (part > 0.2) * 0.2 - (part > 0.5) * 0.3)
            home.step(away.now - before)
            off = last_shown(page, away.now).monotonic - home.mono
            assert -250_000 < off < 1000 or not second


def test_without_a_counter_the_kernel_is_asked_but_never_believed_below_the_floor() -> None:
    machine = Machine()
    home = HomeClock(machine, coarse_ns=4_000_000)
    first = home.page(0)
    machine.seconds(3)
    seen = last_shown(first, machine.now)
    machine.good = False
    page = home.page(2, first)
    assert parsed(page).mode == clock.MODE_KERNEL
    assert last_shown(page, 0) >= seen
    assert last_shown(page, 0).monotonic >= seen.monotonic
    machine.seconds(1)
    assert last_shown(home.page(4, page), 0) == last_shown(page, 0)
    machine.good = True
    assert max(map(abs, error(home.page(6, page), machine))) < 1000


def test_a_guest_without_a_counter_keeps_its_floor() -> None:
    machine = Machine(good=False)
    seen = Shown(machine.real_ahead + 22, 22)
    guest = GuestClock(0, machine.real_ahead, *seen, counter=machine)
    assert last_shown(guest.page(0), 0) == seen


# --------------------------------------------------------------------------- writing and probing


def test_publish_marks_the_page_while_it_is_made() -> None:
    memory = bytearray(HomeClock(Machine(), coarse_ns=0).page(0xFFFFFFFE))
    current = bytes(memory)

    def write(offset: int, data: bytes) -> None:
        memory[offset : offset + len(data)] = data

    def make(seq: int) -> bytes:
        assert memory[0] & 1
        return replace(Page.unpack(current), seq=seq, rate=5).pack()

    assert clock.publish(write, make, current) == bytes(memory)
    assert Page.unpack(bytes(memory)).seq == 0
    assert Page.unpack(bytes(memory)).rate == 5

    def fail(seq: int) -> bytes:
        raise ZeroDivisionError

    current = bytes(memory)
    with pytest.raises(ZeroDivisionError):
        clock.publish(write, fail, current)
    assert bytes(memory) == current


@pytest.mark.parametrize(
    ("source", "flags", "good"),
    [
        ("tsc", "", True),
        ("kvm-clock", "constant_tsc nonstop_tsc", True),
        ("kvm-clock", "constant_tsc", False),
        ("hpet", "constant_tsc nonstop_tsc", False),
        ("", "", False),
    ],
)
def test_which_counters_are_trusted(source: str, flags: str, good: bool) -> None:
    text = f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n\nprocessor\t: 1\n"
    assert clock.trustworthy(source, clock.cpu_flags(text)) is good
