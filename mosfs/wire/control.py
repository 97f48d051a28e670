"""The control socket as tracers and hosts use it: one message a datagram, and patience with a restarting mosd."""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import Any

import msgspec

from mosfs.wire.fields import MAX_CONTROL
from mosfs.wire.messages import Msg, decode_control, encode
from mosfs.wire.passing import ROOM, received

#: Seconds between attempts to reach a mosd that is away.
RETRY = 0.3
#: Seconds that a message may wait for a mosd which reads nothing; then that counts as gone, with all that it keeps for us.
PATIENCE = 10.0


class ControlLink:
    """Messages that cannot be delivered are dropped: after a reconnect the owner says Hello and its state again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sock: socket.socket | None = None
        self._next_try = 0.0
        self._ended = False
        self.aside: list[tuple[Any, Any]] = []  # what has come, and nobody has asked for yet

    def wait(self, seconds: float) -> bool:
        """Wait until something has come, or the link is closed; False when the time is over, or there is no link."""
        if self.aside:
            return True
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def fileno(self) -> int:
        return self.sock.fileno() if self.sock is not None else -1

    def connect(self) -> bool:
        """Try to connect if it is time to; True when a new connection stands."""
        if self.sock is not None or time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + RETRY
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self.path)
        except OSError:
            sock.close()
            return False
        sock.setblocking(False)
        self.sock = sock
        return True

    def send(self, message: Msg, beside: int = -1) -> bool:
        """False when mosd is not there. ``beside``: a descriptor that goes with the message."""
        if self.sock is None:
            return False
        data = encode(message)
        try:
            self._send(data, beside)
        except BlockingIOError:
            return self._send_patiently(data, beside)
        except OSError:
            self.close()
            return False
        return True

    def _send(self, data: bytes, beside: int) -> None:
        assert self.sock is not None
        if beside >= 0:
            socket.send_fds(self.sock, [data], [beside])
        else:
            self.sock.send(data)

    def _send_patiently(self, data: bytes, beside: int) -> bool:
        assert self.sock is not None
        try:
            self.sock.settimeout(PATIENCE)
            self._send(data, beside)
            self.sock.setblocking(False)
        except OSError:
            self.close()
            return False
        return True

    def receive_only(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """The messages that are there now and are ``wanted``; the others are put aside, for `receive`."""
        self.aside = self.receive()
        found = [message for message, _ in self.aside if wanted(message)]
        self.aside = [entry for entry in self.aside if not wanted(entry[0])]
        return found

    def receive(self) -> list[tuple[Any, Any]]:
        """What is there now: (message, socket or file that came with it). A closed link returns no more and is closed here too."""
        found, self.aside = self.aside, []
        while self.sock is not None:
            try:
                data, ancillary, _flags, _addr = self.sock.recvmsg(MAX_CONTROL, ROOM)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # told once, when mosd ended without reading all we said: what it sent before is still there
            except OSError:
                data = b""
                ancillary = []
            if not data:
                self.close()
                break
            passed = _passed(ancillary)
            try:
                message = decode_control(data)
            except msgspec.DecodeError:
                if passed is not None:
                    passed.close()
                continue
            found.append((message, passed))
        return found

    def close(self) -> None:
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.close()
            self.sock = None
            self._ended = True
            self._next_try = time.monotonic() + RETRY / 3

    def has_ended(self) -> bool:
        """Once for each connection that was closed, by `receive` or a `send` that failed: what was asked has no answer."""
        ended, self._ended = self._ended, False
        return ended


def _passed(ancillary: list[tuple[int, int, bytes]]) -> socket.socket | io.FileIO | None:
    fd = received(ancillary)
    if fd < 0:
        return None
    return socket.socket(fileno=fd) if stat.S_ISSOCK(os.fstat(fd).st_mode) else io.FileIO(fd, "r+")
