"""Accounts as messages, for tracers and hosts."""

from __future__ import annotations

from mosfs.balance.account import Account
from mosfs.balance.history import History
from mosfs.wire.messages import Usage, UsageReport

#: Rows of one message: it must fit a datagram.
ROWS = 300


def row(pid: int, account: Account) -> Usage:
    """What mosd is told of ``account``."""
    h = account.history
    return Usage(
        pid, round(account.age, 3), round(account.here, 3), round(account.demand, 3), account.size_mb, *sums(h),
        round(account.user_away, 2), account.forwarded,
    )


def sums(history: History) -> tuple[float, float, float, float, float]:
    return history.wall, history.cpu, history.calls, history.received, history.sent


def reports(accounts: dict[int, Account]) -> list[UsageReport]:
    """The news of ``accounts``, which are none afterwards."""
    rows = [row(pid, account) for pid, account in accounts.items() if account.news]
    for account in accounts.values():
        account.news = False
    return [UsageReport(rows[at : at + ROWS]) for at in range(0, len(rows), ROWS)]
