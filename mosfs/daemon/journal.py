"""What is written of programs: to the system's log when the administrator wishes it (mosix(7), .log_mosrun), and to the accounting
file of the node when they end (mosacct(1)). Nothing here waits, and nothing that fails ends anything else."""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from mosfs.abi.outcomes import OK
from mosfs.cluster.words import printable
from mosfs.daemon.threads import Threads
from mosfs.node.programs import Program
from mosfs.trace.caller import Caller
from mosfs.wire.messages import ProcState, Total

log = logging.getLogger(__name__)

#: Below ``etc/mosix``: its presence means that the system's log is wanted.
WISH = ".log_mosrun"
#: The accounting file, below the root.
ACCOUNTS = "var/log/mosix.acct"
SYSLOG = "/dev/log"
#: Facility daemon, level info (syslog(3)), and what the lines are called.
PRIORITY, NAME = 3 << 3 | 6, "mosrun"
#: For the accounting file: nobody may have put another kind of file in its place.
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
#: Seconds in which a look at a launcher's memory ends.
LOOK_PATIENCE = 1.0
#: Bytes of a launcher's command line that are shown.
MOST_SHOWN = 400


def line(event: str, **facts: object) -> str:
    """``event=... name=value ...``: values with blanks or control characters are quoted, and have none of the latter."""
    return " ".join([f"event={event}", *(f"{name}={_quoted(str(value))}" for name, value in facts.items())])


def _quoted(text: str) -> str:
    return shlex.quote(printable(text))


def command_of(pid: int) -> str:
    """The command line of a launcher, "" when it has ended. It is read off its memory, which the kernel may keep us waiting for."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(MOST_SHOWN).decode("utf-8", "replace").rstrip("\0").split("\0")
        return " ".join(os.path.basename(word) if at == 0 else word for at, word in enumerate(_without_python(words)))
    return ""


def _without_python(words: list[str]) -> list[str]:
    """The command is a script: Python and its options stand before it."""
    return words[next((at for at, word in enumerate(words) if at and not word.startswith("-")), 0) :]


@dataclass(slots=True)
class Journal:
    """``wish``: the path whose presence means that the system's log is wanted; ``accounts``: the accounting file. ``shown``: a
    node, an IP or "" for home, as people call it."""

    wish: str
    accounts: str
    shown: Callable[[str], str]
    syslog: str = SYSLOG
    clock: Callable[[], float] = time.time
    _failed: bool = False

    # ------------------------------------------------------------------ the system's log

    def wanted(self) -> bool:
        """Does the administrator want the system's log?"""
        return os.path.exists(self.wish)

    async def command(self, threads: Threads, who: Caller) -> str:
        """The command line of a launcher, if that is wanted; "?" of one who keeps waiting whoever looks at his memory."""
        if not self.wanted():
            return ""
        with trio.move_on_after(LOOK_PATIENCE):
            return await threads.run(who.uid, command_of, who.pid)
        return "?"

    def say(self, event: str, **facts: object) -> None:
        """One datagram for the system's log; it is lost when nobody takes it at once."""
        if not self.wanted():
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sock:
            sock.sendto(f"<{PRIORITY}>{NAME}[{os.getpid()}]: {line(event, **facts)}".encode(), self.syslog)

    def invoked(self, pid: int, uid: int, node: str, command: str) -> None:
        """Somebody has called mosrun."""
        self.say("start", pid=pid, uid=uid, node=self.shown(node), command=command)

    def refused(self, pid: int, uid: int, reason: str, command: str) -> None:
        self.say("refused", pid=pid, uid=uid, reason=reason, command=command)

    def heard(self, old: ProcState, new: ProcState) -> None:
        """A tracer has told the state ``new`` of a program."""
        facts = {"pid": new.pid, "uid": new.uid, "command": new.comm}
        if new.nmigs > old.nmigs:
            self.say("move", **facts, node=self.shown(new.where), still=f"{new.freeze_ms / 1000:.3f}", why=new.because or "asked")
        elif new.move_result not in ("", OK) and (new.move_seq, new.move_result) != (old.move_seq, old.move_result):
            self.say("stay", **facts, node=self.shown(new.where), to=self.shown(new.move_target), reason=new.move_result)

    # ------------------------------------------------------------------ its end

    def ended(self, program: Program, total: Total | None, status: int | None = None) -> None:
        """``total`` and ``status`` as in `ProcGone`: that has the seconds of children that the program has waited for."""
        state, record = program.state, program.record
        home, away = record.spent.get("", 0.0), sum(seconds for node, seconds in record.spent.items() if node)
        if total is not None:
            home, away = total.user + total.system, total.user_away + total.system_away
        self.say("end", pid=state.pid, uid=state.uid, command=state.comm, status="?" if status is None else status,
                 home=f"{home:.2f}", away=f"{away:.2f}", moves=state.nmigs)
        self._write({
            "pid": state.pid, "uid": state.uid, "command": state.comm, "started": round(record.began, 1),
            "ended": round(self.clock(), 1), "home": round(home, 2), "away": round(away, 2), "moves": state.nmigs,
            "where": state.where, "status": status, "calls": record.calls, "memory": record.largest,
            "nodes": {node or "home": round(seconds, 2) for node, seconds in record.spent.items() if seconds >= 0.005},
        })

    def _write(self, facts: dict[str, object]) -> None:
        """One line, in one write, at the end of whatever file has the name now. A disk that is full is told once."""
        data = f"{json.dumps(facts)}\n".encode()
        try:
            file = os.open(self.accounts, FLAGS, 0o640)
            try:
                if os.write(file, data) < len(data):
                    os.write(file, b"\n")
            finally:
                os.close(file)
        except OSError as error:
            if not self._failed:
                log.error("%s: %s: what ended programs have used is not written", self.accounts, error.strerror)
            self._failed = True
        else:
            self._failed = False
