"""A connection for many bytes: begins as a peer link, then goes on without TLS, sealed by a key that was told in it.

TLS in Python costs a turn of the event loop for every 16 KB; here a frame holds up to 256 KB, is sealed and opened from one buffer
into another, and is waited for as a whole. Frames as on a data channel: AES-256-GCM, the nonce is direction and counter, the
length is authenticated; anything changed, repeated or reordered ends the link.

    length u32 big-endian, ciphertext, tag 16 bytes
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mosfs.wire import messages
from mosfs.wire.links import CONNECT_TIMEOUT, NO_RESPONSE, LinkError, PeerLink

KEY_SIZE, HEAD, TAG = 32, 4, 16
MAX_FRAME = 256 * 1024
AT_ONCE = 4096  #: bytes that are read ahead
#: Who waits for so many bytes of a frame, or more, is woken when all of them are there (socket(7), SO_RCVLOWAT).
WHOLE = 64 * 1024
#: After so many frames without a wait, other tasks have their turn.
IN_A_ROW = 8
#: Buffers for frames under way that are kept, for all links together.
KEPT = 4

_free: list[bytearray] = []
#: What is to be sealed, or was opened. Nobody waits while something is in it.
_content = bytearray(MAX_FRAME)


@contextmanager
def _room() -> Iterator[memoryview]:
    """Room for a sealed frame and what is read ahead."""
    buffer = _free.pop() if _free else bytearray(HEAD + MAX_FRAME + TAG + 2 * AT_ONCE)
    try:
        yield memoryview(buffer)
    finally:
        if len(_free) < KEPT:
            _free.append(buffer)


class SealedLink:
    """Messages, and raw bytes between them; one task at a time. Errors are those of `PeerLink`."""

    def __init__(self, sock: socket.socket, ip: str, key: bytes, begun: bytes, *, caller: bool) -> None:
        """``begun``: what was read of ``sock`` already."""
        self.ip = ip
        self._begun = begun
        self._sock = sock
        sock.setblocking(False)
        self._cipher = AESGCM(key)
        self._ours, self._theirs = (b"\0\0\0\0", b"\1\0\0\0") if caller else (b"\1\0\0\0", b"\0\0\0\0")
        self._sent = self._received = 0
        self._rest = b""
        self._wakes_at = 1  # bytes
        self._in_a_row = 0

    # ------------------------------------------------------------------ sending

    async def send(self, message: messages.PeerMsg, body: bytes = b"") -> None:
        """A message, and a short body that belongs to it (received by `receive_raw`), in one piece."""
        data = self._sealed(messages.encode(message))
        await self._push(memoryview(data + self._sealed(body) if body else data))

    def _sealed(self, data: bytes) -> bytes:
        head = len(data).to_bytes(HEAD, "big")
        return head + self._cipher.encrypt(self._next_nonce(), data, head)

    def _next_nonce(self) -> bytes:
        nonce = self._ours + self._sent.to_bytes(8, "big")
        self._sent += 1
        return nonce

    async def send_raw(self, data: bytes | memoryview) -> None:
        """Bytes in as many frames as they need."""
        view = memoryview(data)
        for at in range(0, len(view), MAX_FRAME):
            piece = view[at : at + MAX_FRAME]
            await self._send_frame(piece)

    async def send_filled(self, size: int, fill: Callable[[memoryview], None]) -> None:
        """``size`` raw bytes, `MAX_FRAME` at most, which ``fill`` puts where it is told to."""
        content = memoryview(_content)[:size]
        fill(content)
        await self._send_frame(content)

    async def _send_frame(self, content: memoryview) -> None:
        size = len(content)
        with _room() as room:
            head = size.to_bytes(HEAD, "big")
            room[:HEAD] = head
            self._cipher.encrypt_into(self._next_nonce(), content, head, room[HEAD : HEAD + size + TAG])
            await self._push(room[: HEAD + size + TAG])

    async def _push(self, data: memoryview) -> None:
        """trio.BrokenResourceError or trio.ClosedResourceError when the link is gone."""
        await self._take_turns()
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)
                self._in_a_row = 0
            except OSError as error:
                raise self._gone() from error

    def _gone(self) -> Exception:
        """What to raise: it was closed by us, or by the other side."""
        return trio.ClosedResourceError() if self._sock.fileno() < 0 else trio.BrokenResourceError()

    async def _take_turns(self) -> None:
        self._in_a_row += 1
        if self._in_a_row > IN_A_ROW:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()

    # ------------------------------------------------------------------ receiving

    async def receive(self) -> Any:
        """The next message; None at the end of the link. LinkError for what is no message."""
        data = await self._frame()
        if data is None:
            return None
        try:
            return messages.decode_peer(data)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise LinkError(f"bad message: {error}") from None

    async def receive_raw(self, size: int) -> bytes:
        """``size`` bytes that were sent as raw ones."""
        data = bytearray()
        while len(data) < size:
            data += await self.receive_some(size - len(data))
        return bytes(data)

    async def receive_some(self, most: int) -> bytes | memoryview:
        """Raw bytes, ``most`` at most, valid until the caller waits for anything. LinkError at the end of the link."""
        frame: bytes | memoryview | None = self._rest
        if not frame:
            frame = await self._frame()
        if frame is None:
            raise LinkError(NO_RESPONSE)
        self._rest = bytes(frame[most:])
        return frame[:most]

    async def _frame(self) -> bytes | memoryview | None:
        """What is in the next frame, valid as `receive_some` says; None at the end of the link."""
        await self._take_turns()
        if not await self._ahead(HEAD):
            return None
        head = self._begun[:HEAD]
        size = int.from_bytes(head, "big")
        if size > MAX_FRAME:
            raise LinkError("frame too long")
        whole = HEAD + size + TAG
        if whole > AT_ONCE:
            return await self._large(head, whole)
        if not await self._ahead(whole):
            return None
        sealed, self._begun = self._begun[HEAD:whole], self._begun[whole:]
        return self._opened(memoryview(sealed), head)

    async def _large(self, head: bytes, whole: int) -> memoryview | None:
        """The frame whose first bytes were read ahead, and which has ``whole`` bytes."""
        with _room() as room:
            have = len(self._begun)
            room[:have] = self._begun
            while have < whole:
                got = await self._read(room[have : whole + AT_ONCE], whole - have)
                if not got:
                    return None
                have += got
            self._begun = bytes(room[whole:have])
            return self._opened(room[HEAD:whole], head)

    def _opened(self, sealed: memoryview, head: bytes) -> memoryview:
        content = memoryview(_content)[: len(sealed) - TAG]
        try:
            self._cipher.decrypt_into(self._theirs + self._received.to_bytes(8, "big"), sealed, head, content)
        except InvalidTag:
            raise LinkError("not authentic") from None
        self._received += 1
        return content

    async def _ahead(self, size: int) -> bool:
        """Read at least so many bytes ahead, so that short frames cost one turn of the event loop; False at the end of the link."""
        while len(self._begun) < size:
            room = bytearray(AT_ONCE)
            got = await self._read(memoryview(room), size - len(self._begun))
            if not got:
                return False
            self._begun += room[:got]
        return True

    async def _read(self, room: memoryview, missing: int) -> int:
        """Bytes that were read; 0 at the end of the link. trio.BrokenResourceError, trio.ClosedResourceError."""
        while True:
            try:
                return self._sock.recv_into(room)
            except BlockingIOError:
                await self._readable(missing if missing >= WHOLE else 1)
            except OSError as error:
                raise self._gone() from error

    async def _readable(self, size: int) -> None:
        """Wait for so many bytes, or the end of the link."""
        if size != self._wakes_at:
            self._wakes_at = size
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        await trio.lowlevel.wait_readable(self._sock)
        self._in_a_row = 0

    async def close(self) -> None:
        """Idempotent; who waits for the link hears trio.ClosedResourceError."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
        await trio.lowlevel.checkpoint()


async def seal(link: PeerLink, *, caller: bool) -> SealedLink:
    """Go on without TLS; LinkError("no response") if the other side does not."""
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            if caller:
                key = os.urandom(KEY_SIZE)
                await link.send_raw(key)
            else:
                key = await link.receive_raw(KEY_SIZE)
            stream, begun = await link.unwrap()
            return SealedLink(socket.socket(fileno=stream.socket.detach()), link.ip, key, begun, caller=caller)
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        await link.close()
        raise LinkError(NO_RESPONSE) from None
    except BaseException:
        await link.close()
        raise
