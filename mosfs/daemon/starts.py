"""How many programs each user has started by mosrun, for the limits of the administrator (`cluster.mosrun_conf`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mosfs.cluster.mosrun_conf import Rules
from mosfs.daemon.launch import Refused
from mosfs.trace.proc import start_time

TOO_MANY_PROGRAMS = "{count} programs of yours run already, and the administrator allows no more at a time"
TOO_MANY_STARTS = "you have started {count} programs today already, and the administrator allows no more in a day"



@dataclass(slots=True)
class Starts:
    """``launchers``: PIDs of those who asked, each with its user and its start: it becomes the program, or ends. ``day``: the date
    of ``today``, the starts of each user; both begin anew with mosd."""

    began: Callable[[int], int] = start_time
    launchers: dict[int, tuple[int, int]] = field(default_factory=dict)
    day: str = ""
    today: Counter[int] = field(default_factory=Counter)

    def admit(self, rules: Rules, who: tuple[int, int, int], day: str, running: int, traced: Callable[[int], bool]) -> None:
        """Count one more start. ``who``: PID, user and start of the launcher; ``running``: starts of this user that have a tracer;
        ``traced``: has this process one? `Refused` when it is one too many."""
        pid, uid, started = who
        if uid == 0 or rules.programs is rules.starts is None:
            return
        self.launchers = {each: of for each, of in self.launchers.items() if self.began(each) == of[1] and not traced(each)}
        if day != self.day:
            self.day, self.today = day, Counter()
        count = running + sum(owner == uid for owner, _ in self.launchers.values())
        if rules.programs is not None and count >= rules.programs:
            raise Refused(TOO_MANY_PROGRAMS.format(count=count))
        if rules.starts is not None and self.today[uid] >= rules.starts:
            raise Refused(TOO_MANY_STARTS.format(count=self.today[uid]))
        self.launchers[pid] = uid, started
        self.today[uid] += 1
