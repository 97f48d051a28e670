"""A host and a tracer that serve as ours do, but for one frame that they send beside, once, when a program has begun to run away.

Loaded by a fork server (``mosd --host=tests.rogue``, ``--tracer=tests.rogue``). The file that MOSIX_ROGUE names says which:
"KIND FLAGS PAIR HEX"; pair 0 is the program's own. It is gone when the frame has been sent. If it is a folder, each program meets
one of the files in it. If there is a file with ".deaf" behind that name, a host sends a call that reads much and hears no answer.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import Any

from mosfs.abi.numbers import SYS_READ
from mosfs.calls.request import unpack
from mosfs.guest import from_home, host
from mosfs.home import start
from mosfs.home.moves import moves, room
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind
from mosfs.wire.messages import AdoptTracer, SpawnHost, SpawnTracer

_send = Channel.send
MUCH = 8 << 20  #: bytes


def spoil(channel: Channel, pair: int) -> None:
    with suppress(FileNotFoundError):
        kind, flags, wanted, payload = taken(os.environ["MOSIX_ROGUE"]).split(" ")
        channel.send(int(kind), int(wanted) or pair, bytes.fromhex(payload), int(flags))


def taken(path: str) -> str:
    """What is in the file, or in one of the folder, which nobody else gets. FileNotFoundError."""
    if os.path.isdir(path):
        for name in sorted(name for name in os.listdir(path) if name.isdecimal()):
            with suppress(FileNotFoundError):
                os.rename(f"{path}/{name}", own := f"{path}/{name}.{os.getpid()}")
                return taken(own)
        raise FileNotFoundError
    with open(path, encoding="ascii") as file:
        text = file.read()
    os.unlink(path)
    return text


def send(self: Channel, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None:
    _send(self, kind, pair, payload, flags)
    if kind == Kind.CALL and (call := unpack(bytes(payload))).nr == SYS_READ and call.args[2] >= MUCH:
        with suppress(FileNotFoundError):
            os.unlink(os.environ["MOSIX_ROGUE"] + ".deaf")
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # Linux 6.16 would take all of it for us
            time.sleep(60)


class FromHome(from_home.FromHome):
    def _go(self, body: Any, frame: Any) -> None:
        super()._go(body, frame)
        spoil(self._context.channel, body.pair)


class Moves(moves.Moves):
    def running(self, p: Any, link: Any) -> None:
        super().running(p, link)
        spoil(link.channel, p.pid)


def prepare() -> None:
    host.FromHome = FromHome  # type: ignore[misc]
    Channel.send = send  # type: ignore[method-assign]
    room.Moves = Moves  # type: ignore[misc]
    host.prepare()
    start.prepare()  # it makes a tracer, with its parts


def main(spawn: SpawnTracer | SpawnHost, sock: Any) -> int:
    return start.main(spawn, sock) if isinstance(spawn, SpawnTracer) else host.main(spawn, sock)


def adopt(spawn: AdoptTracer) -> int:
    return start.adopt(spawn)
