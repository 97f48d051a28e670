"""Private temporary files of programs that move: ahead of them and with them, and what stands for them at home meanwhile.

Steps are those of `moves`. Contents go before the image (`ptf.travel`); until the move is committed both sides have them.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from mosfs.abi.reasons import Reason
from mosfs.home.ports import Made, NoPrivateSpace, Tree
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.descriptors import descriptors_of, hand_over, opened_of, put
from mosfs.home.process.link import Link
from mosfs.home.process.move import Move, Phase
from mosfs.home.process.program import Holdings, Program
from mosfs.migrate.receipt import BESIDE, TIMES, Receipt
from mosfs.ptf import travel
from mosfs.ptf.descriptors import follow
from mosfs.ptf.store import File, Store, reopened
from mosfs.ptf.travel import Manifest, OpenRecord, Sender, Spool
from mosfs.trace.inject import Calls
from mosfs.trace.proc import umask_of
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Kind
from mosfs.wire.messages import PrivateGone
from mosfs.wire.orders import PrivateOpen

#: Bytes of files sent in one turn of the loop, while the program still runs.
TURN = 4 << 20
#: Seconds until we look again whether a full socket takes more.
FULL = 0.001

class Carrier:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.sending: dict[int, tuple[Iterator[int], Move, Link]] = {}
        self.retired: list[Store] = []  # contents that have left; to be freed when nobody waits

    def send_ahead(self, p: Program, link: Link) -> bool:
        """Begin to send the files of a program that shall leave, while it runs; `step` goes on. False: there are none."""
        own = p.private
        if own is None or own.away or p.move is None:
            return False
        self.tracer.private.reap(p, own)
        if not own.store.files:
            return False
        sender = self._sender(p, own, link)
        self.sending[p.pid] = (sender.rounds(), p.move, link)
        return True

    def _sender(self, p: Program, own: Holdings, link: Link) -> Sender:
        if own.sender is None or own.link is not link:
            own.sender = Sender(own.store, lambda payload: link.channel.send(Kind.PRIVATE, p.pid, payload))
            own.link = link
        return own.sender

    def forget(self, p: Program) -> None:
        """The process is gone."""
        self.sending.pop(p.pid, None)

    def timeout(self) -> float | None:
        """Seconds until `step` has something to do; None for never."""
        if self.retired or any(link.channel.takes_more() for _, _, link in self.sending.values()):
            return 0.0
        return FULL if self.sending else None

    def step(self) -> None:
        """A turn of sending ahead, and of freeing what has left."""
        if self.retired:
            for file in self.retired.pop().files.values():
                with suppress(OSError):
                    os.ftruncate(file.fd, 0)
        for pid, (sending, move, link) in list(self.sending.items()):
            p = self.tracer.programs.get(pid)
            if p is None or p.move is not move:
                del self.sending[pid]
                continue
            if not link.channel.takes_more():
                continue
            sent = 0
            try:
                for size in sending:
                    sent += size
                    if sent >= TURN or not link.channel.takes_more():
                        break
                else:
                    del self.sending[pid]
                    self.tracer.moves.files_sent(p)
            except ChannelLost:
                self.sending.pop(pid, None)
                self.tracer.hosts.link_lost(link)
            except Exception as error:
                self.sending.pop(pid, None)
                with self.tracer.containment.of(p):
                    self.tracer.moves.failed(p, link, self.tracer.moves.unforeseen(p, error))

    def manifest(self, p: Program) -> bytes:
        """What the image of a program at home says of its private files."""
        own = p.private
        if own is None:
            return b""
        self.tracer.private.reap(p, own)
        own.store.umask = umask_of(p.pid)
        return travel.encode(travel.manifest_of(own.store, opened_of(p.pid, own.inodes), self.tracer.private.quota().limit))

    def send_rest(self, p: Program, link: Link) -> None:
        """The program stands still: send what its host does not have yet."""
        if p.private is not None:
            self._sender(p, p.private, link).rest()

    def left(self, p: Program) -> None:
        """The move is committed: the files are the host's. The descriptors here only stand for them."""
        own = p.private
        if own is None:
            return
        self._retire(own)
        own.away = True
        self.ended(p)
        self.tracer.mosd.send(PrivateGone(p.pid))

    def _retire(self, own: Holdings) -> None:
        """The contents are not needed here. The files stay, so that no other file gets their inodes while `inodes` has them."""
        if own.store.files:
            self.retired.append(own.store)
            own.retained.append(own.store)
        own.store = Store(own.store.directories, closes=own.store.closes)

    def ended(self, p: Program) -> None:
        """A move has ended, well or not."""
        if p.private is not None:
            p.private.sender = p.private.link = None
            p.private.drop_spool()

    # ------------------------------------------------------------------ away

    def stand_in(self, p: Program, deputy: Deputy, order: PrivateOpen) -> int:
        """A descriptor in the deputy for a private file that the body opens; the result of the open."""
        own = p.private
        if own is None:
            return -errno.ENOENT
        deputy.set_mask(order.mask)
        if own.stand_in < 0:
            own.stand_in = os.memfd_create("private", os.MFD_CLOEXEC)
        file = File(0, own.stand_in, 0, None)
        own.inodes[file.inode] = 0
        try:
            ours = reopened(file, order.flags, 0)
            try:
                with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                    return hand_over(call, ours, cloexec=bool(order.flags & os.O_CLOEXEC))
            finally:
                os.close(ours)
        except OSError as error:
            return -(error.errno or errno.EIO)

    def full(self, p: Program) -> None:
        """The body waits in a write for which there is no room: it comes home to make it."""

        def done(reason: str) -> None:
            if not reason or not p.away:
                return
            if reason == Reason.SUPERSEDED:
                self.full(p)
            else:
                self.tracer.requests.answer(p, -errno.ENOSPC)

        self.tracer.moves.request(p, Move("", "home", done=done))

    # ------------------------------------------------------------------ coming home

    def feed(self, p: Program, payload: bytes) -> None:
        own = p.private
        if own is None or not own.away:
            return
        if own.spool is None:
            if not travel.begins(payload):
                return  # the rest of a file of a move that has ended
            own.spool = Spool(self.tracer.private.quota())
        own.spool.feed(payload)
        if p.move is not None and p.move.phase is Phase.RECALL:
            p.move.frozen_at = time.monotonic()  # so far it runs on

    def arrive(self, call: Calls, p: Program, data: bytes, inflight: Made | None) -> None:
        """The files have come: NoPrivateSpace if they do not fit, else the program's descriptors are of these files now.

        ``inflight``: the call (number, arguments, result) that the body waited in.
        """
        own = p.private
        if own is None or not data:
            return
        spool, own.spool = own.spool or Spool(self.tracer.private.quota()), None
        try:
            manifest = travel.decode(data)
            manifest.directories = list(own.store.directories)
            store = spool.finish(manifest, descriptors=True)
            _opening(store, manifest, inflight)
            if inflight is not None:
                follow(store, *inflight)
            self._take(call, p, own, store)
        except (travel.NoSpace, travel.BadFiles, OSError) as error:
            spool.close()
            raise NoPrivateSpace(str(error)) from error

    def _take(self, call: Calls, p: Program, own: Holdings, store: Store) -> None:
        there = descriptors_of(p.pid, own.inodes)
        for entry in travel.records(store):
            fds = [fd for fd in entry.fds if fd in there]
            if fds:
                put(call, store, OpenRecord(entry.number, entry.flags, entry.position, fds))
        if store.descriptors:
            self.tracer.private.install_filter(call, p)
        store.descriptors.clear()
        own.inodes.update({file.inode: file.number for file in store.files.values()})
        store.closes = own.store.closes
        own.store = store

    def arrived(self, p: Program) -> None:
        """The way home is committed."""
        own = p.private
        if own is None:
            return
        own.away = False
        own.inodes = {file.inode: file.number for file in own.store.files.values()}
        own.let_go()
        self.tracer.private.reap(p, own)
        self.tracer.private.announce(p, own)
        self.tracer.private.grant(p, own)
        self.ended(p)

    def sent_back(self, p: Program) -> None:
        """It did not come home after all: what it brought is with its host."""
        if p.private is not None:
            self._retire(p.private)
            self.ended(p)

    # ------------------------------------------------------------------ exec away

    def fetch(self, p: Program) -> bytes:
        """exec away has brought the program home: its files follow. The manifest; ChannelLost when they are lost."""
        own, link = p.private, p.link
        if own is None or not own.away or link is None:
            return b""
        own.drop_spool()
        link.channel.send(Kind.FETCH, p.pid)
        receipt = Receipt(link.channel, BESIDE + TIMES * self.tracer.private.quota().limit)
        while True:
            frame = receipt.next()
            if frame.pair != p.pid:
                self.tracer.hosts.backlog(link, receipt.beside(frame))
            elif frame.kind == Kind.PRIVATE:
                self.feed(p, frame.payload)
            elif frame.kind == Kind.MANIFEST:
                return frame.payload


def _opening(store: Store, manifest: Manifest, inflight: Made | None) -> None:
    """The body waited for the descriptor of a file that it was about to open."""
    opening = manifest.opening
    if opening is None or opening.number not in store.files:
        return
    file = store.files[opening.number]
    if inflight is not None and inflight[2] >= 0:
        travel.describe_opened(store, opening, inflight[2])
    elif opening.made:
        if file.name is not None:
            store.unlink(file.name)
        store.discard(file)
