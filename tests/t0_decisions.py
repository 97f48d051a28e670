"""Whom to move, where to, and why not: `balance.choose`, `usher`, `cost` and `history`, alone and on a simulated cluster."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import sim_cluster, sim_jobs
from bench.sim_cluster import Cluster, Job, Machine
from mosfs.balance.account import KERNEL_TIME_OF_A_CALL, Account, Reading, read
from mosfs.balance.choose import MOVES, Process, Switches, Verdict, decide
from mosfs.balance.cost import (
    DISTANT,
    NEAR,
    THRASHING,
    Candidate,
    cost,
    crowding,
    load_for,
    load_of,
    pressure,
    price,
    runnable_on,
    stretch,
)
from mosfs.balance.history import DEFAULT_DECAY, History
from mosfs.balance.usher import SHORT, pick, room, shortage
from mosfs.calls.usage import reports
from mosfs.home.tree.usage import about
from mosfs.wire.asked import Settings
from mosfs.wire.messages import decode_control, encode
from mosfs.wire.orders import About

HERE, THERE, FAR = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def node(ip: str, load: int = 0, *, speed: int = 10000, ncpus: int = 1, free: int = 1000, total: int = 2000) -> Candidate:
    return Candidate(ip, load, speed, ncpus, free, mem_total=total)


def busy(pid: int = 1, **fields: object) -> Process:
    """A CPU-bound program that is old enough to move."""
    return replace(Process(pid, "busy", "", 100.0, 50.0, 1.0, 10, History(100, 90)), **fields)


def ask(here: Candidate, others: Sequence[Candidate], *processes: Process, switches: Switches = Switches()) -> list[Verdict]:  # noqa: B008
    return decide(here, others, processes, switches, lambda ip: DISTANT if ip == FAR else NEAR, lambda ips: ips[0])


# --------------------------------------------------------------------------- cost


@given(st.floats(0, 50), st.integers(1, 64), st.integers(100, 50000))
def test_load_is_the_inverse_of_runnable(runnable: float, ncpus: int, speed: int) -> None:
    known = Candidate("x", load_of(runnable, ncpus, speed), speed, ncpus, 0)
    assert runnable_on(known) == pytest.approx(runnable, abs=0.5 * ncpus * speed / 1e6 + 1e-9)


@given(st.floats(0, 100), st.floats(0, 10), st.integers(1, 16), st.integers(1000, 30000))
def test_more_programs_never_cost_less(runnable: float, more: float, ncpus: int, speed: int) -> None:
    assert stretch(runnable + more, ncpus, speed) >= stretch(runnable, ncpus, speed) >= 10000 / speed


@given(st.integers(0, 40), st.sampled_from([1, 2, 4, 5]), st.sampled_from([1000, 2000, 2500, 5000, 10000]))
def test_what_comes_costs_the_others_what_its_leaving_gives_back(programs: int, ncpus: int, speed: int) -> None:
    before, after = (node(HERE, load_of(n, ncpus, speed), speed=speed, ncpus=ncpus) for n in (programs, programs + 1))
    assert crowding(before, 1) == pytest.approx(crowding(after, -1))
    assert crowding(before, 1) >= 0
    # the costs of all, before and after
    assert price(before) == pytest.approx((programs + 1) * cost(after) - programs * cost(before))


@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from([1, 2, 4, 5]), st.sampled_from([1000, 2500, 5000, 10000]))
def test_busy_threads_cost_as_much_as_so_many_programs(programs: int, threads: int, ncpus: int, speed: int) -> None:
    before, after = (node(HERE, load_of(n, ncpus, speed), speed=speed, ncpus=ncpus) for n in (programs, programs + threads))
    assert threads * price(before, 0, threads) == pytest.approx((programs + threads) * cost(after) - programs * cost(before))


@given(st.floats(0.1, 200), st.integers(1, 8), st.integers(1000, 30000), st.integers(0, 30), st.integers(1, 9))
def test_a_bound_of_load_is_where_the_price_reaches_the_limit(
    limit: float, ncpus: int, speed: int, programs: int, threads: int
) -> None:
    """Who asks for room counts one of those that come."""
    there = node(THERE, load_of(programs, ncpus, speed), speed=speed, ncpus=ncpus)
    there_then = price(there, 0, threads)
    pays, fits = there_then <= limit, load_of(programs + 1, ncpus, speed) <= load_for(limit, there, 0, threads)
    assert pays or not fits or there_then == pytest.approx(limit, rel=0.05)
    if threads == 1 or programs >= ncpus:  # else it is on the safe side
        assert fits or not pays or there_then == pytest.approx(limit, rel=0.05)


def test_a_full_memory_costs() -> None:
    assert (pressure(2000, 2000), pressure(0, 2000), pressure(-5, 2000), pressure(0, 0)) == (1, THRASHING, THRASHING, 1)
    assert cost(node(HERE, 100, free=1500), 1, 1450) > cost(node(HERE, 100, free=1500), 1) == 2.0


# --------------------------------------------------------------------------- history


@given(st.floats(0, 100), st.floats(0, 100), st.integers(0, 10000), st.floats(0, 1000), st.floats(0, 1000))
def test_decay_does_not_depend_on_the_steps(first: float, second: float, decay: int, cpu: float, calls: float) -> None:
    start = History(10, cpu, calls, 1, 2)
    whole = start.plus(first + second, decay, History())
    steps = start.plus(first, decay, History()).plus(second, decay, History())
    assert (steps.cpu, steps.calls) == (pytest.approx(whole.cpu, abs=1e-9), pytest.approx(whole.calls, abs=1e-9))


def test_decay_is_the_share_kept_each_second() -> None:
    """mosrun(1), -d: 10000 never forgets, 0 forgets at once, the default keeps 9976."""
    old = History(wall=100, cpu=100)
    assert old.plus(50, 10000, History(cpu=1)).cpu == 101
    assert old.plus(1, 0, History(cpu=1)).cpu == 1
    assert old.plus(1, -1, History()).cpu == pytest.approx(100 * DEFAULT_DECAY / 10000)


def test_what_a_program_asks_for_stays_what_can_be_told() -> None:
    """Counters of the kernel grow by 2 GB in a call that copies nothing, and begin at 0 again; mosd and hosts refuse such sums."""
    account = Account(0.0, decay=10000)
    for calls in (1e9, 1e19, 1e19, -1e19, 1e19):
        account.calls, account.received, account.sent = (int(count + calls) for count in account.taken)
        account.advance(account.at + 1)
        for report in reports({1: account}):
            decode_control(encode(report))
        msgspec.msgpack.decode(about(Settings(), account, 0), type=About)
    assert account.history.traffic > 1e15


def test_a_constant_rate_shows_as_itself() -> None:
    history = History()
    for _ in range(100):
        history = history.plus(1, 9000, History(1.0, 0.5, 200, 1000, 500))
    assert (history.share, history.call_rate, history.traffic) == (pytest.approx(0.5), pytest.approx(200), pytest.approx(1500))


def test_demand_of_several_threads_is_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([Reading(3.0, 1.0, 0.0, 20, threads=6), Reading(9.0, 8.0, 0.0, 20, threads=6), Reading(19.0, 8.0, 0.0, 20)])
    monkeypatch.setattr("mosfs.balance.account.read", lambda pid, io: next(readings))
    account = Account(at=0.0, decay=10000)
    found = []
    for now in (2.0, 4.0, 6.0):
        account.measure(1, now, io=True)
        found.append(account.demand)
    assert found == [2.0, 6.0, 1.0], "never more than it has threads"


def test_account_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([
        Reading(1.0, 0.5, 0.0, 20, (10, 1000, 100)), Reading(1.25, 1.0, 0.1, 21, (20, 1000, 100)),
        Reading(9.0, 9.0, 9.0, 22, (99, 1, 1)), Reading(9.5, 9.0, 9.0, 22, (100, 2, 1)),
    ])
    monkeypatch.setattr("mosfs.balance.account.read", lambda pid, io: next(readings))
    account = Account(at=0.0, decay=10000)
    assert account.measure(1, 2.0, io=True) == 1.0
    assert (account.age, account.demand, account.size_mb, account.history.calls, account.news) == (1.0, 0.75, 20, 10, True)
    account.measure(1, 3.0, io=True)
    assert (account.demand, account.history.calls) == (0.75, 10 + int(0.1 / KERNEL_TIME_OF_A_CALL))
    account.leave()  # what its deputy uses is not its own
    account.calls += 3
    account.advance(4.0)
    assert account.measure(1, 5.0, io=True) == 0.0
    assert (account.age, account.here) == (1.25, 0.0)
    account.measure(1, 6.0, io=True)
    assert (account.age, account.here) == (1.75, 0.5)
    account.clear()
    assert (account.history, account.age) == (History(), 1.75)


def test_a_reading_of_a_real_process(monkeypatch: pytest.MonkeyPatch) -> None:
    sum(range(3_000_000))
    reading = read(os.getpid(), io=True)
    assert reading.ran > 0 and reading.size_mb > 1 and reading.io[0] > 0
    monkeypatch.setattr("mosfs.balance.account._scheduled", lambda pid, alone: None)  # an older kernel
    coarse = read(os.getpid(), io=False)
    assert coarse.ran == coarse.user + coarse.kernel > 0
    assert coarse.io == (0, 0, 0)
    with pytest.raises(OSError):
        read(2**22 + 1, io=True)


# --------------------------------------------------------------------------- whom and where


def test_an_overloaded_node_sends_to_a_free_one() -> None:
    [first, second] = ask(node(HERE, 200), [node(THERE)], busy(1), busy(2))
    moved = [verdict for verdict in (first, second) if verdict.target]
    assert [verdict.target for verdict in moved] == [THERE]
    assert "2.00 s here, 1.00 s there" in moved[0].why
    assert 100 <= moved[0].below < 200


def test_a_slow_node_helps_when_all_gain_by_it() -> None:
    """A program is slower there by itself, but four others become faster."""
    slow = node(THERE, speed=1000)
    assert ask(node(HERE, load_of(4, 1, 6000), speed=6000), [slow], busy())[0].target is None
    [verdict] = ask(node(HERE, load_of(5, 1, 6000), speed=6000), [slow], busy())
    assert verdict.target == THERE
    assert "8.33 s here, 10.00 s there (14.99 and 10.00 with what others lose)" in verdict.why
    assert load_of(1, 1, 1000) <= verdict.below < load_of(2, 1, 1000)


def test_a_program_alone_does_not_leave_its_node_to_share_another() -> None:
    """It would gain what the other loses."""
    alone = node(HERE, load_of(1, 1, 2000), speed=2000)
    assert ask(alone, [node(THERE, load_of(1, 1, 6000), speed=6000)], busy())[0].target is None
    assert ask(alone, [node(THERE, 0, speed=6000)], busy())[0].target == THERE


def test_busy_threads_count_each() -> None:
    """Four on two processors go to where there are four, not to an idle one where they would share one."""
    many = busy(demand=4.0)
    here, small, big = node(HERE, 200, ncpus=2), node(THERE), node(FAR, ncpus=4)
    assert ask(here, [small], many)[0].target is None
    assert ask(here, [small, big], many)[0].target == FAR
    assert ask(here, [small], busy())[0].target == THERE, "one of four programs goes"
    verdicts = ask(node(HERE, 400, ncpus=2), [replace(big, load=25)], busy(1, demand=4.0), busy(2, demand=4.0))
    assert [verdict.target for verdict in verdicts] == [FAR, None], "the second one has no room there"


def test_the_oldest_goes_first() -> None:
    """P(life > t) ~ 1/t: its age is the best guess of what is left (Harchol-Balter, Downey)."""
    verdicts = ask(node(HERE, 200), [node(THERE)], busy(1), busy(2, age=1000.0))
    assert [verdict.target for verdict in verdicts] == [None, THERE]


@pytest.mark.parametrize(("fields", "reason"), [
    ({"locked": True}, "locked"), ({"barred": "has threads"}, "has threads"), ({"moving": True}, "under way"),
    ({"demand": 0.0}, "idle"), ({"here": 0.01}, "a move takes"), ({"need_mb": 1500}, "room"), ({"size_mb": 1500}, "room"),
    ({"refused": frozenset([THERE])}, "room"),
])
def test_who_never_moves(fields: dict[str, object], reason: str) -> None:
    [verdict] = ask(node(HERE, 900), [node(THERE)], busy(**fields))
    assert verdict.target is None
    assert reason in verdict.why


def test_who_has_just_started_leaves_a_crowd_but_not_for_a_little() -> None:
    """It has come from nowhere, so there is nothing to go back and forth between."""
    crowd, pair = node(HERE, 2400), node(HERE, 200)
    assert ask(crowd, [node(THERE)], busy(age=0.02, here=0.02))[0].target == THERE
    assert ask(pair, [node(THERE)], busy(age=0.02, here=0.02))[0].target is None
    assert "a move takes" in ask(crowd, [node(THERE)], busy(age=0.03, here=0.02))[0].why


def test_who_asks_is_considered_although_young() -> None:
    """mosix(7), migrate: -1."""
    [verdict] = ask(node(HERE, 200), [node(THERE)], busy(here=0.0, demand=0.0, asked=True))
    assert verdict.target == THERE


@pytest.mark.parametrize(("switches", "own", "guest"), [
    (Switches(), THERE, THERE), (Switches(stay=True), None, None), (Switches(lstay=True), None, THERE),
])
def test_stay_and_lstay(switches: Switches, own: str | None, guest: str | None) -> None:
    """mosctl(1)."""
    assert ask(node(HERE, 500), [node(THERE)], busy(), switches=switches)[0].target == own
    assert ask(node(HERE, 500), [node(THERE)], busy(home=FAR), switches=switches)[0].target == guest


def test_blocked_nodes_take_only_their_own_back() -> None:
    blocked = replace(node(THERE), open=False)
    assert ask(node(HERE, 500), [blocked], busy())[0].target is None
    assert ask(node(HERE, 500), [blocked], busy(home=THERE))[0].target == THERE


def test_speed() -> None:
    """manual, 2.1.1: migrating processes from slower to faster nodes."""
    slow, fast = node(HERE, 200, speed=5000), node(THERE, 0, speed=10000)
    assert ask(slow, [fast], busy())[0].target == THERE
    assert ask(replace(fast, ip=HERE, load=100), [replace(slow, ip=THERE, load=0)], busy())[0].target is None
    [verdict] = ask(node(HERE, 300), [node(THERE, speed=5000), node(FAR, speed=9000)], busy())
    assert verdict.target == FAR


CHATTY = History(wall=100, cpu=20, calls=200_000, received=1e8, sent=1e8)


def test_calls_pull_home_unless_cpujob() -> None:
    """mosrun(1), -c."""
    guest = busy(home=THERE, demand=0.2, history=CHATTY)
    assert ask(node(HERE, 20), [node(THERE)], guest)[0].target == THERE
    assert ask(node(HERE, 20), [node(THERE)], replace(guest, cpujob=True))[0].target is None
    at_home = busy(history=CHATTY)
    assert ask(node(HERE, 150), [node(THERE)], at_home)[0].target is None
    assert ask(node(HERE, 150), [node(THERE)], replace(at_home, cpujob=True))[0].target == THERE


def test_a_distant_node_is_dearer() -> None:
    some_calls = History(wall=100, cpu=100, calls=20_000)
    near, far = node(THERE, 20), node(FAR, 0)
    assert ask(node(HERE, 200), [near, far], busy(history=some_calls))[0].target == THERE


def test_a_big_program_must_be_old() -> None:
    heavy = busy(size_mb=900, age=3.0, here=3.0)
    assert ask(node(HERE, 200), [node(THERE, free=1900)], heavy)[0].target is None
    assert ask(node(HERE, 200), [node(THERE, free=1900)], replace(heavy, age=100.0, here=100.0))[0].target == THERE


processes = st.lists(st.builds(
    busy, st.integers(1, 10**6), home=st.sampled_from(["", THERE, FAR]), age=st.floats(0, 1e4), here=st.floats(0, 1e4),
    demand=st.floats(0, 1), size_mb=st.integers(0, 3000), need_mb=st.integers(0, 3000), locked=st.booleans(),
    cpujob=st.booleans(), barred=st.sampled_from(["", "has threads"]), moving=st.booleans(),
    refused=st.sets(st.sampled_from([THERE, FAR])).map(frozenset),
), max_size=12, unique_by=lambda process: process.pid)
nodes = st.builds(node, st.just(HERE), st.integers(0, 3000), speed=st.integers(1000, 30000), ncpus=st.integers(1, 16),
                  free=st.integers(0, 2000), total=st.integers(1, 2000).map(lambda mb: mb + 2000))


@given(nodes, nodes, nodes, processes, st.builds(Switches, st.booleans(), st.booleans()))
def test_decisions_are_always_allowed(
    here: Candidate, one: Candidate, other: Candidate, running: list[Process], switches: Switches
) -> None:
    others = [replace(one, ip=THERE), replace(other, ip=FAR)]
    verdicts = ask(here, others, *running, switches=switches)
    assert [verdict.pid for verdict in verdicts] == [process.pid for process in running]
    assert all(verdict.why for verdict in verdicts)
    free = {candidate.ip: candidate.mem_free for candidate in others}
    leaving = [(process, verdict.target) for process, verdict in zip(running, verdicts) if verdict.target]
    for process, target in leaving:
        assert not (process.locked or process.barred or process.moving or switches.stay)
        assert process.home or not switches.lstay
        assert target not in process.refused
        assert target is not None and process.needs <= free[target]
        free[target] -= process.size_mb
    if not shortage(here):
        assert len(leaving) <= MOVES


# --------------------------------------------------------------------------- memory


def test_shortage_overrides_load_and_age() -> None:
    short = node(HERE, 100, free=20, total=2000)
    busier = node(THERE, 800, free=1500)
    verdicts = ask(short, [busier], busy(1, size_mb=30), busy(2, size_mb=100, age=0.1, here=0.0), busy(3, size_mb=700))
    assert [verdict.target for verdict in verdicts] == [None, THERE, None]
    assert "memory" in verdicts[1].why


def test_nobody_is_ushered_to_where_it_does_not_fit() -> None:
    """mosrun(1), -m."""
    short = node(HERE, 0, free=0)
    assert ask(short, [node(THERE, free=540)], busy(size_mb=200, need_mb=550))[0].target is None
    assert ask(short, [node(THERE, free=900)], busy(size_mb=200, need_mb=550))[0].target == THERE


@given(nodes, nodes, processes)
def test_ushering_leaves_no_other_node_short(here: Candidate, other: Candidate, running: list[Process]) -> None:
    found = pick(here, running, [replace(other, ip=THERE)])
    if found:
        process, target, _ = found
        assert shortage(here) > 0
        assert room(target) >= process.size_mb
        assert target.mem_free - process.size_mb >= int(target.mem_total * SHORT)


# --------------------------------------------------------------------------- a whole cluster


@pytest.mark.parametrize(("machines", "programs"), [
    ([Machine(10000, 1000)] * 4, 10),
    ([Machine(10000, 1000, 2), Machine(5000, 1000), Machine(7500, 1000), Machine(2500, 1000)], 21),
])
def test_no_ping_pong(machines: list[Machine], programs: int) -> None:
    """Ten minutes of steady overload: the programs spread out, and then they stay."""
    jobs = [Job(k, 0.0, 1e9, 5, 0, k) for k in range(programs)]
    cluster = Cluster(machines, sim_cluster.at_home, migrate=True, seed=1).run(jobs, until=600)
    assert max(job.moves for job in jobs) / 10 < 1
    speeds = [len(there.jobs) / there.machine.ncpus / there.machine.speed for there in cluster.nodes]
    assert all(there.jobs for there in cluster.nodes)
    assert max(speeds) < 2.5 * min(speeds)


def test_migration_beats_round_robin() -> None:
    """The first of the seeds of figure L1."""
    slow = {
        policy: sim_jobs.summary(sim_jobs.WORKLOADS["ocja"], policy, [1, 2]).by_job for policy in ("mosrun, moves", "round robin")
    }
    assert slow["round robin"] > 1.2 * slow["mosrun, moves"]


def test_simulation_is_repeatable_and_loses_nothing() -> None:
    runs = [sim_jobs.WORKLOADS["burst"].run("mosrun, moves", 3) for _ in range(2)]
    assert [job.finished for job in runs[0].finished] == [job.finished for job in runs[1].finished]
    assert len(runs[0].finished) == 24
    for job in runs[0].finished:
        assert job.done == pytest.approx(job.need, rel=1e-6)


def test_dead_nodes_take_what_runs_there_with_them() -> None:
    rng = random.Random(1)
    jobs = sim_jobs.burst(rng, sim_jobs.QUOTAS)
    cluster = Cluster(sim_jobs.QUOTAS, sim_cluster.at_home, migrate=True, seed=1).run(jobs, fail=[(60, 1)])
    assert len(cluster.finished) + len(cluster.lost) == 24
    assert cluster.lost
