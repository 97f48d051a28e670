"""The data channel between a tracer and a host (or two hosts, for one image): frames over TCP under AES-256-GCM.

Each side encrypts with a nonce of direction and counter, and authenticates the header as associated data: a frame that
is changed, repeated, dropped or moved makes the channel fail (`ChannelLost`). Keys are fresh for each channel
(`protocols.md`).

Ordinary frames never wait for a peer that reads slowly: they are queued, and sent as the socket takes them (`Channel.unsent`,
`Channel.flush`). What images are made of is too much for that: one such frame is queued, and who sends the next one waits, for
a bounded time (`Pace`). A peer that is itself sending is not waited for: while the socket is full, what arrives is read and queued.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mosfs.abi.texts import Text, text
from mosfs.native import ffi, lib
from mosfs.wire import record
from mosfs.wire.frames import HEADER, MAX_PAYLOAD, TIMED, BadFrame, Frame, Kind, To, check
from mosfs.wire.room import Memory

TAG = 16
#: A payload of this size is encrypted in place, bytes; below, the call for that costs more than the copy.
LARGE = 16 << 10
#: Room for what comes, bytes: at first, for many a program asks little, and as soon as that was too small.
FIRST, ROOM = 64 << 10, 1 << 20
#: A peer that takes, or sends, fewer than `LEAST` bytes of what is under way in so many seconds is lost.
PATIENCE = 20.0
LEAST = 64 << 10
#: Seconds until who waits for a peer looks at its patience again.
STEP = 1.0
#: Seconds that an image may keep waiting who sends or takes it, and the bytes of it that give one of them back: where nobody else
#: waits meanwhile, and where others do.
GRACE, SLOWEST, HURRY = 60.0, 64 << 10, 8 << 20
#: Bytes that a peer may send while it takes nothing, if this node has memory for them, and those that are kept for it.
MOST_QUEUED, MOST_UNSENT = 1 << 30, 64 << 20
#: Bytes that a frame takes here beside its payload, if it has to wait.
COST = 512
#: What is sent in such amounts that it is waited for.
BULK = frozenset({Kind.IMAGE, Kind.PAGES, Kind.RUNS, Kind.IMAGE_END, Kind.EARLY, Kind.SAME, Kind.PRIVATE})
#: So many frames are remembered for a look at a process that hangs (`mosfs.cluster.dump`).
TRAIL = 24

#: The kernel asks a silent peer so often; a node that is cut off answers nothing (tcp(7)).
HEART_BEATS, HEART_BEAT = 4, 5


def prepare() -> None:
    """Make what the copies of libcrypto, Python's and C's, need once: for their first use they take two milliseconds each, and 300
    pages. Who forks owners of channels does it for all of them."""
    AESGCM(bytes(32))
    lib.mos_may_seal()


class ChannelLost(Exception):
    """The connection closed, timed out, or carried something that is not ours."""


class Compromised(ChannelLost):
    """It carried what nobody with its key has sealed."""

    def __init__(self) -> None:
        super().__init__(text(Text.COMPROMISED))


class Peer(Protocol):
    """What those who send and take images ask of a channel; a file can do it, too (`migrate.freezefile`)."""

    lost: bool
    waited: float

    @property
    def unsent(self) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def flush(self) -> None: ...
    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None: ...
    def takes_more(self) -> bool: ...
    def frames(self) -> Iterator[Frame]: ...
    def pending(self) -> bool: ...
    def receive(self, timeout: float = ...) -> Frame: ...
    def fail(self, text: str) -> ChannelLost: ...


class Patience:
    """How long to wait for a peer: ``seconds`` for each `LEAST` bytes, not for each single one.

    Who waits looks once a `STEP`; if it does not come to that because it has no processor itself, the peer is not to blame.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = self._left = seconds
        self._clock = clock
        self._looked = clock()
        self._mark: int | None = None

    def left(self, done: int) -> float:
        """Seconds that are left; ``done``: a number of bytes that grows."""
        now = self._clock()
        self._left -= min(now - self._looked, STEP)
        self._looked = now
        if self._mark is None or done - self._mark >= LEAST:
            self._mark, self._left = done, self._seconds
        return max(0.0, self._left)


class Pace:
    """How long a peer may keep its partner waiting, who does nothing else meanwhile: `GRACE` seconds, which come back with what
    passes. `Patience` is for one thing that is sent, this for all of an image together.

    ``others``: they wait, too, so that a slow wire is no excuse. Of an image that passes while its program stands a wire of
    8 Mbit/s has 68 MB in time then; what goes ahead of it is not waited for, and may take as long as it likes."""

    def __init__(self, *, others: bool = False) -> None:
        self._left = GRACE
        self._slowest = HURRY if others else SLOWEST

    def waited(self, seconds: float) -> bool:
        """Whether that was not too long."""
        self._left -= seconds
        return self._left > 0

    def took(self, size: int) -> None:
        self._left = min(GRACE, self._left + size / self._slowest)


def _since(began: float) -> float:
    """Seconds that we wait since then, at most a `STEP`: if it was longer, it was we who had no processor."""
    return min(time.monotonic() - began, STEP)


def _watch(sock: socket.socket) -> None:
    """A peer whose node or wire is dead is found out even when nothing is to be sent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, HEART_BEAT), (socket.TCP_KEEPINTVL, HEART_BEAT), (socket.TCP_KEEPCNT, HEART_BEATS),
        (socket.TCP_USER_TIMEOUT, int(PATIENCE * 1000)),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _more_to_read(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def _time() -> bytes:
    """Payload of TIME."""
    now = ffi.new("struct mos_time *")
    lib.mos_time(now)
    return bytes(ffi.buffer(now))


class Channel:
    """``opener`` is the side that connected (it uses direction 0 for its nonces).

    ``end`` is what this side is: a frame that does not belong there makes the channel fail (`frames.SHAPES`). None: any may come.
    """

    def __init__(self, sock: socket.socket, key: bytes, *, opener: bool, end: To | None = None) -> None:
        self.sock = sock
        self._to = end
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _watch(sock)
        self._cipher = AESGCM(key)
        self._send_prefix = b"\0\0\0\0" if opener else b"\1\0\0\0"
        self._receive_prefix = b"\1\0\0\0" if opener else b"\0\0\0\0"
        #: struct mos_channel: what C may do over this connection, too, between two turns of an event loop (`native/lane.c`).
        self.shared = ffi.new("struct mos_channel *", {"fd": sock.fileno(), "direction": 0 if opener else 1})
        self._key = key
        self._outgoing = bytearray()
        self._rest = memoryview(b"")  # of the frame that the socket has taken a part of: it stays where it was sealed
        self._unsent = bytearray()  # what is sealed behind it
        self._taken_off = 0  # bytes of that which the socket has taken
        self._patience = Patience(PATIENCE)
        self._pace = Pace()
        self.sent_in_bulk = 0  #: frames of images and files that have been sent, or wait for room
        self._have(bytearray(FIRST))
        self._queue: deque[Frame] = deque()
        self._queued = 0  # bytes
        self._room_poll: select.poll | None = None
        self.lost = False
        self.waited = 0.0  #: seconds, in `receive`
        #: The last frames: when (CLOCK_MONOTONIC), ">" sent or "<" received, kind, pair, bytes.
        self.trail: deque[tuple[float, str, int, int, int]] = deque(maxlen=TRAIL)
        self._record = record.begin()

    def fileno(self) -> int:
        return self.sock.fileno()

    def share(self) -> bool:
        """Whether C may speak over this connection, too; not while all frames are recorded."""
        if self.lost or self._record is not None or self.shared.broken or self.unsent:
            return False
        if self.shared.out == ffi.NULL and self._key:
            lib.mos_channel_key(self.shared, self._key)
            self._key = b""  # it was tried
        return bool(self.shared.out != ffi.NULL)

    def close(self) -> None:
        self.lost = True
        self.sock.close()
        lib.mos_channel_end(self.shared)
        if self._record is not None:
            self._record.close()

    # ------------------------------------------------------------------ sending

    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None:
        """One frame; ChannelLost when the peer is gone. It has left us, or is among the `unsent`; one of `BULK` waits for these."""
        if self.shared.tells and kind in TIMED:
            self.send(Kind.TIME, 0, _time())
        if self.shared.unsent_left or self.shared.broken:
            self.flush()
        if self.unsent and (kind in BULK or self.unsent > MOST_UNSENT):
            self.finish()
        if self.shared.broken:
            return
        self.sent_in_bulk += kind in BULK or kind == Kind.FILE
        header = HEADER.pack(len(payload), kind, flags, pair)
        nonce = self._send_prefix + self.shared.sent.to_bytes(8, "little")
        self.shared.sent += 1
        self.trail.append((time.monotonic(), ">", kind, pair, len(payload)))
        if self._record is not None:
            self._record.note(record.SENT, header, payload)
        data: Any
        if len(payload) < LARGE:
            data = header + self._cipher.encrypt(nonce, payload, header)
        else:
            data = self._room(HEADER.size + len(payload) + TAG)
            data[: HEADER.size] = header
            self._cipher.encrypt_into(nonce, payload, header, data[HEADER.size :])
        if self.unsent:
            self._unsent += data
            return
        try:
            done = self.sock.send(data)
        except BlockingIOError:
            done = 0
        except OSError as error:
            self._cannot_send(error)
            return
        if done < len(data):
            self._rest, self._patience = memoryview(data)[done:], Patience(PATIENCE)
            if kind == Kind.IMAGE_END:  # who has sent an image may end
                self.finish()

    @property
    def unsent(self) -> int:
        """Bytes that wait for room in the socket: `flush` when it has some, and once a second."""
        return len(self._rest) + len(self._unsent)

    def _forget(self) -> tuple[memoryview, bytearray]:
        """What was unsent."""
        both = self._rest, self._unsent
        self._rest, self._unsent = memoryview(b""), bytearray()
        return both

    def finish(self) -> None:
        """Wait until all has been sent; ChannelLost as `send`."""
        self.flush()
        for rest in self._forget():
            if rest and not self.shared.broken:
                self._send_rest(memoryview(rest))

    def tell_time(self) -> None:
        """From now on the peer reads our time before what its programs may learn of (`TIMED`)."""
        self.shared.tells = 1

    def _cannot_send(self, error: OSError) -> None:
        """What the peer has sent before it ended counts, all of it: while some of that is to be read, what we send is for nobody,
        and who reads it learns of the end. ChannelLost when there is nothing."""
        self.shared.broken = error.errno or errno.EIO
        self._open()  # what C has read
        if not self._queue and not _more_to_read(self.sock):
            raise self.fail(str(error)) from error

    def flush(self) -> None:
        """Send what is unsent, also by C, as far as the socket takes it; ChannelLost as `send`, and of who takes too little."""
        if self.shared.broken:
            self._forget()
            self._cannot_send(OSError(self.shared.broken, os.strerror(self.shared.broken)))
            return
        if self.shared.unsent_left:
            if not self.unsent:
                self._patience = Patience(PATIENCE)
            self._unsent += ffi.buffer(self.shared.unsent, self.shared.unsent_left)
            lib.mos_sent(self.shared)
        if not self.unsent:
            return
        try:
            done = self.sock.sendmsg((self._rest, self._unsent))
        except BlockingIOError:
            done = 0
        except OSError as error:
            self._forget()
            self._cannot_send(error)
            return
        behind = done - len(self._rest)
        self._rest = self._rest[done:]
        if behind > 0:
            del self._unsent[:behind]
        self._taken_off += done
        self._pace.took(done)
        if self.unsent and not self._patience.left(self._taken_off):
            raise self.fail("no progress")

    def _room(self, size: int) -> memoryview:
        """``size`` bytes of a buffer that is kept for the next large frame; of another one while the last frame waits in it."""
        if self._rest or len(self._outgoing) < size:
            self._outgoing = bytearray(size)
        return memoryview(self._outgoing)[:size]

    def _send_rest(self, rest: memoryview) -> None:
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLOUT)
        patience, memory = Patience(PATIENCE), Memory()
        while rest:
            left, began = patience.left(-len(rest)), time.monotonic()
            events = poll.poll(min(left, STEP) * 1000)
            if not left or not self._pace.waited(_since(began)):
                raise self.fail("no progress")
            if self._queued > MOST_QUEUED or not memory.holds(self._queued):
                raise self.fail(f"{self._queued >> 20} MB have come of a peer that takes nothing")
            if not events:
                continue
            if events[0][1] & select.POLLIN:
                try:
                    self._fill()
                except ChannelLost as lost:
                    if not self._queue or isinstance(lost, Compromised):
                        raise
                    self.lost, self.shared.broken = False, errno.EPIPE
                    return
            if events[0][1] & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                try:
                    done = self.sock.send(rest)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._cannot_send(error)
                    return
                rest = rest[done:]
                self._pace.took(done)

    def takes_more(self) -> bool:
        """The socket has room, so that a frame would not wait for the peer; true of a lost one, so that it is noticed."""
        if self.lost:
            return True
        if self.unsent:
            return False
        if self._room_poll is None:
            self._room_poll = select.poll()
            self._room_poll.register(self.sock, select.POLLOUT)
        return bool(self._room_poll.poll(0))

    # ------------------------------------------------------------------ receiving

    def frames(self) -> Iterator[Frame]:
        """Frames that are here after one read of the socket, which takes what is unsent meanwhile."""
        if self.unsent:
            self.flush()
        self._open()
        if not self._queue:
            self._fill()
        while self._queue:
            yield self._taken()

    def pending(self) -> bool:
        """Frames were queued while sending: the socket may stay silent about them."""
        return bool(self._queue)

    @property
    def waiting(self) -> int:
        """How many frames are queued."""
        return len(self._queue)

    def receive(self, timeout: float = PATIENCE) -> Frame:
        """Block for the next frame, as long as it makes progress."""
        poll = select.poll()
        patience = Patience(timeout)
        self._open()
        while not self._queue:
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if self.unsent else 0))
            left = patience.left(self.shared.end - self.shared.start)
            if not left:
                raise self.fail("timeout")
            began = time.monotonic()
            events = poll.poll(min(left, STEP) * 1000)
            self.waited += _since(began)
            if self.unsent:
                self.flush()
            if events and events[0][1] & ~select.POLLOUT:
                self._fill()
        return self._taken()

    def _taken(self) -> Frame:
        frame = self._queue.popleft()
        self._queued -= len(frame.payload) + COST
        return frame

    def _have(self, buffer: bytearray, end: int = 0) -> None:
        """Receive into ``buffer``, of which so many bytes are in use."""
        self._buffer, shared = buffer, self.shared
        self._kept = ffi.from_buffer(buffer)
        shared.buffer, shared.size, shared.start, shared.end = self._kept, len(buffer), 0, end

    def _fill(self) -> None:
        """Read once and queue the whole frames."""
        shared = self.shared
        if shared.end == shared.size:
            self._make_room()
        try:
            got = self.sock.recv_into(memoryview(self._buffer)[shared.end :])
        except BlockingIOError:
            return
        except OSError as error:
            raise self.fail(str(error)) from error
        if not got:
            raise self.fail("closed")
        shared.end += got
        self._open()

    def _open(self) -> None:
        """Queue the whole frames that were read."""
        shared, view = self.shared, memoryview(self._buffer)
        start, end = shared.start, shared.end
        while end - start >= HEADER.size:
            length, kind, flags, pair = HEADER.unpack_from(view, start)
            if length > MAX_PAYLOAD:
                raise self.fail("frame too long")
            whole = HEADER.size + length + TAG
            if end - start < whole:
                if whole > shared.size - start:
                    shared.start = start
                    self._make_room(whole)
                    return
                break
            header, body = bytes(view[start : start + HEADER.size]), view[start + HEADER.size : start + whole]
            nonce = self._receive_prefix + shared.received.to_bytes(8, "little")
            try:
                payload = self._cipher.decrypt(nonce, body, header)
            except InvalidTag:
                self.lost = True
                raise Compromised from None
            shared.received += 1
            self.trail.append((time.monotonic(), "<", kind, pair, length))
            if self._record is not None:
                self._record.note(record.RECEIVED, header, payload)
            self._queue.append(Frame(kind, flags, pair, payload, self._content(kind, flags, pair, payload)))
            self._queued += length + COST
            start += whole
        shared.start, shared.end = (0, 0) if start == end else (start, end)

    def _content(self, kind: int, flags: int, pair: int, payload: bytes) -> Any:
        """What the frame says, if it can be meant for this end."""
        if self._to is None:
            return None
        try:
            return check(self._to, kind, flags, pair, payload)
        except BadFrame as error:
            raise self.fail(str(error)) from error

    def _make_room(self, whole: int = 0) -> None:
        shared = self.shared
        rest = bytes(memoryview(self._buffer)[shared.start : shared.end])
        if max(whole, len(rest) + 1) > len(self._buffer):
            self._buffer = bytearray(max(whole + 4096, 2 * len(self._buffer), ROOM))
        memoryview(self._buffer)[: len(rest)] = rest
        self._have(self._buffer, len(rest))

    def fail(self, text: str) -> ChannelLost:
        """The channel is lost; to be raised."""
        self.lost = True
        return ChannelLost(text)


@contextmanager
def one_image(channel: Peer, *, others: bool) -> Iterator[None]:
    """What is waited for inside is one image; ``others``: of programs wait meanwhile, too (`Pace`). A file is not waited for."""
    if not isinstance(channel, Channel):
        yield
        return
    channel._pace = Pace(others=others)
    try:
        yield
    finally:
        channel._pace = Pace()
