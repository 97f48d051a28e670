"""One program of a mosrun tree, as its tracer knows it. State only: the rooms act on it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from mosfs.abi.flags import AT_FDCWD
from mosfs.abi.reasons import Reason
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.link import Link
from mosfs.home.process.move import BEST, Move, Phase
from mosfs.home.process.processor import Demand
from mosfs.home.process.records import (
    Body,
    Call,
    CpuUse,
    Death,
    Filters,
    Frozen,
    Kin,
    Pending,
    Post,
    Process,
    Reports,
    Saves,
    Travel,
)
from mosfs.migrate import shown
from mosfs.native import lib
from mosfs.ptf.store import Inode, Store
from mosfs.ptf.travel import Sender, Spool
from mosfs.trace.task import Task
from mosfs.wire.asked import Settings
from mosfs.wire.messages import ProcState
from mosfs.wire.place import Place as Place

_DEV_ZERO = os.makedev(1, 5)
#: What `why` says of a frozen program, by who has had it frozen.
FROZEN = {"A": f"{Reason.FROZEN} automatically", "P": f"{Reason.FROZEN} for another program", "M": f"{Reason.FROZEN} by hand"}


@dataclass(slots=True)
class Holdings:
    """The private files of one process. ``inodes``: of its files, also those that stand for files while it is away."""

    store: Store
    inodes: dict[Inode, int] = field(default_factory=dict)
    away: bool = False
    stand_in: int = -1  # a memfd of ours for descriptors opened while it is away
    sender: Sender | None = None
    link: Link | None = None  # that the sender sends to
    spool: Spool | None = None
    retained: list[Store] = field(default_factory=list)  # for the sake of their inodes only
    inherited: dict[Inode, int] | None = None  # files of the parent, whose descriptors it must not keep
    most: int = 0  # the highest limit that it has had, bytes

    def let_go(self) -> None:
        """Close what is retained."""
        for store in self.retained:
            store.close()
        self.retained.clear()

    def close(self) -> None:
        self.store.close()
        self.let_go()
        self.drop_spool()
        self.inodes.clear()
        if self.stand_in >= 0:
            os.close(self.stand_in)
            self.stand_in = -1

    def drop_spool(self) -> None:
        if self.spool is not None:
            self.spool.close()
            self.spool = None


@dataclass(slots=True)
class Program:
    """One task; a thread shares ``process`` and ``kin.leader`` tells whose it is.

    What one room alone writes is in its record (`records`); what every stop asks for, or several rooms write, is here.
    ``deputy`` exists while it is away (or while a sleep that began away is finished at home).
    """

    task: Task
    uid: int
    settings: Settings
    demand: Demand  # of a processor
    comm: str = ""
    place: Place = Place.STARTING
    link: Link | None = None
    deputy: Deputy | None = None
    move: Move | None = None
    process: Process = field(default_factory=Process)
    pending: Pending = field(default_factory=Pending)
    travel: Travel = field(default_factory=Travel)
    cpu: CpuUse = field(default_factory=CpuUse)
    kin: Kin = field(default_factory=Kin)
    call: Call = field(default_factory=Call)
    body: Body = field(default_factory=Body)
    post: Post = field(default_factory=Post)
    saves: Saves = field(default_factory=Saves)
    death: Death = field(default_factory=Death)
    reports: Reports = field(default_factory=Reports)
    filters: Filters = field(default_factory=Filters)
    private: Holdings | None = None
    suspended: bool = False  # in a ptrace stop until we resume it (before its first instruction, in a control call)
    halted: bool = False  # it is in a group stop
    interrupted: bool = False  # we have asked it to stop

    @property
    def pid(self) -> int:
        return self.task.pid

    @property
    def frozen(self) -> Frozen:
        return self.travel.frozen

    @property
    def away(self) -> bool:
        return self.place is Place.AWAY

    @property
    def several(self) -> bool:
        """Whether it is, or may be again, one of several threads, or shares memory: there are others who may wake it. A signal that
        has come for it is its own: the kernel has chosen it among them."""
        return self.process.several or self.process.shares

    @property
    def filters_of_ours(self) -> int:
        """How many seccomp filters it has from us."""
        mail, ours = self.post.mail, self.filters
        return shown.OUR_FILTERS + ours.private + (mail is not None and mail.filtered) + ours.strict + ours.threadless

    def plainness(self) -> int:
        """For native/home.c: 0, or lib.MOS_PLAIN; with MOS_UNTRAVELLED if the kernel's figures of its CPU time are right as well,
        with MOS_WHOLE if mremap(2) needs no help, with MOS_SEVERAL if it is known as a program with several threads."""
        if not self.plain():
            return 0
        untravelled = not (any(self.cpu.used) or any(self.cpu.of_children))
        whole = 0 if self.process.pieced else lib.MOS_WHOLE
        several = lib.MOS_SEVERAL if self.process.several else 0
        return int(lib.MOS_PLAIN | (lib.MOS_UNTRAVELLED if untravelled else 0) | whole | several)

    def piece(self) -> None:
        """Its memory is about to be moved, or followed (`records.Process.pieced`)."""
        self.process.pieced = True
        self.look_again()

    def look_again(self) -> None:
        """What native/home.c knows of this process may not hold any more: Python sees the next stop of each thread."""
        for tid in (self.pid, *self.kin.threads):
            lib.mos_plain(tid, 0)

    def plain(self) -> bool:
        """Whether its next fork, thread, signal or end needs nothing but bookkeeping."""
        return self.post.mail is None and self.nothing_pending()

    def nothing_pending(self) -> bool:
        """At home, and no stop, move, transfer or emulated state is pending."""
        if self.place is not Place.HOME or self.suspended or self.halted or self.interrupted or self.process.native:
            return False
        call, body, reports = self.call, self.body, self.reports
        if call.watched or self.post.disinherits or body.infos or self.demand.foreign:
            return False
        return (
            self.deputy is None and self.private is None and not self.filters.private and body.sleeping is None
            and reports.trace is None and reports.call is None and call.carry is None and call.sleep is None
        )

    def state(self) -> ProcState:
        """What mosd shall show."""
        seq, target, result = self.travel.last
        if self.move is not None:
            seq, target, result = self.move.seq or seq, self.move.target.removeprefix(BEST), ""
        returns = self.move is not None and self.move.phase is Phase.RECALL and not self.saves.stays(self.move)
        place = Place.FROZEN if self.frozen.mark else Place.RETURNING if returns else self.place
        frozen, halted = FROZEN.get(self.frozen.mark, ""), Reason.STOPPED if self.halted else ""
        return ProcState(
            pid=self.pid,
            uid=self.uid,
            where=self.link.ip if self.link is not None and self.away else "",
            state=place.value,
            nmigs=self.travel.nmigs,
            settings=self.settings,
            why=self.travel.bound or frozen or self.travel.why or self.obstacle(),
            frozen=self.frozen.mark or ("N/A" if self.travel.bound or self.process.native else "-"),
            move_seq=seq,
            move_target=target,
            move_result=result,
            comm=self.comm,
            sigmig=self.travel.sigmig,
            freeze_ms=round(self.travel.freeze_ms, 3),
            next_checkpoint=self.saves.next,
            last_message=self.post.last,
            barred=self.travel.bound or frozen or self.obstacle() or halted,
            because=self.travel.because,
            mailbox=self.post.mailbox,
            needs=self.demand.required,
            save_seq=self.saves.shown[0],
            save_result=self.saves.shown[1],
            freeze_seq=self.frozen.shown[0],
            freeze_result=self.frozen.shown[1],
            outliving=self.saves.outlive.shown() if self.saves.outlive is not None else None,
        )

    def has_device(self, fd: int) -> bool:
        """Whether a descriptor is a character device whose memory is not just zeros (/dev/zero)."""
        try:
            found = os.stat(f"/proc/{self.pid}/fd/{fd}")
        except OSError:
            return False
        return stat.S_ISCHR(found.st_mode) and found.st_rdev != _DEV_ZERO

    def directory(self, dirfd: int) -> bytes:
        """Path of an open directory, or of the working directory (AT_FDCWD); OSError if it is none."""
        return os.readlink(f"/proc/{self.pid}/{'cwd' if dirfd == AT_FDCWD else f'fd/{dirfd}'}".encode())

    def obstacle(self) -> str:
        """Why it cannot be captured right now; "" if it can."""
        if self.process.native:
            return Reason.NATIVE
        if self.kin.vforking or self.kin.vfork_parent or self.kin.lends is not None:
            return Reason.VFORK
        if self.post.mail is not None and self.post.mail.asked:
            return Reason.IN_MAIL_CALL
        if self.call.reading is not None:
            return Reason.READS_RELATIVE
        if self.saves.stands:
            return Reason.IS_SAVED
        return ""
