"""One SEQPACKET conversation with a client or the fork server: a message a datagram, sockets beside it."""

from __future__ import annotations

import array
import contextlib
import io
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator

import trio

from mosfs.trace.caller import Caller
from mosfs.trace.proc import start_time
from mosfs.wire.fields import MAX_CONTROL
from mosfs.wire.messages import Msg, encode
from mosfs.wire.passing import ROOM, received

log = logging.getLogger(__name__)

#: Messages that may wait for a process that does not read; then it counts as gone.
BACKLOG = 4096

#: What can travel beside a message.
Passed = socket.socket | io.FileIO

_UCRED = struct.Struct("3i")


def credentials(sock: trio.socket.SocketType) -> Caller:
    """Who connected (unix(7), SO_PEERCRED)."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Caller(pid, uid, gid, start_time(pid))


class Connection:
    """`post` never waits; `pump` sends what was posted, in order; `datagrams` receives."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.sock = sock
        self._plain = socket.socket(fileno=os.dup(sock.fileno()))
        self._queued = 0
        self._beside = -1
        self._post, self._queue = trio.open_memory_channel[tuple[bytes, Passed | None]](BACKLOG)

    def post(self, message: Msg | bytes, beside: Passed | None = None) -> bool:
        """Send or queue ``message``, bytes as they are; ``beside`` goes with it and is closed in any case. ConnectionError when
        nobody reads.

        False: it cannot be sent at all, because a number or the whole is too long; it is dropped with a line in the log.
        """
        try:
            data = message if isinstance(message, bytes) else encode(message)
            if len(data) > MAX_CONTROL:
                raise ValueError(f"{len(data)} bytes")
        except (ValueError, OverflowError, TypeError) as error:
            if beside is not None:
                beside.close()
            log.error("%s cannot be sent: %s", type(message).__name__, error)
            return False
        if not self._queued:
            try:
                self._plain.sendmsg([data], _ancillary(beside), socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                if beside is not None:
                    beside.close()
                raise ConnectionError("not connected") from None
            else:
                if beside is not None:
                    beside.close()
                return True
        self._queued += 1
        try:
            self._post.send_nowait((data, beside))
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            if beside is not None:
                beside.close()
            raise ConnectionError("not connected") from None
        return True

    async def pump(self) -> None:
        """Send until `close`; returns when the other side is gone."""
        with contextlib.suppress(OSError, trio.ClosedResourceError):
            async for data, beside in self._queue:
                with beside or contextlib.nullcontext():
                    await self.sock.sendmsg([data], _ancillary(beside))
                    self._queued -= 1

    async def datagrams(self) -> AsyncIterator[bytes]:
        """All that the other side sends, until it closes or dies. A descriptor that came beside is for `take_beside`."""
        try:
            with contextlib.suppress(OSError, trio.ClosedResourceError):
                while True:
                    try:
                        data, ancillary, _, _ = await self.sock.recvmsg(MAX_CONTROL, ROOM)
                    except ConnectionResetError:
                        continue  # told once, when it ended without reading all we said: what it sent before is still there
                    if not data:
                        return
                    self._drop_beside()
                    self._beside = received(ancillary)
                    yield data
        finally:
            self._drop_beside()

    def take_beside(self) -> int:
        """The descriptor that came with the datagram, for the caller to close; -1: none."""
        found, self._beside = self._beside, -1
        return found

    def _drop_beside(self) -> None:
        if self._beside >= 0:
            os.close(self._beside)
            self._beside = -1

    def close(self) -> None:
        """Idempotent; messages that were not sent are dropped with their sockets."""
        self._post.close()
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            while True:
                _, beside = self._queue.receive_nowait()
                if beside is not None:
                    beside.close()
        self._queue.close()
        self._plain.close()
        self.sock.close()


def _ancillary(beside: Passed | None) -> list[tuple[int, int, array.array[int]]]:
    if beside is None:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [beside.fileno()]))]
