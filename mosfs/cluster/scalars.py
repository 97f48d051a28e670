"""The files of one value: ``/etc/mosix/speed`` and ``/etc/mosix/mosip`` (mosix(7))."""

from __future__ import annotations

from mosfs.cluster.address import to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import Place

#: Speed of the standard processor, and of a node without the file (readings, row 30).
DEFAULT_SPEED = 10_000
MAX_SPEED = 10_000_000


def parse_speed(text: str, file: str = "speed") -> int:
    """The relative speed of the processor, 1-10,000,000: the bigger the faster. ConfigError for anything else."""
    return Place(file, 1).number(_only_word(text, file), 1, MAX_SPEED)


def print_speed(speed: int) -> str:
    return f"{speed}\n"


def parse_mosip(text: str, file: str = "mosip") -> str:
    """Our own IP address, as a.b.c.d. ConfigError for anything else, and for an address that no node may have."""
    return to_ip(Place(file, 1).address(_only_word(text, file), lambda name: None))


def print_mosip(ip: str) -> str:
    return f"{ip}\n"


def _only_word(text: str, file: str) -> str:
    words = text.split()
    if len(words) != 1:
        raise ConfigError(file, "must hold one value, and nothing else", line=1, value=text.strip())
    return words[0]
