"""Where a node keeps what it keeps on disks, as its daemon tells its tracers: a part of messages."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mosfs.wire.fields import Amount, MaybeId, Path


class FreezingSpace(msgspec.Struct, array_like=True, frozen=True):
    """Where frozen programs are kept: (directory, weight); files are made as the user ``uid``, -1 for mosd's own. A program for
    which there is no room is ended if it has ``killing`` megabytes of memory or more, -1: none is. ``arrive``: what other clusters
    send home is frozen on arrival."""

    directories: list[tuple[Path, Amount]] = []
    uid: MaybeId = -1
    arrive: bool = False
    killing: Annotated[int, Meta(ge=-1, le=2**40)] = -1
