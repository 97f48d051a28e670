"""Connections between nodes on TCP 253: peer links (TLS), and the raw sockets that become data channels.

The first byte tells them apart: 0x16 starts a TLS handshake, "M" the preamble of a data channel
(docs/design/protocols.md). A link carries `Peer` messages, each after its length: four bytes, big-endian.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import trio

from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.wire import messages, origin
from mosfs.wire.messages import PeerHello
from mosfs.wire.security import Identity, is_violation, names
from mosfs.wire.versions import compatible

#: Seconds to reach a node, and for each step of the greeting.
CONNECT_TIMEOUT = 5.0

MAX_PEER = 64 * 1024
TLS_FIRST = b"\x16"
DATA_MAGIC = b"MOSDATA1"
TOKEN_SIZE = 16


class LinkError(Exception):
    """No link: ``reason`` in the words of the manual, section 10.5."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


NO_RESPONSE = Reason.NO_RESPONSE


class Incompatible(LinkError):
    """The other node is of another version."""

    def __init__(self) -> None:
        super().__init__(text(Text.INCOMPATIBLE))


class AuthenticationViolation(LinkError):
    def __init__(self, ip: str) -> None:
        super().__init__(text(Text.AUTHENTICATION, computer=ip))


class PeerLink:
    """A link to the node ``ip`` after the handshake. One task may send, another receive; `close` sets ``ended``."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], ip: str) -> None:
        self.ip = ip
        self.ended = trio.Event()
        self._stream = stream
        self._sending = trio.Lock()

    async def send(self, message: messages.PeerMsg) -> None:
        """trio.BrokenResourceError or trio.ClosedResourceError when the link is gone."""
        data = messages.encode(message)
        async with self._sending:
            await self._stream.send_all(len(data).to_bytes(4, "big") + data)

    async def receive(self) -> Any:
        """The next message; None at the end of the link. LinkError for what is no message."""
        header = await self._exactly(4)
        if header is None:
            return None
        size = int.from_bytes(header, "big")
        if size > MAX_PEER:
            raise LinkError("message too long")
        data = await self._exactly(size)
        if data is None:
            return None
        try:
            return messages.decode_peer(data)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise LinkError(f"bad message: {error}") from None

    async def send_raw(self, data: bytes | memoryview) -> None:
        """Bytes that belong to the message before; nobody else may send meanwhile."""
        async with self._sending:
            await self._stream.send_all(data)

    async def receive_raw(self, size: int) -> bytes:
        """``size`` bytes that belong to the message before; LinkError at the end of the link."""
        data = await self._exactly(size)
        if data is None:
            raise LinkError(NO_RESPONSE)
        return data

    async def _exactly(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            chunk = await self._stream.receive_some(size - len(parts))
            if not chunk:
                return None
            parts += chunk
        return bytes(parts)

    async def unwrap(self) -> tuple[trio.SocketStream, bytes]:
        """End TLS, not the connection; both sides do. The bytes are what the peer has sent behind its end of TLS already."""
        stream, left = await self._stream.unwrap()
        assert isinstance(stream, trio.SocketStream)
        return stream, bytes(left)

    def certificate(self) -> dict[str, object] | None:
        found: dict[str, object] | None = self._stream.getpeercert()
        return found

    async def close(self) -> None:
        """Ends the link at once: the protocol has no farewell, a closed link is one."""
        self.ended.set()
        await trio.aclose_forcefully(self._stream)


async def connect(own_ip: str, ip: str, port: int) -> trio.socket.SocketType:
    """A TCP connection from ``own_ip``; LinkError("no response") after `CONNECT_TIMEOUT`."""
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            for source in origin.ports():
                try:
                    return await _connect_from(own_ip, source, ip, port)
                except OSError as error:
                    if not (source and error.errno in origin.TAKEN):
                        raise
    except (OSError, trio.TooSlowError):
        pass
    raise LinkError(NO_RESPONSE)


async def _connect_from(own_ip: str, source: int, ip: str, port: int) -> trio.socket.SocketType:
    sock = trio.socket.from_stdlib_socket(origin.bound(own_ip, source))
    try:
        await sock.connect((ip, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


async def _greet(stream: trio.SSLStream[trio.SocketStream], ip: str, hello: PeerHello) -> tuple[PeerLink, PeerHello]:
    """TLS handshake and both PeerHello; LinkError with the reason when the peer is not one of us."""
    link = PeerLink(stream, ip)
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                # The side that calls checks first, and just hangs up when it does not know our authority
                if stream.server_side or _violated(error):
                    raise AuthenticationViolation(ip) from None
                raise
            await link.send(hello)
            try:
                answer = await link.receive()
            except LinkError:  # a PeerHello that we cannot read
                raise Incompatible from None
        if answer is None:
            raise LinkError(NO_RESPONSE)
        if not isinstance(answer, PeerHello):
            raise Incompatible
        if answer.ip != ip or not names(link.certificate(), ip):
            raise AuthenticationViolation(ip)
        if answer.wire != hello.wire or not compatible(answer.version, hello.version):
            raise Incompatible
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
        await trio.aclose_forcefully(stream)
        raise (AuthenticationViolation(ip) if _violated(error) else LinkError(NO_RESPONSE)) from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return link, answer


def _violated(error: BaseException | None) -> bool:
    """trio wraps what ssl says about a handshake in a BrokenResourceError."""
    while error is not None:
        if is_violation(error):
            return True
        error = error.__cause__
    return False


async def dial(own_ip: str, ip: str, port: int, identity: Identity, hello: PeerHello) -> tuple[PeerLink, PeerHello]:
    """A link to the node ``ip`` and its PeerHello; LinkError with the reason otherwise."""
    sock = await connect(own_ip, ip, port)
    stream = trio.SSLStream(trio.SocketStream(sock), identity.client, server_hostname=ip, https_compatible=False)
    return await _greet(stream, ip, hello)


async def answer(sock: trio.socket.SocketType, identity: Identity, hello: PeerHello) -> tuple[PeerLink, PeerHello]:
    """The accepting side of `dial`, for a connection that starts like TLS."""
    ip = sock.getpeername()[0]
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = trio.SSLStream(trio.SocketStream(sock), identity.server, server_side=True, https_compatible=False)
    return await _greet(stream, ip, hello)


async def first_byte(sock: trio.socket.SocketType) -> bytes:
    """What a new connection starts with, without taking it; b"" when it says nothing in `CONNECT_TIMEOUT`."""
    with trio.move_on_after(CONNECT_TIMEOUT):
        return await sock.recv(1, socket.MSG_PEEK)
    return b""


async def read_token(sock: trio.socket.SocketType) -> bytes | None:
    """The token of a data channel's preamble, leaving everything behind it in the socket; None for anything else."""
    preamble = b""
    with trio.move_on_after(CONNECT_TIMEOUT):
        while len(preamble) < len(DATA_MAGIC) + TOKEN_SIZE:
            part = await sock.recv(len(DATA_MAGIC) + TOKEN_SIZE - len(preamble))
            if not part:
                return None
            preamble += part
        if preamble.startswith(DATA_MAGIC):
            return preamble[len(DATA_MAGIC):]
    return None


async def connect_data(own_ip: str, ip: str, port: int, token: bytes) -> trio.socket.SocketType:
    """The connecting end of a data channel, its preamble sent; LinkError("no response")."""
    sock = await connect(own_ip, ip, port)
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            await sock.send(DATA_MAGIC + token)  # 24 bytes into an empty buffer: never partial
    except (OSError, trio.TooSlowError):
        sock.close()
        raise LinkError(NO_RESPONSE) from None
    return sock


def for_another_process(sock: trio.socket.SocketType) -> socket.socket:
    """``sock`` as a blocking socket without the event loop: O_NONBLOCK is shared with whoever gets the descriptor."""
    plain = socket.socket(fileno=sock.detach())
    plain.setblocking(True)
    return plain

