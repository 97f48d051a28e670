"""The page about frames, made from their table: ``python -m mosfs.wire.frame_table > docs/design/frames.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mosfs.wire.frames import SHAPES, Kind, Shape, To

HEAD = """\
# Frames

This page is made from the table in `mosfs/wire/frames.py`: `python -m mosfs.wire.frame_table > docs/design/frames.md`.
What moves are made of them, and what happens when one does not come, is in [migration.md](migration.md).

A frame is a header (length of the payload u32, kind u16, flags u16, pair u64: the PID at home), in the clear but
authenticated, and the payload. All is little-endian; a name in `code` is a msgpack structure, of `mosfs/wire/orders.py`
if nothing else is said. What is not as its row says ends the channel (`frames.check`).

| | frame | goes to | bytes | payload | what may answer |
|---|---|---|---|---|---|
"""

#: In words: who receives. The tracer handles frames in `mosfs/home`, a host in `mosfs/guest`.
ENDS = {To.TRACER: "tracer", To.HOST: "host", To.NEXT_HOST: "next host", To.OLD_HOST: "old host"}


def row(kind: Kind, shape: Shape) -> str:
    """One line of the page."""
    length = str(shape.least) if shape.least == shape.most else f"{shape.least} to {shape.most}"
    ends = ", ".join(ENDS[end] for end in shape.to)
    return f"| {kind} | {kind.name} | {ends} | {length} | {shape.says} | {' '.join(answer.name for answer in shape.answers)} |"


def page() -> Iterator[str]:
    """The page's lines."""
    yield HEAD
    for kind in sorted(Kind):
        yield row(kind, SHAPES[kind]) + "\n"


if __name__ == "__main__":
    sys.stdout.writelines(page())
