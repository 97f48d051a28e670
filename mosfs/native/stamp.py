"""Which sources a C module was built from: a checksum that goes into it, and is compared when it is imported (`mosfs.native`)."""

from __future__ import annotations

import zlib
from pathlib import Path

HERE = Path(__file__).parent


def stamp(folder: Path = HERE) -> int:
    """CRC-32 of all C sources and headers below ``folder``, names included; 0 if there are none."""
    found = 0
    for path in sorted((*folder.glob("*.c"), *folder.glob("*.h"))):
        found = zlib.crc32(path.read_bytes(), zlib.crc32(path.name.encode(), found))
    return found
