"""Private temporary files of guests: their contents come, stay and leave with the body (calls on them: `private_calls`).

Descriptors are home's: an open gets its number from the deputy, whose kernel closes, duplicates and inherits it; what that does to
the files here follows the answers (`ptf.descriptors`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from mosfs.guest.body import Body
from mosfs.guest.context import Context
from mosfs.guest.ports import Messages
from mosfs.guest.private_windows import PrivateWindows
from mosfs.migrate.rebuild import NoRoom
from mosfs.ptf import travel
from mosfs.ptf.descriptors import follow
from mosfs.ptf.store import Quota, Store
from mosfs.ptf.travel import Opening, Sender, Spool
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind
from mosfs.wire.messages import PrivateFile, PrivateGone

#: So long the first guest of a host waits for the limits of this node, seconds.
CONFIG_PATIENCE = 5.0


class Private:
    def __init__(self, context: Context, messages: Messages) -> None:
        self._context = context
        self._messages = messages
        self.windows = PrivateWindows(context)
        self.spools: dict[int, Spool] = {}

    # ------------------------------------------------------------------ arriving

    def quota(self) -> Quota:
        """Of guests here; the home-node's limit caps it. A first guest may be faster than mosd's Config."""
        context = self._context
        deadline = time.monotonic() + CONFIG_PATIENCE
        while not context.config.ip and context.control.wait(deadline - time.monotonic()):
            self._messages.hear()
        return Quota.of(context.config.private, "C" if context.own_cluster else "G")

    def feed(self, pair: int, payload: bytes) -> None:
        """A PRIVATE frame. What does not fit is told at once: the program still runs elsewhere."""
        spool = self.spools.get(pair)
        if spool is None:
            spool = self.spools[pair] = Spool(self.quota())
        if not spool.feed(payload):
            self._context.log(f"origpid={pair} private files: {spool.failed}", 30)
            self._context.channel.send(Kind.FAIL, pair, b"no disk-space for private files there")

    def arrive(self, pair: int, data: bytes) -> tuple[Store | None, Opening | None]:
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
        store = body.private.store
        if store is not None and store.log:
            if not body.announced:
                self._context.announce(body)  # whose they are
            for name, fd in store.log:
                self._context.control.send(PrivateFile(body.pid, name, fd))
            store.log.clear()

    def announce_all(self, body: Body) -> None:
        if body.private.store is not None:
            body.private.store.log = [(name, file.fd) for name, file in body.private.store.names.items()]
            self.announce(body)

    def forked(self, parent: Body, child: Body) -> None:
        """A child begins without private files."""
        if parent.private.store is not None:
            store = parent.private.store
            child.private.store = Store(store.directories, store.quota, umask=store.umask)

    def forget(self, body: Body) -> None:
        """The body is gone, and its files with it."""
        store, body.private.store = body.private.store, None
        if store is not None:
            if store.names:
                self._context.control.send(PrivateGone(body.pid))
            store.close()
        body.private.sender = None

    # ------------------------------------------------------------------ running

    def replied(self, body: Body, result: int) -> None:
        """A call of the body has been made at home."""
        store = body.private.store
        if store is None:
            return
        opening, body.private.opening = body.private.opening, None
        regs = body.call.regs
        if opening is None:
            follow(store, body.call.nr, (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9), result)
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
        if body.private.sender is None:
            assert body.private.store is not None
            body.private.sender = Sender(body.private.store, lambda payload: channel.send(Kind.PRIVATE, body.pair, payload))
        return body.private.sender

    def rest(self, body: Body, channel: Channel) -> None:
        """Send what the other side does not have yet."""
        if body.private.store is not None:
            self._sender(body, channel).rest()

    def manifest(self, body: Body) -> bytes:
        store = body.private.store
        if store is None:
            return b""
        return travel.encode(travel.manifest_of(store, travel.records(store), store.quota.limit, body.private.opening))

    def fetched(self, body: Body) -> None:
        """FETCH: home has made exec for the body; its files go there."""
        body.private.sender = None
        if body.leaving.copy is not None:
            body.leaving.copy.files = None
        self.rest(body, self._context.channel)
        self._context.channel.send(Kind.MANIFEST, body.pair, self.manifest(body))
        body.private.sender = None
