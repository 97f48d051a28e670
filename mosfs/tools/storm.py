"""A storm of moves: run a command, and keep sending every MOSIX process below it somewhere else until it ends.

    every S seconds: descendants of the command in the tree -> look at the last move of each -> choose a new place ->
    write migrate
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mosfs.abi.outcomes import OK, UNDER_WAY
from mosfs.tools.mosrun import give_signals_back
from mosfs.tools.options import UserError
from mosfs.tools.tree import Tree, read_linux

HOME = "home"
FROZEN = ("A", "P", "M")
FORWARDED = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
FROM_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)  #: the terminal sends these to the command as well


def choose(here: str, places: Sequence[str], through_home: bool, pick: Callable[[Sequence[str]], str]) -> str:
    """Where to send a process that is at ``here`` (one of ``places``): anywhere else, or, ``through_home``, home after
    each node.

    "" when there is nowhere else.
    """
    if through_home and here != HOME:
        return HOME
    others = [place for place in places if place != here]
    return pick(others) if others else ""


@dataclass
class Storm:
    """The moves made so far, and how many ms each stopped its program. ``places``: node-numbers and "home"; ``freeze``: half of
    the time programs are frozen instead, and go on at the next gust."""

    tree: Tree
    places: Sequence[str]
    pick: Callable[[Sequence[str]], str]
    through_home: bool = False
    freeze: bool = False
    moves: int = 0
    frozen: int = 0
    freezes: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    _pending: dict[int, int] = field(default_factory=dict)  # PID to the number of its last move before ours
    _wished: dict[int, int] = field(default_factory=dict)  # the same of wishes to be frozen or go on
    _descends: dict[tuple[int, int], bool] = field(default_factory=dict)  # (PID, start time)

    @property
    def failed(self) -> int:
        return self.reasons.total()

    def stats(self) -> dict[str, object]:
        return {"moves": self.moves, "frozen": self.frozen, "failed": self.failed, "reasons": dict(self.reasons),
                "freeze_ms": self.freezes}

    def step(self, root: int) -> None:
        """One gust: every process below PID ``root`` that is not moving just now is sent on."""
        for pid in self.tree.pids("proc"):
            if self._is_below(pid, root):
                with suppress(OSError):  # it ended meanwhile, or mosd is being restarted
                    self._send_on(pid)

    def settle(self) -> None:
        """Count the outcomes of what is still open; of processes that are gone nobody knows them."""
        for pid in list(self._pending):
            with suppress(OSError):
                self._outcome_known(pid)

    def _send_on(self, pid: int) -> None:
        if not self._outcome_known(pid) or (self.freeze and self._freezes(pid)):
            return
        here = self.tree.read(f"proc/{pid}/where")
        if here in ("starting", "leaving"):
            return
        target = choose(HOME if here == "here" else here, self.places, self.through_home, self.pick)
        if not target:
            return
        before, _ = self.tree.outcome(f"proc/{pid}/move")
        try:
            self.tree.write(f"proc/{pid}/migrate", target)
        except (FileNotFoundError, ProcessLookupError):
            raise
        except OSError as error:
            self.reasons[error.strerror or str(error)] += 1
            return
        self._pending[pid] = before

    def _freezes(self, pid: int) -> bool:
        """Whether it is frozen, or goes on, in this gust; counts its last time, once."""
        number, result = self.tree.outcome(f"proc/{pid}/freezing")
        if result == UNDER_WAY:
            return True
        frozen = self.tree.read(f"proc/{pid}/frozen") in FROZEN
        before = self._wished.pop(pid, None)
        if before is not None and number > before:
            self.frozen += frozen
            if result != OK:
                self.reasons[result] += 1
        if not frozen and self.pick(("freeze", "move")) != "freeze":
            return False
        self._wished[pid] = number
        self.tree.write(f"proc/{pid}/frozen", "continue" if frozen else "freeze")
        return True

    def _outcome_known(self, pid: int) -> bool:
        """Whether the process is free to be moved; counts its last move, once."""
        number, result = self.tree.outcome(f"proc/{pid}/move")
        if result == UNDER_WAY:
            return False
        before = self._pending.pop(pid, None)
        if before is not None and number > before:
            if result == OK:
                self.moves += 1
                self._note_freeze(pid)
            else:
                self.reasons[result] += 1
        return True

    def _note_freeze(self, pid: int) -> None:
        """Milliseconds that the last move kept the program stopped, if its tracer tells."""
        freeze = json.loads(self.tree.read(f"proc/{pid}/stat")).get("freeze_ms")
        if freeze:
            self.freezes.append(freeze)

    def _is_below(self, pid: int, root: int) -> bool:
        """Whether ``pid`` is ``root`` or below it, or was when it was first seen: parents may end before children."""
        linux = read_linux(pid)
        if linux is None:
            return False
        key = (pid, linux.start)
        if key not in self._descends:
            self._descends[key] = any(ancestor == root for ancestor in ancestry(pid))
        return self._descends[key]


def not_started(program: str, error: OSError) -> UserError:
    """As the shell has it: 127 for what is not there, 126 for what cannot be executed."""
    return UserError(f"{program}: {error.strerror}", 127 if isinstance(error, FileNotFoundError) else 126)


def ancestry(pid: int) -> Iterator[int]:
    """``pid``, its parent, and so on up to 1."""
    while pid > 1:
        yield pid
        linux = read_linux(pid)
        pid = linux.ppid if linux else 0


def run(command: Sequence[str], environ: Mapping[str, str], storm: Storm, every: float) -> int:
    """Run ``command`` with our own stdin, stdout, stderr and directory, in the storm; its status as Popen.returncode.

    UserError 127 or 126 when it cannot be started. What is ignored and blocked in it, we have inherited.
    """
    tty = (own.tty if (own := read_linux(os.getpid())) else "?") != "?"
    try:
        # a signal for the command that comes before we pass signals on waits
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED + FROM_KEYBOARD)

        def as_inherited() -> None:
            give_signals_back()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        child = subprocess.Popen(command, env=environ, close_fds=False, restore_signals=False, preexec_fn=as_inherited)
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise not_started(command[0], error) from error
    with forwarding(child.pid, FORWARDED if tty else FORWARDED + FROM_KEYBOARD, FROM_KEYBOARD if tty else ()):
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        pidfd = os.pidfd_open(child.pid)
        try:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            due = time.monotonic() + every
            while not ended.poll(max(0.0, due - time.monotonic()) * 1000):
                if time.monotonic() >= due:
                    with suppress(UserError):  # mosd is being restarted: the storm goes on when it is back
                        storm.step(child.pid)
                    due = time.monotonic() + every
        finally:
            os.close(pidfd)
        status = child.wait()
    storm.settle()
    return status


@contextmanager
def forwarding(pid: int, signals: Sequence[int], ignored: Sequence[int]) -> Iterator[None]:
    """Pass ``signals`` on to our child ``pid`` and survive ``ignored``; what our parent has us ignore stays so."""

    def forward(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    old = {number: signal.getsignal(number) for number in (*signals, *ignored)}
    old = {number: handler for number, handler in old.items() if handler is not signal.SIG_IGN}
    for number in old:
        signal.signal(number, forward if number in signals else lambda *_: None)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def end_like(status: int) -> int:
    """Our exit status for a child's ``status``. If a signal ended it, the same one ends us, without a core."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with suppress(OSError, ValueError):  # SIGKILL has no handler to reset
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        return 128 - status
    return status


def seeded(seed: str) -> Callable[[Sequence[str]], str]:
    """random.choice, repeatable with a ``seed`` that is not ""."""
    return random.Random(seed or None).choice
