"""Calls of guests on their private temporary files: reads, writes and names are served here."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import msgspec

from mosfs.abi.args import MAX_BYTES, as_c_int
from mosfs.abi.flags import IOV_MAX
from mosfs.abi.numbers import SYS_LSEEK, SYS_PREAD64, SYS_PWRITE64, SYS_READ, SYS_READV, SYS_WRITE, SYS_WRITEV
from mosfs.guest.body import Body
from mosfs.guest.completion import Completion
from mosfs.guest.forwarding import Forwarding
from mosfs.guest.private import Private
from mosfs.native import lib
from mosfs.ptf import service
from mosfs.ptf.rules import RULES, Act, Rule
from mosfs.ptf.store import Description, Store
from mosfs.ptf.travel import Opening
from mosfs.wire.frames import Kind
from mosfs.wire.orders import PrivateOpen

#: read and write at the file's position; the others at argument 3
_SEQUENTIAL = frozenset({SYS_READ, SYS_WRITE, SYS_READV, SYS_WRITEV})
#: What C can serve (`private_windows`).
WINDOWED = frozenset({SYS_READ, SYS_WRITE, SYS_LSEEK, SYS_PREAD64, SYS_PWRITE64})
_VECTORS = frozenset({SYS_READV, SYS_WRITEV, 295, 296, 327, 328})
#: The last position in a file (loff_t), and the most that one call may ask for (ssize_t).
LAST = (1 << 63) - 1


class Full(Exception):
    """No room here for what the program writes."""


class PrivateCalls:
    def __init__(self, private: Private, forwarding: Forwarding, completion: Completion) -> None:
        self._private = private
        self._forwarding = forwarding
        self._completion = completion

    def serve(self, body: Body, nr: int, args: tuple[int, ...]) -> bool:
        """A call of the body; True if it is about private files and dealt with."""
        store, rule = body.private.store, RULES.get(nr)
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
        if nr in WINDOWED:
            body.private.note_use(as_c_int(args[0]), found[0])
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
        self._private.announce(body)
        self._completion.finish(body, result)

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
        if writes and description.appends and any(size for _, size in pieces):
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
        self._forwarding.ask(body, Kind.PRIVATE_FULL, b"")

    def _open(self, body: Body, store: Store, order: service.Open) -> None:
        try:
            file, made = service.opened(store, order, lambda: store.umask)
        except OSError as error:
            self._answer(body, service.Answer(-(error.errno or errno.EIO)))
            return
        body.private.opening = Opening(file.number, order.flags, made)
        asked = PrivateOpen(order.flags, self._forwarding.mask(body))
        self._forwarding.ask(body, Kind.PRIVATE_OPEN, msgspec.msgpack.encode(asked))


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
