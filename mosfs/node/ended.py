"""Programs that have ended: what they used in all is remembered for a while (mostimeof(1))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mosfs.wire.limits import ENDED, Shares
from mosfs.wire.messages import Total

#: Seconds for which it is.
REMEMBERED = 3600.0


@dataclass(frozen=True, slots=True)
class Ended:
    """``at``: when it ended, by the clock of `Memory`; ``where``: at which node, an IP, "" for home; ``nmigs``: its moves."""

    pid: int
    uid: int
    comm: str
    total: Total
    at: float
    where: str = ""
    nmigs: int = 0

    @property
    def user(self) -> float:
        """Seconds of user level, wherever they were used."""
        return self.total.user + self.total.user_away

    @property
    def system(self) -> float:
        return self.total.system + self.total.system_away


@dataclass(slots=True)
class Memory:
    """By PID, of which the last program counts, and by user, the oldest first: a user with too many loses his oldest."""

    shares: Shares = field(default_factory=lambda: Shares(ENDED))
    owners: dict[int, int] = field(default_factory=dict)
    of_user: dict[int, dict[int, Ended]] = field(default_factory=dict)

    def add(self, ended: Ended) -> None:
        self._expire(ended.at)
        self._drop(ended.pid)
        uid = self.shares.whose(ended.uid)
        while not self.shares.may(uid):
            if not (oldest := next(iter(self.of_user.get(uid, ())), 0)):
                return  # there are too many users
            self._drop(oldest)
        self.shares.take(uid)
        self.owners[ended.pid] = uid
        self.of_user.setdefault(uid, {})[ended.pid] = ended

    def get(self, pid: int, now: float) -> Ended | None:
        self._expire(now)
        return self.of_user[self.owners[pid]][pid] if pid in self.owners else None

    def pids(self, now: float) -> list[int]:
        self._expire(now)
        return sorted(self.owners)

    def _old(self, now: float) -> Iterator[int]:
        """``owners`` has them in the order of their ends."""
        for pid, uid in self.owners.items():
            if now - self.of_user[uid][pid].at < REMEMBERED:
                break
            yield pid

    def _expire(self, now: float) -> None:
        for pid in list(self._old(now)):
            self._drop(pid)

    def _drop(self, pid: int) -> None:
        uid = self.owners.pop(pid, None)
        if uid is None:
            return
        self.shares.give(uid)
        del self.of_user[uid][pid]
        if not self.of_user[uid]:
            del self.of_user[uid]
