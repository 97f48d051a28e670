"""Pre-copy from a host: a guest's memory goes straight to the next host while the guest runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mosfs.migrate.filecopy import Copies, Sender
from mosfs.migrate.precopy import Names, Next, Precopy
from mosfs.migrate.properties import Said
from mosfs.trace.inject import Calls
from mosfs.wire import origin
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind, To
from mosfs.wire.orders import MoveOrder

CONNECT_PATIENCE = 5.0


def connect(order: MoveOrder, own_ip: str) -> Channel:
    """The data channel to the next host, from our own address; OSError."""
    sock = origin.connected(own_ip, (order.ip, order.port), CONNECT_PATIENCE)
    try:
        sock.sendall(b"MOSDATA1" + order.token)
    except OSError:
        sock.close()
        raise
    return Channel(sock, order.key, opener=True, end=To.OLD_HOST)


@dataclass(slots=True, eq=False)
class Sending:
    """A pre-copy under way, to another host on a connection of its own, or to home on the channel that is there (``home``).

    ``precopy`` is None when this kernel cannot follow the memory.
    """

    channel: Channel
    home: bool
    precopy: Precopy | None = None
    files: Iterator[int] | None = None  # sends its private files, chunk by chunk, before its memory goes by ``order``
    order: MoveOrder | None = None
    copies: Sender | None = None  # sends the files that it maps
    runs: bool = False  # who receives takes RUNS
    packs: int = 0  # how it unpacks memory (`migrate.packing`)

    def begin(self, call: Calls, pair: int, said: Said, names: Names, copies: Copies, *, near: bool) -> None:
        """For the stopped task of ``call``. OSError: it has to be sent as a whole, later."""
        self.precopy = Precopy.begin(
            call, self.channel, near=near, pair=pair, said=said, names=names, asks=self.home, known=copies.known,
            runs=self.runs, packs=self.packs,
        )
        if not self.home:
            self.precopy.ahead = self._contents(pair, copies, near)

    def _contents(self, pair: int, copies: Copies, near: bool) -> Iterator[int]:
        """Send the contents of the files that the program maps, piece by piece; yields the bytes of each."""
        for payload in self.sender(copies, near).ahead():
            self.channel.send(Kind.FILE, pair, payload)
            yield len(payload)

    def sender(self, copies: Copies, near: bool) -> Sender:
        """Who sends those contents."""
        if self.copies is None:
            self.copies = Sender(copies, near=near)
        return self.copies

    @property
    def sends(self) -> bool:
        """There is something to send now."""
        return self.files is not None or (self.precopy is not None and self.precopy.next is Next.SEND)

    @property
    def ends(self) -> bool:
        """It comes to an end by itself: there is something to send, or an answer to come."""
        return self.files is not None or (self.precopy is not None and not self.done)

    def heard(self) -> bool:
        """What the next host said; True if the program should be stopped now."""
        for frame in self.channel.frames():
            if frame.kind == Kind.ROUND:
                self.caught_up()
        return self.done

    def caught_up(self) -> None:
        if self.precopy is not None:
            self.precopy.caught_up()

    @property
    def done(self) -> bool:
        """The program should be stopped now."""
        return self.precopy is not None and self.precopy.next is Next.STOP

    def close(self) -> None:
        if self.copies is not None:
            self.copies.close()
        if self.precopy is not None:
            self.precopy.close()
        if not self.home:
            self.channel.close()
