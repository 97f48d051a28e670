"""A connection for many bytes: begins as a peer link, then goes on without TLS, sealed by a key that was told in it.

TLS in Python costs a turn of the event loop for every 16 KB; here a frame holds up to 256 KB. Frames as on a data channel:
AES-256-GCM, the nonce is direction and counter, the length is authenticated; anything changed, repeated or reordered ends the link.

    length u32 big-endian, ciphertext, tag 16 bytes
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mosfs.wire import messages
from mosfs.wire.links import CONNECT_TIMEOUT, NO_RESPONSE, LinkError, PeerLink

KEY_SIZE, TAG = 32, 16
MAX_FRAME = 256 * 1024
AT_ONCE = 4096  #: bytes that are read ahead


class SealedLink:
    """Messages, and raw bytes between them; one task at a time. Errors are those of `PeerLink`."""

    def __init__(self, stream: trio.SocketStream, ip: str, key: bytes, begun: bytes, *, caller: bool) -> None:
        self.ip = ip
        self._begun = begun
        self._stream = stream
        self._cipher = AESGCM(key)
        self._ours, self._theirs = (b"\0\0\0\0", b"\1\0\0\0") if caller else (b"\1\0\0\0", b"\0\0\0\0")
        self._sent = self._received = 0
        self._rest = b""

    async def send(self, message: messages.PeerMsg, body: bytes = b"") -> None:
        """A message, and a short body that belongs to it (received by `receive_raw`), in one piece."""
        data = self._seal(memoryview(messages.encode(message)))
        await self._stream.send_all(data + self._seal(memoryview(body)) if body else data)

    async def send_raw(self, data: bytes | memoryview) -> None:
        """Bytes in as many frames as they need."""
        view = memoryview(data)
        for at in range(0, len(view), MAX_FRAME):
            await self._stream.send_all(self._seal(view[at : at + MAX_FRAME]))

    def _seal(self, piece: memoryview) -> bytes:
        head = len(piece).to_bytes(4, "big")
        sealed = self._cipher.encrypt(self._ours + self._sent.to_bytes(8, "big"), piece, head)
        self._sent += 1
        return head + sealed

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
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            frame = await self._frame()
            if frame is None:
                raise LinkError(NO_RESPONSE)
            parts.append(frame)
            have += len(frame)
        data = parts[0] if len(parts) == 1 else parts[1] if len(parts) == 2 and not parts[0] else b"".join(parts)
        self._rest = data[size:]
        return data[:size] if self._rest else data

    async def _frame(self) -> bytes | None:
        head = await self._exactly(4)
        if head is None:
            return None
        size = int.from_bytes(head, "big")
        if size > MAX_FRAME:
            raise LinkError("frame too long")
        sealed = await self._exactly(size + TAG)
        if sealed is None:
            return None
        try:
            data = self._cipher.decrypt(self._theirs + self._received.to_bytes(8, "big"), sealed, head)
        except InvalidTag:
            raise LinkError("not authentic") from None
        self._received += 1
        return data

    async def _exactly(self, size: int) -> bytes | bytearray | None:
        """``size`` bytes; what came behind them is kept, so that short frames cost one turn of the event loop."""
        while len(self._begun) < size and size <= AT_ONCE:
            data = await self._stream.socket.recv(AT_ONCE)
            if not data:
                return None
            self._begun += data
        if len(self._begun) >= size:
            found, self._begun = self._begun[:size], self._begun[size:]
            return found
        buffer = bytearray(size)
        view = memoryview(buffer)
        view[: len(self._begun)] = self._begun
        view, self._begun = view[len(self._begun) :], b""
        while view:
            got = await self._stream.socket.recv_into(view)
            if not got:
                return None
            view = view[got:]
        return buffer

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


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
            return SealedLink(stream, link.ip, key, begun, caller=caller)
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        await link.close()
        raise LinkError(NO_RESPONSE) from None
    except BaseException:
        await link.close()
        raise
