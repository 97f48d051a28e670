"""The files of one line below ``/etc/mosix``: ``speed``, ``mosip``, ``guestuids``, ``cpu``, ``maxguests`` and ``retainpri``
(mosix(7), mosd(8))."""

from __future__ import annotations

from dataclasses import dataclass

from mosfs.abi.levels import NAMES, level_named
from mosfs.cluster.address import to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import Position

#: Speed of the standard processor, and of a node without the file (readings, row 30).
DEFAULT_SPEED = 10_000
MAX_SPEED = 10_000_000

#: Users that guests run as where the file does not say otherwise: above those that systemd gives to containers, below 2^31.
DEFAULT_GUEST_UIDS = range(0x7000_0000, 0x7001_0000)
#: The highest number of a user: -1 means none in system calls.
MAX_UID = (1 << 32) - 2

#: More guests than processes that Linux can number are a mistake, and so is a delay of more than a year.
MAX_GUESTS = 1 << 22
MAX_RETAIN = 366 * 86400


@dataclass(frozen=True, slots=True)
class MaxGuests:
    """``most``: guests of other clusters at the same time, None for any number; ``before``: what it was before mosctl closemulti,
    None if that is not known (readings, row 26)."""

    most: int | None = None
    before: int | None = None


def parse_speed(text: str, file: str = "speed") -> int:
    """The relative speed of the processor, 1-10,000,000: the bigger the faster. ConfigError for anything else."""
    return Position(file, 1).number(_only_word(text, file), 1, MAX_SPEED)


def print_speed(speed: int) -> str:
    return f"{speed}\n"


def parse_mosip(text: str, file: str = "mosip") -> str:
    """Our own IP address, as a.b.c.d. ConfigError for anything else, and for an address that no node may have."""
    return to_ip(Position(file, 1).address(_only_word(text, file), lambda name: None))


def print_mosip(ip: str) -> str:
    return f"{ip}\n"


def parse_guest_uids(text: str, file: str = "guestuids") -> range:
    """The users that guests run as: the first and how many (1 if that is not said). ConfigError for anything else, and for root."""
    words, position = text.split(), Position(file, 1)
    if len(words) not in (1, 2):
        raise position.error(text.strip(), "must hold the first user and how many, and nothing else")
    first = position.number(words[0], 1, MAX_UID)
    return range(first, first + (position.number(words[1], 1, MAX_UID + 1 - first) if len(words) == 2 else 1))


def print_guest_uids(uids: range) -> str:
    return f"{uids.start} {len(uids)}\n"


def parse_level(text: str, file: str = "cpu") -> str:
    """The processor that programs are started for where mosrun does not say (`abi.levels`). ConfigError for anything else."""
    word = _only_word(text, file)
    try:
        return level_named(word)
    except ValueError:
        raise ConfigError(file, f"must be one of {' '.join(NAMES)}", line=1, value=word) from None


def print_level(level: str) -> str:
    return f"{level}\n"


def parse_max_guests(text: str, file: str = "maxguests") -> MaxGuests:
    """One or two numbers of 0-4,194,304. ConfigError for anything else."""
    words, position = text.split(), Position(file, 1)
    if len(words) not in (1, 2):
        raise position.error(text.strip(), "must hold the most guests of other clusters, and perhaps what that was before")
    numbers = [position.number(word, 0, MAX_GUESTS) for word in words]
    return MaxGuests(numbers[0], numbers[1] if len(numbers) == 2 else None)


def print_max_guests(guests: MaxGuests) -> str:
    """The text of which `parse_max_guests` makes ``guests``, whose ``most`` is a number."""
    return " ".join(str(number) for number in (guests.most, guests.before) if number is not None) + "\n"


def parse_retain(text: str, file: str = "retainpri") -> int:
    """Seconds, 0 to a year. ConfigError for anything else."""
    return Position(file, 1).number(_only_word(text, file), 0, MAX_RETAIN)


def print_retain(seconds: int) -> str:
    return f"{seconds}\n"


def _only_word(text: str, file: str) -> str:
    words = text.split()
    if len(words) != 1:
        raise ConfigError(file, "must hold one value, and nothing else", line=1, value=text.strip())
    return words[0]
