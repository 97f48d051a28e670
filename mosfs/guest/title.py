"""What ps(1) shows of a guest. Programs overwrite their arguments and environment (setproctitle(3), perl's ``$0``), without a call
that we could see; home's deputy still has what was there when the program left. So the host looks, and tells home what it finds."""

from __future__ import annotations

import xxhash

from mosfs.guest.body import Body
from mosfs.migrate.capture import title_at
from mosfs.migrate.rebuild import LARGEST_TITLE as LARGEST
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind


def tell_title(body: Body, channel: Channel) -> None:
    """TITLE, if the text has changed since the last look: once a second, and before what lets others see it at once."""
    body = body.leader or body
    if not body.memory.title_at[1]:
        body.memory.title_at = title_at(body.pid)
    start, end = body.memory.title_at
    if not 0 <= end - start <= LARGEST:
        return  # it has said so itself (prctl(2), PR_SET_MM)
    text = bytearray(end - start)
    if body.task.read_into(start, text) != len(text):
        return  # the program has unmapped it
    digest = xxhash.xxh3_64_intdigest(text)
    if digest != body.memory.title:
        body.memory.title = digest
        channel.send(Kind.TITLE, body.pair, bytes(text))
