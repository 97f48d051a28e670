"""Carrying out what programs ask of MOSIX by opens (`control_calls`), and what users write to their control files.

The same rows of `procfs.table` serve both: a number, or a name to which the third argument points.
"""

from __future__ import annotations

import errno
import time
from typing import Any

from mosfs.abi.args import as_c_int
from mosfs.abi.reasons import Reason
from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.home.ports import Done, ReadName, StillRuns, Tree
from mosfs.home.process.control_calls import Special, refused
from mosfs.home.process.move import Move
from mosfs.home.process.program import Program
from mosfs.home.process.saving import Saving, Then
from mosfs.home.process.settings import get, put
from mosfs.procfs.table import (
    BY_NAME,
    ControlFile,
    Kind,
    NotInRange,
    checkpoint_number,
    name_of_checkpoints,
)
from mosfs.trace.proc import owner_of
from mosfs.wire.messages import Adjusted, Command, Consider

#: What open("/proc/self/migrate") fails with; EAGAIN for all other reasons.
_ERRNO_OF: dict[str, int] = {Reason.NOT_IN_MAP: errno.EHOSTUNREACH, Reason.NO_RESPONSE: errno.EHOSTDOWN}

#: Seconds within which what was asked to stop does so, unless it is in a call that nothing interrupts.
STOPS_WITHIN = 10.0


def _sets(message: Any) -> bool:
    """Is it a setting of a program?"""
    return isinstance(message, Command) and message.name not in ("migrate", "checkpoint", "frozen")


class Controls:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    # ------------------------------------------------------------------ from a program

    def request(self, p: Program, special: Special, read_name: ReadName, done: Done) -> None:
        """Carry out an open that is a request. What one thread asks for is of its process; it alone waits for the answer."""
        asker, p = p, self.tracer.family.process(p)
        row = special.row
        error = refused(special)
        if error:
            done(-error)
        elif row.kind is Kind.QUESTION:
            done(int(self._in_cluster(special.value & 0xFFFFFFFF)))
        elif row.name == "migrate":
            self._migrate(p, asker, special.value & 0xFFFFFFFF, done)
        elif row.name == "checkpoint" and special.writes:
            self._checkpoint(p, asker, done, numbered=special.reads)
        elif row.kind is Kind.NAME:
            done(-self._write_name(p, special.value, read_name))
        else:
            before = self.value_of(p, row) if special.reads else 0
            if special.writes:
                self._write(p, row, as_c_int(special.value))
                self.tracer.mosd.announce(p)
            done(before)

    def value_of(self, p: Program, row: ControlFile) -> int:
        """What reading a control file returns to the program: an errno value below zero, or the value as a C int."""
        if row.setting:
            return get(p.settings, row)
        match row.name:
            case "whereami":
                if not p.away or p.link is None:
                    return 0
                number = self.tracer.mosd.config.userview.get(p.link.ip)
                return as_c_int(as_unsigned(p.link.ip)) if number is None else number
            case "nmigs":
                return p.travel.nmigs
            case "sigmig":
                return p.travel.sigmig
            case "checkpoint":
                return p.saves.next
        last = p.post.last
        if last is None:
            return -errno.ENODATA
        values = {
            "sender_home": as_unsigned(last.home), "sender_pid": last.pid, "sender_location": as_unsigned(last.location),
            "message_length": last.length,
        }  # fmt: skip
        return as_c_int(values[row.name])

    def _write_name(self, p: Program, at: int, read_name: ReadName) -> int:
        """Returns 0 or an errno value."""
        try:
            name = name_of_checkpoints(read_name(at).decode())
        except UnicodeDecodeError:
            return errno.EILSEQ
        except NotInRange:
            return errno.ENAMETOOLONG
        except ValueError:
            return errno.EINVAL
        except OSError as error:
            return error.errno or errno.EFAULT
        self._name(p, name)
        self.tracer.mosd.announce(p)
        return 0

    def _checkpoint(self, p: Program, asker: Program, done: Done, *, numbered: bool) -> None:
        """``numbered``: the program wants to know the number of its checkpoint."""
        if p.travel.bound:
            done(-errno.EAGAIN)
            return
        asker.suspended = True

        def taken(reason: str, number: int) -> None:
            done(-errno.EAGAIN if reason else number if numbered else 0)

        self.tracer.checkpoints.request(p, Saving(taken, own=asker.pid, numbered=numbered))

    def _migrate(self, p: Program, asker: Program, value: int, done: Done) -> None:
        if value == 0xFFFFFFFF:  # -1
            sent = self.tracer.mosd.send(Consider(p.pid))
            done(0 if sent else -_ERRNO_OF[Reason.NO_RESPONSE])
            return
        self.tracer.mosd.configured()
        target = self._node(value) if value else ""
        asker.suspended = True

        def ended(reason: str) -> None:
            done(-_ERRNO_OF.get(reason, errno.EAGAIN) if reason else 0)

        self.tracer.moves.request(p, Move(target, target or "home", done=ended))

    def _in_cluster(self, value: int) -> bool:
        self.tracer.mosd.configured()
        address = as_unsigned(self._node(value))
        config = self.tracer.mosd.config
        return any(first <= address < first + count for first, count in config.cluster)

    def _node(self, value: int) -> str:
        """IP of a node number, or of an unsigned IP."""
        by_number = {number: ip for ip, number in self.tracer.mosd.config.userview.items()}
        return by_number.get(value) or to_ip(value)

    # ------------------------------------------------------------------ from a user, by mosd

    def command(self, message: Command) -> None:
        """mosd has checked the value by the same table. Of a setting it hears the program's new state, and then that it holds."""
        p = self.tracer.programs.get(message.pid)
        if p is not None and self._changed_hands(p):
            self._refuse(p, message, Reason.CHANGED_HANDS)
        elif message.name == "migrate":
            move = Move(message.value, message.value, message.seq, below=message.below, why=message.why, hurry=message.hurry)
            if p is not None:
                self.tracer.moves.request(p, move)
                self.tracer.mosd.announce(p)
        elif message.name == "frozen":
            if p is not None and message.value:
                self.tracer.freezing.freeze(p, message.value, message.seq)
            elif p is not None:
                self.tracer.freezing.thaw(p, message.seq)
        elif message.name == "checkpoint":
            if p is not None:
                self.tracer.checkpoints.request(p, Saving(lambda reason, number: None, Then(message.value), message.seq))
        else:
            if p is not None:
                row = BY_NAME[message.name]
                if row.kind is Kind.NAME:
                    self._name(p, message.value)
                else:
                    self._write(p, row, int(message.value))
                self.tracer.mosd.announce(p)
            self.tracer.mosd.send(Adjusted(message.seq, "" if p is not None else "no such MOSIX process"))

    @staticmethod
    def _changed_hands(p: Program) -> bool:
        """Is it another user's than mosd knows, who has let its owner and root write? The owner may have been anybody but root."""
        before, p.uid = p.uid, owner_of(p.pid)
        return before not in (0, p.uid)

    def _refuse(self, p: Program, message: Command, reason: str) -> None:
        match message.name if message.seq else "":
            case "migrate":
                p.travel.last = (message.seq, message.value, reason)
            case "frozen":
                p.frozen.last = (message.seq, reason)
            case "checkpoint":
                p.saves.last = (message.seq, reason)
        self.tracer.mosd.announce(p)
        if _sets(message):
            self.tracer.mosd.send(Adjusted(message.seq, reason))

    def wait_for(self, p: Program) -> int:
        """Wait for ``p`` to stop: its wait status. `StillRuns` if it does not: it may be in a call that waits for a disk, or for a
        server that does not answer. That call may be a write to a control file, which ends when we take up what it sets; so
        settings are taken up meanwhile, and nothing else."""
        control, until = self.tracer.mosd.control, time.monotonic() + STOPS_WITHIN
        while (left := until - time.monotonic()) > 0:
            status = p.task.wait_beside(control.fileno() if control.sock is not None else -1, left)
            if status is not None:
                return status
            if control.sock is None:
                continue
            for message in control.receive_only(_sets):
                with self.tracer.containment.nobody("taking up a setting"):
                    self.command(message)
        raise StillRuns

    # ------------------------------------------------------------------ both

    def _write(self, p: Program, row: ControlFile, value: int) -> None:
        if row.setting:
            p.settings = put(p.settings, row, value)
            self.tracer.statistics.tell(p)
            if row.name == "checkpointinterval":
                self.tracer.checkpoints.interval_changed(p)
        elif row.name == "sigmig":
            p.travel.sigmig = value
        elif row.name == "clear":
            p.travel.freeze_ms = 0.0
            p.reports.account.clear()
            self.tracer.statistics.tell(p)

    def _name(self, p: Program, name: str) -> None:
        p.settings = put(p.settings, BY_NAME["checkpointfile"], name)
        p.saves.next = checkpoint_number(name)
