"""Load, memory, and the best node for one more program."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.balance.best import SAME_COST, TIE, Candidate, best_node, load_after, load_of
from mosfs.balance.cost import cost
from mosfs.balance.probe import Probe, memory, runnable, smooth

candidates = st.lists(
    st.builds(
        Candidate, ip=st.ip_addresses(v=4).map(str), load=st.integers(0, 2000), speed=st.integers(1000, 50000),
        ncpus=st.integers(1, 64), mem_free=st.integers(0, 4000), arriving=st.integers(0, 3),
    ),
    unique_by=lambda node: node.ip, max_size=8,
)


@given(candidates, st.integers(0, 4000), st.randoms())
def test_best_fits_and_costs_least(nodes: Sequence[Candidate], need: int, random: object) -> None:
    chosen = best_node(nodes, need, random.choice)  # type: ignore[attr-defined]
    fitting = [node for node in nodes if node.mem_free >= need]
    if not fitting:
        assert chosen is None
        return
    node = next(node for node in fitting if node.ip == chosen)
    price = cost(node, 1, need)
    assert price <= min(cost(other, 1, need) for other in fitting) * SAME_COST
    assert all(load_after(node) <= load_after(other) + TIE for other in fitting if cost(other, 1, need) <= price / SAME_COST)


def test_ties_are_left_to_chance() -> None:
    equal = [Candidate(f"10.0.0.{n}", 100 + n, 10000, 1, 10) for n in range(1, 4)]
    offered: list[Sequence[str]] = []
    best_node(equal, 0, lambda ips: offered.append(ips) or ips[0])  # type: ignore[func-returns-value]
    assert offered == [["10.0.0.1", "10.0.0.2", "10.0.0.3"]]


@pytest.mark.parametrize(("running", "ncpus", "speed", "load"), [
    (1, 1, 10000, 100), (2, 1, 10000, 200), (2, 4, 10000, 50), (1, 1, 20000, 50), (0, 8, 10000, 0),
])
def test_units_of_load(running: int, ncpus: int, speed: int, load: int) -> None:
    """mosctl(1): 100 is a standard load unit, 10000 a standard processor."""
    assert load_of(running, ncpus, speed) == load


def test_proc_files() -> None:
    assert runnable("cpu 1 2\nprocs_running 4\nprocs_blocked 0\n") == 3
    assert memory("MemTotal:  2048000 kB\nMemFree: 1 kB\nMemAvailable:  1024000 kB\n") == (1000, 2000)


def test_exported_load_rises_at_once_and_falls_slowly() -> None:
    assert smooth(1.0, 5.0) == 5.0
    assert 1.0 < smooth(5.0, 1.0) < 5.0


def test_probe_reads_this_machine() -> None:
    probe = Probe(speed=10000)
    probe.sample()
    load, free, total = probe.read()
    assert load >= 0
    assert 0 < free <= total
