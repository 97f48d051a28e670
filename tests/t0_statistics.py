"""What the tracer measures of its programs once a second (`home.tree.usage`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.balance.account import Account
from mosfs.home.process.program import Place
from mosfs.home.tree import usage
from mosfs.home.tree.usage import Statistics
from mosfs.wire.asked import Settings


class Containment:
    def of(self, _: object) -> Containment:
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_process_is_measured_once_however_many_threads_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of the whole process under the number of each: 2,000 threads were 4,000,000 files a second."""
    measured: list[int] = []
    monkeypatch.setattr(Account, "measure", lambda self, pid, now, io: measured.append(pid))
    programs = {
        tid: SimpleNamespace(
            pid=tid, process=SimpleNamespace(native=False), kin=SimpleNamespace(leader=100 if tid > 100 else 0),
            settings=Settings(), away=False, place=Place.HOME, reports=SimpleNamespace(account=Account(0.0)),
        )
        for tid in (100, 101, 102)
    }  # fmt: skip
    tracer: Any = SimpleNamespace(
        programs=programs, containment=Containment(), mosd=SimpleNamespace(log=lambda *_: None, send=lambda _: None)
    )
    monkeypatch.setattr(usage, "nice_of", lambda _: 0)
    statistics = Statistics(tracer)
    statistics.begin()
    statistics.tick(1.0)
    assert measured == [100]
