"""Private temporary files of guests: their contents are here, so reads, writes and names are served here.

Descriptors are home's: an open gets its number from the deputy, whose kernel closes, duplicates and inherits it; what that does to
the files here follows the answers (`ptf.descriptors`).
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from mosfs.abi.args import MAX_BYTES, as_c_int
from mosfs.guest.body import Body, State
from mosfs.migrate.rebuild import NoRoom
from mosfs.native import lib
from mosfs.ptf import service, travel
from mosfs.ptf.descriptors import follow
from mosfs.ptf.rules import RULES, Act, Rule
from mosfs.ptf.store import MEMORY_LIMIT, Description, Quota, Store
from mosfs.ptf.travel import Opening, Sender, Spool
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind
from mosfs.wire.messages import PrivateFile, PrivateGone
from mosfs.wire.orders import PrivateOpen

if TYPE_CHECKING:
    from mosfs.guest.host import Host

SYS_READ, SYS_WRITE, SYS_PREAD, SYS_PWRITE, SYS_READV, SYS_WRITEV = 0, 1, 17, 18, 19, 20
#: read and write at the file's position; the others at argument 3
_SEQUENTIAL = frozenset({SYS_READ, SYS_WRITE, SYS_READV, SYS_WRITEV})
_VECTORS = frozenset({SYS_READV, SYS_WRITEV, 295, 296, 327, 328})
IOV_MAX = 1024
#: The last position in a file (loff_t), and the most that one call may ask for (ssize_t).
LAST = (1 << 63) - 1
CONFIG_PATIENCE = 5.0


class Full(Exception):
    """No room here for what the program writes."""


class Private:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.spools: dict[int, Spool] = {}

    # ------------------------------------------------------------------ arriving

    def quota(self) -> Quota:
        """Of guests here; the home-node's limit caps it. A first guest may be faster than mosd's Config."""
        host = self.host
        deadline = time.monotonic() + CONFIG_PATIENCE
        while not host.config.ip and host.control.wait(deadline - time.monotonic()):
            host._control_event()
        letter = "C" if host.own_cluster else "G"
        directory, megabytes = host.config.private.get(letter, ("", MEMORY_LIMIT >> 20))
        return Quota(directory, megabytes << 20)

    def feed(self, pair: int, payload: bytes) -> None:
        """A PRIVATE frame. What does not fit is told at once: the program still runs elsewhere."""
        spool = self.spools.get(pair)
        if spool is None:
            spool = self.spools[pair] = Spool(self.quota())
        if not spool.feed(payload):
            self.host.log(f"origpid={pair} private files: {spool.failed}", 30)
            self.host.channel.send(Kind.FAIL, pair, b"no disk-space for private files there")

    def settle(self, pair: int, data: bytes) -> tuple[Store | None, Opening | None]:
        """The store of a body that is being built. NoRoom if its files did not fit."""
        spool = self.spools.pop(pair, None)
        if not data:
            return None, None
        spool = spool or Spool(self.quota())
        try:
            manifest = travel.decode(data)
            store = spool.finish(manifest, descriptors=True)
            store.quota = store.quota.capped(manifest.limit)
        except (travel.NoSpace, travel.BadFiles, OSError) as error:
            spool.close()
            raise NoRoom(f"private files: {error}") from error
        return store, manifest.opening

    def forget_ahead(self, pair: int) -> None:
        spool = self.spools.pop(pair, None)
        if spool is not None:
            spool.close()

    def announce(self, body: Body) -> None:
        store = body.private
        if store is not None and store.log:
            for name, fd in store.log:
                self.host.control.send(PrivateFile(body.pid, name, fd))
            store.log.clear()

    def announce_all(self, body: Body) -> None:
        if body.private is not None:
            body.private.log = [(name, file.fd) for name, file in body.private.names.items()]
            self.announce(body)

    def forked(self, parent: Body, child: Body) -> None:
        """A child begins without private files."""
        if parent.private is not None:
            store = parent.private
            child.private = Store(store.directories, store.quota, umask=store.umask)

    def forget(self, body: Body) -> None:
        """The body is gone, and its files with it."""
        store, body.private = body.private, None
        if store is not None:
            if store.names:
                self.host.control.send(PrivateGone(body.pid))
            store.close()
        body.sender = None

    # ------------------------------------------------------------------ calls

    def serve(self, body: Body, nr: int, args: tuple[int, ...]) -> bool:
        """A call of the body; True if it is about private files and dealt with."""
        store, rule = body.private, RULES.get(nr)
        if store is None or rule is None:
            return False
        if rule.paths:
            outcome = service.by_path(store, rule, args, body.task)
            if outcome is None:
                return False
            if isinstance(outcome, service.Answer):
                self._answer(body, outcome)
                return True
            if isinstance(outcome, service.Open):
                self._open(body, store, outcome)
                return True
        found = [d for i in rule.fds if (d := store.descriptors.get(as_c_int(args[i]))) is not None]
        if not found:
            return False
        try:
            answer = self._on_descriptor(body, store, found[0], rule, args)
        except Full:
            self._full(body)
            return True
        except OSError as error:
            answer = service.Answer(-(error.errno or errno.EIO))
        self._answer(body, answer)
        return True

    def _answer(self, body: Body, answer: service.Answer) -> None:
        result = answer.result
        if answer.data:
            try:
                body.task.write(answer.at, answer.data)
            except OSError:
                result = -errno.EFAULT
        self.announce(body)
        self.host.serve.answer(body, result)

    def _on_descriptor(
        self, body: Body, store: Store, description: Description, rule: Rule, args: tuple[int, ...]
    ) -> service.Answer:
        file = description.file
        match rule.act:
            case Act.READ | Act.WRITE:
                return service.Answer(self._transfer(body, store, description, rule, args))
            case Act.SEEK:
                return service.Answer(seek(description, args[1], args[2] & 0xFFFFFFFF))
            case Act.STATX:
                return service.on_file(rule, file, 0, args[4])
            case Act.TRUNCATE if not description.writable:
                raise OSError(errno.EINVAL, "")
            case Act.REFUSED:
                return service.Answer(-rule.errno)
            case Act.ACCESS:
                return service.Answer(0)
            case _:
                return service.on_file(rule, file, args[2 if rule.paths else 1])

    def _transfer(
        self, body: Body, store: Store, description: Description, rule: Rule, args: tuple[int, ...]
    ) -> int:
        """The read and write family: bytes done."""
        writes = rule.act is Act.WRITE
        if not (description.writable if writes else description.readable):
            raise OSError(errno.EBADF, "")
        pieces = self._pieces(body, rule, args)
        file = description.file
        sequential = rule.nr in _SEQUENTIAL or (rule.nr in (327, 328) and args[3] == 0xFFFF_FFFF_FFFF_FFFF)
        if not sequential and args[3] >> 63:
            raise OSError(errno.EINVAL, "")
        start = description.position if sequential else args[3]
        if writes and description.flags & os.O_APPEND:
            start = file.stat().st_size
        if writes:
            self._reserve(store, file, start, sum(size for _, size in pieces))
        done = 0
        move = lib.mos_store if writes else lib.mos_fetch
        for addr, size in pieces:
            count = move(body.pid, addr, file.fd, start + done, size)
            if count < 0:
                if done:
                    break
                if count == -errno.ENOSPC:
                    raise Full
                raise OSError(-count, "")
            done += count
            if count < size:
                break
        if sequential:
            description.position = start + done
        return done

    @staticmethod
    def _reserve(store: Store, file: Any, at: int, size: int) -> None:
        try:
            for _, old in store.reserve(file, at, size):
                os.close(old)
        except OSError:
            raise Full from None

    @staticmethod
    def _pieces(body: Body, rule: Rule, args: tuple[int, ...]) -> list[tuple[int, int]]:
        """(address, size) of the memory of a transfer."""
        if rule.nr not in _VECTORS:
            if args[2] > LAST:  # no memory is so large
                raise OSError(errno.EFAULT, "")
            return [(args[1], min(args[2], MAX_BYTES))]
        count = args[2]
        if count > IOV_MAX:
            raise OSError(errno.EINVAL, "")
        pieces = list(struct.iter_unpack("<QQ", body.task.read(args[1], 16 * count)))
        if any(size > LAST for _, size in pieces):
            raise OSError(errno.EINVAL, "")
        left, cut = MAX_BYTES, []
        for at, size in pieces:
            cut.append((at, min(size, left)))
            left -= cut[-1][1]
        return cut

    def _full(self, body: Body) -> None:
        """The body waits in its write until it is home, or home says that there is no room either."""
        self._wait(body, Kind.PRIVATE_FULL, b"")

    def _wait(self, body: Body, kind: int, payload: bytes) -> None:
        body.state = State.WAITING
        body.seq = body.seq + 1 & 0x7FFF
        self.host.channel.send(kind, body.pair, payload, body.seq << 1)

    def _open(self, body: Body, store: Store, order: service.Open) -> None:
        try:
            file, made = service.opened(store, order, lambda: store.umask)
        except OSError as error:
            self._answer(body, service.Answer(-(error.errno or errno.EIO)))
            return
        body.opening = Opening(file.number, order.flags, made)
        asked = PrivateOpen(order.flags, body.task.peek_mask())
        self._wait(body, Kind.PRIVATE_OPEN, msgspec.msgpack.encode(asked))

    def replied(self, body: Body, result: int) -> None:
        """A call of the body has been made at home."""
        store = body.private
        if store is None:
            return
        opening, body.opening = body.opening, None
        regs = body.regs
        if opening is None:
            follow(store, body.nr, (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9), result)
            return
        file = store.files.get(opening.number)
        if file is None:
            return
        if result >= 0:
            travel.describe_opened(store, opening, result)
            if not opening.made and opening.flags & os.O_TRUNC:
                os.ftruncate(file.fd, 0)
        elif opening.made:
            if file.name is not None:
                store.unlink(file.name)
            store.discard(file)
        self.announce(body)

    # ------------------------------------------------------------------ leaving

    def rounds(self, body: Body, channel: Channel) -> Iterator[int]:
        """Sends the files over ``channel`` while the body still runs; `rest` sends what changes meanwhile."""
        return self._sender(body, channel).rounds()

    def _sender(self, body: Body, channel: Channel) -> Sender:
        if body.sender is None:
            assert body.private is not None
            body.sender = Sender(body.private, lambda payload: channel.send(Kind.PRIVATE, body.pair, payload))
        return body.sender

    def rest(self, body: Body, channel: Channel) -> None:
        """Send what the other side does not have yet."""
        if body.private is not None:
            self._sender(body, channel).rest()

    def manifest(self, body: Body) -> bytes:
        store = body.private
        if store is None:
            return b""
        return travel.encode(travel.manifest_of(store, travel.records(store), store.quota.limit, body.opening))

    def fetched(self, body: Body) -> None:
        """FETCH: home has made exec for the body; its files go there."""
        body.sender = None
        if body.copy is not None:
            body.copy.files = None
        self.rest(body, self.host.channel)
        self.host.channel.send(Kind.MANIFEST, body.pair, self.manifest(body))
        body.sender = None


def seek(description: Description, offset: int, whence: int) -> int:
    """lseek(2)."""
    offset -= (offset >> 63) << 64
    if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE):
        raise OSError(errno.EINVAL, "")
    size = description.file.stat().st_size
    if whence in (os.SEEK_DATA, os.SEEK_HOLE):
        at = os.lseek(description.file.fd, offset, whence)
    else:
        at = offset + (0, description.position, size)[whence]
    if not 0 <= at <= LAST:
        raise OSError(errno.EINVAL, "")
    description.position = at
    return at
