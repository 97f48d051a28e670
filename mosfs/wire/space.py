"""Where a node keeps what it keeps on disks, as its daemon tells its tracers: a part of messages."""

from __future__ import annotations

import msgspec

from mosfs.wire.fields import Amount, MaybeId, Megabytes, Path


class FreezingSpace(msgspec.Struct, array_like=True, frozen=True):
    """Where frozen programs are kept: (directory, weight); files are made as the user ``uid``, -1 for mosd's own. A program that
    cannot be frozen is ended if it has ``killing`` megabytes of memory or more."""

    directories: list[tuple[Path, Amount]] = []
    uid: MaybeId = -1
    killing: Megabytes = 0
