"""How memory is compressed on its way to nodes that are not near (mosix.map, letter p; partners, PROXIMATE).

zstd where both ends have it (`OFFERED` is what a node says of itself, `packs` in messages), else zlib; never for near nodes, where
it would cost more time than it saves.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mosfs.migrate.image import COMPRESSED, ZSTD, BadImage

#: Bits of ``packs``: what an end unpacks besides zlib.
TAKES_ZSTD = 1
#: The fastest of both; a higher level of zstd saved nothing on images of programs.
LEVEL = 1


def _library() -> Any:
    """zstandard, None where it is not installed: the node then makes do with zlib."""
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        return None


zstd = _library()
_MALFORMED = (zlib.error,) if zstd is None else (zlib.error, zstd.ZstdError)
#: What this node unpacks.
OFFERED = TAKES_ZSTD if zstd is not None else 0


@dataclass(frozen=True, slots=True)
class Packing:
    """``flag``: of a header, says how it was packed; ``pack``: None where nothing is."""

    flag: int = 0
    pack: Callable[[bytes | memoryview], bytes] | None = None

    def packed(self, raw: bytes | memoryview) -> bytes:
        """Compressed; empty if that saves too little."""
        made = self.pack(raw) if self.pack is not None else b""
        return made if len(made) < len(raw) * 7 // 8 else b""


def packing(*, near: bool, takes: int) -> Packing:
    """For a receiver that ``takes`` so much."""
    if near:
        return Packing()
    if takes & OFFERED & TAKES_ZSTD:
        compressor = zstd.ZstdCompressor(level=LEVEL)
        return Packing(ZSTD, compressor.compress)
    return Packing(COMPRESSED, lambda raw: zlib.compress(raw, LEVEL))


def unpacked(raw: memoryview, flags: int, size: int) -> bytes | memoryview:
    """What was packed; nothing longer than ``size`` bytes is made. BadImage."""
    try:
        if flags & ZSTD:
            if zstd is None or zstd.frame_content_size(raw) != size:
                raise BadImage("pages are packed otherwise than they may be")
            return bytes(zstd.ZstdDecompressor().decompress(raw, max_output_size=size))
        return zlib.decompressobj().decompress(raw, size) if flags & COMPRESSED else raw
    except _MALFORMED as error:
        raise BadImage(f"malformed pages: {error}") from error
