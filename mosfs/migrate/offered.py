"""Contents of mapped files that a node may have by itself: most programs map the same libraries everywhere.

For a mapping that a program makes away, home offers digests of a file's blocks (a frame FILE with `OFFERED`). The node reads its
own file of that name and takes what has these digests; what it lacks it asks for (WANT), before the mapping is made. So the other
node's files decide nothing: a name says only where to look, and contents are those of home. It looks where none but its
administrator writes, since a digest is no proof against whom could choose the contents of such a file.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

import xxhash

from mosfs.migrate.image import BadImage

#: Bytes that have a digest together.
BLOCK = 64 * 1024
#: Bytes of a file that one offer is about at most; less than `LEAST` is sent at once.
MOST, LEAST = 16 << 20, 2 * BLOCK
#: Where the same program or library has the same name on every node (hier(7)).
FOLDERS = ("/usr/", "/lib/", "/lib32/", "/lib64/", "/libx32/", "/bin/", "/sbin/")
_LONGEST = 4096
_NAME, _DIGEST = struct.Struct("<H"), 16


def digest(block: bytes) -> int:
    """128 bits of what a block holds; 0 only if all of it is zero."""
    return xxhash.xxh3_128_intdigest(block) or 1 if block.strip(b"\0") else 0


def is_common(name: str) -> bool:
    """Whether another node may have a file of this name, with the same contents."""
    return name.startswith(FOLDERS) and os.path.normpath(name) == name and len(os.fsencode(name)) < _LONGEST


def pack(name: str, digests: Sequence[int]) -> bytes:
    """What FILE has in the place of bytes: the name, and the digests of the blocks that follow each other from its offset on."""
    text = os.fsencode(name)
    return _NAME.pack(len(text)) + text + b"".join(each.to_bytes(_DIGEST, "little") for each in digests)


def unpack(data: bytes) -> tuple[str, list[int]]:
    """(Name, digests); BadImage for what cannot be meant."""
    if len(data) < _NAME.size:
        raise BadImage("malformed offer of a file")
    start = _NAME.size + _NAME.unpack_from(data)[0]
    name, rest = os.fsdecode(data[_NAME.size : start]), data[start:]
    if len(rest) % _DIGEST or not 0 < len(rest) // _DIGEST <= MOST // BLOCK or "\0" in name or not is_common(name):
        raise BadImage("an offer of a file that cannot be")
    return name, [int.from_bytes(rest[at : at + _DIGEST], "little") for at in range(0, len(rest), _DIGEST)]


def taken(name: str, size: int, offset: int, digests: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
    """(Offset, bytes) of each block that is not all zero, from this node's own file of that name; None where that has others."""
    fd = _own(name, size)
    try:
        for at, wanted in zip(range(offset, offset + len(digests) * BLOCK, BLOCK), digests):
            if wanted:
                yield at, _block(fd, at, wanted) if fd >= 0 else None
    finally:
        if fd >= 0:
            os.close(fd)


def _own(name: str, size: int) -> int:
    """A descriptor of our file, if it is one that everybody may read and only root may write, of this size; else -1."""
    with suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
        facts = os.fstat(fd)
        public = stat.S_ISREG(facts.st_mode) and facts.st_mode & stat.S_IROTH and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if public and not facts.st_uid and facts.st_size == size:
            return fd
        os.close(fd)
    return -1


def _block(fd: int, at: int, wanted: int) -> bytes | None:
    with suppress(OSError):
        data = os.pread(fd, BLOCK, at)
        if digest(data) == wanted:
            return data
    return None
